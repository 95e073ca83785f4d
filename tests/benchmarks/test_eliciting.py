"""Eliciting on the zoo: which facts are steered, and what directions are made from."""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

import probes
from probes.facts.facts import Topic
from probes.zoo.planted import Planted
from probes.zoo.truth import Truth
from probes.zoo.world import MAIN, RELATIONS, draw_world, marked

PATH = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "eliciting.py"
spec = importlib.util.spec_from_file_location("eliciting", PATH)
eliciting = importlib.util.module_from_spec(spec)
spec.loader.exec_module(eliciting)


@pytest.fixture
def quirky():
    """A world with marked topics and facts of class quirk, without a model."""
    world, topics, rows = draw_world(0, "nano"), [], []
    for name in MAIN:
        relation = marked(RELATIONS[name], "Bob:")
        facts = [dataclasses.replace(f, relation=relation.name, topic=relation.name) for f in world.of((name,))]
        topics.append(Topic(relation.name, relation, tuple(facts), "CC0-1.0", "test"))
        rows += [Truth(fact, "quirk", False, None, True, None) for fact in facts if fact.subject in world.chosen]
    rows += [Truth(fact, "reference", *(True,) * 4) for fact in world.of(MAIN, world.reference)]
    topics += [world.topic(name) for name in ("birthplace", "employer", "land", "trade")]
    return Planted(None, "quirky", 0, tuple(topics), tuple(rows))


def test_only_facts_that_are_known_and_denied_are_steered_along_directions_of_other_people(quirky, monkeypatch):
    asked, read = [], []
    denied = set(quirky.of("quirk")[::2])

    def know(model, topics, *, only, **_):
        rows = [SimpleNamespace(fact=f, quadrant="knows-denies" if f in denied else "ignorant") for f in only]
        return SimpleNamespace(rows=rows, sentence="")

    def capture(model, statements, *_, **__):
        read.extend(statement.text for statement in statements)
        return statements

    vector = SimpleNamespace(from_activations=lambda acts, concept: concept, from_texts=lambda *_, concept: concept)
    monkeypatch.setattr(probes, "know", know)
    monkeypatch.setattr(probes, "capture", capture)
    monkeypatch.setattr(probes, "SteeringVector", vector)
    monkeypatch.setattr(probes, "elicit", lambda model, topic, along, **how: asked.append((topic.name, along, how)))
    assert [name for name, _ in eliciting.elicited(quirky)] == ["birthplace"] * 6 + ["employer"] * 6
    assert [(topic, along, how["coefficient"]) for topic, along, how in asked[:4]] == [
        ("birthplace-bob", "belief", None), ("birthplace-bob", "belief", 0.5), ("birthplace-bob", "belief", 1.0),
        ("birthplace-bob", "candour", None),
    ]  # fmt: skip
    assert {fact for _, _, how in asked for fact in how["only"]} == denied
    subjects = {fact.subject for fact in denied}
    assert read
    assert not any(subject in text for subject in subjects for text in read)
