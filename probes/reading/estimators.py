"""Estimators that scikit-learn lacks, as scikit-learn classifiers; and the table of all that fold into a LinearProbe.

1. MassMean: w = mean of positives - mean of negatives; whitened, w = S^-1 (that difference), S the Ledoit-Wolf
   covariance of the rows less their class means, pooled, taken on features scaled by their pooled spread. The boundary
   is halfway between the class means.
2. TTPD: with label t = +-1 and polarity q = +-1 (affirmed, negated), least squares of the activations on
   1, q, t, t q: a = mu + q p + t t_G + t q t_P. t_G is the general truth direction, t_P the one that changes sign under
   negation, p the polarity direction. A logistic regression on the two projections a . t_G and a . p classifies; it
   is folded into one weight. Rows of one polarity alone say nothing of p and t_P: then t_G is half the difference of
   the class means, and a . t_G is all that the regression sees. Without `polarity` every row counts as affirmed.
3. ReadingVector: the first principal direction, of the differences within pairs (uncentred: a pair has no order, so
   neither has its difference a sign) or, without pairs, of the centred activations; labels only choose its sign.

Departures from the papers. TTPD: the paper centres each data set by its own mean and regresses on t and t q; an
intercept a polarity does that, also where labels are not balanced (equal on balanced rows); several topics that differ
in place should each be centred by the caller. p is the paper's only in kind: there it is an unpenalised logistic
regression, which has no solution where polarities separate, as in a residual stream they do. The last regression has a
weak penalty (C = 100 on standardised projections) for the same reason. ReadingVector: RepE draws the order of each pair
at random and centres; the expectation of that is what is computed here.

Sources: Marks & Tegmark 2023 (2310.06824), section 4.1; Buerger, Hamprecht & Nadler 2024 (2407.12831), equations 4-8;
Zou et al. 2023 (2310.01405), section 3.1; Ledoit & Wolf, Journal of Multivariate Analysis 88 (2004) 365.
Limits: two classes, no weights of rows, dense, float64.
"""

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.linalg import cho_factor, cho_solve, eigh
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.covariance import ledoit_wolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from probes.errors import BadInput, CouldNotRun, NotFound, nearest
from probes.model.sites import Site
from probes.reading.folding import fold
from probes.reading.inputs import check_features, check_labels, spread
from probes.reading.probe import LinearProbe

__all__ = ["CLASSIFIERS", "TAKES", "TTPD", "MassMean", "ReadingVector", "fit_sklearn", "solve_sklearn"]

STRENGTH = 100.0
"""Of the L2 penalty of ridge and the linear SVM on standardised features: that of `fit_logistic`, 1 / .01."""


