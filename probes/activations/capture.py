"""Texts in, activations out: one forward pass a batch, nothing computed that is not read.

1. Sort the texts by length and cut them into batches, so that little is padded.
2. Pad on the right, with a mask: positions stay what they are when a text runs alone.
3. Pick the wanted positions inside the hook, on the model's device.
4. Stop the pass after the deepest site; the vocabulary matrix is never touched.
5. Copy each batch to the host once, and put the rows back into the order of the texts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from probes.errors import BadInput
from probes.facts.facts import Statement
from probes.model.hooks import taps
from probes.model.language_model import LanguageModel
from probes.model.sites import Site

__all__ = ["Activations", "capture", "concatenate", "length_batches"]

TOKEN_RULES = ("last", "mean", "all")


@dataclass(frozen=True, eq=False)
class Activations:
    """What a model held at some sites while it read some texts; a row is one text, or one token of it."""

    values: Mapping[Site, Float[Tensor, "row d_model"]]
    """float32 on the host, by site."""
    example: Int[Tensor, "row"]
    """Which text a row comes from."""
    position: Int[Tensor, "row"]
    """Which token of it, 0-based; -1 for a mean over all of them."""
    tokens: str
    """The rule that picked the tokens: "last", "mean", "all", or an index."""
    texts: tuple[Any, ...]
    """The texts or chats, by example."""
    labels: Bool[Tensor, "example"] | None
    """True or false, where the texts were labelled."""
    groups: tuple[str, ...] | None
    """What must not be split between train and test (the entity), by example."""
    fingerprint: Mapping[str, str]
    """The model that was read."""

    def __repr__(self) -> str:
        counts = f"{len(self.texts)} texts, {len(self.example)} rows, {len(self.values)} sites"
        return f"Activations({counts}, tokens={self.tokens!r})"

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(self.values)


def concatenate(first: Activations, *others: Activations) -> Activations:
    """Return the activations of several captures of one model as one, texts and rows in order.

    Raises:
        BadInput: they differ in sites or model, or only some have labels or groups.
    """
    every = (first, *others)
    for name in ("labels", "groups"):
        if len({getattr(acts, name) is None for acts in every}) > 1:
            raise BadInput(
                f"some of these activations have {name} and others have none; give all of them {name}, or none"
            )
    if any(acts.sites != first.sites or acts.fingerprint != first.fingerprint for acts in others):
        raise BadInput("these activations were read at different sites or from different models; read them alike")
    shifts = torch.tensor([0, *(len(acts.texts) for acts in every[:-1])]).cumsum(0)
    return Activations(
        values={site: torch.cat([acts.values[site] for acts in every]) for site in first.sites},
        example=torch.cat([acts.example + shift for acts, shift in zip(every, shifts, strict=True)]),
        position=torch.cat([acts.position for acts in every]),
        tokens=first.tokens,
        texts=tuple(text for acts in every for text in acts.texts),
        labels=None if first.labels is None else torch.cat([acts.labels for acts in every]),
        groups=None if first.groups is None else tuple(group for acts in every for group in acts.groups),
        fingerprint=first.fingerprint,
    )


class _DeepEnough(Exception):
    """Ends a forward pass after the deepest site; never leaves this file."""


@torch.no_grad()
def capture(
    model: LanguageModel,
    texts: Sequence[Any],
    sites: Any = "resid_post.*",
    *,
    tokens: str | int = "last",
    labels: Sequence[bool] | None = None,
    groups: Sequence[str] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> Activations:
    """Read activations of many texts.

    Args:
        model: the model to read.
        texts: strings, chats (lists of messages), or Statements, which bring their labels and groups.
        sites: a site, a pattern, or several; all are read in the same pass.
        tokens: "last", "mean" (over all tokens of the text), "all", or an index (negative counts from the end).
        labels: one for each text, if they are not Statements.
        groups: one for each text, likewise.
        batch_size: texts a forward pass; the numbers do not depend on it beyond rounding (relative 1e-5 in float32).
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Activations whose rows follow the order of the texts, and within a text of its tokens.

    Raises:
        BadInput: no texts, a rule that is none, a position that a text lacks, or an activation that is not finite.
        NotFound: a site that the model does not have.
    """
    texts, labels, groups = _unfold(texts, labels, groups)
    wanted = model.sites(sites)
    rule = _rule(tokens)
    encoded = [_encode(model, text, i) for i, text in enumerate(texts)]
    if isinstance(tokens, int):
        _check_index(tokens, encoded)
    batches = list(length_batches(encoded, batch_size))
    parts: dict[Site, list[Tensor]] = {site: [] for site in wanted}
    example, position = [], []
    for batch in tqdm(batches, desc="reading", unit="batch", disable=None if progress else True, leave=False):
        rows, where, lengths = _choose(rule, [len(encoded[i]) for i in batch])
        read = _read(model, model.collate([encoded[i] for i in batch]), wanted, rows, where, lengths)
        for site, values in zip(wanted, read, strict=True):
            _check_finite(values, site, rows, batch)
            parts[site].append(values)
        example.append(torch.tensor(batch)[rows])
        position.append(where if where is not None else torch.full((len(rows),), -1))
    examples, positions = torch.cat(example), torch.cat(position)
    order = torch.argsort(examples, stable=True)
    return Activations(
        values={site: torch.cat(values)[order] for site, values in parts.items()},
        example=examples[order],
        position=positions[order],
        tokens=str(tokens),
        texts=tuple(texts),
        labels=None if labels is None else torch.tensor([bool(label) for label in labels]),
        groups=None if groups is None else tuple(groups),
        fingerprint=model.fingerprint if model.bridge is None else {},
    )


def _unfold(texts: Sequence[Any], labels: Any, groups: Any) -> tuple[list[Any], Any, Any]:
    if isinstance(texts, str):
        raise BadInput("texts is one string; give a list of texts")
    texts = list(texts)
    if not texts:
        raise BadInput("the list of texts is empty; give at least one text")
    if all(isinstance(text, Statement) for text in texts):
        if labels is None and groups is None:
            labels, groups = [text.label for text in texts], [text.group for text in texts]
        texts = [text.text for text in texts]
    for name, given in (("labels", labels), ("groups", groups)):
        if given is not None and len(given) != len(texts):
            raise BadInput(f"{len(given)} {name} for {len(texts)} texts; give one for each")
    return texts, labels, groups


def _rule(tokens: str | int) -> str | int:
    if isinstance(tokens, bool) or not (isinstance(tokens, int) or tokens in TOKEN_RULES):
        raise BadInput(
            f"tokens={tokens!r} is no token rule; give {', '.join(map(repr, TOKEN_RULES))} or an index such as -1"
        )
    return -1 if tokens == "last" else tokens


def _encode(model: LanguageModel, text: Any, i: int) -> list[int]:
    try:
        return model.encode(text)
    except BadInput as error:
        raise BadInput(f"text {i}: {error}") from error


def _check_index(index: int, encoded: list[list[int]]) -> None:
    for i, ids in enumerate(encoded):
        if not -len(ids) <= index < len(ids):
            raise BadInput(f"text {i} has {len(ids)} tokens, so no token {index}")


def length_batches(encoded: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    """Yield indices in batches of rows alike in length, so that little is padded."""
    if batch_size < 1:
        raise BadInput(f"batch_size={batch_size}; it must be at least 1")
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _choose(rule: str | int, lengths: list[int]) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return for each row to be read: which text of the batch, which position (None for a mean), and all lengths."""
    size = torch.tensor(lengths)
    if rule == "mean":
        return torch.arange(len(lengths)), None, size
    if rule == "all":
        rows = torch.repeat_interleave(torch.arange(len(lengths)), size)
        return rows, torch.cat([torch.arange(n) for n in lengths]), size
    return torch.arange(len(lengths)), size + rule if rule < 0 else torch.full_like(size, rule), size


