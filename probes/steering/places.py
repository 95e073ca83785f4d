"""Places: which tokens of a forward pass an edit is meant for, in plain passes and in `generate` with its cache.

    all          every token
    prompt       the tokens of the prompt
    last         from the last token of the prompt on: that one and everything generated (as CAA steers)
    response     what is generated alone
    3, [0, -1]   positions: from 0 at a text's first token, or below 0 from the end of its prompt

Padding counts for nothing. Where a prompt ends is not written on a pass, so it is told by these rules:

1. A pass over an empty cache, or without one, is a text that begins: all of it is prompt.
2. A pass of one token a row over the cache that the last one left is the response.
3. A pass without a cache whose rows are those of the last pass and one token more is the response, too
   (`use_cache=False` sends the whole text again).
4. Anything else (a prompt in chunks, drafts of an assistant, a cache that was filled before) is refused by every rule
   but "all", and but positions from 0 on.

Source: Rimsky et al. 2024 (arXiv:2312.06681), section 3, for "last".
Limits: a plain pass over prompt and answer has no response. A prompt in chunks of which the last is one token long
looks like a response. Only rule 3 compares token ids, and only there does a device wait for the host.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from probes.errors import BadInput, CouldNotRun, nearest
from probes.model.hooks import passes
from probes.model.language_model import LanguageModel

__all__ = ["RULES", "Places", "Where", "check_tokens", "following"]

RULES = ("all", "last", "prompt", "response")
Where = str | int | Sequence[int]
"""One of `RULES`, a position, or several."""


def check_tokens(tokens: Where) -> str | tuple[int, ...]:
    """Return a rule as it is, and positions as a tuple.

    Raises:
        BadInput: neither.
    """
    if isinstance(tokens, str):
        if tokens not in RULES:
            raise BadInput(f"tokens={tokens!r} is no rule; {nearest(tokens, RULES)}; or give positions, such as -1")
        return tokens
    given = [tokens] if isinstance(tokens, int) else tokens
    if not isinstance(given, Sequence | range) or isinstance(tokens, bool):
        raise BadInput(f"tokens={tokens!r}; give {', '.join(map(repr, RULES))}, a position or a list of positions")
    if not given or not all(isinstance(at, int) and not isinstance(at, bool) for at in given):
        raise BadInput(f"tokens={tokens!r}; positions are whole numbers, and at least one")
    return tuple(given)


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass through the decoder."""

    past: int
    """Columns that are in the cache."""
    width: int
    """Columns of this pass."""
    real: Bool[Tensor, "batch position"] | None
    """Which columns so far are no padding; None: all are."""
    end: int | None
    """Column behind the prompt's last; None where that cannot be told."""
    masks: dict[torch.device, Tensor] = field(default_factory=dict)
    """What is meant, once it was asked for."""


class Places:
    """Follows the passes of one model and says for each which tokens a rule means; made by `following`."""

    def __init__(self, tokens: str | tuple[int, ...]):
        self.tokens = tokens
        self._local = threading.local()  # two threads may run one model

    def mask(self, tensor: Tensor) -> Bool[Tensor, "batch position"] | None:
        """Return which tokens of the pass that is under way are meant, on the tensor's device; None: all.

        Raises:
            BadInput: it cannot be told which. CouldNotRun: the pass went by unseen.
        """
        if self.tokens == "all":
            return None
        now: _Pass | None = getattr(self._local, "now", None)
        if now is None or tensor.shape[1] != now.width:
            raise CouldNotRun(
                "this pass was not announced: the decoder's forward() was called directly, or compiled before steering "
                "began; call the model itself, or steer all tokens"
            )
        if tensor.device not in now.masks:  # every site of a pass asks the same
            now.masks[tensor.device] = self._mask(now, tensor.device).expand(tensor.shape[:2])
        return now.masks[tensor.device]

    def _mask(self, now: _Pass, device: torch.device) -> Bool[Tensor, "batch position"]:
        columns = torch.arange(now.past, now.past + now.width, device=device)[None]
        if now.real is None:
            return self._rule(now, columns, columns, now.end)
        real = now.real.to(device)
        prompt = None if now.end is None else real[:, : now.end].sum(1, keepdim=True)
        return self._rule(now, columns, (real.cumsum(1) - 1)[:, now.past :], prompt) & real[:, now.past :]

    def _rule(
        self, now: _Pass, columns: Int[Tensor, "1 position"], at: Int[Tensor, "rows position"], prompt: Any
    ) -> Bool[Tensor, "rows position"]:
        """Return what is meant among columns that hold the positions `at`, behind a prompt of so many tokens."""
        positions = () if isinstance(self.tokens, str) else self.tokens
        if now.end is None and (not positions or min(positions) < 0):
            raise BadInput(
                f"where the prompt ends cannot be told: a pass of {now.width} tokens over {now.past} that are cached "
                "(a prompt in chunks, an assistant's drafts, or a cache filled before); steer tokens='all'"
            )
        if self.tokens == "last":
            return at >= prompt - 1
        if self.tokens in ("prompt", "response"):
            return (columns < now.end) == (self.tokens == "prompt")
        found = torch.zeros_like(at, dtype=torch.bool)
        for position in positions:
            found |= at == (position if position >= 0 else prompt + position)
        return found

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Take note of a pass that begins."""
        ids, mask, cache = (arguments.get(name) for name in ("input_ids", "attention_mask", "past_key_values"))
        width = (ids if ids is not None else arguments["inputs_embeds"]).shape[1]
        before: _Pass | None = getattr(self._local, "before", None)
        past = _cached(cache, before)
        if past == 0:
            grown = before is not None and before.past == 0 and width == before.width + 1
            again = grown and arguments.get("use_cache") is False and self._extends(ids)
            end = before.end if again else width
        else:
            goes_on = before is not None and width == 1 and past == before.past + before.width
            end = before.end if goes_on else None
        self._local.ids = ids
        self._local.now = self._local.before = _Pass(past, width, _real(mask, past + width), end)

    def _extends(self, ids: Tensor | None) -> bool:
        held = getattr(self._local, "ids", None)
        return ids is not None and held is not None and len(ids) == len(held) and torch.equal(ids[:, :-1], held)

    def end(self) -> None:
        """Take note that it is over."""
        self._local.now = None


@contextmanager
def following(model: LanguageModel, tokens: Where) -> Iterator[Places]:
    """Follow the passes of a model while the context is open; every token is meant where `tokens` is "all".

    Raises:
        BadInput: no such rule.
    """
    places = Places(check_tokens(tokens))
    if places.tokens == "all":
        yield places
        return
    with passes(model, places.begin, places.end):
        yield places


def _cached(cache: Any, before: _Pass | None) -> int:
    """Return how many columns the cache holds."""
    length = 0 if cache is None else cache.get_seq_length()
    if isinstance(length, int):
        return length
    return 0 if before is None else before.past + before.width  # a static cache would have to ask the device


def _real(mask: Any, total: int) -> Bool[Tensor, "batch total"] | None:
    """Return which of the columns so far are no padding."""
    if mask is None:
        return None
    if mask.ndim == 4 and mask.dtype == torch.bool:  # a static cache's: what the last token sees
        mask = mask[:, 0, -1]
    if mask.ndim != 2 or mask.shape[1] < total:
        raise BadInput(
            f"an attention mask of shape {tuple(mask.shape)} does not say which tokens are padding; steer tokens='all'"
        )
    return mask[:, :total].bool()
