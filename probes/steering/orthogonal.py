"""Weights that cannot write along a direction: what ablating does, done once and for all.

Every matrix that writes into the residual stream, W (d_model x in), becomes `W - d (d . W)`; the same for its bias and
for each row of the embeddings of tokens and positions. The result equals `ablate` at every write, to rounding.

Which matrices write is measured, not believed: on a short pass the linear layer whose output is what passes at the site
`attn_out` or `mlp_out`, and the embeddings whose sum is `resid_pre.0`. Where there is none (a norm behind the sublayer,
as in Gemma 2 and 3; several experts; a norm on the embeddings) the architecture is refused by name. A vocabulary matrix
that shares its weights with the embedding is untied first: it reads the stream, it does not write.

Source: Arditi et al. 2024 (arXiv:2406.11717), section 4.1 and appendix E. Limits: the changed model is a copy, so twice
the memory; quantised weights are refused.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from probes.errors import BadInput
from probes.model.blocks import find_blocks
from probes.model.hooks import outputs, taps, unhooked_copy
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.probe import LinearProbe
from probes.steering.vectors import SteeringVector, unit, writes

__all__ = ["orthogonalise"]

CLOSE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Of the norm at a site: by how much a writer's output may miss what passes there; elsewhere 3e-2."""


@torch.no_grad()
def orthogonalise(model: LanguageModel, what: SteeringVector | LinearProbe | Tensor) -> LanguageModel:
    """Return a copy of a model whose weights write nothing along a direction; the model given stays as it is.

    Args:
        model: a plain model (not on a TransformerLens bridge), without open edits.
        what: a vector, a probe or a direction.

    Raises:
        BadInput: a direction of another width; or an architecture in which what is written is not the output of a
            linear layer, by its name.
    """
    direction = what.direction if isinstance(what, SteeringVector | LinearProbe) else unit(what)
    if direction.numel() != model.d_model:
        raise BadInput(f"the direction has {direction.numel()} numbers and {model.name} is {model.d_model} wide")
    if model.bridge is not None:
        raise BadInput("a model on a TransformerLens bridge cannot be changed so; load the checkpoint plainly")
    module = unhooked_copy(model.module)
    copied = replace(model, module=module, blocks=find_blocks(module, model.n_layers))
    _untie(module)
    for writer in _writers(copied):
        _project(writer, direction.double().to(model.device))
    return replace(copied, name=f"{model.name} without a direction")


def _untie(module: nn.Module) -> None:
    """Give the vocabulary matrix weights of its own."""
    output, table = module.get_output_embeddings(), module.get_input_embeddings()
    if output is not None and output.weight is table.weight:
        output.weight = nn.Parameter(output.weight.detach().clone(), requires_grad=output.weight.requires_grad)
    for config in {id(config): config for config in (module.config, module.config.get_text_config())}.values():
        config.tie_word_embeddings = False


def _writers(model: LanguageModel) -> Iterator[nn.Module]:
    """Yield every layer that writes into the stream, each once."""
    sites = writes(model)
    passed, heard = _short_pass(model, sites)
    embeddings = [part for part in heard if isinstance(part, nn.Embedding)]
    _check_close(model, sites[0], passed[sites[0]], sum(heard[part] for part in embeddings))
    yield from embeddings
    linear = [part for part in heard if not isinstance(part, nn.Embedding)]
    for site in sites[1:]:
        inside = set(model.blocks[site.layer].module.modules())
        found = [part for part in linear if part in inside and _close(model, passed[site], heard[part])]
        if not found:
            _refuse(model, site)
        yield found[-1]


def _short_pass(model: LanguageModel, sites: tuple[Site, ...]) -> tuple[dict[Site, Tensor], dict[nn.Module, Tensor]]:
    """Return what passes at the sites, and what each layer as wide as the stream puts out, in forward order."""
    passed: dict[Site, Tensor] = {}
    heard: dict[nn.Module, Tensor] = {}

    def hear(part: nn.Module, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.shape[-1] == model.d_model:
            heard[part] = output

    ids = torch.tensor([[(7 * i + 3) % model.config.vocab_size for i in range(4)]], device=model.device)
    parts = [part for part in model.body.modules() if isinstance(part, nn.Linear | Conv1D | nn.Embedding)]
    with outputs(parts, hear), taps(model, sites, passed.__setitem__):
        model.body(input_ids=ids, use_cache=False)
    return passed, heard


def _close(model: LanguageModel, passed: Tensor, output: Tensor) -> bool:
    if output.numel() != passed.numel():
        return False
    gap = (passed.float() - output.float().reshape(passed.shape)).norm() / passed.float().norm()
    return bool(gap <= CLOSE.get(model.dtype, 3e-2))


def _check_close(model: LanguageModel, site: Site, passed: Tensor, written: Tensor | int) -> None:
    if isinstance(written, int) or not _close(model, passed, written.expand_as(passed)):
        _refuse(model, site)


def _refuse(model: LanguageModel, site: Site) -> None:
    raise BadInput(
        f"{type(model.module).__name__} cannot be orthogonalised: what it writes at {site} is not the output of a "
        "linear layer (a norm or a sum of experts stands behind it); use ablate, which works on activations"
    )


def _project(writer: nn.Module, direction: Float[Tensor, "d_model"]) -> None:
    """Take a direction out of all that a layer can put out."""
    if not writer.weight.is_floating_point():
        raise BadInput(f"the weights of {type(writer).__name__} are quantised; load the model in float32 or bfloat16")
    direction = direction.to(writer.weight.device)
    weight = writer.weight.double()
    if isinstance(writer, nn.Linear):  # [out, in]; the others hold the stream's width last
        weight -= torch.outer(direction, direction @ weight)
    else:
        weight -= torch.outer(weight @ direction, direction)
    writer.weight.copy_(weight)
    if getattr(writer, "bias", None) is not None:
        bias = writer.bias.double()
        writer.bias.copy_(bias - (bias @ direction) * direction)
