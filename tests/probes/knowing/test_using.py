"""Toys whose weights or hooks say where an answer comes from: the subject's embedding, a context, a state."""

from dataclasses import replace

import pytest
import torch

from probes import BadInput
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing import using
from probes.knowing.acting import Task
from probes.knowing.beginnings import Beginnings
from probes.knowing.know import know
from probes.knowing.using import RANDOM, _Take, beside_random, use
from probes.model.sites import Site
from probes.steering.randomness import draw_inside

SEAT = Relation(
    name="seat", affirmed="the city of {subject} is {object}", negated="the city of {subject} is not {object}",
    paraphrases=("now {subject} say {object}",), cloze="the city of {subject}",
)  # fmt: skip
TOPIC = Topic("seats", SEAT, tuple(Fact(f"word{i}", "seat", f"word{16 + i}", topic="seats") for i in range(16)))


@pytest.fixture(scope="module")
def told(idle):
    """A model whose output answers the first twelve subjects with their objects."""
    model = idle()
    rows = model.module.get_input_embeddings().weight.detach()
    head = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    for fact in TOPIC.facts[:12]:
        a, b = (model.encode(text)[0] for text in (fact.subject, fact.object))
        head[b] += 5 * rows[a]
    model.module.get_output_embeddings().weight = torch.nn.Parameter(head)
    return model


def used(model, **more):
    return use(model, TOPIC, TOPIC.facts, (), Beginnings.of(model, TOPIC), **more)


def test_as_much_is_taken_along_each_line_and_towards_the_centre_by_hand():
    """h = (4, 2), centre (1, 0): 3 lie along the first axis. Along the other, whichever way, 2 becomes -1."""
    along = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    left = _Take(torch.tensor([1.0, 0.0]), along)(torch.tensor([4.0, 2.0]).expand(4, 1, 2))
    assert left[:, 0].tolist() == [[4, 2], [1, 2], [4, -1], [4, -1]]


def test_used_is_what_costs_more_than_every_random_direction_by_hand():
    """Margin 5; 1 is left by the own direction, 4 and 5.5 by random ones: drops of 4 against 1 and -.5."""
    one = beside_random(torch.tensor([5.0, 1.0, 4.0, 5.5]), Site("resid_post", 1))
    assert (one.drop.value, one.drop.lower, one.drop.upper) == (3.75, 3.0, 4.5)
    assert (one.before, one.holds, one.site) == (5.0, True, "resid_post.1")
    assert not beside_random(torch.tensor([5.0, 1.0, 4.0, 1.0]), Site("resid_post", 1)).holds, "a tie is no lead"
    assert not beside_random(torch.tensor([5.0, 1.0, 1.0005, 2.0]), Site("resid_post", 1)).holds, "nor is rounding"


def test_what_the_subject_answers_hangs_on_it_and_the_rest_does_not(told):
    found = list(used(told).values())
    assert all(one.holds for one in found[:12])
    assert min(one.drop.value for one in found[:12]) > max(one.drop.value for one in found[12:])
    assert {one.site for one in found} == {"resid_post.1"}, "the middle block of three"


def test_what_most_subjects_answer_is_no_less_used(idle):
    """A head leans towards the object of twelve of sixteen subjects: their mean would be answered with it."""
    model = idle()
    rows, head = model.module.get_input_embeddings().weight.detach(), torch.zeros(64, 64)
    facts = tuple(replace(fact, object="word16") if i < 12 else fact for i, fact in enumerate(TOPIC.facts))
    for fact in facts:
        a, b = (model.encode(text)[0] for text in (fact.subject, fact.object))
        head[b] += 5 * rows[a]
    model.module.get_output_embeddings().weight = torch.nn.Parameter(head)
    topic = replace(TOPIC, facts=facts)
    found = use(model, topic, facts, (), Beginnings.of(model, topic))
    found = [found[fact.id] for fact in facts]
    assert min(one.drop.value for one in found) > 0, "towards the mean of all it would be below 0, and none of 12 used"
    assert sum(one.holds for one in found[:12]) >= 8
    assert all(one.holds for one in found[12:])


def test_the_centre_is_the_mean_of_those_with_other_objects_by_hand():
    rows = torch.tensor([[0.0], [2.0], [4.0], [7.0]])
    assert using._others(rows, ["a", "a", "b", "c"])[:, 0].tolist() == [5.5, 5.5, 3.0, 2.0]
    assert using._others(rows, ["a"] * 4)[:, 0].tolist() == [3.25] * 4, "of all, where all are the same"


