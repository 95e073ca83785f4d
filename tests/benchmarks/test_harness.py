"""Toy: ratios 1, 2, 3, 4, 5, 6 have the median 3.5, and six rounds bound it by their smallest and largest."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("harness", BENCHMARKS / "harness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["harness"]


def test_a_toy_worked_by_hand(harness):
    found = harness.ratio([1, 2, 3, 4, 5, 6], [1] * 6)
    assert (found.value, found.lower, found.upper, found.n) == (3.5, 1, 6, 6)
    twenty = harness.ratio(list(range(1, 21)), [1] * 20)
    assert (twenty.lower, twenty.upper) == (6, 15), "P(Binomial(20, 1/2) <= 5) = .021"
    with pytest.raises(ValueError, match="6"):
        harness.ratio([1] * 5, [1] * 5)


def test_contenders_take_turns_on_the_same_work(harness):
    calls = []
    contenders = {name: (lambda work, name=name: calls.append((name, work))) for name in ("a", "b", "c")}
    seconds = harness.interleave(contenders, ["x", "y"], rounds=4)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    rounds = [calls[start : start + 3] for start in range(3, len(calls), 3)]
    assert [{name for name, _ in one} for one in rounds] == [{"a", "b", "c"}] * 4
    assert [{work for _, work in one} for one in rounds] == [{"x"}, {"y"}, {"x"}, {"y"}]


def test_a_bar_that_was_not_measured_does_not_hold(harness, capsys):
    held = harness.Bar("speed", 1.02, 1.03, "lower")
    missed = harness.Bar("speed", 1.04, 1.03, "lower")
    missing = harness.Bar("peer", None, 1.25, "higher", missing="nnsight is not installed")
    assert (held.holds, missed.holds, missing.holds) == (True, False, False)
    assert harness.Bar("edge", 1.25, 1.25, "higher").holds
    assert not harness.report([held, missing])
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert [bar["holds"] for bar in last["bars"]] == [True, False]
    assert last["bars"][1]["value"] is None
    assert "not installed" in lines[1]
    assert last["versions"]["torch"]


def test_peak_memory_is_that_of_what_ran(harness):
    small = harness.peak_memory("import sys; n = int(sys.argv[1]); kept = bytearray(n)", "1000")
    large = harness.peak_memory("import sys; n = int(sys.argv[1]); kept = bytearray(n)", "50000000")
    assert 45e6 < large - small < 60e6
