"""Activations with a direction planted where we say, and a model with facts that we planted."""

import numpy as np
import pytest
import torch

import probes
from probes.activations.capture import Activations
from probes.model.sites import Site


@pytest.fixture
def planted():
    """`planted(strength={2: 3.0})` gives twins of each entity whose labels move layer 2 along one direction."""

    def make(strength=None, *, groups=60, layers=4, d_model=12, seed=0, rows=1, twins=True):
        rng = np.random.default_rng(seed)
        names = [f"entity {i}" for i in range(groups)]
        owner = np.repeat(np.arange(groups), 2 if twins else 1)
        labels = np.tile([True, False], groups) if twins else np.arange(groups) % 2 == 0
        example = np.repeat(np.arange(len(owner)), rows)
        direction = np.eye(d_model)[0]
        values = {}
        for layer in range(layers):
            noise = (
                rng.standard_normal((len(example), d_model)) + rng.standard_normal((groups, d_model))[owner][example]
            )
            pushed = (strength or {}).get(layer, 0.0) * np.outer(2.0 * labels[example] - 1, direction)
            values[Site("resid_post", layer)] = torch.from_numpy(noise + pushed).float()
        texts = tuple(f"{names[g]} is in place {rng.integers(1000)} {i}" for i, g in enumerate(owner))
        return Activations(
            values=values,
            example=torch.from_numpy(example),
            position=torch.from_numpy(np.tile(np.arange(rows), len(owner))),
            tokens="last" if rows == 1 else "all",
            texts=texts,
            labels=torch.from_numpy(labels),
            groups=tuple(names[g] for g in owner),
            fingerprint={},
        )

    return make


@pytest.fixture(scope="session")
def knows(tmp_path_factory):
    """The nano model that knows, with its folder."""
    folder = tmp_path_factory.mktemp("zoo") / "knows"
    return probes.build_zoo("knows", size="nano", out=folder), folder
