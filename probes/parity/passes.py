"""Passes: ways to run a text through a model that should all give the same activations.

`alone` is the reference of the others: one text, no padding, the whole of it in one forward pass. `left_padded` is how
`generate` batches, `cached` is how it decodes, `in_batches` is how `capture` reads; `clone` gives the same model in
another dtype or with another attention implementation.

Limits: a pass over a cache runs the whole decoder, the others end after the site.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.activations.capture import capture
from probes.errors import CouldNotRun
from probes.model.hooks import run_to, taps
from probes.model.language_model import LanguageModel, load_model
from probes.model.sites import Site

__all__ = [
    "Rows",
    "Rule",
    "alone",
    "cached",
    "clone",
    "in_batches",
    "left_padded",
    "pick",
    "places",
    "positions",
    "run",
]

Rule = str | int
"""Which tokens are read: "last", "mean", "all", or an index."""
Rows = list[Float[Tensor, "row d_model"]]
"""float32 on the host, by text."""


@torch.no_grad()
def run(
    model: LanguageModel, sites: Site | Iterable[Site], batch: Mapping[str, Any], *, whole: bool = False
) -> tuple[dict[Site, Float[Tensor, "batch position d_model"]], Any]:
    """Return what the sites held in one forward pass, float32 on the host, and what the decoder put out.

    The pass ends after the deepest site, unless the whole of it is asked for: then the output is not None.

    Raises:
        CouldNotRun: a hook did not fire.
    """
    wanted = [sites] if isinstance(sites, Site) else sorted(sites)
    output = None
    seen: dict[Site, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        seen[site] = tensor.detach().to("cpu", torch.float32, copy=True)

    if whole:
        with taps(model, wanted, keep):
            output = model.body(**{"use_cache": False, **batch})
    else:
        run_to(model, wanted, keep, batch)
    missing = [str(site) for site in wanted if site not in seen]
    if missing:
        raise CouldNotRun(f"no hook fired at {', '.join(missing)}; the model ran without its modules being called")
    return seen, output


def alone(model: LanguageModel, encoded: Sequence[Sequence[int]], site: Site, rule: Rule) -> Rows:
    """Run each text by itself: no padding, no cache."""
    return [pick(rule, run(model, site, model.collate([ids]))[0][site][0]) for ids in encoded]


def in_batches(model: LanguageModel, texts: Sequence[Any], site: Site, rule: Rule) -> Rows:
    """Read with `capture`: padded on the right, with a mask.

    Raises:
        BadInput: an activation is not finite.
    """
    acts = capture(model, texts, site, tokens=rule)
    return [acts.values[site][acts.example == i] for i in range(len(texts))]


def left_padded(
    model: LanguageModel, encoded: Sequence[Sequence[int]], site: Site, rule: Rule, batch_size: int = 32
) -> Rows:
    """Run batches padded on the left, with mask and positions as `generate` makes them; each mixes short and long."""
    rows: Rows = [torch.empty(0)] * len(encoded)
    count = -(-len(encoded) // batch_size)
    for first in range(count):
        chosen = range(first, len(encoded), count)
        batch = model.collate([encoded[i] for i in chosen], side="left")
        values = run(model, site, {**batch, **positions(model, batch["attention_mask"])})[0][site]
        for i, value in zip(chosen, values, strict=True):
            rows[i] = pick(rule, value[-len(encoded[i]) :])
    return rows


def positions(model: LanguageModel, mask: Tensor) -> dict[str, Tensor]:
    """Return `position_ids` that do not count padding, for models that take them."""
    if "position_ids" not in inspect.signature(model.body.forward).parameters:
        return {}
    return {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def cached(
    model: LanguageModel, encoded: Sequence[Sequence[int]], site: Site, rule: Rule, cut: Callable[[int], list[int]]
) -> Rows:
    """Run each text piece by piece over a key-value cache; `cut(length)` says where each piece but the first begins."""
    rows = []
    for ids in encoded:
        cuts, cache, parts = [0, *cut(len(ids)), len(ids)], None, []
        for start, end in zip(cuts, cuts[1:], strict=False):
            batch = {**model.collate([ids[start:end]]), "past_key_values": cache, "use_cache": True}
            batch["attention_mask"] = batch["attention_mask"].new_ones(1, end)
            seen, output = run(model, site, batch, whole=True)
            cache = output.past_key_values
            parts.append(seen[site][0])
        rows.append(pick(rule, torch.cat(parts)))
    return rows


def pick(rule: Rule, values: Float[Tensor, "position d_model"]) -> Float[Tensor, "row d_model"]:
    """Return the rows that a rule reads of one text."""
    return values.mean(0, keepdim=True) if rule == "mean" else values[places(rule, len(values))]


def places(rule: Rule, length: int) -> list[int]:
    """Return the position of each row that a rule reads, 0-based; -1 for a mean over all of them."""
    if rule == "all":
        return list(range(length))
    return {"last": [length - 1], "mean": [-1]}.get(rule) or [int(rule) % length]


def clone(
    model: LanguageModel, *, dtype: torch.dtype | None = None, attention: str | None = None, own: bool = False
) -> LanguageModel:
    """Return a second model that can be changed without touching the first.

    Args:
        model: stays as it is.
        dtype: of the weights of the second, rounded as `from_pretrained` rounds them: what is no part of the
            checkpoint, such as rotary frequencies, keeps its dtype. None shares the weights, which costs no memory.
        attention: attention implementation, such as "eager".
        own: copy the weights even where the dtype stays.

    Raises:
        CouldNotRun: the model does not have that attention implementation.
    """
    module, memo = model.module, {}
    for tensor in module.state_dict(keep_vars=True).values():
        if isinstance(tensor, Tensor) and not (own and dtype is None):
            memo[id(tensor)] = _cast(tensor, dtype)
    second = copy.deepcopy(module, memo)
    if attention is not None:
        second.set_attn_implementation(attention)
        if second.config.get_text_config()._attn_implementation != attention:
            raise CouldNotRun(f"{type(module).__name__} has no {attention!r} attention")
    return load_model(second, tokenizer=model.tokenizer)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor
    new = tensor.detach().to(dtype)
    return nn.Parameter(new, requires_grad=False) if isinstance(tensor, nn.Parameter) else new
