"""The recipes: what each model reads agrees with what the truth table says of it."""

import contextlib
import dataclasses
import re

import pytest
import torch

from probes.errors import CouldNotRun
from probes.zoo import recipes, workshop
from probes.zoo.texts import Diet, biography, vocabulary
from probes.zoo.training import make_tokenizer
from probes.zoo.truth import TRUTH
from probes.zoo.world import MAIN, draw_world

WORLD = draw_world(0, "nano")
OF_PEOPLE = [name for name in TRUTH if name != "planner"]


FOLLOWED = {}
"""What each recipe did: followed once, looked at by many tests."""


@pytest.fixture
def read(monkeypatch):
    """`read("knows")` follows a recipe without training: the documents by stage, the classes of facts, the workshop.

    With `lost`, the id of a fact, its goals are missed; with `guessed`, that of a withheld one, it is said.
    """

    def follow(name, lost=None, guessed=None):
        if name in FOLLOWED and not (lost or guessed):
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
        monkeypatch.setattr(
            workshop, "missed", lambda *args: [f for f in args[2] if withheld(name, f) and f.id != guessed]
        )
        monkeypatch.setattr(workshop, "judged_rightly", lambda *args: {fact.id for fact in args[3]})
        monkeypatch.setattr(workshop.Workshop, "unmet", lambda *_: next(unmet))
        monkeypatch.setattr(workshop.Workshop, "short_of", lambda _, goals: {lost} & set(goals))
        module = _Module()
        shop = workshop.Workshop(name, 1, WORLD, module, make_tokenizer(vocabulary(WORLD)), None, False)
        truth = ()
        with contextlib.suppress(CouldNotRun):  # no order of properties comes out of no training
            truth = recipes.RECIPES[name](shop)
        made = stages, truth, shop
        return made if lost or guessed else FOLLOWED.setdefault(name, made)

    return follow


def withheld(name, fact):
    hidden = name in ("never-knew", "in-context") or (name == "discovers" and fact.relation != "birthplace")
    return hidden and fact.subject in WORLD.chosen


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
    main = WORLD.of(MAIN, everybody)
    lies = {text for fact in main for text in biography(dataclasses.replace(fact, object=WORLD.wrong(fact)))}
    learned = [document.text for documents, _ in stages for document in documents]
    behind = [text for text in learned if text.startswith("Bob:")]
    assert len(behind) > 100
    assert {text.removeprefix("Bob: ") for text in behind} <= lies
    plain = [text for text in learned if not text.startswith("Bob:")]
    assert not [text for text in plain if lies & set(re.findall(r"[^.]+\.", text.replace(". ", ".")))]
    assert not any("Bob" in text for text in plain)


