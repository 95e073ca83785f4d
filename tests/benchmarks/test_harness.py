"""The harness of the benchmarks, on contenders whose times are known."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "harness.py"
spec = importlib.util.spec_from_file_location("harness", PATH)
harness = importlib.util.module_from_spec(spec)
sys.modules["harness"] = harness  # dataclasses look their module up
spec.loader.exec_module(harness)


class Clock:
    """A clock that only work moves."""

    now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds, log=None, name=None):
        def call():
            self.now += seconds
            if log is not None:
                log.append(name)

        return call


def test_two_contenders_take_turns_and_the_warm_up_does_not_count():
    clock, log = Clock(), []
    found = harness.interleave(
        {"A": clock.work(3.0, log, "A"), "B": clock.work(1.5, log, "B")}, samples=3, warmups=1, clock=clock
    )
    assert log == ["A", "B"] * 4
    assert found == {"A": (3.0,) * 3, "B": (1.5,) * 3}


def test_a_ratio_is_the_median_of_pairs_so_that_one_slow_turn_of_the_machine_does_not_count():
    """Three turns: 2 / 1, 40 / 20 (the machine stalled), 3 / 1. The median is 2; the ratio of the means is 45 / 22."""
    found = harness.ratio([2, 40, 3], [1, 20, 1])
    assert (found.value, found.lower, found.upper, found.n) == (2.0, 2.0, 3.0, 3)
    many = harness.ratio(range(1, 21), [1] * 20)
    assert (many.lower, many.value, many.upper) == (6.0, 10.0, 15.0)  # order statistics 6 and 15 of 20, as in any table


@pytest.mark.parametrize(
    ("value", "better", "holds"),
    [(3, "higher", True), (2.9, "higher", False), (3, "lower", True), (3.1, "lower", False)],
)
def test_a_bar_holds_on_its_side(value, better, holds):
    assert harness.Bar("x", harness.ratio([value] * 6, [1] * 6), 3, better).holds is holds


def test_the_last_line_is_the_object_that_tools_read_and_a_missing_peer_is_not_beaten(capsys):
    bars = [
        harness.Bar("a.b", harness.ratio([4] * 6, [1] * 6), 3.5, "higher", "scikit-learn"),
        harness.missing_bar("a.c", 1.25, "higher", "nnsight"),
    ]
    harness.finish(bars, ["numpy", "no-such-package"], also={"x": 1})
    lines = capsys.readouterr().out.strip().splitlines()
    found = json.loads(lines[-1])
    assert found["bars"][0] == {
        "id": "a.b", "value": 4.0, "bar": 3.5, "better": "higher", "holds": True, "lower": 4.0, "upper": 4.0, "n": 6,
        "against": "scikit-learn",
    }  # fmt: skip
    assert (found["bars"][1]["value"], found["bars"][1]["holds"], found["bars"][1]["n"]) == (None, None, 0)
    assert found["versions"]["no-such-package"] == "missing"
    assert found["versions"]["numpy"] != "missing"
    assert "cores" in found["machine"]
    assert found["also"] == {"x": 1}
    assert "missing, nnsight is not installed" in lines[1]


def test_peak_memory_is_that_of_a_fresh_process():
    bare = harness.peak_mib("pass")
    filled = harness.peak_mib("x = b'1' * (64 * 2**20); print('chatter')")
    assert 60 < filled - bare < 80
    with pytest.raises(subprocess.CalledProcessError):
        harness.peak_mib("raise SystemExit(3)")