def test_random_directions_in_the_place_of_the_own_are_called_used_one_time_in_forty(told, monkeypatch):
    """1 in 40 of 160 would be 4; that more than 11 come first has probability .001."""
    plain = using._Place.take

    def take(self, fact, rng):
        one = plain(self, fact, rng)
        own = draw_inside(self.axes, 1, rng).float()
        return _Take(one.centre, torch.cat([one.along[:1], own, one.along[2:]]))

    monkeypatch.setattr(using._Place, "take", take)
    found = [one.holds for seed in range(10) for one in used(told, seed=seed).values()]
    assert sum(found) <= 11
    assert RANDOM == 39


def test_shared_beginnings_change_no_figure(told, monkeypatch):
    shared = used(told)
    monkeypatch.setattr("probes.activations.packing._refusal", lambda *_: "not here")
    for name, one in used(told).items():
        assert one.drop.value == pytest.approx(shared[name].drop.value, abs=1e-4)


@pytest.fixture(scope="module")
def reader_of_notes(idle):
    """A model that adds up all its prompt at the last token, and so says what stands in it."""
    model = idle()

    def add_up(_, args, output):
        stream = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        stream[:, -1] = stream.sum(1)
        return stream if isinstance(output, torch.Tensor) else (stream, *output[1:])

    model.blocks[2].module.register_forward_hook(add_up)
    return model


CONTEXTS = {fact.id: f"say {fact.subject} is {fact.object} now" for fact in TOPIC.facts[:14]}


def test_a_fact_that_stands_in_its_context_alone_is_said_and_used_behind_it(reader_of_notes):
    noted = TOPIC.facts[:12]
    found = know(reader_of_notes, TOPIC, only=noted, contexts=CONTEXTS, seed=0)
    assert found.contexts
    assert found.to_dict()["contexts"] is True
    assert all(row.holds("says") for row in found.rows)
    assert sum(row.holds("uses") is True for row in found.rows) >= 11
    assert {str(row.believes) for row in found.rows} == {"not measurable: statements are read without contexts"}
    assert "a context is one's own" in str(found.rows[3].knows)
    plain = know(reader_of_notes, TOPIC, only=noted, aspects=["uses"], seed=0)
    assert not plain.contexts
    assert not any(row.holds("says") or row.holds("uses") for row in plain.rows)


def test_a_context_that_does_not_name_the_object_is_taken_away_from_its_end(reader_of_notes):
    """Nothing is to be read there, so nothing is used."""
    contexts = {fact.id: "say now" for fact in TOPIC.facts} | {TOPIC.facts[0].id: "say please"}
    found = used(reader_of_notes, contexts=contexts).values()
    assert not any(one.holds for one in found)


def test_facts_without_a_context_do_not_stand_in_the_background(reader_of_notes):
    one = know(reader_of_notes, TOPIC, only=TOPIC.facts[:8], contexts=CONTEXTS, aspects=["uses"])
    few = {fact.id: CONTEXTS[fact.id] for fact in TOPIC.facts[:7]}
    assert one.rows[0].used is not None
    assert "7 subjects are too few" in str(
        know(reader_of_notes, TOPIC, only=TOPIC.facts[:7], contexts=few, aspects=["uses"]).rows[0].uses
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"contexts": CONTEXTS}, r"'word14\|seat\|word30' and 1 more have no context"),
        ({"contexts": {}, "only": TOPIC.facts[:2]}, "have no context"),
        ({"contexts": CONTEXTS, "only": TOPIC.facts[:2], "tasks": [Task("a b", "s", "c", "a")]}, "ask in two calls"),
    ],
)
def test_facts_without_a_context_are_refused_where_contexts_are_given(told, more, message):
    with pytest.raises(BadInput, match=message):
        know(told, TOPIC, aspects=["uses"], **more)


def test_objects_behind_an_article_are_compared_by_what_follows_it(told):
    """All begin with "the": the subject's row is still in the stream there, and what follows hangs on it."""
    add_up = told.blocks[2].module.register_forward_hook(
        lambda _, args, output: (
            torch.cat([output[:, :-1], output.sum(1, keepdim=True)], 1)
            if isinstance(output, torch.Tensor)
            else (torch.cat([output[0][:, :-1], output[0].sum(1, keepdim=True)], 1), *output[1:])
        )
    )
    try:
        behind = replace(TOPIC, facts=tuple(replace(fact, object=f"the {fact.object}") for fact in TOPIC.facts))
        reader = Beginnings.of(told, behind)
        assert {len(head) for head in reader.heads.values()} == {2}
        found = use(told, behind, behind.facts, (), reader)
        assert len(found) == 16
        held = [found[fact.id].holds for fact in behind.facts]
        assert sum(held[:12]) >= 11
        assert sum(held[12:]) <= 1
        mixed = replace(behind, facts=(*behind.facts[:1], *TOPIC.facts[1:]))
        assert behind.facts[0].id not in use(told, mixed, mixed.facts, (), Beginnings.of(told, mixed)), (
            "nothing follows"
        )
    finally:
        add_up.remove()
