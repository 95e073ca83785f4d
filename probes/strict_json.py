"""Strict JSON: one way to write a value, and no two ways to read it.

Written canonically: sorted keys, no spaces, UTF-8, no NaN. Read without what the standard parser lets by: a key
twice, NaN and Infinity, whole numbers beyond 64 bits, nesting that exhausts the stack. `require` then reads an
object's fields by their types.
Errors are `ArtifactError`, and begin with the name of the file that the caller gives.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

from probes.errors import ArtifactError

__all__ = ["canonical", "check_keys", "fail", "parse", "require", "short"]

MAX_VALUES = 200_000
MAX_DEPTH = 16
MAX_INTEGER = 1 << 63
# All but the brackets: strings, and runs of the rest. A string that never ends is one match too: else each quote within
# it would start a search anew, in quadratic time.
NO_BRACKETS = re.compile(r'"(?:[^"\\]|\\[\s\S]?)*+"?|[^\[\]{}"]++')


def canonical(value: Any, file: str, *, plain: bool = False) -> bytes:
    """Return the one way in which we write a value.

    Args:
        value: mappings, sequences, texts, numbers, booleans, None.
        file: the file that it is for, for the message.
        plain: it came out of `parse`, so that its types need no look.

    Raises:
        ArtifactError: it holds something that JSON cannot: NaN, an object of Python, a key that is no text.
    """
    try:
        value = value if plain else _plain(value)
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, or half of a surrogate pair
        fail(file, f"would hold what JSON cannot: {error}")


def parse(raw: bytes, file: str) -> dict[str, Any]:
    """Read one object.

    Raises:
        ArtifactError: the bytes are anything else.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        fail(file, f"is no UTF-8 at byte {error.start}")
    if sum(text.count(mark) for mark in "[{,") > MAX_VALUES:  # before parsing, so that a hostile file costs no second
        fail(file, f"holds more than {MAX_VALUES} values")
    if _too_deep(text):
        fail(file, f"is nested deeper than {MAX_DEPTH}")
    hooks = {"object_pairs_hook": _object, "parse_constant": _constant, "parse_int": _int, "parse_float": _float}
    try:
        value = json.loads(text, **hooks)
    except (ValueError, RecursionError) as error:
        fail(file, f"is not strict JSON: {error}")
    if not isinstance(value, dict):
        fail(file, "is no JSON object")
    return value


def require(
    body: Mapping[str, Any], fields: Mapping[str, Any], where: str = "body", file: str = "manifest.json"
) -> dict[str, Any]:
    """Return the fields of an object, each of its type, and refuse all else.

    Args:
        body: an object that was read.
        fields: by name, `float` (finite; a whole number is taken too), `int`, `str`, `bool`, `list[T]`, `dict[str, T]`,
            `T | None`, `list` or `dict` of anything, or a mapping like this one for an object within.
        where: what to call the object in a message.
        file: the file that it came from, for the message.

    Raises:
        ArtifactError: a field is missing, unknown, or of another type.
    """
    check_keys(body, tuple(fields), where, file)
    return {name: _typed(body[name], wanted, f"{where}.{name}", file) for name, wanted in fields.items()}


def check_keys(found: Mapping[str, Any], wanted: tuple[str, ...], where: str, file: str) -> None:
    """Refuse an object that has other fields than those wanted."""
    for name in wanted:
        if name not in found:
            fail(file, f'has no field "{name}" in {where}')
    for name in found:
        if name not in wanted:
            fail(file, f"has the unknown field {short(name)} in {where}")


def short(value: Any, most: int = 60) -> str:
    """Return how a value that nobody vouches for may appear in a message: on one line, escaped, cut."""
    said = repr(value)
    return said if len(said) <= most else said[:most] + "..."


def fail(file: str, what: str) -> NoReturn:
    """Raise the one error: the file, and what about it is wrong."""
    raise ArtifactError(f"{file} {what}")


def _too_deep(text: str) -> bool:
    """Tell the depth without a loop over characters: what is left after taking away the innermost pairs 16 times."""
    brackets = NO_BRACKETS.sub("", text).replace("{", "[").replace("}", "]")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace("[]", "")
    return "[]" in brackets or brackets.count("[") > MAX_DEPTH


def _plain(value: Any) -> Any:
    """Turn mappings and tuples into what JSON knows; `json.dumps` would turn a key 1 into "1" and say nothing."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {short(key)} is no text")
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, list | tuple) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {short(name)} is there twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _int(text: str) -> int:
    if len(text) > 20 or not -MAX_INTEGER <= int(text) < MAX_INTEGER:
        raise ValueError(f"the number {text[:30]} does not fit into 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:30]} is beyond all floating numbers")
    return value


def _typed(value: Any, wanted: Any, where: str, file: str) -> Any:
    origin, inner = get_origin(wanted), get_args(wanted)
    if isinstance(wanted, Mapping):
        if isinstance(value, dict):
            return require(value, wanted, where, file)
    elif origin in (Union, UnionType):  # only `T | None`
        return None if value is None else _typed(value, next(t for t in inner if t is not NoneType), where, file)
    elif origin is list:
        if isinstance(value, list):
            return [_typed(member, inner[0], f"{where}[{i}]", file) for i, member in enumerate(value)]
    elif origin is dict:
        if isinstance(value, dict):
            return {name: _typed(member, inner[1], f"{where}[{short(name)}]", file) for name, member in value.items()}
    elif wanted is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif type(value) is wanted:  # not isinstance: True is an int
        return value
    name = "object" if isinstance(wanted, Mapping) else str(wanted) if inner else wanted.__name__
    fail(file, f"has {where} = {short(value)}, where {name} is wanted")
