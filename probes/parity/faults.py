"""Faults: the ways in which an extraction is known to go wrong, and which of them gives the numbers at hand.

1. Every fault is *computed*: what would the rows be, had this been done to these texts?
2. A fault explains rows where its rows are ten times nearer to them than the right ones are.
3. Rounding cannot be computed to the bit, since it depends on batch and kernel. A dtype explains rows where their error
   has the size of the dtype's (a third to three times) and points the same way (correlation of .3 or more; between
   errors that have nothing to do with each other it is about 1 / sqrt(rows x d_model)). Where there is rounding beside
   a fault, the fault need only be as near as rounding lets it.

Distances are the mean over rows of |a - b| / |b|.

Limits: one fault at a time, apart from rounding; rows are read at the last token; batches of 2, 4, 8 and all texts, in
the order given or by length.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.errors import BadInput
from probes.model.language_model import LanguageModel
from probes.model.sites import SITE_NAMES, Site
from probes.parity.passes import alone, clone, positions, run

__all__ = ["EXPLAINED", "distance", "explain"]

EXPLAINED = 0.1
"""Share of the error that a fault may leave unexplained."""
SURE = 0.01
"""Share at which no further fault is tried."""
ROUNDING = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Candidate = tuple[str, Callable[[], Tensor]]


def distance(a: Float[Tensor, "row d_model"], b: Float[Tensor, "row d_model"]) -> float:
    """Return the mean over rows of |a - b| / |b|."""
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1).clamp(min=1e-30)).mean())


@torch.no_grad()
def explain(
    model: LanguageModel,
    texts: Sequence[Any],
    site: Site,
    given: Float[Tensor, "text width"],
    right: Float[Tensor, "text d_model"],
) -> str:
    """Return in words which known fault turns the right rows into the given ones; empty where none does.

    Args:
        model: the model that was read.
        texts: in the order of the rows.
        site: where the rows should come from.
        given: somebody's rows, at the last token of each text.
        right: the rows of the texts run alone.
    """
    bad = (~torch.isfinite(given)).any(-1).nonzero().flatten().tolist()
    if bad:
        return f"text {bad[0]}: the row is not finite"
    if given.shape != right.shape:
        return _other_shape(given, right)
    own = distance(given, right)
    word = _signature(given)
    noise = distance(_in_dtype(model, texts, site, word), right) if word else 0.0
    if word and own <= 3 * noise:
        cause = _stored(given, right, own) or _rounding(model, texts, site, given, right)
        if cause:
            return cause
    best, cause = own, ""
    for name, rows in _candidates(model, texts, site, given, right):
        made = rows()
        if made.shape == given.shape and (error := distance(given, made)) < best:
            best, cause = error, name
        if best <= SURE * own:
            break
    if best <= EXPLAINED * own:
        return cause
    if best <= min(3 * noise, own / 2):
        return f"{cause}; and {word} rounding on top"
    return _rounding(model, texts, site, given, right)


def _candidates(
    model: LanguageModel, texts: Sequence[Any], site: Site, given: Tensor, right: Tensor
) -> Iterator[Candidate]:
    encoded = [model.encode(text) for text in texts]
    yield from _moved(given, right)
    yield from _bits(right)
    yield from _places(model, encoded, site)
    yield from _tokenised(model, texts, site)
    yield from _padded(model, encoded, site)


# ----------------------------------------------------------------------------------------- rows, numbers and their bits


def _moved(given: Tensor, right: Tensor) -> Iterator[Candidate]:
    gaps = torch.cdist(given.double(), right.double())
    chosen = gaps.argmin(1)
    # A twin of equal activations is as near as the row itself: then the row is where it should be.
    here = torch.arange(len(right))
    chosen = torch.where(gaps[here, chosen] >= gaps[here, here] * (1 - 1e-6), here, chosen)
    wrong = (chosen != here).nonzero().flatten().tolist()
    if wrong:
        pairs = ", ".join(f"row {i} holds text {int(chosen[i])}" for i in wrong[:4])
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        kind = "rows swapped in a batch" if len(set(chosen.tolist())) == len(chosen) else "rows repeated in a batch"
        yield f"{kind}: {pairs}{more}", lambda: right[chosen]


def _bits(right: Tensor) -> Iterator[Candidate]:
    for name, dtype in ROUNDING.items():
        other = next(word for word in ROUNDING if word != name)
        bits = f"the bits of {name} numbers read as"
        yield f"{bits} {other}", lambda d=dtype, o=ROUNDING[other]: right.to(d).view(o).float().nan_to_num()
        yield f"{bits} whole numbers", lambda dtype=dtype: right.to(dtype).view(torch.int16).float()


def _other_shape(given: Tensor, right: Tensor) -> str:
    if len(given) == len(right) and given.shape[1] * 2 == right.shape[1]:
        for name, dtype in ROUNDING.items():
            if distance(given, right.to(dtype).view(torch.float32).nan_to_num()) < EXPLAINED:
                return f"{name} read as float32: two numbers of {name} were taken for one of float32"
    return f"rows of shape {tuple(given.shape)} where {tuple(right.shape)} were asked for"


# --------------------------------------------------------------------------------------------- site, layer, norm, token


def _places(model: LanguageModel, encoded: list[list[int]], site: Site) -> Iterator[Candidate]:
    """What stands elsewhere in the same forward pass of each text alone."""
    sites = _defined(model)
    last: dict[Any, list[Tensor]] = {other: [] for other in [*sites, "norm"]}
    tokens: dict[str, list[Tensor]] = {"before": [], "first": [], "mean": []}
    for ids in encoded:
        seen, output = run(model, sites, model.collate([ids]), whole=True)
        for other, values in seen.items():
            last[other].append(values[0, -1])
        last["norm"].append(output.last_hidden_state[0, -1].float().cpu())
        here = seen[site][0]
        tokens["before"].append(here[-2] if len(ids) > 1 else here[-1])
        tokens["first"].append(here[0])
        tokens["mean"].append(here.mean(0))
    stacked = {key: torch.stack(rows) for key, rows in (last | tokens).items()}
    yield (
        "post-norm taken for resid_post: this is the last hidden state, behind the final norm",
        lambda: stacked["norm"],
    )
    for what, norm in _norms(model, site):
        yield (
            f"post-norm taken for {site.name}: {what} was applied to {site}",
            lambda norm=norm: _apply(norm, stacked[site]),
        )
    yield "off-by-one position: the token before the last was read", lambda: stacked["before"]
    yield "wrong position: the first token was read", lambda: stacked["first"]
    yield "mean over the tokens instead of the last one", lambda: stacked["mean"]
    for other in sorted(sites, key=lambda other: (other.name != site.name, abs(other.layer - site.layer))):
        if other != site:
            yield _elsewhere(site, other), lambda other=other: stacked[other]


def _defined(model: LanguageModel) -> list[Site]:
    names = []
    for name in SITE_NAMES:
        try:
            model.check(Site(name, 0))
        except BadInput:
            continue
        names.append(name)
    return sorted(Site(name, layer) for name in names for layer in range(model.n_layers))


def _elsewhere(site: Site, other: Site) -> str:
    if other.name != site.name:
        return f"wrong site: {other} was read, not {site}"
    hint = "; hidden_states[l] is what enters layer l" if other.layer == site.layer - 1 else ""
    return f"wrong layer: {other} was read, not {site}{hint}"


def _norms(model: LanguageModel, site: Site) -> Iterator[tuple[str, nn.Module]]:
    for module in model.body.children():
        if "norm" in type(module).__name__.lower():
            yield "the final norm", module
    if site.layer + 1 < model.n_layers:
        for name, module in model.blocks[site.layer + 1].module.named_children():
            if "norm" in type(module).__name__.lower():
                yield f"{name} of layer {site.layer + 1}", module


def _apply(norm: nn.Module, rows: Tensor) -> Tensor:
    weight = next(norm.parameters(), rows)
    return norm(rows.to(weight.device, weight.dtype)).float().cpu()


# --------------------------------------------------------------------------------------------------------------- tokens


def _tokenised(model: LanguageModel, texts: Sequence[Any], site: Site) -> Iterator[Candidate]:
    encoded = [model.encode(text) for text in texts]
    special = {"a beginning-of-text token": model.tokenizer.bos_token_id, "an end token": model.tokenizer.eos_token_id}
    ways: dict[str, list[list[int]]] = {}
    if all(isinstance(text, str) for text in texts):
        plain = [list(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        ways["missing special tokens: the texts were encoded without them"] = plain
        ways["an extra space before the text"] = [model.encode(f" {text}") for text in texts]
        if getattr(model.tokenizer, "chat_template", None):
            chats = [model.encode([{"role": "user", "content": text}]) for text in texts]
            ways["the texts were put into the chat template"] = chats
    for what, token in special.items():
        if token is not None:
            front, end = [token], [token]
            where = "in front of" if what.startswith("a beginning") else "behind"
            both = [front + ids if where == "in front of" else ids + end for ids in encoded]
            ways[f"extra special token: {what} stands {where} each text"] = both
    for name, rows in ways.items():
        if rows != encoded and all(rows) and all(model.context is None or len(ids) <= model.context for ids in rows):
            yield name, lambda rows=rows: torch.cat(alone(model, rows, site, "last"))


# -------------------------------------------------------------------------------------------------------------- batches


def _padded(model: LanguageModel, encoded: list[list[int]], site: Site) -> Iterator[Candidate]:
    """What a batch gives whose padding is on the wrong side, unmasked, or counted."""
    n = len(encoded)
    by_length = sorted(range(n), key=lambda i: len(encoded[i]))
    orders = [list(range(n))] + ([by_length] if by_length != list(range(n)) else [])
    sizes = dict.fromkeys([n, *(size for size in (8, 4, 2) if size < n)])
    tokens = (model.pad, model.tokenizer.eos_token_id, model.tokenizer.bos_token_id, 0)
    for size in sizes:
        for order in orders[: 1 if size == n else 2]:
            for pad in dict.fromkeys(token for token in tokens if token is not None):
                for name, way in WAYS.items():
                    yield name, lambda way=way, b=(order, size, pad): _batched(model, encoded, site, way, *b)
    yield "off-by-one position: position_ids begin at 1", lambda: _shifted(model, encoded, site)


WAYS: dict[str, tuple[str, bool, str]] = {
    "wrong padding side: padded on the right and read at [-1], where shorter texts have padding": ("right", True, "-1"),
    "wrong padding side: padded on the left and read at the text's length, as if on the right": (
        "left",
        True,
        "length",
    ),
    "missing mask: padded on the left without attention_mask, so that texts see the padding": ("left", False, "-1"),
    "positions count the padding: padded on the left with a mask, but without position_ids": ("left", True, "-1"),
    "wrong padding side and missing mask: padded on the right, unmasked, read at [-1]": ("right", False, "-1"),
    "mean over the padding: the mask was left out of the mean": ("right", True, "mean"),
}
"""Side of the padding, whether it is masked, and what is read."""


def _batched(
    model: LanguageModel,
    encoded: list[list[int]],
    site: Site,
    way: tuple[str, bool, str],
    order: list[int],
    size: int,
    pad: int,
) -> Tensor:
    side, masked, read = way
    rows: list[Tensor] = [torch.empty(0)] * len(encoded)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = model.collate([encoded[i] for i in chosen], side=side)
        ids = torch.where(batch["attention_mask"].bool(), batch["input_ids"], pad)
        mask = batch["attention_mask"] if masked else torch.ones_like(ids)
        values = run(model, site, {"input_ids": ids, "attention_mask": mask})[0][site]
        for i, value in zip(chosen, values, strict=True):
            at = {"-1": -1, "length": len(encoded[i]) - 1}.get(read)
            rows[i] = value.mean(0) if at is None else value[at]
    return torch.stack(rows)


def _shifted(model: LanguageModel, encoded: list[list[int]], site: Site) -> Tensor:
    rows = []
    for ids in encoded:
        batch = model.collate([ids])
        moved = {name: value + 1 for name, value in positions(model, batch["attention_mask"]).items()}
        if model.context is not None and len(ids) + 1 > model.context:
            moved = {}
        rows.append(run(model, site, {**batch, **moved})[0][site][0, -1])
    return torch.stack(rows)


# ------------------------------------------------------------------------------------------------------------- rounding


def _signature(given: Tensor) -> str:
    """Return the coarser dtype that holds every one of these numbers exactly; most of bfloat16's are float16's too."""
    return next((name for name, dtype in ROUNDING.items() if torch.equal(given.to(dtype).float(), given)), "")


def _stored(given: Tensor, right: Tensor, own: float) -> str:
    name = _signature(given)
    if distance(given, right.to(ROUNDING[name]).float()) > EXPLAINED * own:
        return ""
    return f"{name} read as float32: rounded to {name} after a float32 forward pass"


def _rounding(model: LanguageModel, texts: Sequence[Any], site: Site, given: Tensor, right: Tensor) -> str:
    """Return the dtype whose error the given rows share in size and direction; empty where none is."""
    for name in [_signature(given)] if _signature(given) else ROUNDING:
        for way in ("weights", "autocast"):
            made = _in_dtype(model, texts, site, name, autocast=way == "autocast")
            error, expected = given - right, made - right
            share = distance(given, right) / max(distance(made, right), 1e-30)
            if 1 / 3 <= share <= 3 and _correlation(error, expected) >= 0.3:
                how = "the model ran" if way == "weights" else "the model ran under autocast"
                return f"{name} read as float32: {how} in {name}"
    return ""


def _correlation(a: Tensor, b: Tensor) -> float:
    scale = a.norm(dim=-1, keepdim=True).clamp(min=1e-30), b.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    return float(((a / scale[0]) * (b / scale[1])).sum(-1).mean())


def _in_dtype(model: LanguageModel, texts: Sequence[Any], site: Site, name: str, *, autocast: bool = False) -> Tensor:
    encoded = [model.encode(text) for text in texts]
    if autocast:
        with torch.autocast(model.device.type, dtype=ROUNDING[name]):
            return torch.cat(alone(model, encoded, site, "last"))
    return torch.cat(alone(clone(model, dtype=ROUNDING[name]), encoded, site, "last"))
