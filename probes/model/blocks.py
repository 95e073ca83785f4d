"""Find the blocks of a decoder, and in each block the modules whose tensors are our sites; hook one of them.

A block is found by its shape, not by the model's name: the one `ModuleList` that has as many members as the
configuration has layers, each of them with an attention and an MLP. What a sublayer *writes* is its output, or the
output of the norm behind it where there is one (Gemma 2 and 3). Whether that is right for this model is then
measured, not believed: `resid_pre + attn_out + mlp_out = resid_post` must hold on a short forward pass, otherwise the
inner sites are refused (post-norm architectures, scaled residuals). `resid_mid` is refused where attention and MLP
run side by side.

On a TransformerLens bridge the same places are its `HookPoint` modules.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from probes.errors import BadInput

__all__ = ["Block", "Change", "Place", "find_blocks", "is_bridge", "places_on_bridge"]

Change = Callable[[Tensor], Tensor | None]
"""Sees a tensor where it passes; what it returns, if anything, goes on in its stead."""

ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention")
MLP_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc2")
NORM_BEHIND_MLP = "post_feedforward_layernorm"
NORM_BEHIND_ATTENTION = (
    "post_attention_layernorm"  # in Llama the same name is the norm BEFORE the MLP: only used beside the other
)


@dataclass(frozen=True)
class Place:
    """Where a tensor passes: the input or the output of a module."""

    module: nn.Module
    side: Literal["input", "output"]

    def hook(self, change: Change, *, first: bool = False) -> RemovableHandle:
        """Call `change` with the tensor that passes here; what it returns, if anything, goes on in its stead.

        `first`: before the hooks that are there already.
        """
        if self.side == "input":

            def before(_: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
                new = change(args[0] if args else kwargs["hidden_states"])
                if new is None:
                    return None
                return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

            return self.module.register_forward_pre_hook(before, with_kwargs=True, prepend=first)

        def after(_: Any, __: Any, output: Any) -> Any:
            new = change(output if isinstance(output, Tensor) else output[0])
            if new is None:
                return None
            return new if isinstance(output, Tensor) else (new, *output[1:])

        return self.module.register_forward_hook(after, prepend=first)


@dataclass(frozen=True)
class Block:
    """The places of one block that a hook can reach."""

    module: nn.Module
    """The block itself, whose parameters belong to this layer."""
    resid_pre: Place
    attn_out: Place
    mlp_out: Place
    resid_post: Place

    def hook(self, name: str, change: Change, *, first: bool = False) -> Callable[[], None]:
        """Attach one hook at one of `SITE_NAMES`, or none; return what takes it away again.

        `resid_mid` is the block's input plus what attention wrote, so its hook sits on both; and an MLP that works on
        flattened rows (OPT) is shown as `[batch, position, d_model]`, for which its hook needs the block's input too.
        """
        if name not in ("resid_mid", "mlp_out"):
            return getattr(self, name).hook(change, first=first).remove
        entered = threading.local()  # two threads may run one model: each keeps its own block input

        def remember(resid_pre: Tensor) -> None:
            entered.resid_pre = resid_pre

        def middle(attn_out: Tensor) -> Tensor | None:
            new = change(entered.resid_pre + attn_out)
            return None if new is None else new - entered.resid_pre

        def unflattened(mlp_out: Tensor) -> Tensor | None:
            new = change(mlp_out.reshape(entered.resid_pre.shape))
            return None if new is None else new.reshape(mlp_out.shape)

        with ExitStack() as hooks:
            hooks.callback(self.resid_pre.hook(remember).remove)
            inner, seen = (self.attn_out, middle) if name == "resid_mid" else (self.mlp_out, unflattened)
            hooks.callback(inner.hook(seen, first=first).remove)
            return hooks.pop_all().close


def is_bridge(source: Any) -> bool:
    """Whether an object is a TransformerLens bridge, told without importing TransformerLens."""
    return any(base.__name__ == "TransformerBridge" for base in type(source).__mro__)


def places_on_bridge(bridge: Any) -> tuple[Block, ...]:
    """Return the hook points of every block of a TransformerLens bridge."""
    return tuple(
        Block(
            module=block,
            resid_pre=Place(block.hook_in, "output"),
            attn_out=Place(block.attn.hook_out, "output"),
            mlp_out=Place(block.mlp.hook_out, "output"),
            resid_post=Place(block.hook_out, "output"),
        )
        for block in bridge.blocks
    )


def find_blocks(module: nn.Module, n_layers: int) -> tuple[Block, ...]:
    """Return the blocks of a Hugging Face decoder in forward order.

    Args:
        module: the whole model, wrapped or not.
        n_layers: how many blocks its configuration promises.

    Raises:
        BadInput: no list of blocks, or more than one, could be found; the message says what was looked for.
    """
    lists = {name: child for name, child in module.named_modules() if isinstance(child, nn.ModuleList)}
    fitting = {name: child for name, child in lists.items() if len(child) == n_layers and all(map(_is_block, child))}
    if len(fitting) != 1:
        seen = ", ".join(
            f"{name} ({len(child)} x {type(child[0]).__name__})" for name, child in lists.items() if len(child)
        )
        raise BadInput(
            f"{type(module).__name__}: found {len(fitting)} lists of decoder blocks, need exactly one. Looked for a "
            f"ModuleList of {n_layers} members (num_hidden_layers), each with an attention "
            f"({', '.join(ATTENTION_NAMES)}) and an MLP ({', '.join(MLP_NAMES)}). Lists in this model: {seen or 'none'}"
        )
    return tuple(_block(child) for child in next(iter(fitting.values())))


def _first(block: nn.Module, names: Sequence[str]) -> nn.Module | None:
    return next((child for name in names if isinstance(child := getattr(block, name, None), nn.Module)), None)


def _is_block(block: nn.Module) -> bool:
    return _first(block, ATTENTION_NAMES) is not None and _first(block, MLP_NAMES) is not None


def _block(block: nn.Module) -> Block:
    attention, mlp = _first(block, ATTENTION_NAMES), _first(block, MLP_NAMES)
    behind_mlp = _first(block, [NORM_BEHIND_MLP])
    if behind_mlp is not None:
        mlp = behind_mlp
        attention = _first(block, [NORM_BEHIND_ATTENTION]) or attention
    return Block(
        module=block,
        resid_pre=Place(block, "input"),
        attn_out=Place(attention, "output"),
        mlp_out=Place(mlp, "output"),
        resid_post=Place(block, "output"),
    )
