"""Measure how a block adds up, on one short forward pass: which inner sites this architecture defines.

1. Run four tokens and read every block's input, sublayer outputs and output.
2. The gap is `max over layers |resid_pre + attn_out + mlp_out - resid_post| / |resid_post|` (norms over the whole
   tensor).
3. Silence attention in the first block: where its MLP does not notice, attention and MLP run side by side.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from probes.model.blocks import Block

__all__ = ["measure_inner"]

PLACES = ("resid_pre", "attn_out", "mlp_out", "resid_post")


@torch.no_grad()
def measure_inner(body: nn.Module, blocks: Sequence[Block], input_ids: Tensor) -> tuple[float, bool]:
    """Return the largest relative gap of the sum, and whether attention and MLP run side by side.

    Args:
        body: the decoder without its vocabulary matrix.
        blocks: its blocks in forward order.
        input_ids: Int["1 position"], any valid tokens.
    """
    seen = _forward(body, blocks, input_ids)
    gaps = []
    for layer in range(len(blocks)):
        pre, attention, mlp, post = (seen[layer, name] for name in PLACES)
        if not pre.shape == attention.shape == mlp.shape == post.shape:
            return float("inf"), False
        gaps.append((pre + attention + mlp - post).norm() / post.norm())
    with ExitStack() as hooks:
        hooks.callback(blocks[0].hook("attn_out", torch.zeros_like))
        quiet = _forward(body, blocks, input_ids)
    return float(torch.stack(gaps).max()), torch.equal(quiet[0, "mlp_out"], seen[0, "mlp_out"])


def _forward(body: nn.Module, blocks: Sequence[Block], input_ids: Tensor) -> dict[tuple[int, str], Tensor]:
    seen: dict[tuple[int, str], Tensor] = {}
    with ExitStack() as hooks:
        for layer, block in enumerate(blocks):
            for name in PLACES:
                hooks.callback(block.hook(name, _keeper(seen, (layer, name))))
        body(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=False)
    return seen


def _keeper(seen: dict[tuple[int, str], Tensor], key: tuple[int, str]) -> Callable[[Tensor], None]:
    def keep(tensor: Tensor) -> None:
        seen[key] = tensor.float().cpu()

    return keep
