"""Fingerprint: what a model is, in named parts, so that an artifact can say on which model it was made and which part changed since.

Parts: `config`, `weights.embed`, `weights.block.<l>` for each layer l, `weights.rest` (final norm, untied head, positions), `tokenizer`,
`template`, `dtype`. How the weights of a part are digested:

1. Take its parameters and persistent buffers in the order of their names; a tied tensor counts where it stands first.
2. Digest name, shape and values three times: as float32, and rounded to bfloat16 and to float16 (SHA-256, first 128 bits each).
   Tensors of another kind (int8, float8, float64) enter all three as they are, with the name of their dtype.
3. Two loads in one dtype agree where all three digests do: one bit changed in one weight is a difference.
4. Two loads in different dtypes agree where one of them, rounded to the dtype of the other, IS the other. So float32 and bfloat16 loads of
   one checkpoint agree in every `weights` part and differ in `dtype`, whichever of the two the checkpoint is stored in.

Limits: across dtypes a change smaller than the coarser dtype can tell is not seen. Digests take the bytes as a little-endian machine has
them. Rounding is to nearest, ties to even, as in `Tensor.to` and in `from_pretrained`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from probes.errors import BadInput, BeliefError, CouldNotRun, Mismatch, nearest

__all__ = ["describe", "differing", "fingerprint", "match"]

VIEWS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The dtypes in which weights are digested; a model loaded in one of them is told exactly by that digest."""
CHUNK = 1 << 20
"""Elements that are copied and rounded at a time: 4 MiB of float32."""
VOLATILE = frozenset(
    "transformers_version dtype torch_dtype use_cache quantization_config architectures auto_map name_or_path pad_token_id bos_token_id "
    "eos_token_id id2label label2id problem_type return_dict output_hidden_states output_attentions attn_implementation "
    "experts_implementation gradient_checkpointing".split()
)
"""Configuration fields that say how a model is run, stored or labelled, and leave its forward pass as it is."""
NONE = "none"


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


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Return the parts in which two fingerprints differ, in reading order; a part that only one of them has differs."""
    dtypes = (a.get("dtype", ""), b.get("dtype", ""))
    return sorted({part for part in {*a, *b} if not _agree(part, a.get(part), b.get(part), dtypes)}, key=_reading_order)


def describe(parts: Iterable[str]) -> str:
    """Return the names of parts as people say them.

    >>> describe(["template", "weights.block.3", "weights.block.7", "weights.block.8", "weights.block.9"])
    'weights of layers 3, 7 to 9, chat template'
    """
    parts = sorted(set(parts), key=_reading_order)
    layers = [_layer(part) for part in parts if _layer(part) is not None]
    words = {"config": "configuration", "weights.embed": "embedding weights", "weights.rest": "weights outside the blocks"}
    words["template"] = "chat template"
    said = [words.get(part, part) for part in parts if _layer(part) is None]
    if layers:
        said.insert(sum(part == "config" for part in parts), f"weights of layer{'s' * (len(layers) > 1)} {_runs(layers)}")
    return ", ".join(said)


def match(expected: Mapping[str, str], actual: Mapping[str, str], allow: Iterable[str] = ()) -> tuple[str, ...]:
    """Refuse a model that differs from the one an artifact was made on.

    Args:
        expected: the fingerprint that the artifact recorded.
        actual: the fingerprint of the model at hand.
        allow: parts that may differ; `"weights"` stands for all of the weights.

    Returns:
        The parts that differ and were allowed to, for the report.

    Raises:
        Mismatch: another part differs, or the artifact recorded no fingerprint; `.parts` has the names.
        BadInput: `allow` names a part that does not exist.
    """
    allow = {allow} if isinstance(allow, str) else set(allow)
    known = {*expected, *actual, "weights", "config", "tokenizer", "template", "dtype"}
    for name in sorted(allow, key=str):
        if name not in known:
            raise BadInput(f"allow={name!r} is no part of a fingerprint; {nearest(str(name), known)}")
    found = differing(expected, actual)
    refused = [part for part in found if part not in allow and _family(part) not in allow]
    if refused and not expected:
        raise Mismatch("this artifact does not say on which model it was made, so it matches none; fit it again", refused)
    if refused:
        families = ", ".join(repr(name) for name in sorted({_family(part) for part in refused}))
        raise Mismatch(
            f"this artifact was made on another model; what differs: {describe(refused)}. "
            f"Load the model it was made on, or take the difference on yourself with allow={{{families}}}",
            refused,
        )
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------ weights


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
    hashers = {view: hashlib.sha256() for view in VIEWS}
    for name, value in state.items():
        try:
            _feed(hashers, name, value)
        except BeliefError:
            raise
        except (RuntimeError, TypeError) as error:  # a tensor subclass of some quantiser, a sharded tensor
            raise CouldNotRun(f"{name} cannot be read ({type(error).__name__}); load the model whole and unquantised") from error
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
        raise CouldNotRun(f"{name} is a {type(value).__name__}, of which no digest can be made; load the model unquantised")


def _feed_tensor(hashers: Mapping[str, Any], name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise CouldNotRun(f"{name} has no values (it is on the meta device); load the weights before asking what the model is")
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
            yield piece.cpu().contiguous().view(-1)


def _feed_word(hashers: Mapping[str, Any], word: str) -> None:
    for hasher in hashers.values():
        hasher.update(word.encode() + b"\n")


# ------------------------------------------------------------------------------------ configuration, tokenizer, template


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
        whole = json.loads(backend.to_str())
        # Every padded call leaves its padding and truncation behind in here.
        return _digest({key: value for key, value in whole.items() if key not in ("padding", "truncation") and value is not None})
    pieces = getattr(tokenizer, "sp_model", None)
    proto = pieces.serialized_model_proto() if hasattr(pieces, "serialized_model_proto") else b""
    added = {str(key): str(value) for key, value in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    named = [type(tokenizer).__name__, tokenizer.get_vocab(), added, hashlib.sha256(proto).hexdigest()]
    return _digest(named)


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


# ------------------------------------------------------------------------------------------------------------- comparing


def _agree(part: str, a: str | None, b: str | None, dtypes: tuple[str, str]) -> bool:
    if a == b:
        return True
    if a is None or b is None or _family(part) != "weights" or dtypes[0] == dtypes[1]:
        return False
    views = [dict(view.split(":", 1) for view in digests.split() if ":" in view) for digests in (a, b)]
    shared = {name for dtype in dtypes for name in dtype.split("+")} & views[0].keys() & views[1].keys()
    return any(views[0][name] == views[1][name] for name in shared)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _family(part: str) -> str:
    return part.split(".", 1)[0]


def _layer(part: str) -> int | None:
    number = part.removeprefix("weights.block.")
    return int(number) if number != part and number.isdecimal() else None


def _reading_order(part: str) -> tuple:
    order = ("config", "weights.embed", "weights.block", "weights.rest", "tokenizer", "template", "dtype")
    layer = _layer(part)
    name = part if layer is None else "weights.block"
    return (order.index(name) if name in order else len(order), -1 if layer is None else layer, part)


def _runs(layers: Sequence[int]) -> str:
    """Write [3, 7, 8, 9] as "3, 7 to 9"."""
    said: list[str] = []
    start = previous = layers[0]
    for layer in [*layers[1:], None]:
        if layer is not None and layer == previous + 1:
            previous = layer
            continue
        said += [str(start)] if start == previous else [f"{start} to {previous}"] if previous > start + 1 else [str(start), str(previous)]
        start = previous = layer if layer is not None else -1
    return ", ".join(said)