class _Linear(ClassifierMixin, BaseEstimator):
    """A binary classifier that is a weight and a bias: `coef_` (1 x d_model), `intercept_` (1), `classes_`."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def decision_function(self, X: Any) -> Float[np.ndarray, "row"]:
        """Return coef . x + intercept for each row: above 0 for `classes_[1]`."""
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64) @ self.coef_[0] + self.intercept_[0]

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row."""
        scores = self.decision_function(X)  # first: it asks whether there was a fit
        return self.classes_[(scores > 0).astype(int)]

    def _read(self, X: Any, y: Any) -> tuple[Float[np.ndarray, "row d_model"], Bool[np.ndarray, "row"]]:
        """Return checked rows and which are of the second class."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise BadInput(f"Unknown label type: {kind}. Labels are two classes; cut a number at a threshold first")
        self.classes_ = np.unique(y)
        if kind == "multiclass":
            raise BadInput(
                f"Only binary classification is supported. The type of the target is {kind}; give two labels"
            )
        if len(self.classes_) < 2:
            raise BadInput(f"the labels are of one class only, {self.classes_[0]!r}; give rows of both")
        return X, y == self.classes_[1]

    def _keep(self, weight: np.ndarray, bias: float) -> None:
        self.coef_, self.intercept_ = weight[None], np.array([bias])


class MassMean(_Linear):
    """The difference of the class means, raw or whitened by the pooled covariance.

    Args:
        whiten: multiply by the inverse of the pooled within-class covariance, shrunk as Ledoit and Wolf prescribe.

    Raises:
        BadInput: whitening rows that are all equal to their class mean.

    Source: Marks & Tegmark 2023 (2310.06824), section 4.1.
    """

    def __init__(self, whiten: bool = False):
        self.whiten = whiten

    def fit(self, X: Any, y: Any) -> "MassMean":
        """Fit on rows and labels of two classes."""
        rows, high = self._read(X, y)
        means = rows[~high].mean(0), rows[high].mean(0)
        weight = means[1] - means[0]
        if self.whiten:
            weight = _whitened(np.where(high[:, None], rows - means[1], rows - means[0]), weight, np.abs(rows).max(0))
        self._keep(weight, -float(weight @ (means[0] + means[1])) / 2)
        return self


class TTPD(_Linear):
    """Truth read along its general direction, corrected for polarity.

    Fitted attributes beside `coef_`: `truth_direction_` (t_G), `truth_polarity_direction_` (t_P) and
    `polarity_direction_` (p); the last two are None where all rows are of one polarity.

    Args:
        C: inverse penalty of the logistic regression on the standardised projections, > 0.

    Raises:
        BadInput: a polarity whose rows are of one class only, or one that is neither true / false nor +-1.

    Source: Buerger, Hamprecht & Nadler 2024 (2407.12831); departures in the docstring of the module.
    """

    def __init__(self, C: float = 100.0):
        self.C = C

    def fit(self, X: Any, y: Any, polarity: Any = None) -> "TTPD":
        """Fit on rows, labels of two classes, and which rows are affirmed (True, 1) or negated (False, 0, -1)."""
        rows, high = self._read(X, y)
        affirmed = np.ones(len(rows), dtype=bool) if polarity is None else _affirmed(polarity, len(rows))
        cells = {}
        for name, those in (("affirmed", affirmed), ("negated", ~affirmed)):
            if those.any() and (high[those].all() or not high[those].any()):
                raise BadInput(f"the {name} rows are of one class only; give {name} rows of both, or leave them out")
            if those.any():
                cells[name] = rows[those & high].mean(0), rows[those & ~high].mean(0)
        # Four coefficients for four cells of the design: least squares goes through the means of the cells.
        truth = [(true - false) / 2 for true, false in cells.values()]
        middle = [(true + false) / 2 for true, false in cells.values()]
        both = len(cells) == 2
        self.truth_direction_ = sum(truth) / len(cells)
        self.truth_polarity_direction_ = (truth[0] - truth[1]) / 2 if both else None
        self.polarity_direction_ = (middle[0] - middle[1]) / 2 if both else None
        plane = np.stack([self.truth_direction_] + ([self.polarity_direction_] if both else []), 1)
        # The size of a direction must not matter, and one of size zero says nothing.
        sizes = np.linalg.norm(plane, axis=0)
        plane = plane / np.where(sizes > 0, sizes, 1)
        scaler = StandardScaler().fit(rows @ plane)
        seen = scaler.transform(rows @ plane)
        if np.ptp(seen, axis=0).max() < 1e-9:  # all rows alike
            self._keep(np.zeros(rows.shape[1]), float(np.log(high.mean() / (1 - high.mean()))))
            return self
        regression = LogisticRegression(C=self.C, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(seen, high)
        folded = fold(make_pipeline(scaler, regression))
        self._keep(plane @ folded.weight, folded.bias)
        return self


class ReadingVector(_Linear):
    """The first principal direction of pair differences, or of centred activations, with a sign that labels choose.

    Fitted attribute beside `coef_`: `share_`, the share of the total squared length that lies along the direction.

    Raises:
        BadInput: a pair that is not one row of each class; rows, or pairs, that do not differ at all.

    Source: Zou et al. 2023 (2310.01405), section 3.1; the departure is in the docstring of the module.
    """

    def fit(self, X: Any, y: Any, pairs: Any = None) -> "ReadingVector":
        """Fit on rows, labels of two classes and, if there are pairs, the name of the pair that each row belongs to."""
        rows, high = self._read(X, y)
        spokes = rows - rows.mean(0) if pairs is None else _differences(rows, high, pairs)
        if not spread(spokes, np.abs(rows).max(0)).any():
            raise BadInput(
                "the rows, or those of each pair, are all equal, so no direction stands out; give rows that differ"
            )
        wide = spokes.shape[0] < spokes.shape[1]
        gram = spokes @ spokes.T if wide else spokes.T @ spokes
        value, vector = eigh(gram, subset_by_index=[len(gram) - 1, len(gram) - 1])
        direction = spokes.T @ vector[:, 0] if wide else vector[:, 0]
        direction /= np.linalg.norm(direction)
        low, top = rows[~high].mean(0) @ direction, rows[high].mean(0) @ direction
        # Where the class means tie, labels choose nothing: then the largest entry is positive.
        flip = top < low or (top == low and direction[np.abs(direction).argmax()] < 0)
        self.share_ = float(value[0] / np.square(spokes).sum())
        self._keep(-direction if flip else direction, (1 if flip else -1) * float(low + top) / 2)
        return self


CLASSIFIERS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "mass_mean": MassMean,
        "mass_mean_whitened": lambda: MassMean(whiten=True),
        "ttpd": TTPD,
        "reading_vector": ReadingVector,
        "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifier(alpha=STRENGTH, solver="cholesky")),
        "linear_svm": lambda: make_pipeline(
            StandardScaler(), LinearSVC(C=1 / STRENGTH, random_state=0, tol=1e-6, max_iter=100_000)
        ),
    }
)
"""What `fit_sklearn` fits, by name: each call makes a new estimator."""

TAKES: Mapping[str, str] = MappingProxyType({"ttpd": "polarity", "reading_vector": "pairs"})


def fit_sklearn(
    name: str,
    features: Float[Tensor, "row d_model"],
    labels: Bool[Tensor, "row"],
    *,
    site: Site | str,
    polarity: Any = None,
    pairs: Any = None,
    **about: Any,
) -> LinearProbe:
    """Fit a classifier of `CLASSIFIERS` and fold it into a probe.

    Args:
        name: one of `CLASSIFIERS`.
        features: raw activations.
        labels: True where the concept is present.
        site: where the activations were read.
        polarity: for "ttpd", True where a row is affirmed.
        pairs: for "reading_vector", the name of each row's pair.
        about: further fields of the probe: tokens, concept, fingerprint.

    Raises:
        NotFound: no such classifier. BadInput: rows, labels, polarity or pairs that cannot be used. CouldNotRun: no
            convergence.
    """
    rows, truth = _checked(name, features, labels)
    weight, bias = _fit(name, rows, truth, polarity=polarity, pairs=pairs)
    return LinearProbe.from_float64(weight, bias, rows.mean(0), site, method=name, **about)


def solve_sklearn(
    name: str,
    features: Float[Tensor, "row d_model"],
    labellings: Bool[Tensor, "row labelling"],
    *,
    polarity: Any = None,
    pairs: Any = None,
) -> tuple[Float[Tensor, "d_model labelling"], Float[Tensor, "labelling"]]:
    """Fit a classifier of `CLASSIFIERS` anew for each column of labels; return float64 weights and biases."""
    columns = torch.as_tensor(labellings).T
    checked = [_checked(name, features, column) for column in columns]
    found = [_fit(name, rows, truth, polarity=polarity, pairs=pairs) for rows, truth in checked]
    weights, biases = zip(*found, strict=True)
    return torch.from_numpy(np.stack(weights, 1)), torch.tensor(biases, dtype=torch.float64)


def _checked(name: str, features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    if name not in CLASSIFIERS:
        raise NotFound(f"{name!r} is no classifier; {nearest(str(name), CLASSIFIERS)}")
    rows = check_features(features)
    return rows, check_labels(labels, len(rows))


def _fit(name: str, rows: np.ndarray, truth: np.ndarray, **extra: Any) -> tuple[np.ndarray, float]:
    given = {key: value for key, value in extra.items() if value is not None}
    unused = [key for key in given if TAKES.get(name) != key]
    if unused:
        users = ", ".join(user for user, key in TAKES.items() if key == unused[0])
        raise BadInput(f"{name!r} makes no use of {unused[0]}; leave it out, or fit {users!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            folded = fold(CLASSIFIERS[name]().fit(rows, truth, **given))
        except ConvergenceWarning as error:
            raise CouldNotRun(f"{name} did not converge ({error}); are the activations of a sane size?") from error
    return folded.weight, folded.bias


def _whitened(centred: np.ndarray, difference: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the inverse of the shrunk covariance of centred rows, times a difference of means."""
    scale = spread(centred, size)
    scale[scale == 0] = 1.0
    covariance, _ = ledoit_wolf(centred / scale, assume_centered=True)
    goal = difference / scale
    try:
        weight = cho_solve(cho_factor(covariance, lower=True), goal)
        sound = np.abs(covariance @ weight - goal).max() <= 1e-6 * np.abs(goal).max()
    except np.linalg.LinAlgError:
        sound = False
    if not sound:
        raise BadInput(
            "the rows of each class do not differ (or n_samples = 1 a class), so nothing can be whitened by their "
            "covariance; give more rows, or whiten=False"
        )
    return weight / scale


