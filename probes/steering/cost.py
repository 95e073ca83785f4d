"""Cost: what a change of the model does to ordinary text, in cross-entropy and KL, nats a token.

Limits: 24 short texts, each counts once: this project's own, unless the model has a language of its own.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probes.activations.packing import length_batches
from probes.errors import BadInput, TooFew
from probes.facts.wordings import ordinary_texts
from probes.model.hooks import read_logits
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate, mean
from probes.steering.vectors import SteeringVector, steer

__all__ = ["Cost"]

TEXTS = 24
AFFORDABLE = 0.02
"""Nats a token: more than that counts as harm."""
LADDER = tuple(2.0**-i for i in range(7))


@dataclass(frozen=True, eq=False)
class Cost:
    """Ordinary texts, and what the plain model makes of them."""

    model: LanguageModel
    """Without open edits."""
    batches: tuple[tuple[dict[str, Tensor], Tensor, Tensor], ...]
    """Inputs, and row and position of each token that has one before it, shifted to that one."""
    targets: tuple[Tensor, ...]
    """The tokens that come there."""
    plain: tuple[Tensor, ...]
    """Log-probabilities of the whole vocabulary there."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: LanguageModel, texts: Sequence[str] | None = None) -> "Cost":
        """Read ordinary texts plainly: those given, else this project's own.

        Raises:
            TooFew: there are fewer than two texts of three tokens or more.
        """
        texts = ordinary_texts() if texts is None else texts
        encoded = [ids for text in texts if len(ids := model.encode(text)) > 2][:TEXTS]
        if len(encoded) < 2:
            raise TooFew(f"{len(encoded)} ordinary texts of three tokens or more are too few; give two at least", 2)
        batches, targets = [], []
        for some in length_batches(encoded, 8):
            at = [(r, p) for r, i in enumerate(some) for p in range(len(encoded[i]) - 1)]
            row, position = torch.tensor(at).T
            batches.append((model.collate([encoded[i] for i in some]), row, position))
            targets.append(torch.tensor([encoded[some[r]][p + 1] for r, p in at], device=model.device))
        logs = tuple(read_logits(model, *batch).float().log_softmax(-1) for batch in batches)
        return cls(model, tuple(batches), tuple(targets), logs)

    @torch.no_grad()
    def affordable(self, vector: SteeringVector) -> tuple[float, tuple[Estimate, Estimate]]:
        """Return the largest of 1, 1/2, ... 1/64 that costs at most .02 nats, else the last, with its price.

        Found by halving the list, as if a larger dose never cost less.
        """
        first, last, prices = 0, len(LADDER) - 1, {}
        while first not in prices:
            middle = (first + last) // 2
            prices[middle] = self.price(steer(self.model, vector, LADDER[middle]))
            if prices[middle][0].value <= AFFORDABLE:
                last = middle
            else:
                first = min(middle + 1, len(LADDER) - 1)
        return LADDER[first], prices[first]

    @torch.no_grad()
    def price(self, opened: AbstractContextManager[None] | None = None) -> tuple[Estimate, Estimate]:
        """Return the rise of cross-entropy and KL(plain || changed) while a context is open; each text counts once."""
        rises, gaps = [], []
        with opened or nullcontext():
            for (inputs, row, position), target, plain in zip(self.batches, self.targets, self.plain, strict=True):
                logs = read_logits(self.model, inputs, row, position).float().log_softmax(-1)
                rise = (plain - logs).gather(1, target[:, None])[:, 0].double().cpu()
                gap = (plain.exp() * (plain - logs)).sum(-1).double().cpu()
                counts = torch.bincount(row)
                rises += (torch.bincount(row, rise) / counts).tolist()
                gaps += (torch.bincount(row, gap) / counts).tolist()
        if not np.isfinite([*rises, *gaps]).all():
            raise BadInput("a logit is not finite on ordinary text; the coefficient overflows the dtype: lower it")
        of = f"over {len(rises)} ordinary texts, every token steered; t interval"
        return mean(rises, how=f"rise of cross-entropy {of}"), mean(gaps, how=f"KL(plain || changed) {of}")
