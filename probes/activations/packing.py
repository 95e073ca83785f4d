"""Packing: what texts share at their beginning is computed once.

Texts made from facts begin alike (twins, templates), and a causal model gives the same activations for the same
beginning. So their tokens are laid out as a tree:

1. Sort the token ids; neighbours share the longest beginnings.
2. Walk through them and give each token that is new a slot in a row of at most 128 slots (or twice the longest text);
   the path of a text is the slots of its tokens.
3. Run rows of slots in one pass, each slot attending to its ancestors alone (a 4-d mask), at the position of its depth.

Where that would not pay, and for models that cannot do it, texts are padded on the right and masked, sorted by length.
Both are a list of passes; which it is decides an estimate of the work, with attention over a row counted as
4 d_model / (2 parameters of a block) of a token's other work, per slot. Whether a model can do it is measured
(`LanguageModel.packs`).

Limits: only beginnings are shared. A sliding window is met by packing only texts that fit into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probes.errors import BadInput
from probes.model.language_model import LanguageModel

__all__ = ["Pass", "Path", "branches", "length_batches", "plan_passes"]

WIDTH = 128
"""Slots of a row: more share a little more, and cost more attention (128 x 4 was fastest of 64 to 512 slots)."""
TYPICAL = 16
"""Tokens of a text, when `batch_size` is turned into slots a pass."""
LONGEST = 2048
"""Tokens of a text beyond which a row's mask would be larger than what it saves."""
GAIN = 0.95
"""Packing must promise at least this share of the padded work, or it is left."""


@dataclass(frozen=True)
class Path:
    """Where a text stands in a pass."""

    text: int
    """Which text."""
    row: int
    """Which row of the pass."""
    slots: Sequence[int]
    """The slot of each of its tokens."""


@dataclass(frozen=True)
class Pass:
    """What goes through the model at once."""

    ids: tuple[Sequence[int], ...]
    """Token ids by slot, row by row."""
    paths: tuple[Path, ...]
    """Its texts: one a row where rows are padded, several where they are packed."""
    packed: bool
    """Whether each slot attends to its own ancestors alone."""

    @property
    def width(self) -> int:
        return max(map(len, self.ids))

    def inputs(self, model: LanguageModel) -> dict[str, Tensor]:
        """Return what the decoder is called with, on its device."""
        batch = model.collate(self.ids)
        if not self.packed:
            return batch
        depth = np.zeros((len(self.ids), self.width), dtype=np.int64)
        sees = np.zeros((len(self.ids), self.width, self.width), dtype=bool)
        sees[:, range(self.width), range(self.width)] = True  # an empty slot sees itself, else softmax has nothing
        for path in self.paths:
            slots = np.asarray(path.slots)
            depth[path.row, slots] = np.arange(len(slots))
            sees[path.row, slots[:, None], slots[None, :]] |= np.tri(len(slots), dtype=bool)
        lowest = torch.finfo(model.dtype).min
        mask = torch.zeros(sees.shape, dtype=model.dtype).masked_fill_(~torch.from_numpy(sees), lowest)
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": mask.unsqueeze(1).to(model.device),
            "position_ids": torch.from_numpy(depth).to(model.device),
        }


def plan_passes(
    model: LanguageModel, encoded: Sequence[Sequence[int]], batch_size: int, *, share: bool | None = None
) -> list[Pass]:
    """Return the passes that read each text once.

    Args:
        model: the model to read.
        encoded: token ids of each text.
        batch_size: texts a padded pass; a packed one has as many slots as that many texts of 16 tokens.
        share: compute shared beginnings once: True, False, or None for where it is possible and pays.

    Raises:
        BadInput: a batch size below 1, or sharing asked for where it is not possible.
    """
    padded = [_padded(encoded, batch) for batch in length_batches(encoded, batch_size)]
    if share is False:
        return padded
    refusal = _refusal(model, encoded)
    if refusal:
        if share:
            raise BadInput(f"beginnings cannot be shared: {refusal}; leave share_prefixes out")
        return padded
    packed = _packed(encoded, batch_size * TYPICAL)
    return packed if share or _work(model, packed) < GAIN * _work(model, padded) else padded


