"""Believing: a model whose activations tell a truth for some facts is found to believe those, and no others."""

from dataclasses import replace

import pytest
import torch

from probes.activations.capture import Activations
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.knowing import believing
from probes.knowing.believing import _apart, _Rows, believe
from probes.model.sites import Site


@pytest.fixture
def read(monkeypatch):
    """Instead of a model: noise, for known facts a step along one direction, and for objects what they bring along."""
    seen = {}

    def prepare(known, step=4.0, width=24, noise=7, fame=None):
        def capture(_, texts, sites, **__):
            generator = torch.Generator().manual_seed(noise)
            values = {site: torch.randn(len(texts), width, generator=generator) for site in sites}
            for i, text in enumerate(texts):
                told = [name for name in fame or {} if f"is {name}." in text]
                for rows in values.values():
                    rows[i, 1] += sum((fame or {})[name] for name in told)
                    if any(a in text for a, _ in known):
                        rows[i, 0] += step if any(a in text and b in text for a, b in known) else -step / 4
            seen["texts"] = texts
            return Activations(values, torch.arange(len(texts)), torch.zeros(len(texts)), "last", tuple(texts),
                               None, None, {})  # fmt: skip

        monkeypatch.setattr(believing, "capture", capture)
        monkeypatch.setattr(believing, "_sites", lambda model: tuple(Site("resid_post", i) for i in range(3)))
        return seen

    return prepare


@pytest.fixture
def topic(seats):
    """120 facts in one wording."""
    relation = replace(seats.relation, paraphrases=())
    return Topic("seats", relation, tuple(Fact(f"Aab{i:03}", "seat", f"Zyx{i:03}") for i in range(120)))


def test_what_subject_and_object_bring_along_is_taken_away_by_hand():
    """Two subjects, three objects, 3 of 6 statements; x = subject + object, and 9 where they fit."""
    subject, thing = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 1, 0, 2])
    place = torch.tensor([0, 1, 2, 0, 1, 2])
    x = torch.tensor([[10.0 + 1 + 9], [10 + 2], [10 + 3], [20 + 2 + 9], [20 + 1], [20 + 3]])
    rows = _Rows([""] * 6, 1, subject, place, subject, thing)
    every = torch.ones(6, dtype=torch.bool)
    # Objects: Z0 false of 1 alone (21), Z1 of 0 alone (12), Z2 of both; a row is not among the others of its object,
    # so Z0's own false row finds none and has the mean of all false ones, 17.25, taken off.
    y = torch.tensor([20 - 21.0, 12 - 17.25, 13 - 23, 31 - 12, 21 - 17.25, 23 - 13]).double()
    expected = torch.cat([y[:3] - y[:3].mean(), y[3:] - y[3:].mean()])
    assert torch.allclose(_apart(x, rows, every)[:, 0], expected)
    plain = _apart(x, replace(rows, object=None), every)[:, 0]
    assert torch.allclose(plain, (x.double() - torch.tensor([[15.0]] * 3 + [[25.0]] * 3))[:, 0])
    full = torch.arange(4).repeat_interleave(4), torch.arange(4).repeat(4)
    place = (full[1] - full[0]) % 4
    sums = (full[0] * 10.0 + full[1] ** 2)[:, None] + 9.0 * (place == 0)[:, None]
    rows = _Rows([""] * 16, 1, full[0], place, *full)
    fits = _apart(sums, rows, torch.ones(16, dtype=torch.bool))[:, 0].reshape(4, 4)
    assert (fits.argmax(1) == torch.arange(4)).all(), "where they fit stands out"


def test_facts_that_the_activations_tell_are_believed_and_others_are_not(read, topic):
    seen = read({(fact.subject, fact.object) for fact in topic.facts[:80]}, step=2.5)
    found = believe(None, topic, seed=100)
    held = [found.each[fact.id].holds for fact in topic.facts]
    assert sum(held[:80]) >= 64
    assert sum(held[80:]) <= 6
    assert found.sites == ("resid_post.0", "resid_post.1", "resid_post.2")
    assert len(seen["texts"]) == 16 * 120
    assert found.auroc.lower > 0.7


def test_where_truth_makes_no_difference_one_fact_in_forty_is_believed(read, topic):
    runs = []
    for noise in range(8):
        read(set(), noise=noise)
        runs.append(believe(None, topic, seed=100))
    assert sum(belief.holds for found in runs for belief in found.each.values()) <= 8 * 120 / 25
    assert sum(found.auroc.value for found in runs) / 8 == pytest.approx(0.5, abs=0.04)


