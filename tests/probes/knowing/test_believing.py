"""Believing: a model whose activations tell a truth for some facts is found to believe those, and no others."""

import pytest
import torch

from probes.activations.capture import Activations
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.knowing import believing
from probes.knowing.believing import believe
from probes.model.sites import Site


@pytest.fixture
def read(monkeypatch):
    """Instead of a model: noise, and for known facts a step along one direction at the second of the sites."""
    seen = {}

    def prepare(known, step=4.0, width=24, noise=7):
        def capture(_, texts, sites, **__):
            generator = torch.Generator().manual_seed(noise)
            values = {site: torch.randn(len(texts), width, generator=generator) for site in sites}
            for i, text in enumerate(texts):
                if any(a in text for a, _ in known):
                    true = any(a in text and b in text for a, b in known)
                    values[sites[1]][i, 0] += step if true else -step / 4
            seen["texts"] = texts
            return Activations(values, torch.arange(len(texts)), torch.zeros(len(texts)), "last", tuple(texts),
                               None, None, {})  # fmt: skip

        monkeypatch.setattr(believing, "capture", capture)
        monkeypatch.setattr(believing, "_sites", lambda model: tuple(Site("resid_post", i) for i in range(3)))
        return seen

    return prepare


@pytest.fixture
def topic(seats):
    return Topic("seats", seats.relation, tuple(Fact(f"Aab{i:03}", "seat", f"Zyx{i:03}") for i in range(120)))


def test_facts_that_the_activations_tell_are_believed_and_others_are_not(read, topic):
    seen = read({(fact.subject, fact.object) for fact in topic.facts[:80]})
    found = believe(None, topic, seed=100)
    held = [found.each[fact.id].holds for fact in topic.facts]
    assert sum(held[:80]) >= 64
    assert sum(held[80:]) <= 6
    assert found.sites == ("resid_post.1",) * 5
    assert len(seen["texts"]) == 9 * 120
    assert found.auroc.lower > 0.7


def test_where_truth_makes_no_difference_one_fact_in_forty_is_believed(read, topic):
    runs = []
    for noise in range(8):
        read(set(), noise=noise)
        runs.append(believe(None, topic, seed=100))
    assert sum(belief.holds for found in runs for belief in found.each.values()) <= 8 * 120 / 25
    assert sum(found.auroc.value for found in runs) / 8 == pytest.approx(0.5, abs=0.04)


def test_a_fact_is_scored_beside_false_statements_about_itself_with_objects_of_its_fold(read, topic):
    read(set())
    found = believe(None, topic, seed=100)
    for fact in topic.facts[:10]:
        statements = found.each[fact.id].statements
        assert [truth for _, truth, _ in statements] == [True] + 8 * [False]
        assert all(fact.subject in text for text, _, _ in statements)
        assert len({text for text, _, _ in statements}) == 9
    assert believe(None, topic, seed=100).each == found.each
    assert believe(None, topic, seed=101).each != found.each


def test_the_probe_that_scores_a_fact_saw_neither_its_subject_nor_its_objects(read, topic, monkeypatch):
    seen = read(set())
    fits = []
    solve = believing._fit

    def spy(rows, truth, train):
        fits.append(train.clone())
        return solve(rows, truth, train)

    monkeypatch.setattr(believing, "_fit", spy)
    believe(None, topic, seed=100)
    texts = seen["texts"]
    for train in fits:
        words = {word for i in train.nonzero()[:, 0].tolist() for word in texts[i].rstrip(".").split()}
        held = [text.rstrip(".").split() for i, text in enumerate(texts) if not train[i]]
        fresh = [line for line in held if not {line[3], line[5]} & words]
        assert len(fresh) >= 9 * 120 / 5, "its whole fold"


def test_few_facts_are_refused(read, seats):
    read(set())
    with pytest.raises(TooFew, match="pairs of facts") as caught:
        believe(None, seats)
    assert caught.value.needed == 30
