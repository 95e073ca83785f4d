"""AttentionProbe: a probe that reads all tokens of a text and chooses by itself which of them count.

For tokens x_1 .. x_T and heads h with a query q_h and a value v_h:

    attention:  score = sum over h of  sum over t of softmax_t(q_h . x_t) (v_h . x_t)  + bias
    max:        score = sum over h of  max over t of (v_h . x_t)  + bias

Fitted as L2 logistic regression on the score: minimise sum log(1 + exp(-y s)) + (|v|^2 + |q|^2) / (2 C) on features
standardised over all real tokens, by L-BFGS from small random numbers drawn from the seed; the standardisation is then
folded into query, value and bias (weights of attention sum to one, so it folds exactly).

Sources: Lee et al. 2019 (1810.00825) for attention as pooling; Kramar et al. 2026 (2601.11516), where the
second is called MultiMax.
Limits: neither loss is convex: another seed may find another probe. A padded text is scored in other sums than an
unpadded one: equal to about 1e-6 of the score's size, not to the bit.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.artifact import read_artifact, require, write_artifact
from probes.errors import ArtifactError, BadInput, BeliefError, CouldNotRun, NotFound, nearest
from probes.model.fingerprint import match
from probes.model.sites import Site
from probes.reading.inputs import check_features, check_labels, spread

__all__ = ["POOLINGS", "AttentionProbe", "by_text", "fit_attention_pooling"]

POOLINGS = ("attention", "max")
KIND = "attention"
BODY = {"bias": float, "site": str, "pooling": str, "method": str, "concept": str, "fingerprint": dict[str, str]}
TENSORS = {"query": torch.float32, "value": torch.float32}
STEPS = 300


@dataclass(frozen=True, eq=False)
class AttentionProbe:
    """One score a text from the activations of all its tokens."""

    query: Float[Tensor, "head d_model"]
    """float32 on the host, in the space of raw activations; not used by "max"."""
    value: Float[Tensor, "head d_model"]
    """The same; what is read where the query attends."""
    bias: float
    """Added to every score; a score of 0 is the fit's own boundary."""
    site: Site
    """Where the activations are read."""
    pooling: str = "attention"
    """"attention" or "max"."""
    method: str = "attention_pooling"
    """How it was fitted."""
    concept: str = ""
    """What a high score means, for people to read."""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    """The model it was fitted on, part by part; empty where that is unknown."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise NotFound(f"{self.pooling!r} is no pooling; {nearest(str(self.pooling), POOLINGS)}")
        for name in ("query", "value"):
            given = torch.as_tensor(getattr(self, name)).detach().to("cpu", torch.float32, copy=True)
            if given.ndim != 2 or not given.numel() or not torch.isfinite(given).all() or not isfinite(self.bias):
                raise BadInput(
                    f"a {name} of shape {tuple(given.shape)}, bias {self.bias}; give finite numbers, head x d_model"
                )
            object.__setattr__(self, name, given)
        if self.query.shape != self.value.shape:
            raise BadInput(
                f"queries {tuple(self.query.shape)} but values {tuple(self.value.shape)}; give a value a query"
            )
        object.__setattr__(self, "bias", float(self.bias))
        object.__setattr__(self, "site", Site.parse(self.site))
        object.__setattr__(self, "fingerprint", MappingProxyType(dict(self.fingerprint)))

    def __repr__(self) -> str:
        heads, width = self.value.shape
        of = f" of {self.concept!r}" if self.concept else ""
        return f"AttentionProbe({self.pooling}{of} at {self.site}, {heads} heads, d_model {width})"

    def scores(
        self, activations: Float[Tensor, "*rows token d_model"], mask: Bool[Tensor, "*rows token"] | None = None
    ) -> Float[Tensor, "*rows"]:
        """Return one score a text, float32, on the device of the activations.

        Args:
            activations: raw activations of all tokens of each text, padded anywhere.
            mask: True at real tokens; what stands elsewhere counts for nothing, NaN included. None: all are real.

        A text with a real token that is not finite has a score that is not finite.

        Raises:
            BadInput: another width, a mask that does not fit, or a text without a real token.
        """
        rows = torch.as_tensor(activations)
        if rows.ndim < 2 or rows.shape[-1] != self.value.shape[1]:
            raise BadInput(
                f"activations of shape {tuple(rows.shape)}; it reads token x {self.value.shape[1]} at {self.site}"
            )
        real = _mask(rows, mask)
        query, value = self.query.to(rows.device), self.value.to(rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            return _pool(rows.float().where(real.unsqueeze(-1), 0), real, query, value, self.pooling) + self.bias

    def attention(
        self, activations: Float[Tensor, "*rows token d_model"], mask: Bool[Tensor, "*rows token"] | None = None
    ) -> Float[Tensor, "*rows token head"]:
        """Return how much each token counts: weights that sum to 1 over the tokens of a text (for "max", one 1)."""
        rows = torch.as_tensor(activations)
        real = _mask(rows, mask)
        rows = rows.float().where(real.unsqueeze(-1), 0)
        chosen = self.query if self.pooling == "attention" else self.value
        weight = (rows @ chosen.to(rows.device).T).masked_fill(~real.unsqueeze(-1), -torch.inf)
        if self.pooling == "attention":
            return weight.softmax(-2)
        return torch.nn.functional.one_hot(weight.argmax(-2), rows.shape[-2]).movedim(-1, -2).float()

    def match(self, model: Any, allow: Iterable[str] = ()) -> tuple[str, ...]:
        """Refuse a model that is not the one this probe was fitted on; as `LinearProbe.match`."""
        return match(self.fingerprint, model.fingerprint, allow)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the probe into a folder of its own, whole or not at all."""
        body = {name: getattr(self, name) for name in ("bias", "pooling", "method", "concept")}
        body |= {"site": str(self.site), "fingerprint": dict(self.fingerprint)}
        write_artifact(folder, KIND, body, {"query": self.query, "value": self.value}, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "AttentionProbe":
        """Read what `save` wrote; no model is needed.

        Raises:
            ArtifactError: the folder holds no attention probe, or something about it is wrong.
        """
        artifact = read_artifact(folder, KIND)
        if {name: tensor.dtype for name, tensor in artifact.tensors.items()} != TENSORS:
            raise ArtifactError(f"{folder}: an attention probe has a query and a value, both float32; this has not")
        try:
            fields = require(artifact.manifest, BODY)
            return cls(**artifact.tensors, **(fields | {"site": Site.parse(fields["site"])}))
        except BeliefError as error:
            raise ArtifactError(f"{folder}: {error}") from error


def fit_attention_pooling(
    activations: Float[Tensor, "text token d_model"],
    labels: Bool[Tensor, "text"],
    *,
    site: Site | str,
    seed: int,
    mask: Bool[Tensor, "text token"] | None = None,
    pooling: str = "attention",
    heads: int = 1,
    C: float = 0.1,
    **about: Any,
) -> AttentionProbe:
    """Fit a probe over tokens.

    Args:
        activations: raw activations of all tokens, padded; `by_text` makes them from captured rows.
        labels: True where a text has the concept.
        site: where the activations were read.
        seed: of the start.
        mask: True at real tokens; None: all are.
        pooling: "attention" or "max".
        heads: queries and values, at least 1.
        C: inverse strength of the penalty, > 0.
        about: further fields of the probe: concept, fingerprint.

    Raises:
        BadInput: shapes, one class only, a text without tokens, a real token that is not finite. CouldNotRun: the
            optimiser ended on something that is not finite.
    """
    rows = torch.as_tensor(activations).detach().cpu()
    if rows.ndim != 3:
        raise BadInput(f"activations of shape {tuple(rows.shape)}; give text x token x d_model")
    if pooling not in POOLINGS:
        raise NotFound(f"{pooling!r} is no pooling; {nearest(str(pooling), POOLINGS)}")
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or not 0 < C < float("inf"):
        raise BadInput(f"{heads} heads, C = {C}; there is at least 1 head, and C is above 0")
    real = _mask(rows, mask).cpu()
    truth = torch.from_numpy(check_labels(labels, len(rows)))
    tokens = check_features(rows[real], what="the real tokens")
    mean = tokens.mean(0)
    scale = spread(tokens - mean, np.abs(tokens).max(0))
    scale[scale == 0] = 1.0
    mean, scale = torch.from_numpy(mean), torch.from_numpy(scale)
    z = ((rows.double() - mean) / scale).where(real.unsqueeze(-1), 0)
    query, value, bias = _minimise(z, real, truth, pooling=pooling, heads=heads, C=C, seed=seed)
    if not (torch.isfinite(query).all() and torch.isfinite(value).all() and torch.isfinite(bias)):
        raise CouldNotRun("attention pooling ended on numbers that are not finite; are the activations sane? Lower C")
    value = value / scale
    about.setdefault("method", f"{pooling}_pooling")
    return AttentionProbe(query / scale, value, float(bias - (value @ mean).sum()), Site.parse(site), pooling, **about)


def by_text(
    values: Float[Tensor, "row d_model"], example: Int[Tensor, "row"]
) -> tuple[Float[Tensor, "text token d_model"], Bool[Tensor, "text token"]]:
    """Return captured rows as one padded block a text, and the mask of real tokens.

    Args:
        values: activations at one site, `acts.values[site]` of `capture(..., tokens="all")`.
        example: the text of each row, `acts.example`; the rows of a text in the order of its tokens.
    """
    example = torch.as_tensor(example)
    if len(values) != len(example) or not len(example):
        raise BadInput(f"{len(values)} rows of {len(example)} texts; give the text of each row, at least one")
    counts = torch.bincount(example)
    mask = torch.arange(int(counts.max())) < counts[:, None]
    blocks = values.new_zeros(*mask.shape, values.shape[1])
    blocks[mask] = values[example.argsort(stable=True)]
    return blocks, mask


def _mask(rows: Tensor, mask: Any) -> Bool[Tensor, "*rows token"]:
    real = torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device) if mask is None else torch.as_tensor(mask)
    if real.shape != rows.shape[:-1]:
        raise BadInput(f"a mask of shape {tuple(real.shape)} for activations {tuple(rows.shape)}; give one a token")
    real = real.to(rows.device).bool()
    if not real.any(-1).all():
        raise BadInput("a text has no real token, so it has no score; leave it out")
    return real


def _pool(rows: Tensor, real: Tensor, query: Tensor, value: Tensor, pooling: str) -> Float[Tensor, "*rows"]:
    hidden = ~real.unsqueeze(-1)
    read = rows @ value.T
    if pooling == "max":
        return read.masked_fill(hidden, -torch.inf).amax(-2).sum(-1)
    weight = (rows @ query.T).masked_fill(hidden, -torch.inf).softmax(-2)
    return (weight * read).sum((-2, -1))


@torch.enable_grad()
def _minimise(
    z: Tensor, real: Tensor, truth: Tensor, *, pooling: str, heads: int, C: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = 0.1 / z.shape[-1] ** 0.5
    query, value = (
        (start * torch.randn(heads, z.shape[-1], generator=generator, dtype=torch.float64)).requires_grad_()
        for _ in range(2)
    )
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    target = truth.double()
    optimiser = torch.optim.LBFGS([query, value, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores = _pool(z, real, query, value, pooling) + bias
        total = torch.nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")
        total = total + (query.square().sum() + value.square().sum()) / (2 * C)
        total.backward()
        return total

    optimiser.step(loss)
    return query.detach(), value.detach(), bias.detach()
