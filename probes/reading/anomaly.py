"""Anomaly detectors: probes that need no labels, only rows that are known to be ordinary; higher = more anomalous.

With mean m and covariance S of the ordinary rows (shrunk as Ledoit and Wolf prescribe, or not):

1. Mahalanobis: (x - m)' S^-1 (x - m), the squared distance.
2. Relative Mahalanobis: the same, of the nearest of several classes with one pooled covariance, less the squared
   distance from a background: other rows, or all rows where there are classes. It takes away what is unusual anyway.
   With neither, the background is the Gaussian of the ordinary rows without its correlations.
3. Quantum entropy (QUE): whiten by the ordinary rows, z = S^-1/2 (x - m); with D the second moment of the suspect rows'
   z, score z' Q z, Q = exp(a D / |D|), scaled to a mean eigenvalue of 1: directions in which the suspects spread more
   than they should count more. a = 0 is Mahalanobis, a to infinity the top direction alone. Without suspect rows the
   fitted rows are both; then no clean covariance is known, and only the spread of each feature is divided out.

Departure of 3: the paper's exponent is a (D - 1) / (|D| - 1), the same up to scale but without bound where suspects
look ordinary; and D is taken about the ordinary mean, so that a shift of all suspects shows.

All three are distances in a few linear maps, which is what the probe keeps.

Sources: Lee et al. 2018 (1807.03888); Ren et al. 2021 (2106.09022), equations 2-3; Dong, Hopkins & Li 2019
(1906.11366).
Limits: d_model^2 numbers, float64 (float32 where a device has no float64). Without shrinkage and with fewer rows than
d_model, what lies outside the span of the rows is not seen at all. No detector is effective for all models and tasks.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.covariance import empirical_covariance, ledoit_wolf
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from probes.artifact import read_artifact, require, write_artifact
from probes.errors import ArtifactError, BadInput, BeliefError
from probes.model.fingerprint import match
from probes.model.sites import Site
from probes.reading.inputs import check_features, spread

__all__ = [
    "AnomalyProbe",
    "Mahalanobis",
    "QuantumEntropy",
    "RelativeMahalanobis",
    "fit_mahalanobis",
    "fit_quantum_entropy",
    "fit_relative_mahalanobis",
]

KIND = "anomaly"
BODY = {"site": str, "method": str, "concept": str, "fingerprint": dict[str, str]}
TENSORS = ("centres", "factor", "background_centre", "background_factor")


class _Detector(OutlierMixin, BaseEstimator):
    """min over k of |(x - centre_k) factor|^2 - |(x - background centre) background factor|^2, as outlier detector."""

    def anomaly(self, X: Any) -> Float[np.ndarray, "row"]:
        """Return how anomalous each row is: for Mahalanobis the squared distance."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return _anomaly(torch.tensor(X), *self._maps()).numpy()  # a copy: X may be read-only

    def score_samples(self, X: Any) -> Float[np.ndarray, "row"]:
        """Return minus `anomaly`: higher = more ordinary, as scikit-learn has it."""
        return -self.anomaly(X)

    def decision_function(self, X: Any) -> Float[np.ndarray, "row"]:
        """Return score_samples - offset_: below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return 1 for ordinary rows and -1 for outliers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _read(self, X: Any) -> Float[np.ndarray, "row d_model"]:
        if isinstance(self.contamination, bool) or not 0 < self.contamination <= 0.5:
            raise BadInput(f"contamination = {self.contamination}; the share of outliers is above 0 and at most .5")
        return validate_data(self, X, dtype=np.float64, ensure_min_samples=2)

    def _other(self, X: Any, name: str, least: int) -> Float[np.ndarray, "row d_model"]:
        rows = check_array(X, dtype=np.float64, ensure_min_samples=least, input_name=name)
        if rows.shape[1] != self.n_features_in_:
            raise BadInput(f"{name} of width {rows.shape[1]}, X of width {self.n_features_in_}; read them at one site")
        return rows

    def _keep(self, X: np.ndarray, centres: np.ndarray, factor: np.ndarray, background: Any = None) -> None:
        self.centres_, self.factor_ = centres, factor
        none = np.zeros(X.shape[1]), np.zeros((X.shape[1], 1))
        self.background_centre_, self.background_factor_ = background or none
        self.offset_ = float(np.percentile(self.score_samples(X), 100 * self.contamination))

    def _maps(self) -> tuple[Tensor, ...]:
        return tuple(torch.tensor(getattr(self, f"{name}_")) for name in TENSORS)


class Mahalanobis(_Detector):
    """The squared Mahalanobis distance from rows that are known to be ordinary.

    Args:
        shrink: shrink the covariance as Ledoit and Wolf prescribe; False: the empirical one, inverted in its span.
        contamination: share of the fitted rows that `predict` calls outliers, in (0, .5].

    Source: equal to scikit-learn's `LedoitWolf().fit(X).mahalanobis` and `EmpiricalCovariance`'s.
    """

    def __init__(self, shrink: bool = True, contamination: float = 0.1):
        self.shrink = shrink
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> "Mahalanobis":
        """Fit on ordinary rows; labels are not used."""
        X = self._read(X)
        mean = X.mean(0)
        self._keep(X, mean[None], _factor(X - mean, self.shrink))
        return self


class RelativeMahalanobis(_Detector):
    """The squared distance from the nearest class less that from a background.

    Args:
        shrink: shrink each covariance as Ledoit and Wolf prescribe.
        contamination: share of the fitted rows that `predict` calls outliers, in (0, .5].

    Source: Ren et al. 2021 (2106.09022), equations 2-3.
    """

    def __init__(self, shrink: bool = True, contamination: float = 0.1):
        self.shrink = shrink
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None, *, classes: Any = None, background: Any = None) -> "RelativeMahalanobis":
        """Fit on ordinary rows.

        Args:
            X: ordinary rows.
            y: not used.
            classes: the class of each row, if they are of several: topics, frames.
            background: rows of all kinds; None: all of X where there are classes, else X without its correlations.
        """
        X = self._read(X)
        mean = X.mean(0)
        centres, centred = mean[None], X - mean
        if classes is not None:
            names = np.asarray(classes)
            if names.shape != (len(X),):
                raise BadInput(f"classes of shape {names.shape} for {len(X)} rows; name the class of each row")
            codes = np.unique(names, return_inverse=True)[1]
            centres = np.stack([X[codes == code].mean(0) for code in range(codes.max() + 1)])
            centred = X - centres[codes]
        if background is not None:
            rows = self._other(background, "background", 2)
            behind = rows.mean(0), _factor(rows - rows.mean(0), self.shrink)
        elif classes is not None:
            behind = mean, _factor(X - mean, self.shrink)
        else:
            behind = mean, np.diag(_inverse_spread(X))
        self._keep(X, centres, _factor(centred, self.shrink), behind)
        return self


class QuantumEntropy(_Detector):
    """The squared distance with directions weighted by how much suspect rows spread in them.

    Args:
        alpha: from 0 (Mahalanobis) up to large (the suspects' top direction alone); 4 is the paper's.
        shrink: shrink the ordinary rows' covariance as Ledoit and Wolf prescribe.
        contamination: share of the fitted rows that `predict` calls outliers, in (0, .5].

    Source: Dong, Hopkins & Li 2019 (1906.11366); the departure is in the docstring of the module.
    """

    def __init__(self, alpha: float = 4.0, shrink: bool = True, contamination: float = 0.1):
        self.alpha = alpha
        self.shrink = shrink
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None, *, suspect: Any = None) -> "QuantumEntropy":
        """Fit on ordinary rows, and on suspect ones among which anomalies may be (any number of them, unlabelled)."""
        X = self._read(X)
        if not 0 <= self.alpha < float("inf"):
            raise BadInput(f"alpha = {self.alpha}; it is at least 0 and finite")
        mean = X.mean(0)
        if suspect is None:
            rows, white = X, np.diag(_inverse_spread(X))
        else:
            rows, white = self._other(suspect, "suspect", 1), _factor(X - mean, self.shrink)
        z = (rows - mean) @ white
        values, vectors = np.linalg.eigh(z.T @ z / len(z))
        weights = np.exp(self.alpha * (values / values[-1] - 1)) if values[-1] > 0 else np.ones_like(values)
        weights *= len(weights) / weights.sum()
        self._keep(X, mean[None], white @ (vectors * np.sqrt(weights)))
        return self


@dataclass(frozen=True, eq=False)
class AnomalyProbe:
    """How anomalous an activation is; made by a fit or by `load`.

    The score is min over k of |(x - centre_k) factor|^2 - |(x - background centre) background factor|^2.
    """

    centres: Float[Tensor, "class d_model"]
    """float64 on the host, as all four."""
    factor: Float[Tensor, "d_model rank"]
    """factor @ factor.T is the inverse covariance."""
    background_centre: Float[Tensor, "d_model"]
    """Zeros where there is no background."""
    background_factor: Float[Tensor, "d_model background_rank"]
    """One column of zeros where there is none."""
    site: Site
    """Where the activations are read."""
    method: str = "given"
    """"mahalanobis", "relative_mahalanobis", "quantum_entropy" or "given"."""
    concept: str = ""
    """What a high score means, for people to read."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """The model it was fitted on, part by part; empty where that is unknown."""

    def __post_init__(self) -> None:
        for name in TENSORS:
            given = torch.as_tensor(getattr(self, name)).detach().to("cpu", torch.float64, copy=True)
            if given.ndim != (1 if name == "background_centre" else 2) or not given.numel():
                raise BadInput(f"{name} of shape {tuple(given.shape)}; give numbers as a fit makes them")
            if not torch.isfinite(given).all():
                raise BadInput(f"{name} holds numbers that are not finite; such a probe cannot score")
            object.__setattr__(self, name, given)
        widths = self.centres.shape[1], len(self.factor), len(self.background_centre), len(self.background_factor)
        if len(set(widths)) > 1:
            raise BadInput(f"parts of widths {widths}; all are of one d_model")
        object.__setattr__(self, "site", Site.parse(self.site))
        object.__setattr__(self, "fingerprint", MappingProxyType(dict(self.fingerprint)))

    def __repr__(self) -> str:
        return f"AnomalyProbe({self.method} at {self.site}, d_model {self.d_model})"

    @property
    def d_model(self) -> int:
        """Width of the activations that it reads."""
        return self.centres.shape[1]

    def scores(self, activations: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Return how anomalous each row is, float32, on the device of the activations; higher = more anomalous.

        A row that is not finite has a score that is not finite.

        Raises:
            BadInput: another width than the probe's.
        """
        rows = torch.as_tensor(activations)
        if rows.ndim == 0 or rows.shape[-1] != self.d_model:
            raise BadInput(
                f"activations of shape {tuple(rows.shape)}; this probe reads width {self.d_model} at {self.site}"
            )
        exact = torch.float32 if rows.device.type == "mps" else torch.float64
        maps = [getattr(self, name).to(rows.device, exact) for name in TENSORS]
        with torch.autocast(rows.device.type, enabled=False):
            return _anomaly(rows.to(exact).reshape(-1, self.d_model), *maps).reshape(rows.shape[:-1]).float()

    def match(self, model: Any, allow: Iterable[str] = ()) -> tuple[str, ...]:
        """Refuse a model that is not the one this probe was fitted on; as `LinearProbe.match`."""
        return match(self.fingerprint, model.fingerprint, allow)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the probe into a folder of its own, whole or not at all."""
        body = {"site": str(self.site), "fingerprint": dict(self.fingerprint)}
        body |= {"method": self.method, "concept": self.concept}
        write_artifact(folder, KIND, body, {name: getattr(self, name) for name in TENSORS}, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "AnomalyProbe":
        """Read what `save` wrote; no model is needed.

        Raises:
            ArtifactError: the folder holds no anomaly probe, or something about it is wrong.
        """
        artifact = read_artifact(folder, KIND)
        if set(artifact.tensors) != set(TENSORS):
            raise ArtifactError(
                f"{folder}: an anomaly probe has {', '.join(TENSORS)}; this has {sorted(artifact.tensors)}"
            )
        if any(tensor.dtype != torch.float64 for tensor in artifact.tensors.values()):
            raise ArtifactError(f"{folder}: the tensors of an anomaly probe are float64; these are not")
        try:
            fields = require(artifact.manifest, BODY)
            return cls(**artifact.tensors, **(fields | {"site": Site.parse(fields["site"])}))
        except BeliefError as error:
            raise ArtifactError(f"{folder}: {error}") from error

    @classmethod
    def from_detector(cls, detector: _Detector, site: Site | str, **about: Any) -> "AnomalyProbe":
        """Make a probe from a fitted detector of this file."""
        check_is_fitted(detector)
        return cls(*detector._maps(), Site.parse(site), **about)


def fit_mahalanobis(
    features: Float[Tensor, "row d_model"], *, site: Site | str, shrink: bool = True, **about: Any
) -> AnomalyProbe:
    """Fit the squared distance from ordinary rows.

    Args:
        features: raw activations, known to be ordinary, at least 2 rows.
        site: where they were read.
        shrink: as `Mahalanobis`.
        about: further fields of the probe: concept, fingerprint.

    Raises:
        BadInput: fewer rows, rows that are not finite, or all equal.
    """
    detector = Mahalanobis(shrink=shrink).fit(_rows(features))
    return AnomalyProbe.from_detector(detector, site, method="mahalanobis", **about)


def fit_relative_mahalanobis(
    features: Float[Tensor, "row d_model"],
    *,
    site: Site | str,
    classes: Any = None,
    background: Any = None,
    shrink: bool = True,
    **about: Any,
) -> AnomalyProbe:
    """Fit the distance from ordinary rows less that from a background; arguments as `RelativeMahalanobis.fit`."""
    behind = None if background is None else _rows(background, "the background")
    detector = RelativeMahalanobis(shrink=shrink).fit(_rows(features), classes=classes, background=behind)
    return AnomalyProbe.from_detector(detector, site, method="relative_mahalanobis", **about)


def fit_quantum_entropy(
    features: Float[Tensor, "row d_model"],
    *,
    site: Site | str,
    suspect: Any = None,
    alpha: float = 4.0,
    shrink: bool = True,
    **about: Any,
) -> AnomalyProbe:
    """Fit quantum entropy scores on ordinary and suspect rows; arguments as `QuantumEntropy`."""
    others = None if suspect is None else check_features(suspect, what="the suspect rows")
    detector = QuantumEntropy(alpha=alpha, shrink=shrink).fit(_rows(features), suspect=others)
    return AnomalyProbe.from_detector(detector, site, method="quantum_entropy", **about)


def _anomaly(
    rows: Float[Tensor, "row d_model"], centres: Tensor, factor: Tensor, behind: Tensor, behind_factor: Tensor
) -> Float[Tensor, "row"]:
    near = torch.stack([((rows - centre) @ factor).square().sum(-1) for centre in centres]).amin(0)
    return near - ((rows - behind) @ behind_factor).square().sum(-1)


def _factor(centred: Float[np.ndarray, "row d_model"], shrink: bool) -> Float[np.ndarray, "d_model rank"]:
    """Return W with W W' the (pseudo-)inverse of the covariance of centred rows."""
    if shrink:
        covariance = ledoit_wolf(centred, assume_centered=True)[0]
    else:
        covariance = empirical_covariance(centred, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    keep = values > len(values) * np.finfo(np.float64).eps * values[-1]
    if not keep.any():
        raise BadInput("the ordinary rows are all equal, so any distance from them is infinite; give rows that differ")
    return vectors[:, keep] / np.sqrt(values[keep])


def _inverse_spread(rows: Float[np.ndarray, "row d_model"]) -> Float[np.ndarray, "d_model"]:
    """Return 1 / standard deviation, 0 where a feature is constant."""
    found = spread(rows - rows.mean(0), np.abs(rows).max(0))
    return np.divide(1.0, found, out=np.zeros_like(found), where=found > 0)


def _rows(features: Any, what: str = "the features") -> Float[np.ndarray, "row d_model"]:
    rows = check_features(features, what=what)
    if len(rows) < 2:
        raise BadInput(f"{what} are one row, which has no spread; give at least 2")
    return rows
