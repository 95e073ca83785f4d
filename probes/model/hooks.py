"""The only code that attaches to a model: taps read at sites, edits write at them.

All are context managers that attach all hooks or none and take away exactly their own, whatever happens inside. They
are plain torch forward hooks, on Hugging Face modules as on the `HookPoint` modules of a TransformerLens bridge.

`resid_mid` is derived: the block's input plus what attention wrote. An edit of it is therefore made on what attention
writes, which changes the residual stream itself. (Changing the input of the second norm instead, as a hook on
TransformerLens's `hook_resid_mid` does on a bridge, would leave the skip connection as it was.)

Edits come before taps, whichever was opened first: a tap sees what goes on. Edits of one call are made in the order
of the forward pass; of several open calls at one site the one opened last is made first.

`passes` tells what the decoder is called with, for edits that depend on where in a text they are.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from probes.errors import BadInput
from probes.model.blocks import Change
from probes.model.language_model import LanguageModel
from probes.model.sites import Site, select_sites

__all__ = [
    "Edit",
    "Tap",
    "edits",
    "outputs",
    "passes",
    "put_out_below",
    "read_logits",
    "run_to",
    "starting_at",
    "taps",
    "unhooked_copy",
]

Tap = Callable[[Site, Float[Tensor, "batch position d_model"]], None]
"""Called once per site and forward pass with the live tensor: copy what you keep."""
Edit = Callable[[Float[Tensor, "batch position d_model"]], Float[Tensor, "batch position d_model"]]
"""Returns the tensor to go on with: same shape, dtype and device."""


@contextmanager
def taps(model: LanguageModel, sites: str | Site | Iterable[str | Site], tap: Tap) -> Iterator[None]:
    """Call `tap(site, tensor)` in every forward pass while the context is open.

    Args:
        model: the model to read.
        sites: a site, a pattern such as `"resid_post.*"`, or several.
        tap: must not change the tensor in place. What it raises goes through to whoever called the forward pass.

    Raises:
        NotFound: a site that the model does not have.
        BadInput: an inner site of an architecture where it is not defined.
    """
    chosen = select_sites(sites, model.n_layers)
    with _attached(model, {site: _reader(site, tap) for site in chosen}):
        yield


class _DeepEnough(Exception):
    """Ends a forward pass after the deepest site; never leaves this file."""


def run_to(model: LanguageModel, sites: Iterable[Site], tap: Tap, inputs: Mapping[str, Any]) -> None:
    """Run the decoder on some inputs, tapped as by `taps`, and end the pass after the deepest of the sites.

    Raises:
        NotFound, BadInput: as for `taps`.
    """
    sites = tuple(sites)
    deepest = max(sites)

    def tap_and_stop(site: Site, tensor: Tensor) -> None:
        tap(site, tensor)
        if site == deepest:
            raise _DeepEnough

    with taps(model, sites, tap_and_stop), suppress(_DeepEnough):
        model.body(**{"use_cache": False, **inputs})


@contextmanager
def edits(model: LanguageModel, changes: Mapping[str | Site, Edit]) -> Iterator[None]:
    """Replace the tensor at each site by what its edit returns, in every forward pass while the context is open.

    Args:
        model: the model to change for a while.
        changes: an edit for each site, or for each pattern of sites.

    Raises:
        NotFound, BadInput: as for `taps`; and BadInput from the forward pass when an edit returns another shape.
    """
    chosen = {site: edit for pattern, edit in changes.items() for site in select_sites(pattern, model.n_layers)}
    if not chosen:
        raise BadInput("edits were given no site; give at least one, such as {'resid_post.13': function}")
    with _attached(model, {site: _writer(site, chosen[site]) for site in sorted(chosen, reverse=True)}, first=True):
        yield


@contextmanager
def passes(model: LanguageModel, begin: Callable[[Mapping[str, Any]], None], end: Callable[[], None]) -> Iterator[None]:
    """Call `begin(arguments)` before and `end()` after every pass through the decoder while the context is open.

    Args:
        model: the model to follow.
        begin: is given the decoder's arguments by name; those given by position under `input_ids`.
        end: is called even where the pass raises.
    """

    def before(_: Any, args: tuple, kwargs: dict) -> None:
        begin({**({"input_ids": args[0]} if args else {}), **kwargs})

    def after(*_: Any) -> None:
        end()

    with ExitStack() as hooks:
        stack = _stack(model)
        hooks.callback(stack.register_forward_pre_hook(before, with_kwargs=True).remove)
        hooks.callback(stack.register_forward_hook(after, always_call=True).remove)
        yield


def _stack(model: LanguageModel) -> nn.Module:
    """Return the module that holds the list of blocks: some models (OPT) call it past their own `base_model`."""
    first = model.blocks[0].module
    for part in model.module.modules():
        if any(isinstance(child, nn.ModuleList) and len(child) and child[0] is first for child in part.children()):
            return part
    return model.body


@contextmanager
def outputs(modules: Iterable[nn.Module], hear: Callable[[nn.Module, Any], None]) -> Iterator[None]:
    """Call `hear(module, output)` whenever one of some modules has run, while the context is open."""

    def after(module: nn.Module, _: Any, output: Any) -> None:
        hear(module, output)

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(after).remove)
        yield


def put_out_below(model: LanguageModel, layer: int, inputs: Mapping[str, Any]) -> Any:
    """Return what the block below a layer puts out, as it puts it out, for `starting_at`; nothing above it is run."""
    held, at = [], Site("resid_pre", layer)
    model.check(at)  # its first look runs passes of its own, which must not be heard
    with outputs([model.blocks[layer - 1].module], lambda _, output: held.append(output)):
        run_to(model, [at], lambda *_: None, inputs)
    return held[0]


@contextmanager
def starting_at(model: LanguageModel, layer: int, output: Any) -> Iterator[None]:
    """Let forward passes begin at a layer while the context is open: the blocks below only put out `output`.

    Args:
        model: a model without hooks of others: below the layer they would hear nothing true.
        layer: the first that runs.
        output: as from `put_out_below`, for the tokens of the passes to come; the caller answers for it.
    """
    with ExitStack() as put_back:
        for block in model.blocks[:layer]:
            own = vars(block.module)
            if "forward" in own:  # somebody put one on the module itself
                put_back.callback(own.__setitem__, "forward", own["forward"])
            else:
                put_back.callback(own.pop, "forward")
            own["forward"] = lambda *_, **__: output
        yield


def unhooked_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy without other people's hooks, which the copy would call, too; transformers' own come along."""
    memo: dict[int, object] = {}
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            memo[id(hooks)] = type(hooks)((key, hook) for key, hook in hooks.items() if _of_transformers(hook))
    return copy.deepcopy(module, memo)


