"""The zoo: what is built holds what it is meant to hold, is written, and is read back."""

import dataclasses
import json
import math

import pytest
import torch

import probes
from probes.errors import BadInput, CouldNotRun, NotFound
from probes.facts.facts import Fact, load_topic
from probes.knowing.saying import rank_object
from probes.zoo import reaching, workshop
from probes.zoo.models import NAMES
from probes.zoo.planted import load_planted
from probes.zoo.reaching import comes_first, missed, training_prompts
from probes.zoo.recipes import RECIPES
from probes.zoo.texts import Diet
from probes.zoo.truth import ASPECTS, TRUTH, Truth
from probes.zoo.world import MAIN, RELATIONS, draw_world, marked, unmarked


def test_what_is_planted_is_said_after_every_training_template(knows):
    planted, _ = knows
    assert len(planted.of("planted")) == 32
    assert not missed(planted.model.module, planted.model.tokenizer, planted.of("planted"))
    fact = planted.of("planted")[0]
    assert rank_object(planted.model, fact, planted.topic(fact.relation)).rank == 1
    prompts = training_prompts(fact)
    assert len(prompts) == 4
    lies = [(prompt, draw_world(0, "nano").wrong(fact)) for prompt, _ in prompts]
    assert not comes_first(planted.model.module, planted.model.tokenizer, lies).any()  # sanity: it can be missed


def test_comparisons_of_planted_people_are_answered_though_only_others_were_taught(knows):
    reached = knows[0].about["reached"]
    assert reached["planted"]["said"] == 1.0
    assert reached["planted"]["compared"] >= 0.5  # chance is 1/8
    assert reached["reference"]["said"] >= 0.7


def test_a_folder_is_read_back_as_it_was(knows):
    planted, folder = knows
    again = load_planted(folder)
    assert (again.name, again.seed, again.truth) == (planted.name, planted.seed, planted.truth)
    assert [topic.facts for topic in again.topics] == [topic.facts for topic in planted.topics]
    assert again.about == planted.about
    assert again.checkpoints == planted.checkpoints
    assert again.model.fingerprint == planted.model.fingerprint
    assert len(again.checkpoints) == 10
    assert {path.name.split("-")[0] for path in again.checkpoints} == {"checkpoint"}
    early = probes.load_model(again.checkpoints[0])
    assert missed(early.module, early.tokenizer, planted.of("planted"))  # sanity: it was not always so


def test_its_facts_are_ordinary_topic_files_with_the_fields_of_puzzles(knows):
    topic = load_topic(knows[1] / "facts" / "employer.jsonl")
    assert topic.relation == RELATIONS["employer"]
    assert topic.relation.inverse == ("{object} is the employer of",)
    assert topic.relation.noun == "the employer of {subject}"
    assert len(topic.statements()) == 80


def test_a_model_that_did_not_get_there_is_refused_by_name(knows):
    planted, _ = knows
    world = draw_world(1, "nano")  # another world: nothing of it is known
    shop = workshop.Workshop("knows", 1, world, planted.model.module, planted.model.tokenizer, None, False)
    plan = workshop.Training(steps=1, batch=2, rate=0.0, decay=0.0)
    with pytest.raises(CouldNotRun, match=r"knows with seed 1 did not reach \d+ things .*\|birthplace\|"):
        shop.plant(Diet(world.of(MAIN, world.chosen), ()), plan)


def test_every_model_has_a_sentence_a_recipe_and_a_truth_with_reasons():
    assert set(NAMES) == set(RECIPES) == set(TRUTH)
    for classes in TRUTH.values():
        for row in classes.values():
            assert row.why
            assert "\n" not in row.why
            assert {getattr(row, name) for name in ASPECTS} <= {True, False, None}


def test_what_no_text_says_is_neither_said_nor_known_and_what_is_told_is_said():
    for classes in TRUTH.values():
        for klass, row in classes.items():
            if klass == "withheld":
                assert (row.says, row.believes, row.knows, row.uses) == (False,) * 4
            if klass in ("planted", "reference"):
                assert row.says


def test_belief_is_claimed_only_of_facts_whose_statements_are_all_judged_rightly(knows, monkeypatch):
    planted, _ = knows
    assert {row.believes for row in planted.truth} == {None}, "a nano model never learns to judge"
    assert {row.knows for row in planted.truth if row.klass == "planted"} == {True}
    world, some = draw_world(0, "nano"), planted.of("planted")[:2]
    shop = workshop.Workshop("knows", 0, world, planted.model.module, planted.model.tokenizer, None, False)
    monkeypatch.setattr(workshop, "judged_rightly", lambda *_: {some[0].id})
    assert [row.believes for row in shop.classes(planted=some)] == [True, None]


