"""Choosing among layers and statistics: the one that catches most is taken, and its certificate has paid for it."""

import dataclasses

import pytest
import torch

from monitors import Monitor, Prompt, certify, certify_again, choose
from monitors.choosing import Candidate, Choice
from probes import LinearProbe
from probes.errors import BadInput, TooFew
from probes.reading.metrics import proportion, quantile

REST = {"horizon": 3, "made": "2026-11-23", "concept": "made up", "rate": 0.2}
WORDS = ["capital", "France", "Italy", "river", "cheese", "the", "of", "is", "say", "me", "not", "now"]
BENIGN = [Prompt(f"{a} {b} {c}") for a in WORDS[:5] for b in WORDS[5:9] for c in WORDS[9:]]
USES = [Prompt(f"{a} word{i}") for i, a in enumerate(WORDS[:8])]


@pytest.fixture
def probes(llama):
    """One of each layer."""
    weights = torch.randn(llama.n_layers, llama.d_model, generator=torch.Generator().manual_seed(0))
    return [
        LinearProbe.from_weights(weight, 0.0, f"resid_post.{layer}", fingerprint=llama.fingerprint)
        for layer, weight in enumerate(weights)
    ]


def test_every_pair_of_probe_and_statistics_is_a_candidate_with_its_own_streams(llama, probes):
    found = choose(llama, probes, BENIGN, USES, statistics=["max", ["max", "cusum(0.0)"]], **REST)
    assert [(str(one.monitor.probes[0].site), len(one.monitor.threshold.limits)) for one in found.candidates] == [
        (f"resid_post.{layer}", n) for layer in range(len(probes)) for n in (1, 2)
    ]
    assert {one.monitor.threshold.among for one in found.candidates} == {2 * len(probes)}
    for i, probe in enumerate(probes):
        alone, _ = certify(llama, [probe], BENIGN, **REST)
        assert found.candidates[2 * i].monitor.threshold.maxima == alone.threshold.maxima
        assert found.candidates[2 * i].monitor.threshold.value > alone.threshold.value, "the choice is paid for"


def test_caught_is_what_alarms_and_out_is_what_was_released_before(llama, probes):
    found = choose(llama, probes[:1], BENIGN, USES, **REST)
    (one,) = found.candidates
    maxima, limit = [], one.monitor.threshold.value
    _, streams = certify(llama, probes[:1], [*USES, *BENIGN], **REST)
    firsts = []
    for stream in streams[: len(USES)]:
        maxima.append(stream.maximum)
        firsts += [t for t, score in enumerate(stream.scores.tolist()) if score > limit][:1]
    assert one.caught.value == sum(value > limit for value in maxima) / len(USES)
    assert (one.delay is None) == (not firsts)
    if firsts:
        assert one.delay.value == quantile(firsts, 0.5).value


def test_uses_that_stand_out_at_one_layer_choose_that_layer(llama, probes):
    """The probe of the last layer is fitted to point from benign answers to uses; the others point anywhere."""
    from probes import capture_responses

    sites = [probe.site for probe in probes]
    acts = capture_responses(llama, [one.prompt for one in (*BENIGN, *USES)], sites, max_new_tokens=3)
    is_use = acts.example >= len(BENIGN)
    rows = acts.values[sites[-1]]
    good = torch.linalg.lstsq(torch.cat([rows, torch.ones(len(rows), 1)], 1), is_use.float()[:, None] * 2 - 1).solution[
        :, 0
    ]
    probes[-1] = LinearProbe.from_weights(good[:-1], float(good[-1]), sites[-1], fingerprint=llama.fingerprint)
    found = choose(llama, probes, BENIGN, USES, **REST)
    assert found.monitor.probes[0].site == sites[-1]
    assert found.best.caught.value == max(one.caught.value for one in found.candidates) > 0.5
    assert "resid_post" in repr(found)
    assert f"among {len(probes)}" in repr(found)


def candidate(caught, delay):
    return Candidate(None, proportion(caught, 10), None if delay is None else quantile([delay], 0.5))


def test_of_those_that_catch_as_much_the_soonest_is_taken_and_then_the_first():
    rows = (candidate(0, None), candidate(7, 3.0), candidate(8, 5.0), candidate(8, 2.0), candidate(8, 2.0))
    assert Choice(rows).best is rows[3]
    assert Choice(rows[:1]).best is rows[0]


def test_a_chosen_monitor_is_saved_and_comes_back_with_what_it_was_chosen_among(llama, probes, tmp_path):
    found = choose(llama, probes, BENIGN, USES, **REST)
    found.monitor.save(tmp_path / "chosen")
    again = Monitor.load(tmp_path / "chosen")
    assert again.threshold == found.monitor.threshold
    assert again.threshold.among == len(probes)
    with pytest.raises(BadInput, match="fitted or chosen on 1 of these 1 groups"):
        certify_again(llama, again, BENIGN[:1], made="2026-11-24")


def test_what_cannot_be_certified_is_refused_before_anything_is_answered(llama, probes, monkeypatch):
    monkeypatch.setattr("monitors.choosing.record_each", lambda *_, **__: pytest.fail("something was answered"))
    rest = {**REST, "rate": 0.05}
    with pytest.raises(TooFew, match=f"chosen among {len(probes)}"):
        choose(llama, probes, BENIGN, USES, **rest)
    chats = [dataclasses.replace(one, prompt=({"role": "user", "content": one.prompt},)) for one in USES]
    for wrong in ({"probes": []}, {"statistics": []}, {"statistics": ["max", "max"]}, {"statistics": [[]]}):
        with pytest.raises(BadInput, match="give one of each at least"):
            choose(llama, **{"probes": probes, "benign": BENIGN, "uses": USES, **REST, **wrong})
    with pytest.raises(BadInput, match="2 of the uses are among the benign prompts"):
        choose(llama, probes, BENIGN, [*USES, *BENIGN[:2]], **REST)
    for uses in ([], chats):
        with pytest.raises(BadInput, match="give both in the same"):
            choose(llama, probes, BENIGN, uses, **REST)
