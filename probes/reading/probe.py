"""LinearProbe: a weight, a bias and the place where they read; score = weight . activation + bias.

Any scaling that a fit did is folded in, so what is saved is the whole probe and it reads raw activations. Scores are
taken in float32, whatever the model runs in and inside autocast too, as an elementwise product and a sum: a row's score
does not depend on the rows beside it.

Saved as an artifact of kind "probe": the weight as a tensor, all else as JSON. Loading needs no model; `match` asks
whether one fits.

Limits: float32 carries 7 digits, so on a residual stream whose largest numbers are in the thousands a score is good to
about 1e-3.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from probes.artifact import read_artifact, require, write_artifact
from probes.errors import ArtifactError, BadInput, BeliefError, CouldNotRun, Mismatch
from probes.model.fingerprint import differing, match
from probes.model.sites import Site
from probes.reading.metrics import Estimate

__all__ = ["LinearProbe", "Probe"]

KIND = "probe"
ESTIMATE = {"value": float, "lower": float, "upper": float, "n": int, "confidence": float, "how": str}
BODY = {
    "bias": float,
    "site": str,
    "tokens": str,
    "method": str,
    "concept": str,
    "fingerprint": dict[str, str],
    "controls": dict[str, ESTIMATE],
    "receipt": dict[str, ESTIMATE],
    "doctor": dict[str, ESTIMATE],
}
NOTHING: Mapping[str, Any] = MappingProxyType({})


@runtime_checkable
class Probe(Protocol):
    """Whatever turns activations of one site into scores, higher = more of the concept."""

    @property
    def site(self) -> Site:
        """Where it reads."""
        ...

    def scores(self, activations: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Return one score a row."""
        ...


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A direction in activation space that tells a concept; made by a fit, by `load` or by `from_weights`."""

    weight: Float[Tensor, "d_model"]
    """float32 on the host, in the space of raw activations."""
    bias: float
    """Score of an activation of zeros; a score of 0 is the fit's own boundary between the classes."""
    site: Site
    """Where the activations are read."""
    tokens: str = "last"
    """At which tokens it was fitted."""
    method: str = "given"
    """How it was fitted: "logistic", "lda", "ttpd", ..., the name of a scikit-learn class, or "given"."""
    concept: str = ""
    """What a high score means, for people to read."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """The model it was fitted on, part by part; empty where that is unknown."""
    controls: Mapping[str, Estimate] = field(default_factory=dict)
    """What it scores on unseen entities, beside what would score without knowledge."""
    receipt: Mapping[str, Estimate] = field(default_factory=dict)
    """What steering along it does to the model."""
    doctor: Mapping[str, Estimate] = field(default_factory=dict)
    """How far its scores move with batching, padding, cache and dtype."""
    _placed: dict[torch.device, Tensor] = field(default_factory=dict, init=False)
    """The weight on each device that was scored on: copied there once, not for each token."""

    def __post_init__(self) -> None:
        weight = torch.as_tensor(self.weight).detach().to("cpu", torch.float32, copy=True)
        if weight.ndim != 1 or not weight.numel():
            raise BadInput(f"a weight of shape {tuple(weight.shape)} is no direction; give d_model numbers in a row")
        bad = int((~torch.isfinite(weight)).sum())
        if bad or not isfinite(self.bias):
            raise BadInput(
                f"{bad} of {weight.numel()} weights are not finite in float32, bias {self.bias}; it cannot score"
            )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", float(self.bias))
        object.__setattr__(self, "site", Site.parse(self.site))
        for name in ("fingerprint", "controls", "receipt", "doctor"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __repr__(self) -> str:
        of = f" of {self.concept!r}" if self.concept else ""
        reads = f", AUROC {self.controls['auroc']}" if "auroc" in self.controls else ""
        return f"LinearProbe({self.method}{of} at {self.site}, d_model {self.d_model}{reads})"

    @property
    def d_model(self) -> int:
        """Width of the activations that it reads."""
        return self.weight.numel()

    @property
    def direction(self) -> Float[Tensor, "d_model"]:
        """The weight scaled to norm 1.

        Raises:
            BadInput: the weight is zero.
        """
        norm = self.weight.double().norm()
        if norm == 0:
            raise BadInput("the weight of this probe is zero, so it has no direction")
        return (self.weight.double() / norm).float()

    def scores(self, activations: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows"]:
        """Return weight . activation + bias for each row, float32, on the device of the activations.

        A row that is not finite has a score that is not finite: who decides on scores must look.

        Raises:
            BadInput: another width than the probe's, or a tensor without values.
        """
        rows = torch.as_tensor(activations)
        if rows.ndim == 0 or rows.shape[-1] != self.d_model:
            raise BadInput(
                f"activations of shape {tuple(rows.shape)}; this probe reads width {self.d_model} at {self.site}"
            )
        if rows.is_meta:
            raise BadInput(
                "the activations are on the meta device, so they have no values; load the model's weights first"
            )
        return (rows.float() * self._weight_on(rows.device)).sum(-1) + self.bias

    def _weight_on(self, device: torch.device) -> Tensor:
        if device not in self._placed:
            self._placed[device] = self.weight.to(device)
        return self._placed[device]

    def match(self, model: Any, allow: Iterable[str] = ()) -> tuple[str, ...]:
        """Refuse a model that is not the one this probe was fitted on.

        The same model in another dtype is accepted where the doctor saw this probe's scores keep within its margin.

        Args:
            model: a LanguageModel.
            allow: parts of the fingerprint that may differ, such as "weights" or "dtype".

        Returns:
            The parts that differ and were allowed to, for the report.

        Raises:
            Mismatch: another part differs; `.parts` has the names.
        """
        actual = model.fingerprint
        allow = {allow} if isinstance(allow, str) else set(allow)
        if "dtype" not in allow and differing(self.fingerprint, actual) == ["dtype"]:
            self._check_dtype(actual["dtype"])
            allow.add("dtype")
        return match(self.fingerprint, actual, allow)

    def _check_dtype(self, dtype: str) -> None:
        figure, margin = self.doctor.get(dtype), self.doctor.get("margin")
        given = f"this probe was fitted in {self.fingerprint['dtype']} and the model is in {dtype}, "
        do = f"load the model in {self.fingerprint['dtype']}, or take the difference on yourself with allow={{'dtype'}}"
        if figure is None or margin is None:
            run = f"measure it with: belief doctor MODEL --probe DIR --dtype {dtype} --write"
            raise Mismatch(f"{given}in which the doctor has not seen it; {run}; or {do}", ["dtype"])
        if not figure.value <= margin.value:
            moved = f"{figure.value:.3g}, beyond its margin of {margin.value:.3g}"
            raise Mismatch(f"{given}which the doctor saw move its scores by up to {moved}; {do}", ["dtype"])

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the probe into a folder of its own, whole or not at all.

        Raises:
            BadInput: the folder is taken. CouldNotRun: the disk is full, or may not be written.
        """
        write_artifact(folder, KIND, self.to_body(), {"weight": self.weight}, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "LinearProbe":
        """Read what `save` wrote; no model is needed.

        Raises:
            ArtifactError: the folder holds no probe, or something about it is wrong.
        """
        artifact = read_artifact(folder, KIND)
        if set(artifact.tensors) != {"weight"}:
            raise ArtifactError(f"{folder}: a probe has one tensor, 'weight'; this one has {sorted(artifact.tensors)}")
        return cls.from_body(artifact.manifest, artifact.tensors["weight"], where=str(folder))

    def to_body(self) -> dict[str, Any]:
        """Return all but the weight as JSON values, for the manifest of whatever holds the probe."""
        body = {name: getattr(self, name) for name in ("bias", "tokens", "method", "concept", "fingerprint")}
        body["fingerprint"] = dict(self.fingerprint)
        body["site"] = str(self.site)
        for name in ("controls", "receipt", "doctor"):
            body[name] = {key: estimate.to_dict() for key, estimate in getattr(self, name).items()}
        return body

    @classmethod
    def from_body(cls, body: Mapping[str, Any], weight: Tensor, *, where: str = "manifest") -> "LinearProbe":
        """Read what `to_body` wrote, and the weight that was kept beside it.

        Raises:
            ArtifactError: a field is missing, unknown or wrong, or the weight is none.
        """
        fields = require(body, BODY)
        if weight.dtype != torch.float32 or weight.ndim != 1:
            given = f"{weight.dtype} {tuple(weight.shape)}"
            raise ArtifactError(f"{where}: a probe's weight is float32 numbers in a row, not {given}")
        try:
            for name in ("controls", "receipt", "doctor"):
                fields[name] = {key: Estimate.from_dict(estimate) for key, estimate in fields[name].items()}
            return cls(weight=weight, **{**fields, "site": Site.parse(fields["site"])})
        except BeliefError as error:
            raise ArtifactError(f"{where}: manifest.json: {error}") from error

    @classmethod
    def from_weights(
        cls,
        weight: Any,
        bias: float,
        site: Site | str,
        *,
        tokens: str = "last",
        method: str = "given",
        concept: str = "",
        fingerprint: Mapping[str, str] = NOTHING,
    ) -> "LinearProbe":
        """Make a probe from numbers fitted elsewhere.

        Args:
            weight: `Float["d_model"]` in the space of raw activations: a tensor, an array or a list.
            bias: added to every score.
            site: such as "resid_post.13".
            tokens: at which tokens it was fitted.
            method: how it was fitted.
            concept: what a high score means.
            fingerprint: `model.fingerprint` of the model it belongs to; without it, `match` refuses every model.

        Raises:
            BadInput: a weight that is no direction or is not finite, or a site that cannot be read.
        """
        try:
            weight = torch.as_tensor(weight)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"a weight of type {type(weight).__name__} cannot be read as numbers: {error}") from error
        return cls(
            weight, bias, Site.parse(site), tokens=tokens, method=method, concept=concept, fingerprint=fingerprint
        )

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        site: Site | str,
        *,
        tokens: str = "last",
        concept: str = "",
        fingerprint: Mapping[str, str] = NOTHING,
        method: str = "",
    ) -> "LinearProbe":
        """Make a probe from a fitted scikit-learn classifier, or a pipeline of affine steps that ends in one.

        Args:
            estimator: binary and linear; a high score will mean its `classes_[1]`.
            site: where the activations it was fitted on were read.
            tokens: at which tokens.
            concept: what a high score means; `classes_[1]` where that is a word.
            fingerprint: `model.fingerprint`; without it, `match` refuses every model.
            method: how it was fitted; the name of the last step's class where none is given.

        Raises:
            BadInput: it does not fold, with the step that does not; or it is not fitted.
            CouldNotRun: folded, it scores otherwise than before.
        """
        from probes.reading.folding import fold  # here, so that only who comes from scikit-learn imports it

        weight, bias, centre, last = fold(estimator)
        classes = getattr(last, "classes_", ())
        if not concept and len(classes) == 2 and isinstance(classes[1], str):
            concept = str(classes[1])
        about = {"tokens": tokens, "method": method or type(last).__name__, "concept": concept}
        return cls.from_float64(weight, bias, centre, site, fingerprint=fingerprint, **about)

    @classmethod
    def from_float64(cls, weight: Any, bias: float, centre: Any, site: Site | str, **about: Any) -> "LinearProbe":
        """Make a probe from a float64 solution, with the rounding of its weight taken back where the data lie.

        Args:
            weight: `Float["d_model"]`, float64.
            bias: added to every score.
            centre: `Float["d_model"]`: the mean of the rows it was fitted on.
            site: where it reads.
            about: further fields of the probe.
        """
        exact = torch.as_tensor(weight, dtype=torch.float64)
        rounded = exact.float()
        shift = (rounded.double() - exact) @ torch.as_tensor(centre, dtype=torch.float64)
        return cls(rounded, float(bias) - float(shift), Site.parse(site), **about)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: the probe's own numbers, then every estimate it carries, one a row.

        Columns: site, method, tokens, concept (alike in each row, so that frames of several probes can be joined), part
        ("probe", "controls", "receipt", "doctor"), name, value, lower, upper, n, confidence, how; the numbers of part
        "probe" (d_model, bias, the weight's norm) have no interval.

        Raises:
            CouldNotRun: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise CouldNotRun("a frame needs pandas, which is not installed; run: pip install pandas") from error
        about = {"site": str(self.site), "method": self.method, "tokens": self.tokens, "concept": self.concept}
        own = {"d_model": self.d_model, "bias": self.bias, "norm": float(self.weight.double().norm())}
        exact = about | {"part": "probe", "how": "exact"}
        rows = [exact | {"name": name, "value": float(value)} for name, value in own.items()]
        for part in ("controls", "receipt", "doctor"):
            estimates = getattr(self, part).items()
            rows += [about | {"part": part, "name": name} | estimate.to_dict() for name, estimate in estimates]
        columns = [*about, "part", "name", *ESTIMATE]
        kinds = {"n": "Int64"} | {name: "float64" for name, kind in ESTIMATE.items() if kind is float}
        return pandas.DataFrame(rows, columns=columns).astype(kinds)
