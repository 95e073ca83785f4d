"""What a capture will cost: exact bytes, and seconds from a few of its own passes.

1. All texts are encoded and the passes planned as the capture will plan them, so the rows of the result are known.
2. A few passes, spread over the plan from the narrow to the wide, are run after one to warm up.
3. Seconds = encoding and the model's fingerprint (measured) + slots of all passes x seconds a slot; the interval is
   Student's t over those passes.

Limits: the result's memory alone; the model's is there already, and a pass in flight adds its own. A machine that is
busy later is slower than it was.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import t

from probes.activations.capture import read_rows, unfold
from probes.activations.packing import Pass, plan_passes
from probes.activations.tokens import TokenRule, select_tokens
from probes.errors import BadInput
from probes.model.language_model import LanguageModel

__all__ = ["Cost", "estimate_cost"]


@dataclass(frozen=True)
class Cost:
    """What a capture will take."""

    texts: int
    """How many texts."""
    rows: int
    """Rows of the result: texts, or tokens."""
    sites: int
    """How many sites."""
    nbytes: int
    """Of the values, in the dtype they are kept in."""
    seconds: float
    """Expected, on this machine as it is now."""
    slowest: float
    """Upper end of the 95 % interval of `seconds`."""

    def __str__(self) -> str:
        amount = f"{self.texts:,} texts, {self.rows:,} rows at {self.sites} site{'s' if self.sites != 1 else ''}"
        return f"{amount}: {_size(self.nbytes)}, about {_span(self.seconds)} (at most {_span(self.slowest)})"


def estimate_cost(
    model: LanguageModel,
    texts: Sequence[Any],
    sites: Any = "resid_post.*",
    *,
    tokens: str | int = "last",
    within: str | Sequence[str] = "text",
    entities: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 32,
    sample: int = 4,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Say what `capture` would take with the same arguments, without doing it.

    Args:
        model: the model to read.
        texts: as `capture` takes them.
        sites: likewise.
        tokens: likewise.
        within: likewise.
        entities: likewise.
        dtype: in which the values are kept; that of `capture` is float32.
        batch_size: likewise.
        sample: passes to run, at least 2; where the plan has no more than that, all are run.
        clock: seconds of a clock that only goes forward.

    Raises:
        BadInput: as `capture`, or a sample below 2.
    """
    if sample < 2:
        raise BadInput(f"sample={sample}; two passes at least say how much they differ")
    plain, about = unfold(texts, entities=entities)
    entities, rule, wanted = about["entities"], TokenRule(tokens, within), model.sites(sites)
    began = clock()
    chosen = select_tokens(model, plain, rule, entities)
    passes = plan_passes(model, [selection.ids for selection in chosen], batch_size)
    if model.bridge is None:
        _ = model.fingerprint  # which every capture takes
    fixed = clock() - began
    rows = len(chosen) if rule.mean else sum(len(selection.positions) for selection in chosen)

    def run(one: Pass) -> float:
        """Return the seconds of a pass for each of its slots."""
        members = [path.text for path in one.paths]
        named = None if entities is None else [entities[i] for i in members]
        start = clock()
        options = {"dtype": dtype, "batch_size": batch_size, "share_prefixes": None if one.packed else False}
        read_rows(model, [plain[i] for i in members], wanted, rule, named, **options)
        return (clock() - start) / _slots(one)

    ordered = sorted(passes, key=_slots)
    few = {round(i * (len(ordered) - 1) / (sample - 1)) for i in range(sample)}
    run(ordered[-1])
    rates = [run(ordered[i]) for i in sorted(few)]
    work = sum(map(_slots, passes))
    share = work * sum(rates) / len(rates)
    spread = 0.0 if len(rates) < 2 else _half(rates) * work
    width = model.d_model * torch.empty((), dtype=dtype).element_size()
    return Cost(len(plain), rows, len(wanted), rows * len(wanted) * width, fixed + share, fixed + share + spread)


def _slots(one: Pass) -> int:
    return len(one.ids) * one.width


def _half(rates: Sequence[float]) -> float:
    """Return half the width of Student's t interval of a mean."""
    values = torch.tensor(rates, dtype=torch.float64)
    return float(t.ppf(0.975, len(rates) - 1) * values.std() / len(rates) ** 0.5)


def _size(nbytes: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= factor:
            return f"{nbytes / factor:,.1f} {unit}"
    return f"{nbytes} bytes"


def _span(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    if seconds >= 90:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
