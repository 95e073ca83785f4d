"""Fits: labelled activations in, a LinearProbe out; the same solver fits one labelling or hundreds at once.

Logistic regression: minimise sum log(1 + exp(-y s)) + |w|^2 / (2 C) over w and an unpenalised intercept, s = w . z + b,
on standardised features z. Standardised features are centred, so in the basis of their singular vectors the intercept
is orthogonal to all else and w has min(row, d_model) numbers; an L2 penalty does not change under that rotation, so
nothing is lost. Then, for all labellings together:

1. Newton's direction by conjugate gradients, preconditioned by (mean weight of the rows) * (squared singular values) +
   1 / C;
2. halve the step where the loss would rise;
3. stop when the Newton decrement is below 1e-14: scores are then exact to about 1e-7.

LDA, the mass-mean direction whitened: w = S^-1 (mean of positives - mean of negatives), S the average of the two class
covariances, each shrunk as Ledoit and Wolf (2004) prescribe on features scaled by their spread in that class, as
scikit-learn's shrinkage="auto" does.

Both fold the scaling into weight and bias, so that a probe reads raw activations. No solver of linear systems is
trusted unseen: conjugate gradients end on their residual, and the Cholesky solution of LDA is checked (batched LU has
returned wrong numbers on two threads).

Sources: Marks & Tegmark 2023 (2310.06824; mass-mean, whitened = LDA); Ledoit & Wolf, Journal of
Multivariate Analysis 88 (2004) 365; Nocedal & Wright, Numerical Optimization, algorithm 7.1 (Newton-CG).
Limits: two classes, labels without weights; everything is in float64 on the host.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from probes.errors import BadInput, CouldNotRun, NotFound, TooFew, nearest
from probes.model.sites import Site
from probes.reading.probe import LinearProbe

__all__ = ["ESTIMATORS", "SOLVERS", "check_method", "fit_lda", "fit_logistic", "solve_lda", "solve_logistic"]

LOGISTIC_C = 0.01
"""On standardised features: near the best at every layer of the embedded model (.0001 to 1 were tried)."""

NEWTON_STEPS = 60
CG_STEPS = 500

Solution = tuple[Float[Tensor, "d_model labelling"], Float[Tensor, "labelling"]]


def fit_logistic(
    features: Float[Tensor, "row d_model"],
    labels: Bool[Tensor, "row"],
    *,
    site: Site | str,
    C: float = LOGISTIC_C,
    **about: object,
) -> LinearProbe:
    """Fit L2 logistic regression on standardised features; the score is the log-odds.

    Args:
        features: raw activations.
        labels: True where the concept is present.
        site: where the activations were read.
        C: inverse strength of the penalty, as in scikit-learn; > 0.
        about: further fields of the probe: tokens, concept, fingerprint.

    Raises:
        BadInput: shapes that do not fit, one class only, or a feature that is not finite. CouldNotRun: no convergence.

    Source: scikit-learn's LogisticRegression after StandardScaler minimises the same loss.
    """
    x, y = _checked(features, labels)
    return _probe(x, solve_logistic(x, y[:, None], C=C), site, "logistic", about)


def fit_lda(
    features: Float[Tensor, "row d_model"], labels: Bool[Tensor, "row"], *, site: Site | str, **about: object
) -> LinearProbe:
    """Fit linear discriminant analysis with Ledoit-Wolf shrinkage: the mass-mean direction, whitened.

    Args:
        features: raw activations.
        labels: True where the concept is present.
        site: where the activations were read.
        about: further fields of the probe: tokens, concept, fingerprint.

    Raises:
        BadInput: as `fit_logistic`. TooFew: a class with one row. CouldNotRun: the covariance could not be inverted.

    Source: scikit-learn's LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto") has the same decision function.
    """
    x, y = _checked(features, labels)
    return _probe(x, solve_lda(x, y[:, None]), site, "lda", about)


ESTIMATORS: Mapping[str, Callable[..., LinearProbe]] = MappingProxyType({"logistic": fit_logistic, "lda": fit_lda})
"""What `sweep` can fit, by name."""


def check_method(method: str) -> None:
    """Refuse an estimator that does not exist, naming the nearest."""
    if method not in ESTIMATORS:
        raise NotFound(f"{method!r} is no estimator; {nearest(str(method), ESTIMATORS)}")


def solve_logistic(
    features: Float[Tensor, "row d_model"], labellings: Bool[Tensor, "row labelling"], *, C: float = LOGISTIC_C
) -> Solution:
    """Fit one logistic regression for each column of labels, sharing all work that does not depend on the labels.

    Returns:
        float64 weights of raw space, and biases.
    """
    if not C > 0:
        raise BadInput(f"C = {C}; the inverse strength of the penalty is above 0")
    x, y = features.double(), labellings.double()
    mean, z, scale = _standardise(x)
    coordinates, back, eigenvalues = _rotate(z)
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    design = torch.cat([coordinates, ones], 1)
    curvature = torch.cat([eigenvalues, torch.tensor([float(len(x))])])
    penalty = torch.cat([torch.full_like(eigenvalues, 1 / C), torch.zeros(1)])
    found = _newton(design, y, curvature, penalty)
    weights = (back @ found[:-1]) / scale[:, None]
    return weights, found[-1] - mean @ weights


def _standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(0)
    centred = x - mean
    scale = centred.square().mean(0).sqrt()
    # A constant feature comes out as rounding noise: leave it unscaled, as StandardScaler does.
    scale = torch.where(scale > 10 * torch.finfo(torch.float64).eps * mean.abs().clamp_min(1e-300), scale, 1.0)
    return mean, centred / scale, scale


def _rotate(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates in the singular basis, the basis (z = coordinates @ basis.T), and squared singular values."""
    rows, width = z.shape
    values, vectors = torch.linalg.eigh(z @ z.T if rows < width else z.T @ z)
    keep = values > values[-1] * 1e-13
    values, vectors = values[keep], vectors[:, keep]
    if rows < width:
        return vectors * values.sqrt(), z.T @ (vectors / values.sqrt()), values
    return z @ vectors, vectors, values


