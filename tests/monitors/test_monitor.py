"""A monitor saved and loaded is the same monitor; a damaged one is one clear error."""

import json
from dataclasses import replace

import pytest
import torch

from monitors import Monitor, calibrate
from probes import ArtifactError, BadInput, LinearProbe, Mismatch, Site


@pytest.fixture
def monitor():
    fingerprint = {"config": "aa", "weights.block.0": "bb", "dtype": "float32"}
    probes = tuple(
        LinearProbe.from_weights(torch.arange(4.0) + i, 0.5, f"resid_post.{i}", fingerprint=fingerprint) for i in (2, 1)
    )
    threshold = calibrate({"ordinary": {i: i / 10 for i in range(93)}}, horizon=24, made="2026-11-22")
    return Monitor("in use: France|capital|Paris", probes, threshold)


def test_it_comes_back_from_its_folder_bit_for_bit(monitor, tmp_path):
    monitor.save(tmp_path / "m")
    loaded = Monitor.load(tmp_path / "m")
    assert loaded.threshold == monitor.threshold
    assert (loaded.concept, loaded.scope) == (monitor.concept, monitor.scope)
    assert loaded.sites == (Site("resid_post", 1), Site("resid_post", 2))
    rows = torch.randn(5, 4)
    for a, b in zip(loaded.probes, monitor.probes, strict=True):
        assert torch.equal(a.scores(rows), b.scores(rows))


def test_an_existing_folder_is_kept_unless_told_otherwise(monitor, tmp_path):
    monitor.save(tmp_path / "m")
    with pytest.raises(BadInput, match="m"):
        monitor.save(tmp_path / "m")
    monitor.save(tmp_path / "m", overwrite=True)


def test_a_probe_is_no_monitor_and_a_damaged_one_is_refused(monitor, tmp_path):
    monitor.probes[0].save(tmp_path / "p")
    with pytest.raises(ArtifactError, match="monitor"):
        Monitor.load(tmp_path / "p")
    monitor.save(tmp_path / "m")
    manifest = tmp_path / "m" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "kind": "probe"}))
    with pytest.raises(ArtifactError):
        Monitor.load(tmp_path / "m")


def test_a_threshold_that_was_lowered_by_hand_is_refused(monitor, tmp_path):
    monitor.save(tmp_path / "m")
    manifest = tmp_path / "m" / "manifest.json"
    text = manifest.read_text()
    changed = text.replace('"limits":{"max":', '"limits":{"max":-')
    assert changed != text
    manifest.write_text(changed)
    with pytest.raises(ArtifactError):
        Monitor.load(tmp_path / "m")


def test_probes_of_different_models_or_none_are_refused(monitor):
    with pytest.raises(BadInput, match="at least one probe"):
        replace(monitor, probes=())
    other = replace(monitor.probes[0], fingerprint={"config": "zz"})
    with pytest.raises(BadInput, match="different models"):
        replace(monitor, probes=(monitor.probes[0], other))
    with pytest.raises(BadInput, match="scope"):
        replace(monitor, scope="prompt")


def test_a_monitor_matches_the_model_it_was_fitted_on_alone(build, monitor):
    model = build("llama")
    mine = replace(monitor, probes=tuple(replace(probe, fingerprint=model.fingerprint) for probe in monitor.probes))
    mine.match(model)
    with pytest.raises(Mismatch) as caught:
        mine.match(build("llama", seed=1))
    assert any(part.startswith("weights") for part in caught.value.parts)
