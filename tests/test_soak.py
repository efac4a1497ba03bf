"""The soak of tests/stress/soak.py: what it finds, and a short one."""

import pytest

from tests.stress import soak

pytestmark = pytest.mark.slow


def test_a_soak_finds_memory_and_handles_that_grow():
    flat = [soak.Sample((800 + i % 9, 400), (30, 9)) for i in range(100)]
    found = soak.growth(flat)
    assert found["memory flat"] and found["handles flat"]
    leak = [one._replace(memory=(800, 400 + i // 9)) for i, one in enumerate(flat)]
    assert not soak.growth(leak)["memory flat"]  # 2 % of one process, 1 % of both
    assert not soak.growth([*flat[:-1], flat[-1]._replace(handles=(31, 9))])["handles flat"]
    warming = [one._replace(memory=(100, 50)) if i < 10 else one for i, one in enumerate(flat)]
    assert soak.growth(warming)["memory flat"]


def test_a_soak_counts_steps_and_sees_the_workers_and_the_cache(tmp_path):
    found = soak.soak(tmp_path, steps=6, scenes=4)
    assert (found["steps"], found["epochs"]) == (6, 3)
    # At least its own four: other tests of this process may have left workers.
    assert len(found["MB of its workers"]) >= 4 and len(found["handles"]) >= 5
    assert found["files in the cache"] == 14 and found["cache unchanged"]