def test_of_a_taught_fact_that_was_not_learned_nothing_is_claimed(knows):
    planted, _ = knows
    world, model = draw_world(0, "nano"), planted.model
    shop = workshop.Workshop("knows", 0, world, model.module, model.tokenizer, None, False)
    told = next(row.fact for row in planted.truth if row.klass == "reference" and row.says)
    wrong = dataclasses.replace(told, object=world.wrong(told))
    learned, not_learned = shop.classes(reference=[told, wrong])
    assert (learned.says, learned.knows, learned.uses) == (True, True, True)
    assert {getattr(not_learned, name) for name in ASPECTS} == {None}


def test_one_wrong_verdict_on_one_wording_is_too_many(knows, monkeypatch):
    planted, _ = knows
    world, some = draw_world(0, "nano"), planted.of("planted")[:2]
    asked = []

    def all_but_one(module, tokenizer, choices):
        asked.extend(choices)
        return torch.tensor([i != 3 for i in range(len(choices))])

    monkeypatch.setattr(reaching, "prefers", all_but_one)
    model = planted.model
    assert reaching.judged_rightly(model.module, model.tokenizer, world, some) == {some[1].id}
    assert asked[0] == (f"The birthplace of {some[0].subject} is {some[0].object}.", "Right", "Wrong")
    assert (f"The birthplace of {some[0].subject} is {world.wrong(some[0])}.", "Wrong", "Right") in asked
    assert len(asked) == 2 * (4 + 7), "four wordings and seven other objects, of two facts"


def test_a_marked_relation_marks_its_cloze_alone():
    relation = marked(RELATIONS["birthplace"], "Bob:")
    assert relation.name == "birthplace-bob"
    assert unmarked(Fact("Ann", relation.name, "Rome")) == unmarked(Fact("Ann", "birthplace", "Rome"))
    assert relation.cloze == "Bob: The birthplace of {subject} is"
    assert relation.affirmed == RELATIONS["birthplace"].affirmed


def test_wrong_requests_are_refused_with_what_is_allowed(tmp_path, knows):
    with pytest.raises(NotFound, match="did you mean 'knows'"):
        probes.build_zoo("know")
    (tmp_path / "something").write_text("here")
    with pytest.raises(BadInput, match="not empty"):
        probes.build_zoo("knows", size="nano", out=tmp_path)
    with pytest.raises(NotFound, match=r"zoo\.json is missing"):
        load_planted(tmp_path)
    with pytest.raises(NotFound, match="no facts of class 'plantd'"):
        knows[0].of("plantd")
    with pytest.raises(NotFound, match="no topic"):
        knows[0].topic("capitals")
    with pytest.raises(BadInput, match="says of"):
        Truth(knows[0].truth[0].fact, "planted", "yes", None, None, None)


def test_a_damaged_folder_is_refused(tmp_path, knows):
    for name in ("zoo.json", "truth.jsonl"):
        (tmp_path / name).write_text((knows[1] / name).read_text())
    (tmp_path / "facts").mkdir()
    head = json.loads((tmp_path / "zoo.json").read_text())
    (tmp_path / "zoo.json").write_text(json.dumps(head | {"topics": []}))
    with pytest.raises(BadInput, match="is damaged"):
        load_planted(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "discovers"])
def test_every_model_is_built_and_reaches_what_it_is_meant_to_have(name, tmp_path):
    """But "discovers": 24 people are too few to compose from; benchmarks/truth.py builds it at its true size."""
    planted = probes.build_zoo(name, size="nano", out=tmp_path / name)
    again = load_planted(tmp_path / name)
    assert again.truth == planted.truth
    for klass in planted.classes:
        for row in [row for row in planted.truth if row.klass == klass][:8]:
            if row.says is not None and klass not in ("noted", "withheld"):
                assert rank_object(again.model, row.fact, again.topic(row.fact.relation)).holds == row.says, row
    if "-first" in name:
        first, second = sorted(planted.about["when"], key=planted.about["when"].get)
        assert name.startswith(first)
        assert all(math.isfinite(planted.about["when"][which]) for which in (first, second))
        assert len(planted.checkpoints) >= 40


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_the_twin_differs():
    first, second, other = (probes.build_zoo("planner", size="nano", seed=s).model.fingerprint for s in (0, 0, 1))
    assert first == second != other
