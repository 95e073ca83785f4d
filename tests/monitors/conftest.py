"""A monitor around a random direction, with a threshold wherever a test wants it."""

from dataclasses import replace

import pytest
import torch

from monitors.calibration import calibrate
from monitors.monitor import Monitor
from probes import LinearProbe


@pytest.fixture
def make_monitor():
    """`make_monitor(model, limit)` alarms above `limit`, or `limits` by statistic; certified on made-up maxima."""

    def make(
        model, limit=1e6, *, sites=("resid_post.1",), horizon=16, fingerprint=None, generation=None, mix=None,
        limits=None,
    ):  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        probes = tuple(
            LinearProbe.from_weights(
                torch.randn(model.d_model, generator=generator), 0.1, site, fingerprint=fingerprint or model.fingerprint
            )
            for site in sites
        )
        maxima, settings = {"ordinary": {i: limit - i for i in range(59)}}, model.generation_settings(generation or {})
        threshold = calibrate(maxima, horizon=horizon, made="2026-11-22", generation=settings, prompt_mix=mix or {})
        if limits:
            maxima = {name: {"ordinary": [value] * 1000} for name, value in limits.items()}
            threshold = replace(threshold, maxima=maxima)
        return Monitor("made up", probes, threshold)

    return make


@pytest.fixture
def prompts():
    return ["the capital of France is", "cheese", "which river of Italy say me", "not now please the city"]
