"""Fingerprint: what a model is, in named parts, so that a later look can tell which part has changed.

Parts: `config`, `weights.embed`, `weights.block.<l>` for each layer l, `weights.rest` (final norm, untied head,
positions), `tokenizer`, `template`, `dtype`. How the weights of a part are digested:

1. Take its parameters and persistent buffers in the order of their names; a tied tensor counts where it stands first.
2. Digest name, shape and values three times: as float32, and rounded to bfloat16 and to float16 (SHA-256, first 128
   bits each). Tensors of another kind (int8, float8, float64) enter all three as they are, beside their dtype's name.

How two fingerprints are compared, also across dtypes, is in matching.py.

A part whose tensors have the names, shapes, dtypes and CRC-32 checksums of one seen before in this process has its
digest: a second look at 135 million weights takes a tenth of a second instead of one.

Limits: digests take the bytes as a little-endian machine has them. Rounding is to nearest, ties to even, as `Tensor.to`
and `from_pretrained` do it.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from probes.errors import BeliefError, CouldNotRun
from probes.model.matching import describe, differing, match

__all__ = ["describe", "differing", "fingerprint", "match"]

VIEWS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The dtypes in which weights are digested; a model loaded in one of them is told exactly by that digest."""
CHUNK = 1 << 18
"""Elements that are copied and rounded at a time: 1 MiB of float32."""
VOLATILE = (
    {"name_or_path", "transformers_version", "architectures", "auto_map", "dtype", "torch_dtype", "quantization_config"}
    | {"use_cache", "attn_implementation", "experts_implementation", "gradient_checkpointing", "return_dict"}
    | {"output_hidden_states", "output_attentions", "id2label", "label2id", "problem_type"}
    | {"bos_token_id", "eos_token_id", "pad_token_id"}  # where generation ends and rows are filled up
)
"""Configuration fields that say how a model is run, stored or labelled, and leave its forward pass as it is."""
NONE = "none"
MOST_KNOWN = 4096
"""Parts whose digest is remembered: those of some dozens of models."""

_known: dict[tuple, str] = {}


def fingerprint(module: nn.Module, tokenizer: Any, blocks: Sequence[nn.Module]) -> dict[str, str]:
    """Return the named parts of a model, each a digest or a short word.

    Args:
        module: a Hugging Face decoder, with its values in memory, on any device and in any dtype.
        tokenizer: its tokenizer, or None.
        blocks: its blocks in forward order.

    Raises:
        CouldNotRun: a weight has no values (meta device), or is stored in a way that cannot be read here.
    """
    return {
        "config": _config_digest(module.config),
        **_weight_digests(module, blocks),
        "tokenizer": _tokenizer_digest(tokenizer),
        "template": _template_digest(tokenizer),
        "dtype": "+".join(sorted({_word(parameter.dtype) for parameter in module.parameters()})) or NONE,
    }


# -------------------------------------------------------------------------------------------------------------- weights


def _weight_digests(module: nn.Module, blocks: Sequence[nn.Module]) -> dict[str, str]:
    parts: dict[str, dict[str, Any]] = {}
    embedding = module.get_input_embeddings()
    parts["weights.embed"] = _state(embedding) if embedding is not None else {}
    for layer, block in enumerate(blocks):
        parts[f"weights.block.{layer}"] = _state(block)
    counted = {id(value) for state in parts.values() for value in state.values()}
    parts["weights.rest"] = {name: value for name, value in _state(module).items() if id(value) not in counted}
    # Hashing and rounding release the interpreter's lock; more than four threads wait for memory.
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        return dict(zip(parts, pool.map(_digest_state, parts.values()), strict=True))


def _state(module: nn.Module) -> dict[str, Any]:
    """Parameters, persistent buffers and whatever else a quantised layer keeps, by name and without second mentions."""
    seen: set[int] = set()
    state = {}
    for name, value in sorted(module.state_dict(keep_vars=True).items()):
        if id(value) not in seen:
            state[name.replace("_orig_mod.", "")] = value  # torch.compile puts this into names, and changes no weight
            seen.add(id(value))
    return state


@torch.no_grad()
def _digest_state(state: Mapping[str, Any]) -> str:
    key = _checksums(state)
    if key is None or key not in _known:
        digest = _digest_values(state)
        if key is None:
            return digest
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[key] = digest
    return _known[key]


def _checksums(state: Mapping[str, Any]) -> tuple | None:
    """Return what tells one state from another at a tenth of the cost of its digest; None where it is not plain."""
    key = []
    for name, value in state.items():
        if type(value) not in (Tensor, nn.Parameter) or value.is_meta or value.is_quantized:
            return None
        checksum = 0
        try:
            for chunk in _chunks(value):
                checksum = zlib.crc32(chunk.view(torch.uint8).numpy(), checksum)
        except (RuntimeError, TypeError):
            return None  # the digest meets the same, and says which tensor it was
        key.append((name, tuple(value.shape), value.dtype, checksum))
    return tuple(key)


