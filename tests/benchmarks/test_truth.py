"""The bars of the truth table: one a cell, and undecided is not right."""

import importlib.util
from pathlib import Path

from probes.zoo.confusion import Confusion

PATH = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "truth.py"
spec = importlib.util.spec_from_file_location("truth", PATH)
truth = importlib.util.module_from_spec(spec)
spec.loader.exec_module(truth)


def test_a_bar_for_every_cell_and_undecided_facts_count_against_it():
    counts = {("knows", "planted", "says"): (True, 19, 1, 0), ("knows", "planted", "uses"): (True, 18, 0, 2)}
    one, two = truth.bars(Confusion(counts))
    assert (one.id, one.estimate.value, one.holds) == ("truth.knows.planted.says", 0.95, True)
    assert (two.estimate.value, two.holds) == (0.9, False)
