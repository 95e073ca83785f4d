"""The only code that attaches to a model: taps read at sites, edits write at them.

Both are context managers that attach all hooks or none and take away exactly their own, whatever happens inside. They are plain
torch forward hooks, on Hugging Face modules as on the `HookPoint` modules of a TransformerLens bridge.

`resid_mid` is derived: the block's input plus what attention wrote. An edit of it is therefore made on what attention writes, which
changes the residual stream itself. (Changing the input of the second norm instead, as a hook on TransformerLens's
`hook_resid_mid` does on a bridge, would leave the skip connection as it was.)
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from probes.errors import BadInput
from probes.model.blocks import Block
from probes.model.language_model import LanguageModel
from probes.model.sites import Site, select_sites

__all__ = ["Edit", "Tap", "edits", "taps"]

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
    handles = _attach(model, {site: _reader(site, tap) for site in chosen})
    try:
        yield
    finally:
        _remove(handles)


@contextmanager
def edits(model: LanguageModel, changes: Mapping[str | Site, Edit]) -> Iterator[None]:
    """Replace the tensor at each site by what its edit returns, in every forward pass while the context is open.

    Args:
        model: the model to change for a while.
        changes: an edit for each site.

    Raises:
        NotFound, BadInput: as for `taps`; and BadInput from the forward pass when an edit returns another shape.
    """
    chosen = {select_sites(site, model.n_layers)[0]: edit for site, edit in changes.items()}
    if not chosen:
        raise BadInput("edits were given no site; give at least one, such as {'resid_post.13': function}")
    handles = _attach(model, {site: _writer(site, edit) for site, edit in chosen.items()})
    try:
        yield
    finally:
        _remove(handles)


def _reader(site: Site, tap: Tap) -> Edit:
    def read(tensor: Tensor) -> None:
        tap(site, tensor)

    return read


def _writer(site: Site, edit: Edit) -> Edit:
    def write(tensor: Tensor) -> Tensor:
        new = edit(tensor)
        if not isinstance(new, Tensor) or new.shape != tensor.shape:
            got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise BadInput(f"the edit at {site} returned {got}; it must return a tensor of shape {tuple(tensor.shape)}")
        return new.to(dtype=tensor.dtype, device=tensor.device)

    return write


def _attach(model: LanguageModel, changes: Mapping[Site, Callable]) -> list[RemovableHandle]:
    for site in changes:
        model.check(site)
    handles: list[RemovableHandle] = []
    try:
        for site, change in changes.items():
            block = model.blocks[site.layer]
            if site.name == "resid_mid":
                handles += _hook_middle(block, change)
            else:
                handles.append(getattr(block, site.name).hook(change))
    except BaseException:
        _remove(handles)
        raise
    return handles


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _hook_middle(block: Block, change: Callable[[Tensor], Tensor | None]) -> list[RemovableHandle]:
    entered = threading.local()  # two threads may run one model: each keeps its own block input

    def remember(resid_pre: Tensor) -> None:
        entered.resid_pre = resid_pre

    def middle(attn_out: Tensor) -> Tensor | None:
        new = change(entered.resid_pre + attn_out)
        return None if new is None else new - entered.resid_pre

    first = block.resid_pre.hook(remember)
    try:
        return [first, block.attn_out.hook(middle)]
    except BaseException:
        first.remove()
        raise
