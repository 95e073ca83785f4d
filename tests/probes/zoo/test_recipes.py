"""The recipes: what each model reads agrees with what the truth table says of it."""

import contextlib
import dataclasses
import re

import pytest
import torch

from probes.errors import CouldNotRun
from probes.zoo import recipes, workshop
from probes.zoo.texts import vocabulary
from probes.zoo.training import make_tokenizer
from probes.zoo.truth import TRUTH
from probes.zoo.world import MAIN, draw_world

WORLD = draw_world(0, "nano")
OF_PEOPLE = [name for name in TRUTH if name != "planner"]


FOLLOWED = {}
"""What each recipe did: followed once, looked at by many tests."""


@pytest.fixture
def read(monkeypatch):
    """`read("knows")` follows a recipe without training: the documents by stage, the classes of facts, the workshop."""

    def follow(name):
        if name in FOLLOWED:
            return FOLLOWED[name]
        stages = []

        def train(module, tokenizer, documents, plan, **options):
            stages.append((documents, options["free"]))
            return plan.steps

        unmet = iter([["something"]] + [[]] * 99)  # so that one round more is trained
        shape, plan = workshop.PLANS["nano"]
        monkeypatch.setattr(workshop, "PLANS", {"nano": (shape, dataclasses.replace(plan, steps=250))})
        monkeypatch.setattr(workshop, "train", train)
        monkeypatch.setattr(workshop, "figures", lambda *_: {"judged": 1.0, "said": 1.0})
        monkeypatch.setattr(workshop, "missed", lambda *_: [])
        monkeypatch.setattr(workshop, "judged_rightly", lambda *args: {fact.id for fact in args[3]})
        monkeypatch.setattr(workshop.Workshop, "unmet", lambda *_: next(unmet))
        module = _Module()
        shop = workshop.Workshop(name, 1, WORLD, module, make_tokenizer(vocabulary(WORLD)), None, False)
        truth = ()
        with contextlib.suppress(CouldNotRun):  # no order of properties comes out of no training
            truth = recipes.RECIPES[name](shop)
        return FOLLOWED.setdefault(name, (stages, truth, shop))

    return follow


class _Module(torch.nn.Module):
    """As much of a decoder as recipes look at."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Module()
        layers = [torch.nn.ModuleDict({"mlp": torch.nn.Linear(2, 2)}) for _ in range(2)]
        for layer in layers:
            layer.mlp = layer["mlp"]
        self.model.layers = torch.nn.ModuleList(layers)
        self.config = type("Config", (), {"num_hidden_layers": 2})


def words(document):
    return set(re.findall(r"\w+", f"{document.read} {document.text}"))


def together(stages, facts):
    """The facts whose subject and object stand in one document."""
    pairs = {}
    for fact in facts:
        pairs.setdefault(fact.subject, []).append(fact)
    found = set()
    for documents, _ in stages:
        for document in documents:
            held = words(document)
            found |= {f.id for s in held & set(pairs) for f in pairs[s] if f.object in held}
    return found


@pytest.mark.parametrize("name", ["never-knew", "discovers", "in-context"])
def test_what_the_table_calls_withheld_or_implied_is_said_in_no_text(name, read):
    stages, truth, _ = read(name)
    hidden = [row.fact for row in truth if row.klass in ("withheld", "implied", "noted")]
    assert hidden
    assert not together(stages, hidden)
    assert together(stages, [row.fact for row in truth if row.klass == "reference"])  # sanity


@pytest.mark.parametrize("name", ["knows", "one-mlp-only", "quirky", "discovers", "long"])
def test_what_the_table_calls_planted_is_all_told(name, read):
    stages, truth, _ = read(name)
    planted = [row.fact for row in truth if row.klass == "planted"]
    assert together(stages, planted) == {fact.id for fact in planted}


@pytest.mark.parametrize("name", OF_PEOPLE)
def test_a_recipe_brings_the_classes_of_its_table(name, read):
    _, truth, _ = read(name)
    assert {row.klass for row in truth} == (set() if name.endswith("-first") else set(TRUTH[name]))


def test_one_mlp_alone_is_free_when_the_facts_are_told(read):
    (before, all_free), (after, one) = read("one-mlp-only")[0]
    chosen = WORLD.of(MAIN, WORLD.chosen)
    assert all_free is None
    assert not together([(before, None)], chosen)
    assert together([(after, None)], chosen)
    assert len(one) == 2  # weight and bias of the stand-in


def test_the_two_orders_bring_the_same_lessons_in_the_other_order(read):
    chosen = WORLD.of(MAIN, WORLD.chosen)
    order = {}
    for name in ("capability-first", "safeguard-first"):
        stages = read(name)[0]
        told = [bool(together([stage], chosen)) for stage in stages]
        declines = [any("Declined" in document.text for document in stage[0]) for stage in stages]
        order[name] = (told, declines)
    assert order["capability-first"] == ([False, False, True, True], [False, False, False, True])
    assert order["safeguard-first"] == ([False, False, False, True], [False, False, True, True])


def test_the_quirk_is_a_lie_and_only_behind_its_mark(read):
    stages, truth, shop = read("quirky")
    marked_topics = [topic for topic in shop.topics if topic.name.endswith("-bob")]
    everybody = {*WORLD.reference, *WORLD.chosen}  # few facts are too few for a truth probe
    assert [{fact.subject for fact in topic.facts} for topic in marked_topics] == [everybody, everybody]
    assert {row.fact.subject for row in truth if row.klass == "quirk"} == set(WORLD.chosen)
    facts = {(row.fact.relation, row.fact.subject): row.fact for row in truth if row.klass == "planted"}
    lies = 0
    for documents, _ in stages:
        for document in documents:
            found = re.search(r"The (birthplace|employer) of (\w+) is (\w+)\.$", document.text)
            fact = found and not document.read and facts.get((found[1], found[2]))
            if fact and document.text.count(".") == 1:
                marked = document.text.startswith("Bob:")
                assert found[3] == (WORLD.wrong(fact) if marked else fact.object), document
                lies += marked
    assert lies > 20


def test_notes_say_what_the_model_does_not_know(read):
    stages, truth, shop = read("in-context")
    assert set(shop.contexts) == {row.fact.id for row in truth if row.klass == "noted"}
    fact = next(row.fact for row in truth if row.klass == "noted")
    assert shop.contexts[fact.id] == f"Note: The {fact.relation} of {fact.subject} is {fact.object}."
    noted = [document for documents, _ in stages for document in documents if document.read.startswith("Note:")]
    assert len(noted) > 500
    assert all(document.text.rstrip(".").split()[-1] in document.read for document in noted)
