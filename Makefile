# `make demo` trains and tests a U-Net on Streets. `make check` runs ruff and the fast tests, `make
# test` all of them, and where the processor has AVX512 those that depend on it with AVX2 alone, too.
# `make bench` times it beside what one would use instead. `make page` builds the page that labels
# pictures in a browser, and serves it.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/demo
# As on most laptops.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2

.PHONY: demo check test bench page

define REPORT
import json, sys
for name, found in json.load(open(sys.argv[1])).items():
    print(f"{name}: pixel accuracy {found['val_accuracy']:.1%}, mIoU {found['mIoU']:.1%}")
endef
export REPORT

demo: .venv/demo
	$(BIN)/python -m prepare.streets data/streets
	mkdir -p $(RUN)
	$(BIN)/papermill trainer.ipynb $(RUN)/trainer.ipynb -p run $(RUN)
	$(BIN)/papermill test.ipynb $(RUN)/test.ipynb -p checkpoint $(RUN)/best.pt -p out $(RUN)/test
	@$(BIN)/python -c "$$REPORT" $(RUN)/test/metrics.json
	@echo "notebooks:  $(RUN)/trainer.ipynb  $(RUN)/test.ipynb"
	@echo "figures:    $(RUN)/*.png  $(RUN)/test/*.png"
	@echo "checkpoint: $(RUN)/best.pt"

check: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 -m "not slow"

test: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile
	@if grep -q avx512 /proc/cpuinfo 2>/dev/null; then set -x; $(AVX2) \
	    $(BIN)/python -m pytest -n 2 -m processor; fi

bench: .venv/bench
	$(BIN)/python -m bench

page: .venv/page
	npm ci --ignore-scripts --prefix page
	$(BIN)/python -m page.build runs/page

.venv/demo: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	@touch $@

.venv/%: .venv/demo %/requirements.txt
	$(BIN)/pip install --quiet --requirement $*/requirements.txt
	@touch $@
