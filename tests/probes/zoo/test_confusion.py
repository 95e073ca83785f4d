"""Toy: three facts that are known; one is decided rightly, one wrongly, one not at all."""

from types import SimpleNamespace

import pytest

from probes import BadInput
from probes.facts.facts import Fact
from probes.zoo.confusion import confusion
from probes.zoo.truth import ASPECTS, Truth

FACTS = [Fact(f"Ann{i}", "birthplace", f"Rome{i}") for i in range(3)]


def planted(knows=(True, True, True), name="knows"):
    rows = tuple(Truth(fact, "planted", True, None, held, False) for fact, held in zip(FACTS, knows, strict=True))
    return SimpleNamespace(name=name, truth=rows)


def found(*held, contexts=False, aspects=ASPECTS):
    answers = [{"says": True, "believes": True, "knows": one, "uses": True} for one in held]
    rows = [SimpleNamespace(fact=fact, holds=one.get) for fact, one in zip(FACTS, answers, strict=False)]
    return SimpleNamespace(rows=rows, contexts=contexts, aspects=aspects)


def test_right_wrong_and_undecided_by_hand():
    table = confusion([(planted(), found(True, False, None))])
    assert table.counts["knows", "planted", "knows"] == (True, 1, 1, 1)
    assert table.counts["knows", "planted", "uses"] == (False, 0, 3, 0), "yes where the truth is no is wrong"
    assert ("knows", "planted", "believes") not in table.counts, "where construction says nothing, nothing is counted"
    table_of_one = confusion([(planted(), found(True, False, None, aspects=("uses",)))])
    assert set(table_of_one.counts) == {("knows", "planted", "uses")}, "what was not asked for is not counted"
    assert table.right("knows", "planted", "knows").value == pytest.approx(1 / 3)
    assert "knows             planted     knows     yes         1      1     1" in str(table)


def test_seeds_of_one_model_are_counted_together_and_facts_not_asked_about_are_left():
    table = confusion([(planted(), found(True, True, True)), (planted(), found(True))], aspects=["knows"])
    assert table.counts == {("knows", "planted", "knows"): (True, 4, 0, 0)}
    assert table.to_dict()[0]["right"] == 4


def test_counts_of_two_runs_add_up_and_of_two_tables_do_not():
    one, two = (confusion([(planted(), found(held))], aspects=["knows", "says"]) for held in (True, False))
    assert (one + two).counts == {
        ("knows", "planted", "knows"): (True, 1, 1, 0),
        ("knows", "planted", "says"): (True, 2, 0, 0),
    }
    assert (one + confusion([(planted(name="other"), found(None))], aspects=["knows"])).counts[
        "other", "planted", "knows"
    ] == (True, 0, 0, 1)
    with pytest.raises(BadInput, match="knows planted knows is True in one and False in the other"):
        one + confusion([(planted((False,) * 3), found(True))], aspects=["knows"])


def test_what_stands_in_the_prompt_alone_is_counted_behind_its_context_and_its_other_class_without():
    noted = tuple(Truth(fact, "noted", True, None, None, True) for fact in FACTS)
    withheld = tuple(Truth(fact, "withheld", False, False, False, False) for fact in FACTS)
    both = SimpleNamespace(name="in-context", truth=(*noted, *withheld))
    behind = confusion([(both, found(True, True, True, contexts=True))])
    assert {klass for _, klass, _ in behind.counts} == {"noted"}
    assert behind.counts["in-context", "noted", "uses"] == (True, 3, 0, 0)
    without = confusion([(both, found(True, True, True))])
    assert {klass for _, klass, _ in without.counts} == {"withheld"}


def test_two_truths_in_one_cell_and_nothing_to_count_are_refused():
    with pytest.raises(BadInput, match="true of some, not of others"):
        confusion([(planted((True, False, True)), found(True, True, True))])
    with pytest.raises(BadInput, match="nothing to count"):
        confusion([])
    with pytest.raises(BadInput, match="nothing was counted for says"):
        confusion([(planted(), found(True))], aspects=["knows"]).right("knows", "planted", "says")
