"""Folding: a fitted scikit-learn pipeline becomes one weight and one bias that read raw activations.

A step that is affine, z = A x + c, before a classifier w . z + b is the classifier (A' w) . x + (b + w . c). From the
last step to the first, each known kind of step is folded so; any other is refused by name. In the end the folded score
is compared with the pipeline's own on random rows: an unknown subclass, a link function or a clip shows there.

Known steps: StandardScaler, MinMaxScaler and MaxAbsScaler without clip, RobustScaler, PCA, TruncatedSVD, feature
selectors, "passthrough", pipelines of these. Last: whatever is binary and has `coef_` of one row and an `intercept_`;
a search with `best_estimator_` stands for that.
Limits: dense; numbers in float64. A high score means `classes_[1]`.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from probes.errors import BadInput, CouldNotRun

__all__ = ["Folded", "fold"]

ROWS = 64
AFFINE = "scalers without clip, PCA, TruncatedSVD, feature selectors, 'passthrough'"


class Folded(NamedTuple):
    """What a pipeline comes to: score = weight . x + bias."""

    weight: Float[np.ndarray, "d_model"]
    """float64, in the space of raw activations."""
    bias: float
    """Added to every score."""
    centre: Float[np.ndarray, "d_model"]
    """Where the data lay, as far as the first step knew; zeros else."""
    last: Any
    """The classifier at its end, for its name and its `classes_`."""


def fold(estimator: Any) -> Folded:
    """Fold a fitted binary linear classifier, or a pipeline that ends in one.

    Raises:
        BadInput: not fitted, a step that is not affine (by name), several classes, no `coef_`.
        CouldNotRun: the folded scores are not the pipeline's own.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    steps = _steps(estimator)
    name, last = steps[-1]
    weight, bias = _classifier(name, last)
    for name, step in reversed(steps[:-1]):
        weight, bias = _before(name, step, weight, bias)
    folded = Folded(weight, float(bias), _centre(steps, len(weight)), last)
    _check(estimator, folded)
    return folded


def _steps(estimator: Any) -> list[tuple[str, Any]]:
    if not isinstance(estimator, Pipeline):
        return [(type(estimator).__name__, estimator)]
    flat = []
    for name, step in estimator.steps:
        if step is not None and not isinstance(step, str):
            flat += (
                [(f"{name}.{inner}", s) for inner, s in _steps(step)] if isinstance(step, Pipeline) else [(name, step)]
            )
    if not flat:
        raise BadInput("the pipeline has no step that does anything; end it in a linear classifier")
    return flat


def _classifier(name: str, last: Any) -> tuple[np.ndarray, float]:
    what = f"the last step {name!r} ({type(last).__name__})"
    try:
        check_is_fitted(last)
    except NotFittedError as error:
        raise BadInput(f"{what} is not fitted; call fit first") from error
    except TypeError as error:
        raise BadInput(f"{what} is no estimator; give one of scikit-learn's kind") from error
    coefficients = getattr(last, "coef_", None)
    if coefficients is None:
        raise BadInput(
            f"{what} has no coef_, so it is no linear classifier; give a linear one (a calibrated or kernel classifier "
            "does not fold: fold what it was made from)"
        )
    weight = np.asarray(coefficients.toarray() if hasattr(coefficients, "toarray") else coefficients, dtype=np.float64)
    bias = np.atleast_1d(np.asarray(getattr(last, "intercept_", 0.0), dtype=np.float64))
    if weight.ndim > 2 or (weight.ndim == 2 and len(weight) != 1) or bias.size != 1:
        given = f"coef_ of shape {weight.shape} and {bias.size} intercepts"
        raise BadInput(f"{what} has {given}; a probe tells two classes: give a classifier of two, or one regression")
    return weight.reshape(-1), float(bias[0])


def _before(name: str, step: Any, weight: np.ndarray, bias: float) -> tuple[np.ndarray, float]:
    """Return the weight and bias that read what goes into a step, from those that read what comes out of it."""
    if getattr(step, "clip", False):
        raise BadInput(f"step {name!r} ({type(step).__name__}) clips, which is not affine; fit it with clip=False")
    if isinstance(step, StandardScaler | RobustScaler):
        shift = step.mean_ if isinstance(step, StandardScaler) and step.with_mean else getattr(step, "center_", None)
        weight = weight if step.scale_ is None else weight / step.scale_
        return weight, bias if shift is None else bias - weight @ shift
    if isinstance(step, MinMaxScaler):
        return weight * step.scale_, bias + weight @ step.min_
    if isinstance(step, MaxAbsScaler):
        return weight / step.scale_, bias
    if isinstance(step, PCA):
        if step.whiten:
            # As in PCA.transform: a component without variance is not blown up beyond the rounding of its own size.
            spread = np.sqrt(step.explained_variance_)
            weight = weight / np.maximum(spread, np.finfo(spread.dtype).eps)
        weight = step.components_.T @ weight
        return weight, bias - weight @ step.mean_
    if isinstance(step, TruncatedSVD):
        return step.components_.T @ weight, bias
    if isinstance(step, SelectorMixin):
        support = step.get_support()
        whole = np.zeros(len(support))
        whole[support] = weight
        return whole, bias
    raise BadInput(f"step {name!r} ({type(step).__name__}) does not fold; what does: {AFFINE}")


def _centre(steps: list[tuple[str, Any]], width: int) -> np.ndarray:
    first = steps[0][1]
    known = (
        getattr(first, "mean_", None) if isinstance(first, StandardScaler | PCA) else getattr(first, "center_", None)
    )
    return np.zeros(width) if known is None else np.asarray(known, dtype=np.float64)


def _check(estimator: Any, folded: Folded) -> None:
    """Compare with the estimator's own scores on random rows, some of them far out."""
    rng = np.random.default_rng(0)
    rows = folded.centre + rng.standard_normal((ROWS, len(folded.weight))) * np.geomspace(0.1, 100, ROWS)[:, None]
    own = estimator.decision_function if hasattr(estimator, "decision_function") else estimator.predict
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pipeline fitted on a table wants the names of its columns
        expected = np.asarray(own(rows), dtype=np.float64).reshape(-1)
    found = rows @ folded.weight + folded.bias
    size = np.abs(rows) @ np.abs(folded.weight) + abs(folded.bias)
    gap = np.abs(found - expected) if expected.shape == found.shape else np.full(ROWS, np.inf)
    if not (gap <= 1e-6 * size + 1e-9).all():
        raise CouldNotRun(
            f"the folded scores differ from {type(estimator).__name__}'s own by up to {np.nanmax(gap):.3g}; is a step "
            "a subclass that does more, or does the last one put its scores through a function?"
        )