def _read(
    model: LanguageModel,
    batch: dict[str, Tensor],
    sites: tuple[Site, ...],
    rows: Tensor,
    where: Tensor | None,
    lengths: Tensor,
) -> Float[Tensor, "site row d_model"]:
    picked: dict[Site, Tensor] = {}
    pick = _picker(rows, where, lengths, batch["attention_mask"])

    def tap(site: Site, tensor: Tensor) -> None:
        picked[site] = pick(tensor)
        if site == sites[-1]:
            raise _DeepEnough

    with taps(model, sites, tap), suppress(_DeepEnough):
        model.body(**batch, use_cache=False)
    here = picked[sites[0]].device
    return torch.stack([picked[site].to(here) for site in sites]).float().cpu()


def _picker(rows: Tensor, where: Tensor | None, lengths: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    def mean(tensor: Tensor) -> Tensor:
        here = mask.to(tensor.device)
        kept = tensor.float().masked_fill(~here.bool().unsqueeze(-1), 0.0)  # not times the mask: 0 * nan is nan
        return kept.sum(1) / lengths.to(tensor.device).unsqueeze(-1)

    def positions(tensor: Tensor) -> Tensor:
        return tensor[rows.to(tensor.device), where.to(tensor.device)]

    return mean if where is None else positions


def _check_finite(values: Tensor, site: Site, rows: Tensor, batch: list[int]) -> None:
    finite = torch.isfinite(values).all(dim=-1)
    if not finite.all():
        first = batch[int(rows[int((~finite).nonzero()[0])])]
        raise BadInput(
            f"text {first}: the activation at {site} is not finite; the model is broken, or overflows in its dtype"
        )
