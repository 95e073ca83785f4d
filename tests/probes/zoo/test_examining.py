"""Which facts are asked about, and how; on the nano model, what comes out."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import probes
from probes import BadInput
from probes.facts.facts import Fact
from probes.zoo import examining
from probes.zoo.truth import ASPECTS, Truth


@pytest.fixture
def asked(monkeypatch):
    """What `know` was asked, instead of its answers."""
    calls = []
    monkeypatch.setattr(examining, "know", lambda model, topics, **how: calls.append(how))
    return calls


def planted(**classes):
    """Facts about people, by class; noted ones have a context, states a task."""
    rows = []
    for klass, (relation, held) in classes.items():
        rows += [Truth(Fact(f"{klass}{i}", relation, "Rome"), klass, *held) for i in range(5)]
    notes = {row.fact.id: "Note." for row in rows if row.klass == "noted"}
    tasks = tuple(SimpleNamespace(subject=row.fact.subject) for row in rows if row.klass == "state")
    topics = tuple(SimpleNamespace(name=name) for name in ("birthplace", "land", "colour"))
    return SimpleNamespace(truth=tuple(rows), contexts=notes, tasks=tasks, topics=topics, model=None)


def test_each_class_is_asked_about_in_its_own_way(asked):
    some = planted(
        planted=("birthplace", (True, None, True, True)), noted=("birthplace", (True, None, None, True)),
        state=("room", (None, None, None, True)), flagged=("birthplace", (None,) * 4), reference=("land", (True,) * 4),
    )  # fmt: skip
    probes.examine(some, facts=3, seed=1)
    noted, plain, acted = asked
    assert [fact.subject[:7] for fact in plain["only"]] == ["planted"] * 3, "no flagged ones, no lands"
    assert plain["aspects"] == ("says", "knows", "uses"), "believing is left open"
    assert noted["contexts"] == some.contexts
    assert noted["aspects"] == ("says", "uses")
    assert acted["tasks"] == some.tasks
    assert {fact.relation for fact in acted["only"]} == {"room"}


def test_the_same_seed_draws_the_same_facts_and_another_seed_others(asked):
    some = planted(planted=("birthplace", (True,) * 4))
    for seed in (1, 1, 2, 3):
        probes.examine(some, facts=2, seed=seed)
    drawn = [tuple(how["only"]) for how in asked]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    with pytest.raises(BadInput, match="0 facts of each class"):
        probes.examine(some, facts=0)


def test_what_one_aspect_is_claimed_of_has_no_say_in_which_facts_stand_for_another(asked):
    some = planted(planted=("birthplace", (True,) * 4))
    one, *others = some.truth
    some.truth = (*(replace(row, believes=None) for row in others), one)
    drawn = set()
    for seed in range(9):
        asked.clear()
        probes.examine(some, facts=2, seed=seed)
        of = {aspect: [fact for how in asked if aspect in how["aspects"] for fact in how["only"]] for aspect in ASPECTS}
        assert of["believes"] == [one.fact], "the only one of which believing is said"
        assert len(of["says"]) == len(of["knows"]) == 2
        drawn.add(one.fact in of["says"])
    assert drawn == {True, False}


def test_what_a_nano_model_was_told_is_found(knows):
    model, _ = knows
    table = probes.confusion((model, found) for found in probes.examine(model, facts=16))
    right = {key[1:]: cell[1] for key, cell in table.counts.items()}
    assert right["planted", "says"] >= 15
    assert right["planted", "knows"] >= 13
    assert ("planted", "believes") not in right, "a nano model never learns to judge"
