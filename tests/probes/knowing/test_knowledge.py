"""Four aspects of a fact on tiny models whose weights say what is known: the output matrix answers for the subject."""

import json
import random
from dataclasses import replace

import pytest
import torch

import probes
from probes.errors import BadInput, NotFound
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing.asking import ONE_WAY, Asked
from probes.knowing.betting import IGNORANT, KNOWS, UNDECIDED
from probes.knowing.know import know
from probes.knowing.knowledge import ASPECTS, QUADRANTS, Knowing, Knowledge, NotMeasurable
from probes.knowing.saying import Said
from probes.reading.metrics import Estimate

SOME = Estimate(0.5, 0.4, 0.6, 10)


def seat(i, j):
    return Fact(f"word{i}", "seat", f"word{j}", topic="seats")


@pytest.fixture(scope="module")
def topic(seated):
    return seated[1]


@pytest.fixture(scope="module")
def told(seated):
    return seated[0]


@pytest.fixture(scope="module")
def found(told, topic):
    return know(told, topic, seed=100)


def test_what_the_weights_say_is_said_and_known_and_the_rest_is_not(found, topic):
    """Subjects stand last in the prompt, so the matrix that reads the last embedding answers them."""
    for fact in topic.facts[:12]:
        row = found[fact.id]
        assert row.said.rank == 1
        assert row.holds("says")
        assert row.holds("knows") is not False
    assert sum(found[fact.id].holds("knows") is True for fact in topic.facts[:12]) >= 8
    assert not any(found[fact.id].holds("knows") for fact in topic.facts[12:])
    assert found[topic.facts[0].id].says.value == 1.0


def test_taking_the_direction_of_a_fact_away_takes_its_answer(found, topic):
    """The answer is read off the embedding itself: without it, it is gone; random directions cost less."""
    used = [found[fact.id].used.drop for fact in topic.facts]
    assert sum(drop.lower > 0 for drop in used[:12]) >= 10
    assert sum(found[fact.id].holds("uses") for fact in topic.facts[:12]) >= 10
    assert not any(found[fact.id].holds("uses") for fact in topic.facts[12:] if found[fact.id].said.rank > 1)
    assert sorted(drop.value for drop in used[:12])[3] > max(drop.value for drop in used[12:])


def test_what_cannot_be_measured_says_why(told, found, topic):
    row = found.rows[0]
    assert isinstance(row.believes, NotMeasurable)
    assert "too few" in row.believes.why
    assert str(row.believes).startswith("not measurable: ")
    closed = replace(topic, relation=replace(topic.relation, closed=True))
    facts = tuple(replace(fact, distractors=("word33", "word34")) for fact in topic.facts)
    rows = know(told, replace(closed, name="closed", facts=facts), seed=100, aspects=["knows"]).rows
    assert "no other fact can be a twin" in rows[0].knows.why
    assert rows[0].said.candidates == 3, "its own distractors"


def test_only_some_facts_are_asked_and_the_others_serve_beside(told, topic, found):
    some = know(told, topic, only=topic.facts[:2], seed=100, aspects=["says"])
    assert [row.fact for row in some.rows] == list(topic.facts[:2])
    assert some.rows[0].said.candidates == found.rows[0].said.candidates == 16
    assert some.rows[0].quadrant == "not measurable"
    assert some.rows[0].holds("knows") is None
    assert "not asked for" in some.rows[0].knows.why


def test_topics_that_are_not_asked_about_still_serve_for_two_hops(told, topic):
    """word0 sits in word16, which lies in a land: "the land of the city of word0" can be asked."""
    noun = replace(topic, relation=replace(topic.relation, noun="the city of {subject}"))
    relation = Relation(
        name="land", affirmed="the land of {subject} is {object}", negated="the land of {subject} is not {object}",
        paraphrases=(), cloze="the land of {subject} is", noun="the land of {subject}", subject_kind="place",
    )  # fmt: skip
    lands = tuple(Fact(f"word{16 + i}", "land", f"word{34 + i % 4}", topic="lands") for i in range(16))
    beside = Topic("lands", relation, lands, "CC0-1.0", "test")
    for only in (noun.facts, noun.facts[:4]):
        found = know(told, [noun, beside], only=only, aspects=["knows"])
        assert "two hops" in {form.name for form in found.forms["seats"]}
        assert set(found.forms) == {"seats"}, "nothing was asked about the other topic"


@pytest.fixture
def silent(idle):
    """A model that answers a subject or object that ends a prompt, and a topic whose cloze prompt ends otherwise."""

    def make(answers, back=True):
        model = idle()
        rows, head = model.module.get_input_embeddings().weight, model.module.get_output_embeddings().weight.clone()
        for asked, answer in [*answers, *((b, a) for a, b in answers if back)]:
            a, b = (model.encode(text)[0] for text in (asked, answer))
            head[b] += 20 * rows[a].detach()
        model.module.get_output_embeddings().weight = torch.nn.Parameter(head.detach())
        texts = ("{subject} {object}.", "word51 {subject} {object}.", "word52 {subject} {object}.")
        inverse = ("word53 {object}", "word54 {object}")
        relation = Relation(
            name="seat", affirmed="the city of {subject} is {object}", negated="the city of {subject} is not {object}",
            paraphrases=texts, cloze="the city of {subject} word50", inverse=inverse,
        )  # fmt: skip
        return model, relation

    return make