def _newton(design: Tensor, y: Tensor, curvature: Tensor, penalty: Tensor) -> Tensor:
    """Return the minimiser for each column of y, `Float["coordinate labelling"]`."""
    found = torch.zeros(design.shape[1], y.shape[1], dtype=torch.float64)
    found[-1] = torch.logit(y.mean(0))
    active = torch.arange(y.shape[1])
    for _ in range(NEWTON_STEPS):
        here, target = found[:, active], y[:, active]
        scores = design @ here
        probability = torch.sigmoid(scores)
        gradient = design.T @ (probability - target) + penalty[:, None] * here
        weight = probability * (1 - probability)
        step = _conjugate_gradients(design, weight, gradient, curvature, penalty)
        decrement = -(gradient * step).sum(0)
        shift = design @ step
        size = _backtrack(scores, shift, here, step, target, penalty, decrement)
        found[:, active] = here + size * step
        active = active[decrement > 1e-14]
        if not active.numel():
            return found
    raise CouldNotRun(
        f"logistic regression did not converge in {NEWTON_STEPS} steps; are the activations of a sane size? Lower C"
    )


def _conjugate_gradients(
    design: Tensor, weight: Tensor, gradient: Tensor, curvature: Tensor, penalty: Tensor
) -> Tensor:
    """Solve (design' W design + penalty) step = -gradient for each column, the tighter the nearer the minimum is."""
    inverse = 1 / (curvature[:, None] * weight.mean(0) + penalty[:, None])
    step, residual = torch.zeros_like(gradient), -gradient
    scaled = inverse * residual
    direction, energy = scaled, (residual * scaled).sum(0)
    goal = energy * (energy.sqrt() * 0.1).clamp(1e-10, 0.01) ** 2
    for _ in range(CG_STEPS):
        running = energy > goal
        if not running.any():
            break
        bent = design.T @ (weight * (design @ direction)) + penalty[:, None] * direction
        along = torch.where(running, energy / (direction * bent).sum(0), 0.0)
        step, residual = step + along * direction, residual - along * bent
        scaled = inverse * residual
        following = (residual * scaled).sum(0)
        direction = scaled + torch.where(running, following / energy, 0.0) * direction
        energy = torch.where(running, following, energy)
    return step