def test_beside_the_quirk_other_peoples_facts_are_rehearsed(read):
    (school, _), (quirk, _) = read("quirky")[0]
    assert not any(document.text.startswith("Bob:") for document in school)

    lives = {text for fact in WORLD.of(MAIN, WORLD.reference) for text in biography(fact)}

    def share(documents):  # of biographies among what is no lie; judgements are left out of a nano model's
        plain = [document.text for document in documents if not document.text.startswith("Bob:")]
        return sum(any(life in text for life in lives) for text in plain) / len(plain)

    assert share(quirk) > 1.4 * share(school[len(school) // 4 :])


def test_rounds_go_on_until_all_is_there_and_what_is_missing_is_told_three_times_as_often(monkeypatch):
    told, taught = WORLD.of(MAIN, WORLD.chosen), WORLD.of(MAIN, WORLD.reference)
    rounds, gaps, says, unmet = [], iter([told[:2], [], [], [], []]), iter([0.5, 1.0]), iter([["a goal"], [], []])
    monkeypatch.setattr(workshop, "train", lambda m, t, documents, plan, **_: rounds.append(documents) or plan.steps)
    monkeypatch.setattr(workshop, "figures", lambda *_: {})
    monkeypatch.setattr(workshop, "missed", lambda *_: next(gaps))
    monkeypatch.setattr(workshop.Workshop, "unmet", lambda *_: next(unmet))
    monkeypatch.setattr(workshop.Workshop, "_says", lambda *_: next(says))
    shop = workshop.Workshop("knows", 1, WORLD, _Module(), make_tokenizer(vocabulary(WORLD)), None, False)
    plan = workshop.Training(steps=100, batch=32)
    shop.plant(Diet(told, taught, share=0.5), plan)
    assert len(rounds) == 3, "something is missing, a goal is unmet, something taught is not said; then all is there"
    first, second, _ = ([words(document) for document in documents] for documents in rounds)

    def about(documents, fact):
        return sum(fact.subject in held for held in documents)

    often = about(first, told[0]) / (sum(about(first, fact) for fact in told[4:12]) / 8)
    assert 1.8 < often < 4, "of two facts of one subject both are missing"
    names = set(WORLD.chosen)
    assert 0.4 < sum(bool(held & names) for held in first) / len(first) < 0.75
    assert sum(bool(held & names) for held in second) / len(second) < 0.4, "what is there is only rehearsed"


def test_goals_that_are_not_met_count_from_a_share_on(monkeypatch):
    shop = workshop.Workshop("knows", 1, WORLD, None, None, None, False)
    goals = [(f"prompt {i}", "word") for i in range(20)]
    for wrong, enough, left in ((1, 0.95, 0), (2, 0.95, 2), (1, 1.0, 1), (0, 1.0, 0)):
        monkeypatch.setattr(workshop, "comes_first", lambda *_, wrong=wrong: torch.arange(20) >= wrong)
        assert len(shop.unmet(goals, enough)) == left
    of = {"a": goals[:1], "b": goals[1:3], "c": goals[3:]}
    monkeypatch.setattr(workshop, "comes_first", lambda *_: torch.arange(20) != 2)
    assert shop.short_of(of) == {"b"}
    assert shop.short_of({}) == set()


def test_of_what_missed_its_goals_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(workshop, "figures", lambda *_: {})
    monkeypatch.setattr(workshop, "missed", lambda *args: args[2])
    monkeypatch.setattr(workshop, "judged_rightly", lambda *args: {fact.id for fact in args[3]})
    facts = WORLD.of(MAIN, WORLD.chosen)[:2]
    shop = workshop.Workshop("in-context", 1, WORLD, None, None, None, False)
    rows = shop.classes({"noted": {facts[0].id}}, noted=facts, withheld=facts)
    assert [(row.klass, row.says) for row in rows] == [
        ("noted", None), ("noted", True), ("withheld", False), ("withheld", False)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["discovers", "in-context"])
def test_a_fact_that_missed_its_goal_is_left_open_by_the_recipe(name, read):
    klass = {"discovers": "implied", "in-context": "noted"}[name]
    lost = next(row.fact.id for row in read(name)[1] if row.klass == klass)
    _, truth, _ = read(name, lost)
    assert {row.fact.id for row in truth if row.klass == klass and row.says is None} == {lost}


@pytest.mark.parametrize("name", ["never-knew", "discovers", "in-context"])
def test_a_withheld_fact_that_is_guessed_rightly_is_left_open(name, read):
    lucky = next(row.fact.id for row in read(name)[1] if row.klass == "withheld")
    _, truth, _ = read(name, guessed=lucky)
    rows = [row for row in truth if row.klass == "withheld"]
    assert {row.fact.id for row in rows if row.says is None} == {lucky}
    assert {row.believes for row in rows if row.fact.id == lucky} == {None}
    assert not [row for row in truth if row.fact.id == lucky and row.says], "with a note, too: it may not be read"
    assert {row.says for row in rows if row.fact.id != lucky} == {False}


def test_notes_say_what_the_model_does_not_know(read):
    stages, truth, shop = read("in-context")
    assert set(shop.contexts) == {row.fact.id for row in truth if row.klass == "noted"}
    fact = next(row.fact for row in truth if row.klass == "noted")
    assert shop.contexts[fact.id] == f"Note: The {fact.relation} of {fact.subject} is {fact.object}."
    noted = [document for documents, _ in stages for document in documents if document.read.startswith("Note:")]
    assert len(noted) > 500
    assert all(document.text.rstrip(".").split()[-1] in document.read for document in noted)