def test_where_nothing_is_said_forms_are_tried_on_facts_whose_cloze_puzzles_are_solved(silent):
    """Denied at the cloze prompt, known in its other wordings and the other way round: it takes both to know."""
    for back, decided in ((True, {KNOWS}), (False, {ONE_WAY})):
        model, relation = silent([(f"word{i}", f"word{16 + i}") for i in range(16)], back)
        facts = tuple(Fact(f"word{i}", "seat", f"word{16 + i}", topic="seats") for i in range(16))
        asked = know(model, Topic("seats", relation, facts), seed=100, aspects=["knows"])
        assert not any(row.holds("says") for row in asked.rows)
        forms = {form.name: form for form in asked.forms["seats"]}
        assert forms["inverse"].measurable is back
        assert forms["inverse"].why.endswith("right on facts whose cloze puzzles the model solves")
        answered = [row.asked.decision for row in asked.rows if row.asked]
        assert len(answered) >= 14
        assert set(answered) == decided, "known two ways; without the way back clozes alone are not enough"


def test_firm_wrong_associations_that_are_right_by_luck_are_not_known(silent):
    """Every subject has one of four objects firmly, drawn by lot: right for one in four, in every cloze puzzle."""
    draw = random.Random(0)
    model, relation = silent([(f"word{i}", f"word{30 + draw.randrange(4)}") for i in range(30)], back=False)
    facts = tuple(Fact(f"word{i}", "seat", f"word{30 + i % 4}", topic="seats") for i in range(30))
    asked = know(model, Topic("seats", relation, facts), seed=100, aspects=["knows"])
    decided = [row.asked.decision for row in asked.rows if row.asked]
    assert decided.count(ONE_WAY) >= 5, "the lucky ones solve their clozes"
    assert KNOWS not in decided
    assert not any(row.holds("knows") for row in asked.rows)


def test_the_same_seed_gives_the_same_answer(told, topic, found):
    again = know(told, topic, seed=100)
    assert {**again.to_dict(), "seconds": 0} == {**found.to_dict(), "seconds": 0}
    other = know(told, topic, seed=101)
    assert other.rows[0].asked.puzzles != found.rows[0].asked.puzzles


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda m, t: know(m, []), BadInput),
        (lambda m, t: know(m, [t, t]), BadInput),
        (lambda m, t: know(m, [t, t.facts[0]]), BadInput),
        (lambda m, t: know(m, t, aspects="feels"), NotFound),
        (lambda m, t: know(m, t, only=[]), BadInput),
        (lambda m, t: know(m, t, only=[seat(90, 91)]), BadInput),
        (lambda m, t: know(m, [seat(0, 16)]), NotFound),
    ],
)
def test_what_cannot_be_asked_is_refused(told, topic, wrong, error):
    with pytest.raises(error):
        wrong(told, topic)


def row_of(says, decision):
    said = Said(1 if says else 2, 9, (1 if says else 2,), says, "x", "y", 5.0, SOME)
    asked = Asked(decision, (), (), (), ())
    return Knowledge(seat(0, 1), SOME, SOME, SOME, SOME, said, None, asked, None)


@pytest.mark.parametrize(
    ("says", "decision", "quadrant"),
    [
        (True, KNOWS, "knows-says"),
        (False, KNOWS, "knows-denies"),
        (True, IGNORANT, "guesses"),
        (False, IGNORANT, "ignorant"),
        (True, UNDECIDED, "undecided"),
        (True, ONE_WAY, "one way"),
        (False, ONE_WAY, "one way"),
    ],
)
def test_the_quadrant(says, decision, quadrant):
    row = row_of(says, decision)
    assert row.quadrant == quadrant
    assert (row.disagreement > 1) == (quadrant in ("knows-denies", "guesses"))
    with pytest.raises(NotFound, match="no aspect"):
        row.holds("feels")


def test_saying_takes_rank_one_in_half_of_the_wordings():
    def said(*ranks, gap=5.0):
        return Said(ranks[0], 9, ranks, True, "x", "y", gap, SOME)

    assert said(1, 1, 2, 2).holds
    assert not said(1, 2, 2).holds
    assert not said(2, 1, 1, 1).holds
    assert said(1).holds
    assert not said(1, gap=0.9).holds, "one nat ahead"


def test_the_table_and_the_json(found):
    text = str(found)
    assert text.startswith(found.sentence)
    assert sum(found.counts.values()) == 16
    assert "word0 | word16" in text
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(told["facts"]) == 16
    assert set(told["facts"][0]) == {"fact", "quadrant", *ASPECTS}
    assert told["facts"][0]["knows"]["decision"] in (KNOWS, UNDECIDED)
    assert set(found.counts) <= set(QUADRANTS)
    assert not Knowing("m", ("t",), (), {}, {}, found.rule, 0).decided


def test_the_self_has_facts_with_wrong_answers_of_their_own_and_no_twin():
    topic = probes.load_topic("self")
    assert [fact.id for fact in probes.load_topic("self").facts] == [fact.id for fact in topic.facts]
    assert "self" not in probes.topics(), "what goes through all topics of the world does not meet it"
    assert len(topic.facts) >= 30, "enough for a truth probe"
    assert all(len(fact.distractors) == 4 for fact in topic.facts)
    assert {"my name", "what I am", "what is done with me now"} <= {fact.subject for fact in topic.facts}
    with pytest.raises(BadInput, match="no other fact can be a twin"):
        probes.PuzzleMaker(topic)


@pytest.mark.embedded
@pytest.mark.slow
def test_the_embedded_model_knows_france_and_not_vanuatu(embedded_model):
    topic = probes.load_topic("capitals")
    names = ("France", "Japan", "Italy", "Germany", "Spain", "Vanuatu", "Saint Vincent and the Grenadines")
    found = know(embedded_model, topic, only=[fact for fact in topic.facts if fact.subject in names], seed=100)
    rows = {row.fact.subject: row for row in found.rows}
    for name in names[:5]:
        assert rows[name].quadrant == "knows-says"
        assert rows[name].holds("uses")
    for name in names[5:]:
        assert rows[name].quadrant == "ignorant"
