"""Steering: add a direction to the residual stream, or take it out, while a context is open.

    add      x + coefficient * scale * d,   at one site; |d| = 1, scale = mean norm of the activations there
    ablate   x - (x . d) d,                 at every write into the stream: resid_pre.0 (embeddings and positions),
                                            attn_out and mlp_out of every layer

So a coefficient of 1 adds a vector as long as the stream is at that place, whatever the model. A vector is made as a
difference of means (CAA), from a probe's weight, or as the first principal direction of pair differences (RepE).

Both are edits (model/hooks.py): they work in a forward pass and in `generate` with its cache, at the tokens asked for
(places.py), and nothing stays behind. Adding is the same as a bias in the weights at that place; ablating is the same
as weights that cannot write along the direction (orthogonal.py).

Sources: Rimsky et al. 2024 (arXiv:2312.06681), CAA; Zou et al. 2023 (arXiv:2310.01405), section 3.1, RepE; Arditi et
al. 2024 (arXiv:2406.11717), section 2.4, ablation at every write; Sun et al. 2024 (arXiv:2402.17762), on why a text's
first token is left out of a norm.
Limits: that a probe reads an added direction says nothing; the receipt (receipt.py) asks whether the model uses it.
Ablating in float16 and bfloat16 leaves what their rounding leaves.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.capture import Activations, capture, read_rows
from probes.activations.tokens import TokenRule
from probes.artifact import read_artifact, require, write_artifact
from probes.errors import ArtifactError, BadInput, BeliefError, NotFound, nearest
from probes.facts.wordings import ordinary_texts
from probes.judging.splits import row_groups, row_labels
from probes.model.fingerprint import match
from probes.model.hooks import Edit, edits
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.estimators import fit_sklearn
from probes.reading.metrics import Estimate
from probes.reading.probe import ESTIMATE, LinearProbe
from probes.steering.places import Places, Where, following

__all__ = ["METHODS", "SteeringVector", "ablate", "mean_norm", "steer", "unit", "writes"]

KIND = "vector"
BODY = {
    "site": str,
    "scale": float,
    "size": float,
    "tokens": str,
    "method": str,
    "concept": str,
    "fingerprint": dict[str, str],
    "receipt": dict[str, ESTIMATE],
}
METHODS: Mapping[str, str] = MappingProxyType({"difference_of_means": "mass_mean", "pca": "reading_vector"})
"""How a vector is made from labelled activations, and the estimator that does it."""
NORM_TEXTS = 32
"""Ordinary texts over which a site's norm is measured where no activations say it."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction to add or to ablate; made by `from_activations`, `from_texts`, `from_probe` or `load`."""

    direction: Float[Tensor, "d_model"]
    """Norm 1, float32 on the host; whatever is given is scaled to that."""
    site: Site
    """Where it is added."""
    scale: float
    """Mean norm of the activations there; a coefficient of 1 adds so much."""
    size: float = 0.0
    """Of a difference of means: its length in units of `scale`, the coefficient that carries one mean to the other."""
    tokens: str = "last"
    """At which tokens the activations were read that it was made from."""
    method: str = "given"
    """How it was made: "difference_of_means", "pca", "probe (...)" or "given"."""
    concept: str = ""
    """What adding it should bring about, for people to read."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """The model it was made on, part by part; empty where that is unknown."""
    receipt: Mapping[str, Estimate] = field(default_factory=dict)
    """What steering along it does to the model (receipt.py)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", unit(self.direction))
        object.__setattr__(self, "site", Site.parse(self.site))
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "size", float(self.size))
        if not (isfinite(self.scale) and self.scale > 0 and isfinite(self.size) and self.size >= 0):
            raise BadInput(f"scale {self.scale} and size {self.size}; a scale is above 0 and a size at least 0")
        for name in ("fingerprint", "receipt"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __repr__(self) -> str:
        of = f" of {self.concept!r}" if self.concept else ""
        return f"SteeringVector({self.method}{of} at {self.site}, d_model {self.d_model}, scale {self.scale:.3g})"

    @property
    def d_model(self) -> int:
        """Width of the stream that it is added to."""
        return self.direction.numel()

    @classmethod
    def from_activations(
        cls,
        acts: Activations,
        site: Site | str | None = None,
        *,
        method: str = "difference_of_means",
        pairs: bool = False,
        concept: str = "",
    ) -> "SteeringVector":
        """Make a vector that leads from the false rows to the true ones.

        Args:
            acts: activations with labels.
            site: which of their sites; may be left out where there is one.
            method: "difference_of_means", or "pca": the first principal direction, its sign chosen by the labels.
            pairs: for "pca", take the differences of pairs, one true and one false row a group, not centred rows.
            concept: what adding it should bring about.

        Raises:
            NotFound: no such method or site. BadInput: no labels, one class, means that are equal.
        """
        if method not in METHODS:
            raise NotFound(f"{method!r} makes no vector; {nearest(str(method), METHODS)}")
        if acts.labels is None:
            raise BadInput("these activations have no labels; capture statements, or give labels=")
        at = acts.sites[0] if site is None and len(acts.sites) == 1 else None if site is None else Site.parse(site)
        if at not in acts.values:
            raise NotFound(f"give the site of the vector; {nearest(str(site or ''), map(str, acts.values))}")
        rows, labels = acts.values[at], row_labels(acts)
        named = {"pairs": row_groups(acts)} if pairs else {}
        weight = fit_sklearn(METHODS[method], rows, labels, site=at, **named).weight
        scale = float(rows.double().norm(dim=-1).mean())
        size = float(weight.double().norm()) / scale if method == "difference_of_means" else 0.0
        about = {"tokens": acts.tokens, "method": method, "concept": concept, "fingerprint": acts.fingerprint}
        return cls(weight, at, scale, size, **about)

    @classmethod
    def from_texts(
        cls,
        model: LanguageModel,
        toward: Sequence[Any],
        away: Sequence[Any],
        site: Site | str,
        *,
        tokens: str | int = "last",
        method: str = "difference_of_means",
        concept: str = "",
    ) -> "SteeringVector":
        """Make a vector that leads from some texts to others.

        Args:
            model: the model that reads them.
            toward: texts or chats that show what adding it should bring about.
            away: texts that do not; for "pca", lists of equal length are pairs in order.
            site: where it is read and added.
            tokens: which tokens are read (see `capture`); a mean of rows where that is "all".
            method: as in `from_activations`.
            concept: what adding it should bring about.

        Raises:
            BadInput: a list is empty; else as `capture` and `from_activations`.
        """
        if isinstance(toward, str) or isinstance(away, str) or not len(toward) or not len(away):
            raise BadInput("give two lists of texts, one to steer toward and one to steer away from, neither empty")
        labels = [True] * len(toward) + [False] * len(away)
        paired = len(toward) == len(away) and tokens != "all"
        groups = [str(i) for texts in (toward, away) for i in range(len(texts))]
        acts = capture(model, [*toward, *away], site, tokens=tokens, labels=labels, groups=groups)
        return cls.from_activations(acts, method=method, pairs=paired and method == "pca", concept=concept)

    @classmethod
    def from_probe(cls, model: LanguageModel, probe: LinearProbe) -> "SteeringVector":
        """Make a vector of a probe's direction, scaled by the norm that ordinary texts have at its site.

        Raises:
            BadInput: the probe's weight is zero, or of another width than the model.
        """
        _check_fits(model, probe.direction, probe.site)
        about = {name: getattr(probe, name) for name in ("tokens", "concept", "fingerprint", "receipt")}
        return cls(probe.direction, probe.site, mean_norm(model, probe.site), method=f"probe ({probe.method})", **about)

    def match(self, model: LanguageModel, allow: Iterable[str] = ()) -> tuple[str, ...]:
        """Refuse a model that is not the one this vector was made on; return the parts that differ and may.

        Raises:
            Mismatch: another part differs; `.parts` has the names.
        """
        return match(self.fingerprint, model.fingerprint, {allow} if isinstance(allow, str) else set(allow))

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the vector into a folder of its own, whole or not at all.

        Raises:
            BadInput: the folder is taken. CouldNotRun: the disk is full, or may not be written.
        """
        body = {name: getattr(self, name) for name in ("scale", "size", "tokens", "method", "concept")}
        body |= {"site": str(self.site), "fingerprint": dict(self.fingerprint)}
        body["receipt"] = {name: estimate.to_dict() for name, estimate in self.receipt.items()}
        write_artifact(folder, KIND, body, {"direction": self.direction}, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "SteeringVector":
        """Read what `save` wrote; no model is needed.

        Raises:
            ArtifactError: the folder holds no vector, or something about it is wrong.
        """
        artifact = read_artifact(folder, KIND)
        if set(artifact.tensors) != {"direction"} or artifact.tensors["direction"].dtype != torch.float32:
            raise ArtifactError(f"{folder}: a vector has one tensor, 'direction', of float32 numbers")
        fields = require(artifact.manifest, BODY)
        try:
            fields["receipt"] = {name: Estimate.from_dict(held) for name, held in fields["receipt"].items()}
            return cls(direction=artifact.tensors["direction"], **{**fields, "site": Site.parse(fields["site"])})
        except BeliefError as error:
            raise ArtifactError(f"{folder}: manifest.json: {error}") from error


def unit(direction: Any) -> Float[Tensor, "d_model"]:
    """Return a direction with norm 1, float32 on the host.

    Raises:
        BadInput: it is not numbers in a row, not finite, or zero.
    """
    given = torch.as_tensor(direction).detach().to("cpu", torch.float64)
    if given.ndim != 1 or not given.numel():
        raise BadInput(f"a direction of shape {tuple(given.shape)}; give d_model numbers in a row")
    norm = given.norm()
    if not torch.isfinite(given).all() or not norm > 0:
        raise BadInput(f"a direction of norm {float(norm):.3g} points nowhere; give finite numbers, not all zero")
    return (given / norm).float()


def writes(model: LanguageModel) -> tuple[Site, ...]:
    """Return every place where something is written into the residual stream, in forward order.

    Raises:
        BadInput: what the sublayers of this architecture put out is not what they add.
    """
    sites = [Site("resid_pre", 0)]
    sites += [Site(name, layer) for layer in range(model.n_layers) for name in ("attn_out", "mlp_out")]
    for site in sites:
        model.check(site)
    return tuple(sites)


def mean_norm(model: LanguageModel, site: Site | str) -> float:
    """Return the mean norm of a site's activations over ordinary texts, their first tokens left out.

    A first token draws attention and has a norm far above all others' (Sun et al. 2024). Measured under open edits, it
    is that of the edited model.
    """
    at = Site.parse(site)
    texts = [text for text in ordinary_texts() if len(model.encode(text)) > 1][:NORM_TEXTS]
    rows = read_rows(model, texts, model.sites(at), TokenRule("all"))
    return float(rows.values[at][rows.position > 0].double().norm(dim=-1).mean())


@contextmanager
def steer(
    model: LanguageModel,
    what: SteeringVector | LinearProbe | Tensor,
    coefficient: float,
    *,
    site: Site | str | None = None,
    tokens: Where = "all",
) -> Iterator[None]:
    """Add a direction to the residual stream while the context is open.

    `x + coefficient * scale * direction` at the tokens asked for, `scale` being the mean norm of the activations there.

    Args:
        model: the model to steer.
        what: a vector, a probe (its weight's direction) or a direction, whose norm does not matter.
        coefficient: in mean residual norms of the site; below 0 steers away.
        site: where to add it; by default where it was read. A bare direction needs one.
        tokens: "all", "prompt", "last" (from the last token of the prompt on), "response", or positions (places.py,
            with what is assumed of a prompt's end).

    Raises:
        BadInput: a direction of another width, zero or not finite; a coefficient that is not finite; no such rule; and
            from a forward pass, where its prompt ends cannot be told. NotFound: a site that the model lacks.
    """
    if isinstance(coefficient, bool) or not isinstance(coefficient, int | float) or not isfinite(coefficient):
        raise BadInput(f"coefficient={coefficient!r}; give a finite number, in mean residual norms")
    direction, at = _target(model, what, site)
    kept = isinstance(what, SteeringVector) and at == what.site
    shift = coefficient * (what.scale if kept else mean_norm(model, at)) * direction.double()
    with following(model, tokens) as places, edits(model, {at: adding(shift, places)}):
        yield


@contextmanager
def ablate(
    model: LanguageModel,
    what: SteeringVector | LinearProbe | Tensor,
    *,
    sites: str | Site | Iterable[str | Site] | None = None,
    tokens: Where = "all",
) -> Iterator[None]:
    """Take a direction out of the residual stream while the context is open: `x - (x . d) d`.

    Args:
        model: the model to change for a while.
        what: a vector, a probe or a direction, as for `steer`.
        sites: where; by default at every write into the stream, so that no layer ever sees the direction.
        tokens: as for `steer`.

    Raises:
        BadInput: as for `steer`; or the architecture does not add what its sublayers put out (its name is in the
            message), so that only `sites="resid_post.*"` and such can be asked for. NotFound: a site that is not there.
    """
    chosen = writes(model) if sites is None else model.sites(sites)
    direction, _ = _target(model, what, chosen[0])
    with following(model, tokens) as places, edits(model, {site: removing(direction, places) for site in chosen}):
        yield


def adding(shift: Float[Tensor, "d_model"] | Float[Tensor, "batch 1 d_model"], places: Places) -> Edit:
    """Return the edit that adds a vector, or to each row of a batch its own, at the tokens that are meant."""
    placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def add(tensor: Tensor) -> Tensor:
        here = _on(shift, tensor, tensor.dtype, placed)
        meant = places.mask(tensor)
        return tensor + here if meant is None else torch.where(meant.unsqueeze(-1), tensor + here, tensor)

    return add


def removing(direction: Float[Tensor, "d_model"] | Float[Tensor, "batch 1 d_model"], places: Places) -> Edit:
    """Return the edit that takes a direction out, or of each row of a batch its own, at the tokens that are meant."""
    placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def remove(tensor: Tensor) -> Tensor:
        here = _on(direction, tensor, torch.float32, placed)
        along = (tensor.float() * here).sum(-1, keepdim=True)
        left = (tensor.float() - along * here).to(tensor.dtype)
        meant = places.mask(tensor)
        return left if meant is None else torch.where(meant.unsqueeze(-1), left, tensor)

    return remove


def _on(value: Tensor, tensor: Tensor, dtype: torch.dtype, placed: dict) -> Tensor:
    """Return a value where and as a tensor is: copied there once, not for each token."""
    key = tensor.device, dtype
    if key not in placed:
        placed[key] = value.to(device=tensor.device, dtype=dtype)
    return placed[key]


def _target(
    model: LanguageModel, what: SteeringVector | LinearProbe | Tensor, site: Site | str | None
) -> tuple[Float[Tensor, "d_model"], Site]:
    """Return the direction and the site that are meant."""
    own = isinstance(what, SteeringVector | LinearProbe)
    if site is None and not own:
        raise BadInput("a bare direction has no site; give site='resid_post.13', say, or a vector or a probe")
    direction = what.direction if own else unit(what)
    at = what.site if site is None else Site.parse(site)
    _check_fits(model, direction, at)
    return direction, at


def _check_fits(model: LanguageModel, direction: Tensor, site: Site) -> None:
    for at in model.sites(site):
        model.check(at)  # its first look runs passes of its own, which nobody should follow
    if direction.numel() != model.d_model:
        raise BadInput(
            f"the direction has {direction.numel()} numbers and {model.name} is {model.d_model} wide; "
            "take one made on this model"
        )