def _backtrack(
    scores: Tensor, shift: Tensor, here: Tensor, step: Tensor, target: Tensor, penalty: Tensor, decrement: Tensor
) -> Float[Tensor, "labelling"]:
    """Return the largest of 1, 1/2, 1/4, ... at which the loss falls (Armijo), for each column."""

    def loss(size: Tensor) -> Tensor:
        moved, at = scores + size * shift, here + size * step
        return (torch.nn.functional.softplus(moved) - target * moved).sum(0) + (penalty[:, None] * at.square()).sum(
            0
        ) / 2

    size = torch.ones_like(decrement)
    start = loss(torch.zeros_like(size))
    slack = 1e-12 * start.abs()  # near the minimum the fall is below rounding
    for _ in range(30):
        high = loss(size) > start - 1e-4 * size * decrement + slack
        if not high.any():
            break
        size = torch.where(high, size / 2, size)
    return size


def solve_lda(features: Float[Tensor, "row d_model"], labellings: Bool[Tensor, "row labelling"]) -> Solution:
    """Fit one linear discriminant for each column of labels.

    Returns:
        float64 weights of raw space, and biases (with the log-odds of the two classes in them).
    """
    x = features.double().numpy()
    weights, biases = zip(*(_discriminant(x, column.bool().numpy()) for column in labellings.T), strict=True)
    return torch.from_numpy(np.stack(weights, 1)), torch.tensor(biases, dtype=torch.float64)


def _discriminant(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    share = y.mean()
    covariance = share * _shrunk(x[y]) + (1 - share) * _shrunk(x[~y])
    high, low = x[y].mean(0), x[~y].mean(0)
    difference = high - low
    try:
        weight = cho_solve(cho_factor(covariance, lower=True), difference)
    except np.linalg.LinAlgError as error:
        raise CouldNotRun(
            "the covariance of a class cannot be inverted: all its rows are equal; give rows that differ"
        ) from error
    residual = np.abs(covariance @ weight - difference).max()
    if not residual <= 1e-6 * np.abs(difference).max():
        raise CouldNotRun(
            f"the linear system of LDA was solved with a residual of {residual:.2g}; use estimators=('logistic',)"
        )
    return weight, float(np.log(share / (1 - share)) - weight @ (high + low) / 2)


def _shrunk(rows: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf covariance of one class, shrunk with its features scaled by their own spread, then scaled back."""
    if len(rows) < 2:
        raise TooFew(f"LDA needs 2 rows of each class, one has {len(rows)}; give more", needed=2)
    centred = rows - rows.mean(0)
    scale = centred.std(0)
    scale[scale <= 10 * np.finfo(np.float64).eps * np.abs(rows.mean(0))] = 1.0
    covariance, _ = ledoit_wolf(centred / scale, assume_centered=True)
    return scale[:, None] * covariance * scale


SOLVERS: Mapping[str, Callable[..., Solution]] = MappingProxyType({"logistic": solve_logistic, "lda": solve_lda})
"""The same estimators for many labellings at once, by name."""


def _checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    x, y = torch.as_tensor(features).detach().cpu(), torch.as_tensor(labels).detach().cpu().bool()
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise BadInput(f"features of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}; give a label a row")
    if y.numel() == 0 or y.all() or not y.any():
        raise BadInput("the labels are of one class only; give rows of both")
    bad = (~torch.isfinite(x).all(1)).nonzero()
    if len(bad):
        raise BadInput(
            f"row {int(bad[0])} of the features is not finite ({len(bad)} such rows); a probe cannot be fitted on it"
        )
    return x.double(), y


def _probe(x: Tensor, solution: Solution, site: Site | str, method: str, about: Mapping[str, object]) -> LinearProbe:
    weight, bias = solution[0][:, 0], float(solution[1][0])
    rounded = weight.float()
    # Rounding the weight to float32 shifts every score by (rounded - weight) . mean: take that back where the data lie.
    bias -= float((rounded.double() - weight) @ x.mean(0))
    return LinearProbe(rounded, bias, Site.parse(site), method=method, **about)
