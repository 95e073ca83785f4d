"""Fits: labelled activations in, a LinearProbe out; the same solver fits one labelling or hundreds at once.

Logistic regression: minimise sum log(1 + exp(-y s)) + |w|^2 / (2 C) over w and an unpenalised intercept, s = w . z + b,
on standardised features z (newton.py says how). Two ways to few coordinates:

1. More rows than features: the features themselves. A fold is a mask over the rows of one design, and its own
   standardisation is a penalty: with r the spread of a feature on the fold's rows, w = r v turns |w|^2 into sum
   r^2 v^2, and the intercept takes up the means. All folds are columns of the same products. (Where r is below .01 of
   the spread on all rows, that would cost digits: then fold by fold.)
2. Otherwise the singular basis of the centred rows, in which w has as many numbers as there are rows (a penalty that is
   the same for all features does not change under that rotation), fold by fold.

`fit_grid` walks each site from the strongest penalty to the weakest, all folds together. Sites share no matrix, so they
come one after the other, in the same memory.

LDA, the mass-mean direction whitened: w = S^-1 (mean of positives - mean of negatives), S the average of the two class
covariances, each shrunk as Ledoit and Wolf (2004) prescribe on features scaled by their spread in that class, as
scikit-learn's shrinkage="auto" does.

Both fold the scaling into weight and bias, so that a probe reads raw activations. No solver of linear systems is
trusted unseen: logistic regression ends on its gradient, and the Cholesky solution of LDA is checked (batched LU has
returned wrong numbers on two threads).

Sources: Marks & Tegmark 2023 (2310.06824; mass-mean, whitened = LDA); Ledoit & Wolf, Journal of
Multivariate Analysis 88 (2004) 365.
Limits: two classes, labels without weights. Logistic regression runs on the device of the features, in float64, on MPS
in float32; LDA in float64 on the host.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from probes.errors import BadInput, CouldNotRun, NotFound, TooFew, nearest
from probes.model.sites import Site
from probes.reading.estimators import CLASSIFIERS, TAKES, fit_sklearn, solve_sklearn
from probes.reading.inputs import check_features, check_labels
from probes.reading.newton import Rooms, minimise, precision
from probes.reading.probe import LinearProbe

__all__ = [
    "ESTIMATORS",
    "LOGISTIC_C",
    "SOLVERS",
    "Grid",
    "check_method",
    "check_penalties",
    "fit_grid",
    "fit_lda",
    "fit_logistic",
    "method_name",
    "solve_lda",
    "solve_logistic",
    "takes_polarity",
]

LOGISTIC_C = 0.01
"""On standardised features: near the best at every layer of the embedded model (.0001 to 1 were tried)."""

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
    weights, biases = solve_logistic(x, y[:, None], C=C)
    return LinearProbe.from_float64(weights[:, 0], biases[0], x.mean(0), site, method="logistic", **about)


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
    weights, biases = solve_lda(x, y[:, None])
    return LinearProbe.from_float64(weights[:, 0], biases[0], x.mean(0), site, method="lda", **about)


ESTIMATORS: Mapping[str, Callable[..., LinearProbe]] = MappingProxyType(
    {"logistic": fit_logistic, "lda": fit_lda, **{name: partial(fit_sklearn, name) for name in CLASSIFIERS}}
)
"""What `sweep` can fit, by name: functions of features, labels, `site` and further fields of the probe."""


def takes_polarity(method: str) -> bool:
    """Whether a method can be told which rows affirm and which deny: `polarity=`."""
    return TAKES.get(_parsed(method)[0]) == "polarity"


def method_name(estimator: str, C: float | None = None) -> str:
    """Return what a probe says of its fit: the estimator, and C where it is not the usual one.

    >>> method_name("logistic", 0.1)
    'logistic(C=0.1)'
    """
    return estimator if C is None or C == LOGISTIC_C else f"{estimator}(C={C!r})"


def check_method(method: str) -> None:
    """Refuse an estimator that does not exist, naming the nearest; a C in brackets may follow."""
    name, _ = _parsed(method)
    if name not in ESTIMATORS:
        raise NotFound(f"{method!r} is no estimator; {nearest(name, ESTIMATORS)}")


def _parsed(method: str) -> tuple[str, dict[str, float]]:
    found = re.fullmatch(r"(\w+)\(C=([-+.\de]+)\)", str(method))
    return (found[1], {"C": float(found[2])}) if found else (str(method), {})


def check_penalties(C: float | Iterable[float]) -> tuple[float, ...]:
    """Return the values of C, each once.

    Raises:
        BadInput: none, or one that is not above 0 and finite.
    """
    values = tuple(dict.fromkeys(float(value) for value in ([C] if isinstance(C, int | float) else C)))
    if not values or not all(0 < value < np.inf for value in values):
        given = values[0] if len(values) == 1 else values
        raise BadInput(f"C = {given}; the inverse strength of the penalty is above 0 and finite; .01 is the usual one")
    return values


@dataclass(frozen=True, eq=False)
class Grid:
    """Logistic regressions at every site, on every set of rows, for every C."""

    sites: tuple[Site, ...]
    """In the order that was given."""
    C: tuple[float, ...]
    """Inverse strengths of the penalty, in the order that was given."""
    weights: Float[Tensor, "layer fold penalty d_model"]
    """Of raw space, on the device of the features."""
    biases: Float[Tensor, "layer fold penalty"]
    """Score of an activation of zeros."""
    means: Float[Tensor, "layer fold d_model"]
    """Of the rows that each fold was fitted on."""

    def __repr__(self) -> str:
        layers, folds, penalties, d_model = self.weights.shape
        return f"Grid({layers} sites x {folds} folds x {penalties} C, d_model {d_model})"

    def scores(self, site: Site | str, features: Float[Tensor, "row d_model"]) -> Float[Tensor, "row fold penalty"]:
        """Return the log-odds that every fit of a site gives to raw activations."""
        weights, biases = (part[self.sites.index(Site.parse(site))] for part in (self.weights, self.biases))
        return torch.einsum("nd,fcd->nfc", features.to(weights), weights) + biases

    def probe(self, site: Site | str, C: float | None = None, *, fold: int = 0, **about: object) -> LinearProbe:
        """Return one fit as a probe.

        Args:
            site: one of `sites`.
            C: one of `C`; None: the first.
            fold: index of the set of rows.
            about: further fields of the probe: tokens, concept, fingerprint.
        """
        site, C = Site.parse(site), self.C[0] if C is None else C
        if site not in self.sites or C not in self.C:
            raise NotFound(f"no fit at {site} with C = {C}; there are {len(self.sites)} sites, and C of {self.C}")
        at = self.sites.index(site), fold
        weight, bias, mean = (found[at].cpu() for found in (self.weights, self.biases, self.means))
        of = self.C.index(C)
        return LinearProbe.from_float64(weight[of], bias[of], mean, site, method=method_name("logistic", C), **about)


def fit_grid(
    features: Mapping[Site, Float[Tensor, "row d_model"]] | Float[Tensor, "layer row d_model"],
    labels: Bool[Tensor, "row"],
    *,
    C: float | Iterable[float] = LOGISTIC_C,
    folds: Bool[Tensor, "fold row"] | None = None,
    device: str | torch.device | None = None,
) -> Grid:
    """Fit logistic regression at every site, on every set of rows, for every C, each standardised on its own rows.

    Args:
        features: raw activations by site, as in `Activations.values`, or stacked (then sites are resid_post.0, 1, ...).
        labels: True where the concept is present.
        C: inverse strengths of the penalty, as in scikit-learn; > 0.
        folds: True for the rows that a fold is fitted on; None: one fold of all rows.
        device: where to fit, such as `model.device`; sites are copied there one by one. None: where the features are.

    Raises:
        BadInput: shapes that do not fit, a fold with one class only, or a feature that is not finite. CouldNotRun: no
            convergence.

    Source: make_pipeline(StandardScaler(), LogisticRegression(C=C)).fit(rows of the fold) minimises the same loss.
    """
    if isinstance(features, Tensor):
        features = {Site("resid_post", layer): values for layer, values in enumerate(features)}
    penalties, labels = check_penalties(C), torch.as_tensor(labels).bool()
    _check_grid(features, labels, folds)
    rooms, weights, biases, means = Rooms(), [], [], []
    for site, values in features.items():
        values = values if device is None else values.to(device)
        try:
            found = _solve_folds(values, labels.to(values.device), folds, penalties, rooms)
        except BadInput as error:
            raise BadInput(f"at {site}: {error}") from error
        for kept, part in zip((weights, biases, means), found, strict=True):
            kept.append(part)
    return Grid(tuple(features), penalties, torch.stack(weights), torch.stack(biases), torch.stack(means))


def _check_grid(features: Mapping[Site, Tensor], labels: Tensor, folds: Tensor | None) -> None:
    shapes = {tuple(values.shape) for values in features.values()}
    if (
        len(shapes) != 1
        or labels.ndim != 1
        or {len(shape) for shape in shapes} != {2}
        or len(labels) != shapes.pop()[0]
    ):
        raise BadInput(
            f"features of {len(features)} sites and labels of shape {tuple(labels.shape)}; "
            "give sites of one shape, and a label a row"
        )
    if folds is not None and (folds.ndim != 2 or folds.shape[1] != len(labels) or not len(folds)):
        raise BadInput(
            f"folds of shape {tuple(folds.shape)} for {len(labels)} rows; give a line of True and False a fold"
        )
    for i, rows in enumerate(torch.ones(1, len(labels), dtype=torch.bool) if folds is None else folds.cpu()):
        here = labels.cpu()[rows.bool()]
        if here.all() or not here.any():  # of no rows, all are True
            raise BadInput(f"the labels of fold {i} are of one class only; give rows of both")


def _solve_folds(
    features: Tensor, labels: Tensor, folds: Tensor | None, penalties: Sequence[float], rooms: Rooms
) -> tuple[Float[Tensor, "fold penalty d_model"], Float[Tensor, "fold penalty"], Float[Tensor, "fold d_model"]]:
    dtype = precision(features.device)
    if folds is None:
        folds = torch.ones(1, len(labels), dtype=torch.bool)
    folds = folds.to(features.device).bool()
    if len(folds) > 1 and int(folds.sum(1).min()) > features.shape[1]:
        together = _solve_masked(features, labels.to(dtype), folds.to(dtype), penalties, rooms)
        if together is not None:
            return together
    every = []
    for rows in folds:
        x, y = (features, labels) if bool(rows.all()) else (features[rows], labels[rows])
        weights, biases, mean = _solve_whole(x, y[None].to(dtype), penalties, rooms)
        every.append((weights[0], biases[0], mean))
    return tuple(torch.stack(part) for part in zip(*every, strict=True))


def _solve_masked(
    features: Tensor, labels: Tensor, masks: Tensor, penalties: Sequence[float], rooms: Rooms
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Fit all folds as masks over one design; None where a feature hardly moves on the rows of one, and does elsewhere.

    Then one scale for all rows would cost that fold its digits.
    """
    design, mean, scale = _standardised(features, rooms)
    z, rows = design[:, :-1], masks.sum(1, keepdim=True)
    squares, shift = torch.mul(z, z, out=rooms.take("squares", z.shape, z)), masks @ z / rows
    spread = masks @ squares / rows - shift.square()
    narrow = (spread < 1e-4 * shift.square().clamp_min(1.0)).any(0)
    constant = squares.mean(0) < 0.5  # else it is 1
    if bool((narrow & ~constant).any()):
        return None
    penalty = torch.where(constant, 1.0, spread)  # with any penalty the weight of a constant is zero
    found = _path(design, labels[None], masks, torch.nn.functional.pad(penalty, (0, 1)), penalties, rooms)
    weights = found[..., :-1] / scale
    return weights, found[..., -1] - weights @ mean, mean + shift * scale


