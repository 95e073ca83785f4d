"""What a fit may be given: finite rows of one width, and labels of both classes.

Limits: that rows of one entity stay on one side of a split is the splits' business, not asked here.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from probes.errors import BadInput

__all__ = ["check_features", "check_labels", "spread"]


def check_features(features: Any, *, what: str = "the features") -> Float[np.ndarray, "row d_model"]:
    """Return activations as float64 numbers on the host, or refuse them.

    Raises:
        BadInput: no rows, no width, or a row that is not finite, by its number.
    """
    try:
        given = features.detach().cpu().double().numpy() if isinstance(features, torch.Tensor) else features
        rows = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{what} of type {type(features).__name__} cannot be read as numbers: {error}") from error
    if rows.ndim != 2 or not rows.size:
        raise BadInput(f"{what} of shape {rows.shape}; give row x d_model, at least one of each")
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise BadInput(f"row {bad[0]} of {what} is not finite ({len(bad)} such rows); leave it out, or find out why")
    return rows


def check_labels(labels: Any, rows: int) -> Bool[np.ndarray, "row"]:
    """Return labels as booleans, one a row and of both classes.

    Raises:
        BadInput: another number of labels, values besides true and false, or one class only.
    """
    given = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    if given.shape != (rows,):
        raise BadInput(f"labels of shape {given.shape} for {rows} rows; give a label a row")
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise BadInput(f"labels with the values {np.unique(given)[:5].tolist()}; a label is true or false, 1 or 0")
    truth = given.astype(bool)
    if truth.all() or not truth.any():
        raise BadInput("the labels are of one class only; give rows of both")
    return truth


def spread(
    centred: Float[np.ndarray, "row d_model"], size: Float[np.ndarray, "d_model"]
) -> Float[np.ndarray, "d_model"]:
    """Return the standard deviation of centred rows; 0 where a feature is constant and only its rounding is left.

    Args:
        centred: rows less their mean, or each less the mean of its class.
        size: the largest magnitude of each feature before it was centred.
    """
    found = np.sqrt(np.square(centred).mean(0))
    # A mean of n equal numbers is off by up to n roundings.
    found[found <= len(centred) * np.finfo(np.float64).eps * size] = 0.0
    return found
