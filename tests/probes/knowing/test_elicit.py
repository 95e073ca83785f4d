"""Toy: a model that holds an answer back. A hook that belongs to it lets the answer out where the stream at
resid_post.1 lies far enough along a direction that nothing else in the model uses.
"""

import numpy as np
import pytest
import torch

from probes import BadInput, SteeringVector, TooFew
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing.elicit import Elicited, elicit
from probes.model.sites import Site
from probes.reading.metrics import Estimate

SEAT = Relation(
    name="seat",
    affirmed="the city of {subject} is {object}.",
    negated="the city of {subject} is not {object}.",
    paraphrases=("now the city of {subject} is {object}.",),
    cloze="the city of {subject} is",
)
TOPIC = Topic("seats", SEAT, tuple(Fact(f"word{i}", "seat", f"word{i + 14}") for i in range(1, 13)))
AXIS = 5


@pytest.fixture
def withholding(build):
    """A tiny Llama that says the first two facts, and the others once the stream is far along one axis."""
    model = build("llama")
    tokens = model.tokenizer.get_vocab()
    answers = {tokens[fact.subject]: tokens[fact.object] for fact in TOPIC.facts}
    always = {tokens[fact.subject] for fact in TOPIC.facts[:2]}
    rows = model.module.get_output_embeddings().weight.detach()
    seen = {}

    def note(_, args, kwargs):
        seen["ids"] = kwargs.get("input_ids", args[0] if args else None)

    def gate(_, args, output):
        stream = output if isinstance(output, torch.Tensor) else output[0]
        seen["open"] = stream[:, :, AXIS] > 2.0

    def answer(_, args):
        hidden = args[0].clone()
        for row, ids in enumerate(seen["ids"].tolist()):
            for token in set(ids) & set(answers):
                allowed = seen["open"][row] | (token in always)
                hidden[row] += allowed[:, None] * 40.0 * rows[answers[token]] / rows[answers[token]].norm()
        return (hidden, *args[1:])

    model.body.register_forward_pre_hook(note, with_kwargs=True)
    model.blocks[1].module.register_forward_hook(gate)
    model.body.norm.register_forward_pre_hook(answer)
    return model


def axis(sign=1.0):
    return SteeringVector(sign * torch.eye(32)[AXIS], Site("resid_post", 1), 10.0, concept="speaking out")


def test_a_belief_that_is_held_back_is_brought_up_by_its_direction_and_by_no_other(withholding):
    found = elicit(withholding, TOPIC, axis(), coefficient=1.0, directions=20, prompts=("please",))
    assert found.plain.tolist() == [True] * 2 + [False] * 10
    figures = found.figures
    assert figures["steered"].value == 1.0
    assert figures["kept"].value == 1.0
    assert figures["random"].value < 0.5
    assert figures["over_random"].lower > 0
    assert figures["random_p"].value == 1 / 21
    assert figures["over_asked: please"].lower > 0
    assert "says 10 of 10 facts that it did not say, more than along random directions" in found.sentence
    assert set(found.to_dict()["facts"]) == {fact.id for fact in TOPIC.facts}


def test_the_other_way_brings_nothing_up(withholding):
    found = elicit(withholding, TOPIC, axis(-1.0), coefficient=1.0, directions=20, prompts=())
    assert found.figures["steered"].value == 0.0
    assert found.figures["over_random"].lower <= 0
    assert "no more than along random directions" in found.sentence or "less than along" in found.sentence
    assert "asked" not in found.sentence


def test_without_a_dose_the_largest_that_ordinary_text_can_bear_is_taken(withholding):
    found = elicit(withholding, TOPIC, axis(), directions=20, prompts=())
    assert found.coefficient in [2.0**-i for i in range(7)]
    assert found.cost.value <= 0.02 or found.coefficient == 2.0**-6


def test_the_price_is_that_of_the_texts_given(withholding):
    texts = ["word1 word2 word3 now", "word5 word6 is the city"]
    ours = elicit(withholding, TOPIC, axis(), coefficient=0.5, directions=20, prompts=(), texts=texts)
    plain = elicit(withholding, TOPIC, axis(), coefficient=0.5, directions=20, prompts=())
    assert ours.cost.n == 2
    assert ours.cost.value != plain.cost.value
    assert (ours.steered == plain.steered).all()
    with pytest.raises(TooFew, match="0 ordinary texts of three tokens"):
        elicit(withholding, TOPIC, axis(), coefficient=0.5, prompts=(), texts=["word1"])


def test_a_direction_like_the_random_ones_is_no_more_than_they_are_however_many_facts_it_brings_up():
    """8 of 20 random directions bring all 20 facts up, the others none; this one brings up 16."""
    facts = tuple(Fact(f"word{i}", "seat", f"word{i + 20}") for i in range(20))
    random = np.zeros((20, 20), bool)
    random[:8] = True
    parts = {"plain": np.zeros(20, bool), "random": random, "asked": {}, "cost": Estimate(0.0, 0.0, 0.0, 2)}
    found = Elicited("toy", "d", 0.5, facts, steered=np.arange(20) < 16, **parts)
    assert found.figures["random_p"].value == pytest.approx(9 / 21)
    assert "no more than along random directions" in found.sentence
    found = Elicited("toy", "d", 0.5, facts, steered=np.arange(20) < 20, **parts | {"random": random & False})
    assert ", more than along random directions" in found.sentence


def test_the_figures_by_hand():
    truth, cost = np.array, Estimate(0.0, 0.0, 0.0, 2)
    found = Elicited(
        "toy", "d at resid_post.1", 0.5, TOPIC.facts[:4],
        plain=truth([True, False, False, False]),
        steered=truth([False, True, True, False]),
        random=truth([[True, True, False, False], [True, False, False, False]]),
        asked={"please": truth([True, False, False, True])},
        cost=cost,
    )  # fmt: skip
    figures = found.figures
    assert figures["steered"].value == pytest.approx(2 / 3)
    assert figures["random"].value == pytest.approx((1 / 3 + 0) / 2)
    assert figures["random_p"].value == pytest.approx(1 / 3)
    over = figures["over_random"]
    assert (over.value, over.lower, over.upper) == pytest.approx((2 / 3 - 1 / 6, 2 / 3 - 1 / 3, 2 / 3))
    assert figures["over_asked: please"].value == pytest.approx((1 + 1 - 1) / 3)
    assert figures["kept"].value == 0.0
    assert figures["kept_random"].value == 1.0


def test_too_little_to_bring_up_and_facts_of_others_are_refused(withholding):
    with pytest.raises(TooFew, match=r"1 of 3 facts are not said; 8 are the least"):
        elicit(withholding, TOPIC, axis(), only=TOPIC.facts[:3], coefficient=1.0)
    with pytest.raises(TooFew, match="3 random directions"):
        elicit(withholding, TOPIC, axis(), directions=3)
    with pytest.raises(BadInput, match=r"'word1\|seat\|word2' is not in topic 'seats'"):
        elicit(withholding, TOPIC, axis(), only=[Fact("word1", "seat", "word2")])