def _solve_whole(
    features: Tensor, targets: Float[Tensor, "labelling row"], penalties: Sequence[float], rooms: Rooms
) -> tuple[Float[Tensor, "labelling penalty d_model"], Float[Tensor, "labelling penalty"], Float[Tensor, "d_model"]]:
    """Fit all labellings on all rows."""
    design, mean, scale = _standardised(features, rooms)
    back = None
    if len(design) < design.shape[1]:
        coordinates, back = _rotated(design[:, :-1])
        design = torch.cat([coordinates, design[:, -1:]], 1)
    penalty = torch.ones_like(design[:1]).repeat(len(targets), 1)
    penalty[:, -1] = 0.0
    found = _path(design, targets, None, penalty, penalties, rooms)
    weights = (found[..., :-1] if back is None else found[..., :-1] @ back.T) / scale
    return weights, found[..., -1] - weights @ mean, mean


def _path(
    design: Tensor, targets: Tensor, masks: Tensor | None, penalty: Tensor, penalties: Sequence[float], rooms: Rooms
) -> Float[Tensor, "column penalty coordinate"]:
    order = sorted(range(len(penalties)), key=penalties.__getitem__)
    found = minimise(design, targets, masks, [penalty / penalties[i] for i in order], rooms)
    return torch.stack([found[order.index(i)] for i in range(len(order))], 1)


