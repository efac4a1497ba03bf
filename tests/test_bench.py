"""What measures a GPU, tried without one: the command itself, in a process."""

import pytest

from tests.processes import python

pytestmark = pytest.mark.slow


def test_the_gpus_benchmark_refuses_clearly_where_there_is_none():
    done = python("-m", "bench.gpu")
    assert done.returncode == 1 and "NVIDIA GPU, and PyTorch finds none here" in done.stderr


def test_the_gpus_benchmark_takes_turns_and_writes_a_row_for_each_mode():
    done = python("-m", "bench.gpu", "--tiny")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("round 1 of 1") == 4  # modes
    rows = [line.split(" | ") for line in done.stdout.splitlines() if "TFLOP/im" in line]
    modes = ["fp32, channels-last", "TF32, channels-last", "fp32", "TF32"]
    assert [row[1] for row in rows] == modes
    assert len({row[0].split("(")[1] for row in rows}) == 1  # the same work
    flop = float(rows[0][0].split(", ")[1].split(" TFLOP")[0])
    for row in rows:
        assert float(row[3]) == pytest.approx(float(row[2]) * flop, rel=0.03)  # of two digits
