"""Matching: do two fingerprints name the same model, and which parts do not agree.

1. Every part agrees where its text is the same; a part that only one of the two has does not agree.
2. Loads in one dtype: so do the weights. One bit changed in one weight is a difference.
3. Loads in different dtypes agree in their weights where one of them, rounded to the dtype of the other, IS the other.
   So float32 and bfloat16 loads of one checkpoint differ in `dtype` alone, whichever of the two is stored.

Limits: across dtypes a change that the coarser one cannot tell is not seen.
"""

from collections.abc import Iterable, Mapping, Sequence

from probes.errors import BadInput, Mismatch, nearest

__all__ = ["describe", "differing", "match"]

WORDS = {
    "config": "configuration",
    "weights.embed": "embedding weights",
    "weights.rest": "weights outside the blocks",
    "template": "chat template",
}
ORDER = ("config", "weights.embed", "weights.block", "weights.rest", "tokenizer", "template", "dtype")


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
    said = [WORDS.get(part, part) for part in parts if _layer(part) is None]
    if layers:
        said.insert("config" in parts, f"weights of layer{'s' * (len(layers) > 1)} {_runs(layers)}")
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
    if not expected and (refused or not actual):
        raise Mismatch("this artifact does not say on which model it was made; fit it again on this one", refused)
    if refused:
        families = ", ".join(repr(name) for name in sorted({_family(part) for part in refused}))
        raise Mismatch(
            f"this artifact was made on another model; what differs: {describe(refused)}. "
            f"Load the model it was made on, or take the difference on yourself with allow={{{families}}}",
            refused,
        )
    return tuple(found)


def _agree(part: str, a: str | None, b: str | None, dtypes: tuple[str, str]) -> bool:
    if a == b:
        return True
    if a is None or b is None or _family(part) != "weights" or dtypes[0] == dtypes[1]:
        return False
    views = [dict(view.split(":", 1) for view in digests.split() if ":" in view) for digests in (a, b)]
    shared = {name for dtype in dtypes for name in dtype.split("+")} & views[0].keys() & views[1].keys()
    return any(views[0][name] == views[1][name] for name in shared)


def _family(part: str) -> str:
    return part.split(".", 1)[0]


def _layer(part: str) -> int | None:
    number = part.removeprefix("weights.block.")
    return int(number) if number != part and number.isdecimal() else None


def _reading_order(part: str) -> tuple:
    layer = _layer(part)
    name = part if layer is None else "weights.block"
    return (ORDER.index(name) if name in ORDER else len(ORDER), -1 if layer is None else layer, part)


def _runs(layers: Sequence[int]) -> str:
    """Write [3, 7, 8, 9] as "3, 7 to 9"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    said = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(said)