def solve_logistic(
    features: Float[Tensor, "row d_model"], labellings: Bool[Tensor, "row labelling"], *, C: float = LOGISTIC_C
) -> Solution:
    """Fit one logistic regression for each column of labels, sharing all work that does not depend on the labels.

    Returns:
        weights of raw space, and biases, on the device of the features; float64, on MPS float32.
    """
    (C,) = check_penalties(C)
    targets = labellings.T.to(features.device, precision(features.device))
    weights, biases, _ = _solve_whole(features, targets, (C,), Rooms())
    return weights[:, 0].T, biases[:, 0]


def _standardised(features: Tensor, rooms: Rooms) -> tuple[Float[Tensor, "row coordinate"], Tensor, Tensor]:
    """Return standardised features with a last column of ones; and the mean and scale of each feature."""
    rows, width = features.shape
    design = rooms.take("design", (rows, width + 1), features, precision(features.device))
    z, each = design[:, :-1], design.new_full((rows,), 1 / rows)
    z.copy_(features)
    design[:, -1] = 1.0
    mean = each @ z
    z -= mean
    variance = each @ torch.mul(z, z, out=rooms.take("squares", z.shape, z))
    if not bool(torch.isfinite(variance).all()):
        _check_finite(features)
        raise BadInput("the spread of a feature overflows; activations of this size cannot be standardised, scale them")
    scale = torch.where(_constant(variance, mean, rows), 1.0, variance.sqrt())
    z /= scale
    return design, mean, scale


