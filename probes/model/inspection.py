"""Measure what an architecture does, on short forward passes, rather than believe its name.

How a block adds up, which decides what inner sites it defines:

1. Run four tokens and read every block's input, sublayer outputs and output.
2. The gap is `max over layers |resid_pre + attn_out + mlp_out - resid_post| / |resid_post|` (norms over the whole
   tensor).
3. Silence attention in the first block: where its MLP does not notice, attention and MLP run side by side.

Whether beginnings can be shared: two sequences that begin alike are laid out as a tree, each token attending to its
ancestors alone, and must leave the last block as they do when they run alone.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from probes.model.blocks import Block

__all__ = ["measure_inner", "measure_packing"]

PLACES = ("resid_pre", "attn_out", "mlp_out", "resid_post")


@torch.no_grad()
def measure_inner(body: nn.Module, blocks: Sequence[Block], input_ids: Tensor) -> tuple[float, bool]:
    """Return the largest relative gap of the sum, and whether attention and MLP run side by side.

    Args:
        body: the decoder without its vocabulary matrix.
        blocks: its blocks in forward order.
        input_ids: Int["1 position"], any valid tokens.
    """
    every = [(layer, name) for layer in range(len(blocks)) for name in PLACES]
    seen = _forward(body, blocks, input_ids, every)
    gaps = []
    for layer in range(len(blocks)):
        pre, attention, mlp, post = (seen[layer, name] for name in PLACES)
        if not pre.shape == attention.shape == mlp.shape == post.shape:
            return float("inf"), False
        gaps.append((pre + attention + mlp - post).norm() / post.norm())
    with ExitStack() as hooks:
        hooks.callback(blocks[0].hook("attn_out", torch.zeros_like))
        quiet = _forward(body, blocks, input_ids, every)
    return float(torch.stack(gaps).max()), torch.equal(quiet[0, "mlp_out"], seen[0, "mlp_out"])


@torch.no_grad()
def measure_packing(body: nn.Module, blocks: Sequence[Block], ids: Sequence[int], dtype: torch.dtype) -> float:
    """Return by how much a tree of tokens misses its sequences at the last block, relative; inf where it cannot run.

    Args:
        body: the decoder without its vocabulary matrix.
        blocks: its blocks in forward order.
        ids: eight valid tokens.
        dtype: of the mask: the model's own.
    """
    accepted = inspect.signature(body.forward).parameters
    attention = getattr(body.config.get_text_config(), "_attn_implementation", None)
    if "position_ids" not in accepted or attention not in ("sdpa", "eager"):
        return float("inf")
    device = body.get_input_embeddings().weight.device
    # Slots 0 to 2 are the shared beginning, 3 to 4 and 5 to 7 two ways on from there.
    ways = ([0, 1, 2, 3, 4], [0, 1, 2, 5, 6, 7])
    sees = torch.eye(8, dtype=torch.bool)
    for way in ways:
        sees[torch.tensor(way)[:, None], torch.tensor(way)] |= torch.ones(len(way), len(way)).tril().bool()
    mask = torch.zeros(8, 8, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[None, None].to(device)
    tokens = torch.tensor([list(ids)], device=device)
    place = [(len(blocks) - 1, "resid_post")]
    try:
        tree = _forward(body, blocks, tokens, place, attention_mask=mask, position_ids=sees.sum(1)[None].to(device) - 1)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return float("inf")  # whatever it is that a model refuses a 4-d mask with, it cannot be packed
    gaps = []
    for way in ways:
        alone = _forward(body, blocks, tokens[:, way], place)[place[0]][0]
        gaps.append(float((tree[place[0]][0, way] - alone).norm() / alone.norm()))
    return max(gaps)


def _forward(
    body: nn.Module,
    blocks: Sequence[Block],
    input_ids: Tensor,
    places: Sequence[tuple[int, str]],
    **inputs: Tensor,
) -> dict[tuple[int, str], Tensor]:
    seen: dict[tuple[int, str], Tensor] = {}
    inputs = inputs or {"attention_mask": torch.ones_like(input_ids)}
    with ExitStack() as hooks:
        for layer, name in places:
            hooks.callback(blocks[layer].hook(name, _keeper(seen, (layer, name))))
        body(input_ids=input_ids, use_cache=False, **inputs)
    return seen


def _keeper(seen: dict[tuple[int, str], Tensor], key: tuple[int, str]) -> Callable[[Tensor], None]:
    def keep(tensor: Tensor) -> None:
        seen[key] = tensor.float().cpu()

    return keep