def _digest_values(state: Mapping[str, Any]) -> str:
    hashers = {view: hashlib.sha256() for view in VIEWS}
    for name, value in state.items():
        try:
            _feed(hashers, name, value)
        except BeliefError:
            raise
        except (RuntimeError, TypeError) as error:  # a tensor subclass of some quantiser, a sharded tensor
            what = type(error).__name__
            raise CouldNotRun(f"{name} cannot be read: {what}; load the model whole, unquantised") from error
    return " ".join(f"{view}:{hasher.hexdigest()[:32]}" for view, hasher in hashers.items())


def _feed(hashers: Mapping[str, Any], name: str, value: Any) -> None:
    if isinstance(value, tuple | list):  # a quantised layer of torch.ao keeps (weight, bias)
        _feed_word(hashers, f"{name} {len(value)} members")
        for i, member in enumerate(value):
            _feed(hashers, f"{name}.{i}", member)
    elif value is None or isinstance(value, str | int | float | torch.dtype):
        _feed_word(hashers, f"{name} {value}")
    elif isinstance(value, Tensor):
        _feed_tensor(hashers, name, value)
    else:
        raise CouldNotRun(f"{name} is a {type(value).__name__}, which has no digest; load the model unquantised")


def _feed_tensor(hashers: Mapping[str, Any], name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise CouldNotRun(f"{name} has no values (it is on the meta device); load the weights first")
    if tensor.is_quantized:
        _feed_word(hashers, f"{name} {tensor.dtype} {tensor.qscheme()}")
        scales = (
            (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())
            if "channel" in str(tensor.qscheme())
            else (tensor.q_scale(), tensor.q_zero_point())
        )
        _feed(hashers, name, (*scales, tensor.int_repr()))
        return
    rounded = tensor.dtype in VIEWS.values()
    kind = "float" if rounded else _word(tensor.dtype)
    _feed_word(hashers, f"{name} {list(tensor.shape)} {kind}")
    for chunk in _chunks(tensor):
        for view, dtype in VIEWS.items():
            values = chunk.to(dtype) if rounded else chunk
            hashers[view].update(values.view(torch.uint8).numpy())


def _chunks(tensor: Tensor) -> Iterable[Tensor]:
    """Yield flat contiguous pieces in memory, without ever copying the whole tensor."""
    tensor = tensor.detach()
    if tensor.is_contiguous():
        pieces = tensor.view(-1).split(CHUNK)
    elif tensor.dim() > 1:
        rows = max(1, CHUNK * tensor.shape[0] // max(1, tensor.numel()))
        pieces = tensor.split(rows)
    else:
        pieces = tensor.split(CHUNK)
    for piece in pieces:
        if piece.numel():
            # One number out of a longer row counts as contiguous, and keeps the row's stride.
            yield piece.cpu().contiguous().as_strided((piece.numel(),), (1,))


def _feed_word(hashers: Mapping[str, Any], word: str) -> None:
    for hasher in hashers.values():
        hasher.update(word.encode() + b"\n")


# ----------------------------------------------------------------------------------- configuration, tokenizer, template


def _config_digest(config: Any) -> str:
    return _digest(_lasting(config.to_dict()))


def _lasting(value: Any) -> Any:
    """Drop what is volatile, and fields without a value: a later version of transformers brings those with it."""
    if isinstance(value, Mapping):
        kept = {str(key): _lasting(member) for key, member in value.items() if member is not None}
        return {key: member for key, member in kept.items() if key not in VOLATILE and not key.startswith("_")}
    if isinstance(value, tuple | list):
        return [_lasting(member) for member in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _tokenizer_digest(tokenizer: Any) -> str:
    if tokenizer is None:
        return NONE
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "to_str"):
        return _digest_backend(backend.to_str())
    pieces = getattr(tokenizer, "sp_model", None)
    proto = pieces.serialized_model_proto() if hasattr(pieces, "serialized_model_proto") else b""
    added = {str(key): str(value) for key, value in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    named = [type(tokenizer).__name__, tokenizer.get_vocab(), added, hashlib.sha256(proto).hexdigest()]
    return _digest(named)


@lru_cache(maxsize=8)
def _digest_backend(text: str) -> str:
    # The vocabulary comes last and is taken as it is written: parsed, it would need twenty times its size.
    head, mark, words = text.partition('"model":{')
    whole = json.loads(f"{head}{mark}}}}}" if mark else text)
    passing = ("padding", "truncation")  # every padded call leaves these two behind in here
    kept = {key: value for key, value in whole.items() if key not in passing and value is not None}
    return _digest([kept, hashlib.sha256(words.encode()).hexdigest()])


def _template_digest(tokenizer: Any) -> str:
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return NONE
    # A template names special tokens, so what they stand for is part of the prompt it makes.
    named = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if name in str(template)}
    return _digest([template, named])


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