def _constant(variance: Tensor, mean: Tensor, rows: int) -> Bool[Tensor, "d_model"]:
    """Tell which features vary by no more than rounding, as StandardScaler does: they stay unscaled."""
    eps = torch.finfo(variance.dtype).eps
    return variance <= rows * eps * variance + (rows * mean * eps).square()


def _rotated(z: Tensor) -> tuple[Float[Tensor, "row coordinate"], Float[Tensor, "d_model coordinate"]]:
    """Return coordinates of z in its singular basis, and the basis: z = coordinates @ basis.T."""
    values, vectors = torch.linalg.eigh(z @ z.T)
    keep = values > values[-1] * (1e-13 if z.dtype == torch.float64 else 1e-6)
    values, vectors = values[keep], vectors[:, keep]
    return vectors * values.sqrt(), z.T @ (vectors / values.sqrt())


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


BATCHED: Mapping[str, Callable[..., Solution]] = MappingProxyType({"logistic": solve_logistic, "lda": solve_lda})
"""Estimators that share work between labellings."""


class _Solvers(Mapping[str, Callable[..., Solution]]):
    """Every estimator for many labellings, by what a probe says of its fit; one by one where no work is shared."""

    def __getitem__(self, method: str) -> Callable[..., Solution]:
        name, options = _parsed(method)
        if name not in ESTIMATORS:
            raise KeyError(method)
        return partial(BATCHED.get(name, partial(solve_sklearn, name)), **options)

    def __iter__(self) -> Iterator[str]:
        return iter(ESTIMATORS)

    def __len__(self) -> int:
        return len(ESTIMATORS)


SOLVERS: Mapping[str, Callable[..., Solution]] = _Solvers()
"""The same estimators for many labellings at once, by the method of a probe, such as "lda" or "logistic(C=0.1)"."""


def _checked(features: Tensor, labels: Tensor) -> tuple[Float[Tensor, "row d_model"], Bool[Tensor, "row"]]:
    rows = check_features(features)
    return torch.from_numpy(rows), torch.from_numpy(check_labels(labels, len(rows)))


def _check_finite(x: Tensor) -> None:
    bad = (~torch.isfinite(x).all(1)).nonzero()
    if len(bad):
        raise BadInput(
            f"row {int(bad[0])} of the features is not finite ({len(bad)} such rows); a probe cannot be fitted on it"
        )