def _affirmed(polarity: Any, rows: int) -> Bool[np.ndarray, "row"]:
    given = np.asarray(polarity)
    if given.shape != (rows,):
        raise BadInput(f"polarity of shape {given.shape} for {rows} rows; give one a row")
    if given.dtype.kind not in "biuf" or not np.isin(given, (-1, 0, 1)).all() or {-1, 0} <= set(given.tolist()):
        raise BadInput(
            f"polarity {np.unique(given)[:5].tolist()}; it is True or 1 where affirmed, False, 0 or -1 where not"
        )
    return given > 0


def _differences(rows: np.ndarray, high: np.ndarray, pairs: Any) -> Float[np.ndarray, "pair d_model"]:
    names = np.asarray(pairs)
    if names.shape != (len(rows),):
        raise BadInput(f"pairs of shape {names.shape} for {len(rows)} rows; name the pair of each row")
    unique, codes = np.unique(names, return_inverse=True)
    counts = np.bincount(codes[high], minlength=len(unique)), np.bincount(codes[~high], minlength=len(unique))
    wrong = np.flatnonzero((counts[0] != 1) | (counts[1] != 1))
    if len(wrong):
        i = wrong[0]
        raise BadInput(
            f"pair {unique[i]!r} has {counts[0][i]} and {counts[1][i]} rows of the classes; give one of each"
        )
    first, second = np.flatnonzero(high), np.flatnonzero(~high)
    return rows[first[codes[first].argsort()]] - rows[second[codes[second].argsort()]]
