"""What measures a training step, tried on a small one: the command itself, in a process."""

import pytest

from tests.processes import python

pytestmark = pytest.mark.slow


def test_the_benchmark_of_training_takes_turns_and_writes_a_row_for_each_mode():
    done = python("-m", "bench.training", "--tiny")
    assert done.stderr.count("round 1") == 3  # ours, the baseline, and the baseline tuned
    rows = [row.strip("| ").split(" | ") for row in done.stdout.splitlines() if "TFLOP/im" in row]
    assert [row[0].split(" (")[0] for row in rows] == ["ours", *["baseline PyTorch"] * 2]
    assert len({row[0].split("(")[1] for row in rows}) == 1  # the same work
    flop = float(rows[0][0].split(", ")[1].split(" TFLOP")[0])
    for row in rows:
        speed, ratio, rate = map(float, row[2:5])
        assert rate == pytest.approx(speed * flop, rel=0.03)  # of two digits
        assert ratio == pytest.approx(float(rows[0][2]) / speed, rel=0.03, abs=0.01)
