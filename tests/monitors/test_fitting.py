"""Toy: four sites; only one tells uses from the benign kind that is hard, and that one must be chosen."""

import pytest
import torch

from monitors.fitting import certify_fact, choose_site, fit_probe
from probes import Activations, LinearProbe, Site, TooFew, contexts, load_topic
from probes.facts.contexts import BENIGN_KINDS

KINDS = ("use", "same_relation", "same_subject", "ordinary")


@pytest.fixture
def planted():
    """40 frames x 4 kinds x 3 decisions (of a use one). Uses stand out at site 2; at site 1 only from ordinary text."""
    generator = torch.Generator().manual_seed(0)
    kinds = [kind for kind in KINDS for _ in range(40)]
    rows = [(example, position) for example, kind in enumerate(kinds) for position in range(1 if kind == "use" else 3)]
    example, position = torch.tensor(rows).T
    values = {Site("resid_post", layer): torch.randn(len(rows), 12, generator=generator) for layer in range(4)}
    is_use = torch.tensor([kinds[i] == "use" for i in example])
    is_ordinary = torch.tensor([kinds[i] == "ordinary" for i in example])
    values[Site("resid_post", 2)][is_use, 0] += 8
    values[Site("resid_post", 1)][is_ordinary, 0] -= 12
    groups = tuple(str(i % 40) for i in range(160))
    labels = torch.tensor([kind == "use" for kind in kinds])
    texts = tuple(f"{kind} {i}" for i, kind in enumerate(kinds))
    return Activations(values, example, position, "response", texts, labels, groups, {"config": "x"}), tuple(kinds)


def test_the_layer_that_holds_against_the_worst_kind_is_chosen(planted):
    acts, kinds = planted
    assert choose_site(acts, kinds, sorted(set(acts.groups))) == Site("resid_post", 2)


def test_frames_that_are_reported_have_no_part_in_the_choice(planted):
    """Spoil every row of the frames that the sweep reports: site and fits on other frames must not notice."""
    acts, kinds = planted
    found, _ = fit_probe(acts, kinds, concept="c")
    reported = torch.tensor([group in set(found.split.test) for group in acts.groups])[acts.example]
    for values in acts.values.values():
        values[reported] = torch.randn(values[reported].shape, generator=torch.Generator().manual_seed(9)) * 50
    again, _ = fit_probe(acts, kinds, concept="c")
    assert again.site == found.site == Site("resid_post", 2)
    assert [row.calibration for row in again.rows] == [row.calibration for row in found.rows]
    assert found.best.controls["auroc"].value > 0.9 > again.best.controls["auroc"].value


def test_the_probe_is_refitted_on_every_frame_and_decision(planted):
    acts, kinds = planted
    found, probe = fit_probe(acts, kinds, concept="in use: x")
    assert (probe.site, probe.concept, probe.method) == (found.site, "in use: x", "logistic")
    scores = probe.scores(acts.values[probe.site])
    uses = torch.tensor([kinds[i] == "use" for i in acts.example])
    assert scores[uses].min() > scores[~uses].max() - 4
    assert scores[uses].median() > 0 > scores[~uses].median()


def test_a_monitor_is_certified_on_one_stream_a_frame_and_kind(llama):
    topic = load_topic("capitals")
    drawn = contexts(topic.facts[0], topic, groups={"calibration": 59})
    probe = LinearProbe.from_weights(torch.randn(32), 0.0, "resid_post.1", fingerprint=llama.fingerprint)
    monitor, streams = certify_fact(llama, probe, drawn, horizon=4, made="2026-11-22")
    assert dict(monitor.threshold.groups) == dict.fromkeys(BENIGN_KINDS, 59)
    assert monitor.threshold.value == max(stream.maximum for kept in streams.values() for stream in kept)
    assert all(len(stream.scores) <= 4 for kept in streams.values() for stream in kept)
    few = contexts(topic.facts[0], topic, groups={"calibration": 58})
    with pytest.raises(TooFew, match="59"):
        certify_fact(llama, probe, few, horizon=4, made="2026-11-22")
