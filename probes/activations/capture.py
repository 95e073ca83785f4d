"""Texts in, activations out: nothing is computed twice, and nothing that is not read.

1. Encode the texts and pick the tokens to read (tokens.py).
2. Plan the passes: shared beginnings once where that pays, else batches of texts alike in length (packing.py).
3. In each pass pick the wanted positions inside the hook, on the model's device, and stop after the deepest site; the
   vocabulary matrix is never touched.
4. Copy each pass to the host once, into its place in the result.

Limits: sharing changes the order in which sums are taken, so values agree with a text read alone to rounding (relative
1e-5 in float32).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from probes.activations.packing import Pass, plan_passes
from probes.activations.tokens import Selection, TokenRule, select_tokens
from probes.errors import BadInput
from probes.facts.facts import Statement
from probes.facts.statements import LabelledText
from probes.model.hooks import run_to
from probes.model.language_model import LanguageModel
from probes.model.sites import Site

__all__ = ["Activations", "Rows", "capture", "concatenate", "read_rows", "unfold"]


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
    """The rule that picked the tokens: "last", "mean", "all", "entity", or an index; "last of response"."""
    texts: tuple[Any, ...]
    """The texts or chats, by example."""
    labels: Bool[Tensor, "example"] | None
    """True or false, where the texts were labelled."""
    groups: tuple[str, ...] | None
    """What must not be split between train and test (the entity), by example."""
    fingerprint: Mapping[str, str]
    """The model that was read."""
    polarities: Bool[Tensor, "example"] | None = None
    """True where a statement affirms, False where it denies, by example; None where nobody said."""

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
    for name in ("labels", "groups", "polarities"):
        if len({getattr(acts, name) is None for acts in every}) > 1:
            raise BadInput(
                f"some of these activations have {name} and others have none; give all of them {name}, or none"
            )
    if any(acts.sites != first.sites or acts.fingerprint != first.fingerprint for acts in others):
        raise BadInput("these activations were read at different sites or from different models; read them alike")
    shifts = torch.tensor([0, *(len(acts.texts) for acts in every[:-1])]).cumsum(0)
    polarities = None if first.polarities is None else torch.cat([acts.polarities for acts in every])
    return Activations(
        values={site: torch.cat([acts.values[site] for acts in every]) for site in first.sites},
        example=torch.cat([acts.example + shift for acts, shift in zip(every, shifts, strict=True)]),
        position=torch.cat([acts.position for acts in every]),
        tokens=first.tokens,
        texts=tuple(text for acts in every for text in acts.texts),
        labels=None if first.labels is None else torch.cat([acts.labels for acts in every]),
        groups=None if first.groups is None else tuple(group for acts in every for group in acts.groups),
        fingerprint=first.fingerprint,
        polarities=polarities,
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """What was read, before it is known what for."""

    values: dict[Site, Float[Tensor, "row d_model"]]
    """By site, on the host."""
    example: Int[Tensor, "row"]
    """Which text."""
    position: Int[Tensor, "row"]
    """Which token of it; -1 for a mean."""


def capture(
    model: LanguageModel,
    texts: Sequence[Any],
    sites: Any = "resid_post.*",
    *,
    tokens: str | int = "last",
    within: str | Sequence[str] = "text",
    entities: Sequence[str] | None = None,
    labels: Sequence[bool] | None = None,
    groups: Sequence[str] | None = None,
    batch_size: int = 32,
    share_prefixes: bool | None = None,
    progress: bool = False,
) -> Activations:
    """Read activations of many texts.

    Args:
        model: the model to read.
        texts: strings, chats (lists of messages), or Statements and LabelledTexts, which bring their labels, groups
            and polarities.
        sites: a site, a pattern, or several; all are read in the same pass.
        tokens: "last", "mean" (over the tokens that count), "all", an index (negative counts from the end), or
            "entity": the tokens of the first place where the text's entity stands.
        within: which tokens count: "text" (all), "prompt" or "response" of a chat that ends with the assistant's
            message, "ordinary" (no special tokens); several leave what is in all of them.
        entities: the string to look for in each text; by default the subjects of Statements.
        labels: one for each text, if they are not Statements.
        groups: one for each text, likewise.
        batch_size: texts a forward pass; where beginnings are shared, as many tokens as that many texts of 16.
        share_prefixes: compute what texts share at their beginning once: None where it pays and the model can, True
            or refuse, False never.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Activations whose rows follow the order of the texts, and within a text of its tokens.

    Raises:
        BadInput: no texts, a rule that is none, a token, entity or response that a text lacks, or an activation that
            is not finite, naming text and site.
        NotFound: a site that the model does not have.
    """
    texts, about = unfold(texts, labels=labels, groups=groups, entities=entities)
    entities = about.pop("entities")
    rule, wanted = TokenRule(tokens, within), model.sites(sites)
    rows = read_rows(
        model, texts, wanted, rule, entities, batch_size=batch_size, share_prefixes=share_prefixes, progress=progress
    )
    return Activations(
        values=rows.values,
        example=rows.example,
        position=rows.position,
        tokens=str(rule),
        texts=tuple(texts),
        fingerprint=model.fingerprint if model.bridge is None else {},
        **about,
    )


def unfold(texts: Sequence[Any], **given: Sequence[Any] | None) -> tuple[list[Any], dict[str, Any]]:
    """Return plain texts, and what is known of each: labels, groups, polarities, entities.

    Args:
        texts: strings, chats, or Statements, whose own labels, groups and entities stand where none are given; of
            LabelledTexts labels and groups.
        given: `labels`, `groups`, `entities`.

    Raises:
        BadInput: no texts, or another number of something than of texts.
    """
    if isinstance(texts, str):
        raise BadInput("texts is one string; give a list of texts")
    texts = list(texts)
    if not texts:
        raise BadInput("the list of texts is empty; give at least one text")
    polarities = None
    if all(isinstance(text, Statement | LabelledText) for text in texts):
        if given.get("labels") is None and given.get("groups") is None:
            given |= {"labels": [text.label for text in texts], "groups": [text.group for text in texts]}
            if all(text.polarity is not None for text in texts):
                polarities = torch.tensor([text.polarity for text in texts])
        if given.get("entities") is None and all(isinstance(text, Statement) for text in texts):
            given["entities"] = [text.fact.subject for text in texts]
        texts = [text.text for text in texts]
    for name, values in given.items():
        if values is not None and len(values) != len(texts):
            raise BadInput(f"{len(values)} {name} for {len(texts)} texts; give one for each")
    labels, groups = given.get("labels"), given.get("groups")
    return texts, {
        "labels": None if labels is None else torch.tensor([bool(label) for label in labels]),
        "groups": None if groups is None else tuple(map(str, groups)),
        "polarities": polarities,
        "entities": given.get("entities"),
    }


@torch.no_grad()
def read_rows(
    model: LanguageModel,
    texts: Sequence[Any],
    sites: tuple[Site, ...],
    rule: TokenRule,
    entities: Sequence[str] | None = None,
    *,
    start: int = 0,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 32,
    share_prefixes: bool | None = None,
    progress: bool = False,
) -> Rows:
    """Read the picked tokens of some texts at some sites; `start` is the number of the first text, for messages."""
    chosen = select_tokens(model, texts, rule, entities, start)
    passes = plan_passes(model, [selection.ids for selection in chosen], batch_size, share=share_prefixes)
    first = [0, *accumulate(1 if rule.mean else len(selection.positions) for selection in chosen)]
    values = {site: torch.empty(first[-1], model.d_model, dtype=dtype) for site in sites}
    planned = [(one, _Picks.of(one, chosen, first, rule.mean)) for one in passes]
    landing = _Landing(sites, max(len(picks.target) for _, picks in planned))
    with tqdm(total=len(chosen), desc="reading", unit="text", disable=None if progress else True, leave=False) as bar:
        for one, picks in planned:
            run_to(
                model, sites, lambda site, tensor, picks=picks: landing.put(site, picks.take(tensor)), one.inputs(model)
            )
            read = landing.rows(len(picks.target))
            if one.packed and not torch.isfinite(read).all():
                break  # what is not finite spreads over a packed row (0 * nan is nan): read plainly to name its text
            _check_finite(read, sites, picks, start)
            for site, fresh in zip(sites, read, strict=True):
                values[site][picks.target] = fresh.to(dtype)
            bar.update(len(one.paths))
        else:
            return Rows(values, *_index(chosen, first, rule.mean))
    plainly = {"start": start, "dtype": dtype, "batch_size": batch_size, "progress": progress}
    return read_rows(model, texts, sites, rule, entities, share_prefixes=False, **plainly)


def _index(
    chosen: Sequence[Selection], first: Sequence[int], mean: bool
) -> tuple[Int[Tensor, "row"], Int[Tensor, "row"]]:
    """Return text and position of each row."""
    counts = torch.tensor(first).diff()
    positions = [-1] * len(chosen) if mean else [at for selection in chosen for at in selection.positions]
    return torch.repeat_interleave(torch.arange(len(chosen)), counts), torch.tensor(positions)


@dataclass(frozen=True, eq=False)
class _Picks:
    """What one pass yields: the slots to read, and the rows of the result they go to."""

    row: Int[Tensor, "slot"]
    slot: Int[Tensor, "slot"]
    segment: Int[Tensor, "slot"] | None
    """For a mean: which text of the pass a slot belongs to."""
    target: Int[Tensor, "fresh"]
    """Which row of the result each fresh row becomes."""
    text: Int[Tensor, "fresh"]
    """Which text each fresh row is of."""

    @classmethod
    def of(cls, one: Pass, chosen: Sequence[Selection], first: Sequence[int], mean: bool) -> "_Picks":
        row, slot, segment, target, text = [], [], [], [], []
        for i, path in enumerate(one.paths):
            positions = chosen[path.text].positions
            slot += [path.slots[at] for at in positions]
            row += [path.row] * len(positions)
            segment += [i] * len(positions)
            fresh = 1 if mean else len(positions)
            target += range(first[path.text], first[path.text] + fresh)
            text += [path.text] * fresh
        of, at, part, to, whose = map(torch.tensor, (row, slot, segment, target, text))
        return cls(of, at, part if mean else None, to, whose)

    def take(self, tensor: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "fresh d_model"]:
        """Return the fresh rows on the tensor's device; a mean in float32."""
        device = tensor.device
        taken = tensor[self.row.to(device), self.slot.to(device)]
        if self.segment is None:
            return taken
        parts = self.segment.to(device)
        sums = torch.zeros(len(self.text), taken.shape[-1], device=device).index_add_(0, parts, taken.float())
        return sums / torch.bincount(parts).unsqueeze(-1)


class _Landing:
    """Where the rows of a pass lie side by side on the model's device until they are copied to the host at once.

    It is made once for all passes: what is asked for anew each time is scattered over the heap.
    """

    def __init__(self, sites: tuple[Site, ...], most: int):
        self._index = {site: i for i, site in enumerate(sites)}
        self._most = most
        self._rows: Tensor | None = None

    def put(self, site: Site, rows: Float[Tensor, "fresh d_model"]) -> None:
        if self._rows is None:
            self._rows = rows.new_empty(len(self._index), self._most, rows.shape[-1])
        self._rows[self._index[site], : len(rows)] = rows

    def rows(self, count: int) -> Float[Tensor, "site fresh d_model"]:
        return self._rows[:, :count].cpu()


def _check_finite(read: Tensor, sites: tuple[Site, ...], picks: _Picks, start: int) -> None:
    broken = ~torch.isfinite(read).all(dim=-1)
    if broken.any():
        at = int(broken.any(1).nonzero()[0])  # the first site in forward order: where it began
        text = start + int(picks.text[broken[at]].min())
        raise BadInput(
            f"text {text}: the activation at {sites[at]} is not finite; the model is broken, or overflows in its dtype"
        )
