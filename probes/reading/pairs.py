"""CCS: a direction found without labels, from pairs of statements of which one is true; a cautionary baseline.

For pairs (x+, x-), such as a statement and its negation, find w and b with p = sigmoid(w . z + b) such that

    loss = mean over pairs of (p+ + p- - 1)^2 + min(p+, p-)^2

is least: the two answers add up to one, and are not both one half. Steps:

1. centre each side by its own mean and divide by the spread that the sides have in common, feature by feature;
2. project out the direction between the means of the sides, so that which side a text stands on moves no score;
3. minimise from several random starts at once (AdamW, full batch) and keep the one of least loss: no label is seen;
4. turn it round if labels are given and it calls most pairs the wrong way; else its sign is whatever came out.

The result reads single texts as well as pairs: in a pair the true one is that with the higher score. Departures: the
paper divides each side by its own spread, and keeps the direction of step 2 (there two centrings remove most of it, but
one weight and bias for both sides cannot centre twice).

Sources: Burns, Ye, Klein & Steinhardt 2022 (2212.03827), equations 1-4; Farquhar et al. 2023 (2312.10029) for why not
to trust it: any feature that differs within pairs and is consistent has as low a loss as truth.
Limits: a low loss says nothing of truth; read the AUROC on labelled statements, and its controls, before using it.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.errors import BadInput, TooFew
from probes.model.sites import Site
from probes.reading.inputs import check_features, spread
from probes.reading.probe import LinearProbe

__all__ = ["ccs_loss", "fit_ccs"]

RATE = 0.01
DECAY = 0.01


def fit_ccs(
    positive: Float[Tensor, "pair d_model"],
    negative: Float[Tensor, "pair d_model"],
    *,
    site: Site | str,
    seed: int,
    labels: Any = None,
    restarts: int = 10,
    steps: int = 500,
    **about: Any,
) -> LinearProbe:
    """Fit CCS on contrast pairs.

    Args:
        positive: raw activations of one side, such as the statements as affirmed.
        negative: of the other side, in the same order.
        site: where the activations were read.
        seed: of the random starts.
        labels: for each pair, True where the positive side is the true one; used for the sign alone.
        restarts: random starts, at least 1.
        steps: of the optimiser, at least 1.
        about: further fields of the probe: tokens, concept, fingerprint.

    Raises:
        BadInput: sides of different shapes, a row that is not finite, or sides that differ by their means alone.
        TooFew: fewer than 2 pairs.
    """
    first, second = (
        check_features(positive, what="the positive side"),
        check_features(negative, what="the negative side"),
    )
    if first.shape != second.shape:
        raise BadInput(f"sides of shapes {first.shape} and {second.shape}; give the two rows of each pair in one order")
    if len(first) < 2:
        raise TooFew("CCS needs 2 pairs, there is 1; give more", needed=2)
    if min(restarts, steps) < 1:
        raise BadInput(f"{restarts} restarts of {steps} steps; both are at least 1")
    truth = None if labels is None else _truth(labels, len(first))
    means = first.mean(0), second.mean(0)
    middle = (means[0] + means[1]) / 2
    centred = np.concatenate([first - means[0], second - means[1]])
    scale = spread(centred, np.maximum(np.abs(first).max(0), np.abs(second).max(0)))
    scale[scale == 0] = 1.0
    between = (means[0] - means[1]) / scale
    norm = np.linalg.norm(between)
    unit = between / norm if norm > 0 else between
    sides = [_without(unit, (side - mean) / scale) for side, mean in zip((first, second), means, strict=True)]
    if np.abs(sides[0] - sides[1]).max() <= 1e-9:
        raise BadInput(
            "the sides of all pairs differ by one and the same shift, so nothing tells them apart; check pairs"
        )
    found, bias = _minimise(*map(torch.from_numpy, sides), seed=seed, restarts=restarts, steps=steps)
    weight = _without(unit, found) / scale
    if truth is not None and np.where(truth, 1, -1) @ np.sign((first - second) @ weight) < 0:
        weight, bias = -weight, -bias
    bias -= weight @ middle
    return LinearProbe.from_float64(weight, bias, middle, site, method="ccs", **about)


def ccs_loss(
    positive: Float[Tensor, "pair restart"], negative: Float[Tensor, "pair restart"]
) -> Float[Tensor, "restart"]:
    """Return the loss of each restart from the probabilities on both sides: in [0, 2]; 1/4 if all are one half."""
    consistency = (positive + negative - 1).square()
    confidence = torch.minimum(positive, negative).square()
    return (consistency + confidence).mean(0)


@torch.enable_grad()
def _minimise(positive: Tensor, negative: Tensor, *, seed: int, restarts: int, steps: int) -> tuple[np.ndarray, float]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(positive.shape[1], restarts, generator=generator, dtype=torch.float64)
    weight = (weight / weight.norm(dim=0)).requires_grad_()
    bias = torch.zeros(restarts, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)  # elementwise: restarts do not mix
    for _ in range(steps):
        optimiser.zero_grad()
        _loss(positive, negative, weight, bias).sum().backward()
        optimiser.step()
    with torch.no_grad():
        best = int(_loss(positive, negative, weight, bias).argmin())
        return weight[:, best].numpy(), float(bias[best])


def _loss(positive: Tensor, negative: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ccs_loss(torch.sigmoid(positive @ weight + bias), torch.sigmoid(negative @ weight + bias))


def _without(unit: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows - np.multiply.outer(rows @ unit, unit)


def _truth(labels: Any, pairs: int) -> np.ndarray:
    truth = np.asarray(labels)
    if truth.shape != (pairs,) or not np.isin(truth, (0, 1)).all():
        raise BadInput(f"labels of shape {truth.shape} for {pairs} pairs; give one a pair, true or false")
    return truth.astype(bool)