def _of_transformers(hook: Callable) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("transformers.")


@contextmanager
def _attached(model: LanguageModel, changes: Mapping[Site, Change], *, first: bool = False) -> Iterator[None]:
    for site in changes:
        model.check(site)
    with ExitStack() as hooks:
        for site, change in changes.items():
            hooks.callback(model.blocks[site.layer].hook(site.name, change, first=first))
        yield


def _reader(site: Site, tap: Tap) -> Change:
    def read(tensor: Tensor) -> None:
        tap(site, tensor)

    return read


def _writer(site: Site, edit: Edit) -> Change:
    def write(tensor: Tensor) -> Tensor:
        new = edit(tensor)
        if not isinstance(new, Tensor) or new.shape != tensor.shape:
            got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise BadInput(f"the edit at {site} returned {got}; it must return a tensor of shape {tuple(tensor.shape)}")
        return new.to(dtype=tensor.dtype, device=tensor.device)

    return write


def read_logits(
    model: LanguageModel, inputs: Mapping[str, Any], row: Int[Tensor, "slot"], slot: Int[Tensor, "slot"]
) -> Float[Tensor, "slot d_vocab"]:
    """Return the logits at some slots of a forward pass; the vocabulary matrix is multiplied with those alone.

    Args:
        model: plain or on a bridge.
        inputs: what the model is called with.
        row: which row of the batch each slot is in.
        slot: which position of that row.

    Returns:
        Logits as the model gives them (its dtype, its own scaling or capping), on its device.
    """
    picked = []

    def pick(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = args
        picked.append(hidden[row.to(hidden.device), slot.to(hidden.device)].unsqueeze(0))
        return tuple(picked)

    # A bridge computes its logits in a way of its own; there they are picked when they are all there.
    matrix = None if model.bridge is not None else model.module.get_output_embeddings()
    with ExitStack() as hooks:
        if matrix is not None:
            hooks.callback(matrix.register_forward_pre_hook(pick).remove)
        logits = model.module(**{"use_cache": False, **inputs}).logits
    return logits[0] if picked else logits[row.to(logits.device), slot.to(logits.device)]