def branches(model: LanguageModel, ids: Sequence[int], start: int, number: int) -> Pass:
    """Return one pass that holds a text several times, computed once up to a token: for edits that differ from there.

    Args:
        model: the model to read; where it cannot share beginnings, the texts are rows of their own.
        ids: token ids of the text.
        start: the first token that is each branch's own.
        number: of branches; they are texts 0, 1, ... of the pass.
    """
    if number * (len(ids) - start) > LONGEST or _refusal(model, [ids]):
        return _padded([ids] * number, list(range(number)))
    own = len(ids) - start
    slots = [(*range(start), *range(start + i * own, start + (i + 1) * own)) for i in range(number)]
    row = [*ids[:start], *(list(ids[start:]) * number)]
    return Pass((row,), tuple(Path(i, 0, each) for i, each in enumerate(slots)), packed=True)


def length_batches(encoded: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Return indices in batches of rows alike in length, so that little is padded."""
    if batch_size < 1:
        raise BadInput(f"batch_size={batch_size}; it must be at least 1")
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    return [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]


def _padded(encoded: Sequence[Sequence[int]], batch: list[int]) -> Pass:
    ids = tuple(encoded[i] for i in batch)
    return Pass(ids, tuple(Path(i, row, range(len(encoded[i]))) for row, i in enumerate(batch)), packed=False)


def _refusal(model: LanguageModel, encoded: Sequence[Sequence[int]]) -> str:
    longest = max(map(len, encoded))
    window = getattr(model.config, "sliding_window", None)
    if longest > LONGEST:
        return f"a text has {longest} tokens, and rows are packed up to {LONGEST}"
    if window is not None and longest > window:
        return f"a text has {longest} tokens, and the model looks back {window}"
    if model.hooked:
        return "somebody's hooks are on the model, and they would see packed rows"
    if not model.packs:
        return f"{type(model.module).__name__} does not take a mask and positions for each token"
    return ""


def _packed(encoded: Sequence[Sequence[int]], slots: int) -> list[Pass]:
    rows: list[_Row] = []
    for i in sorted(range(len(encoded)), key=encoded.__getitem__):
        if not rows or not rows[-1].add(i, encoded[i]):
            rows.append(_Row())
            rows[-1].add(i, encoded[i])
    rows.sort(key=lambda row: len(row.ids))
    passes, at = [], len(rows)
    while at:  # the widest first: what does not fit fails at once
        count = max(1, slots // len(rows[at - 1].ids))
        some = rows[max(0, at - count) : at]
        at -= len(some)
        paths = tuple(Path(text, r, slots) for r, row in enumerate(some) for text, slots in row.texts)
        passes.append(Pass(tuple(row.ids for row in some), paths, packed=True))
    return passes


class _Row:
    """A row of slots while it is filled."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.texts: list[tuple[int, tuple[int, ...]]] = []
        self._limit = WIDTH
        self._last: Sequence[int] = ()

    def add(self, text: int, ids: Sequence[int]) -> bool:
        """Give slots to the tokens of a text that its neighbour lacks; say whether there was room."""
        shared = _common(self._last, ids)
        fresh, limit = len(ids) - shared, max(self._limit, 2 * len(ids))
        if len(self.ids) + fresh > limit:
            return False
        kept = self.texts[-1][1][:shared] if self.texts else ()
        self.texts.append((text, kept + tuple(range(len(self.ids), len(self.ids) + fresh))))
        self.ids += ids[shared:]
        self._last, self._limit = ids, limit
        return True


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _work(model: LanguageModel, passes: Sequence[Pass]) -> float:
    """Return the work of some passes, in tokens without attention."""
    block = sum(parameter.numel() for parameter in model.blocks[0].module.parameters())
    attention = 4 * model.d_model / (2 * max(1, block))
    return sum(len(p.ids) * p.width * (1 + attention * p.width) for p in passes)