def test_where_truth_makes_no_difference_a_closed_relation_is_believed_no_more_often(read, topic):
    """One false statement a fact: with their mean taken off the two lie opposite, twice as far apart as one does."""
    facts = tuple(replace(fact, distractors=(f"Not{i:03}",)) for i, fact in enumerate(topic.facts))
    closed = replace(topic, relation=replace(topic.relation, closed=True), facts=facts)
    believed = 0
    for noise in range(4):
        read(set(), noise=noise)
        believed += sum(one.holds for one in believe(None, closed, seed=100).each.values())
    assert believed <= 480 / 20, "of 480; one in forty, and as many again for luck"


def test_a_fact_is_scored_beside_false_statements_about_itself_with_objects_of_its_fold(read, topic):
    read(set())
    found = believe(None, topic, seed=100)
    for fact in topic.facts[:10]:
        statements = found.each[fact.id].statements
        assert [truth for _, truth, _ in statements] == [True] + 15 * [False]
        assert all(fact.subject in text for text, _, _ in statements)
        assert len({text for text, _, _ in statements}) == 16
    assert believe(None, topic, seed=100).each == found.each
    assert believe(None, topic, seed=101).each != found.each


def test_objects_of_many_facts_are_not_believed_for_being_known(read, topic, monkeypatch):
    """Three objects with 20 facts each, and 60 with one: with what objects bring along left in, fame looks true."""
    facts = tuple(replace(fact, object=f"Zyx{i % 3 if i < 60 else i:03}") for i, fact in enumerate(topic.facts))
    famous, apart = replace(topic, facts=facts), believing._apart
    monkeypatch.setattr(believing, "FALSE", (4, 8))  # of 15 objects of a fold, so that not each is false of everybody

    def share():
        believed = 0
        for noise in range(4):
            read(set(), noise=noise, fame={f"Zyx{i:03}": 3.0 for i in range(3)})
            found = believe(None, famous, seed=100)
            believed += sum(found.each[fact.id].holds for fact in facts[:60])
        return believed / 240

    assert share() <= 1 / 25
    monkeypatch.setattr(believing, "_apart", lambda x, rows, part: apart(x, replace(rows, object=None), part))
    assert share() > 1 / 16


def test_the_probe_that_scores_a_fact_saw_no_statement_about_its_subject(read, topic, monkeypatch):
    read(set())
    parts = []
    apart = believing._apart

    def spy(values, rows, part):
        parts.append((set(rows.owner[part].tolist()), set(rows.object[part].tolist())))
        return apart(values, rows, part)

    monkeypatch.setattr(believing, "_apart", spy)
    believe(None, topic, seed=100)
    assert len(parts) == 3 * 5 * 2
    for (owners, things), (held, fresh) in zip(parts[::2], parts[1::2], strict=True):
        assert not owners & held
        assert not things & fresh
        assert len(owners | held) == 120


def test_few_facts_are_read_in_more_wordings_and_many_beside_fewer_false_ones(seats, topic):
    def counts(n, relation):
        many = Topic("seats", relation, tuple(Fact(f"Aab{i:04}", "seat", f"Zyx{i:04}") for i in range(n)))
        rows = _Rows.of(many, [i % 5 for i in range(n)], 100)
        assert len(rows.texts) == len(set(rows.texts)) == len(rows.owner)
        return rows.wordings, int(rows.place.max())

    assert counts(75, seats.relation) == (3, 15), "the affirmed one and two paraphrases"
    assert counts(100, seats.relation) == (2, 15)
    assert counts(100, topic.relation) == (1, 15), "there is one alone"
    assert counts(300, seats.relation) == (1, 11)
    assert counts(2000, seats.relation) == (1, 4)


def test_a_score_is_the_mean_over_wordings(read, seats, topic, monkeypatch):
    """Each wording has its own noise and all of them the step: in three the margin has more spreads than in one."""
    monkeypatch.setattr(believing, "FALSE", (4, 8))
    read({(fact.subject, fact.object) for fact in topic.facts[:80]}, step=2.5)
    one = believe(None, topic, seed=100)
    three = believe(None, replace(topic, relation=seats.relation), seed=100)
    margins = [sum(found.each[fact.id].margin.value for fact in topic.facts[:80]) for found in (one, three)]
    assert margins[1] > 1.2 * margins[0]
    texts = [[text for text, _, _ in found.each[topic.facts[0].id].statements] for found in (one, three)]
    assert texts[0] == texts[1]


def test_few_facts_are_refused(read, seats):
    read(set())
    with pytest.raises(TooFew, match="pairs of facts") as caught:
        believe(None, seats)
    assert caught.value.needed == 30
