"""What may be asked of `generate` where each forward pass must decide one token of each row.

Everything that reads a model while it answers rests on that: the last position of the pass is where the next token
was decided. Beams, assistants, prompt lookup, contrastive search and classifier-free guidance run other passes in
between; a stray option may do anything. So options are allowed by name, and the model's own generation settings are
looked at, too.
"""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.generation.configuration_utils import GenerationConfig, GenerationMode

from probes.errors import BadInput, nearest

__all__ = ["OPTIONS", "check_generation", "generation_settings"]

OPTIONS = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size",
    "max_new_tokens", "min_new_tokens", "eos_token_id", "pad_token_id", "use_cache",
)  # fmt: skip
"""Options of transformers' `generate` under which one pass decides one token of each row."""


def check_generation(
    module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any], context: int | None
) -> None:
    """Refuse what cannot be scored, before anything runs.

    Args:
        module: the Hugging Face model.
        batch: `input_ids` and `attention_mask`, Int["batch position"].
        options: for `generate`; `max_new_tokens` among them.
        context: the most tokens the model can read, if it says.

    Raises:
        BadInput: an option that is not allowed, a number of tokens below 1 or beyond the context, a batch that is not
            padded on the left under a mask.
    """
    for name in options:
        if name not in OPTIONS:
            raise BadInput(
                f"{name} is no option here, or cannot be scored token by token; {nearest(name, OPTIONS, 20)}"
            )
    tokens = options.get("max_new_tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise BadInput(f"max_new_tokens={tokens!r}; it is a whole number from 1")
    for name in ("temperature", "repetition_penalty"):
        value = options.get(name)
        if value is not None and not (isinstance(value, int | float) and value > 0):
            raise BadInput(f"{name}={value!r}; it is a number above 0")
    ends = options.get("eos_token_id")
    if ends is not None and not all(
        isinstance(end, int) for end in (ends if isinstance(ends, list | tuple) else [ends])
    ):
        raise BadInput(f"eos_token_id={ends!r}; it is a token id, or a list of them")
    merged = _merged(module, options)
    mode = merged.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise BadInput(
            f"the model's own generation_config asks for {mode.value}, which cannot be scored token by token"
        )
    for name in ("guidance_scale", "num_return_sequences", "stop_strings"):
        if getattr(merged, name, None) not in (None, 1):
            raise BadInput(f"the model's own generation_config has {name}={getattr(merged, name)}; set it to None")
    _check_batch(batch["input_ids"], batch["attention_mask"])
    size = module.get_input_embeddings().num_embeddings
    if int(batch["input_ids"].min()) < 0 or int(batch["input_ids"].max()) >= size:
        raise BadInput(f"input_ids hold a token that the model does not have; they go from 0 to {size - 1}")
    longest = int(batch["attention_mask"].sum(1).max())
    if context is not None and longest + tokens > context:
        raise BadInput(f"a prompt of {longest} tokens and {tokens} new ones; the model reads at most {context}")


def generation_settings(module: nn.Module, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the tokens would be chosen: the options together with the model's own generation settings, as JSON
    values.

    Left out is what has no bearing on the choice: how far a response goes, caching, and sampling settings where
        nothing is sampled.
    """
    merged = _merged(module, options)
    names = ["do_sample", "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens", "eos_token_id"]
    names += ["temperature", "top_k", "top_p", "min_p", "typical_p"] if merged.do_sample else []
    found = {name: getattr(merged, name, None) for name in names}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if value is not None
    }


def _merged(module: nn.Module, options: Mapping[str, Any]) -> GenerationConfig:
    merged = copy.deepcopy(module.generation_config)
    merged.update(**{"do_sample": False, **options})
    return merged


def _check_batch(ids: Tensor, mask: Tensor) -> None:
    if not isinstance(ids, Tensor) or ids.is_floating_point():
        raise BadInput("input_ids are no tensor of whole numbers")
    if ids.ndim != 2 or ids.shape != mask.shape or not ids.numel():
        raise BadInput(
            f"input_ids {tuple(ids.shape)} and attention_mask {tuple(mask.shape)}; both are [batch, position]"
        )
    if not mask[:, -1].all():
        raise BadInput("the batch is padded on the right, where the answer goes; pad on the left")
