"""What every benchmark shares: contenders timed in turn, ratios with intervals, peak memory, one JSON object.

1. Contenders run interleaved, A B C A B C ..., in an order shuffled anew each round, on the same work.
2. A figure is the median over rounds of the ratio of two contenders' times in the same round, since machines drift; its
   95 % interval are order statistics of the ratios (Clopper-Pearson on the median), which assumes nothing of their
   distribution.
3. Peak memory is that of a fresh process: its high water mark of resident pages.

Limits: rounds are taken for independent. A peer that is not installed is reported as missing, never as beaten.
"""

import gc
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from scipy.stats import binom

__all__ = ["Bar", "Ratio", "interleave", "machine", "peak_memory", "ratio", "report"]


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios, with its 95 % interval."""

    value: float
    lower: float
    upper: float
    n: int
    """Rounds."""


@dataclass(frozen=True)
class Bar:
    """One figure that is held against what was promised."""

    id: str
    """Such as "capture.all_layers_over_limit"."""
    value: float | None
    """What was measured; None where it could not be."""
    bar: float
    """What was promised."""
    better: str
    """ "lower" or "higher"."""
    lower: float | None = None
    upper: float | None = None
    n: int | None = None
    """Rounds."""
    missing: str = ""
    """Why there is no value."""

    @property
    def holds(self) -> bool:
        """Whether the figure meets the bar; a missing one does not."""
        if self.value is None:
            return False
        return self.value <= self.bar if self.better == "lower" else self.value >= self.bar

    @classmethod
    def of(cls, name: str, found: Ratio, bar: float, better: str) -> "Bar":
        """Return a bar for a ratio."""
        return cls(name, found.value, bar, better, found.lower, found.upper, found.n)


def interleave(
    contenders: Mapping[str, Callable[[Any], Any]], work: Sequence[Any], *, rounds: int, seed: int = 0
) -> dict[str, list[float]]:
    """Return seconds by contender and round; round i does `work[i % len(work)]`, after one round that is not counted.

    Args:
        contenders: what is timed, by name; each is called with the work of the round.
        work: pieces of work, alike for all.
        rounds: how many are counted.
        seed: of the order inside a round.
    """
    order, rng = list(contenders), random.Random(seed)
    for name in order:
        contenders[name](work[0])
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for i in range(rounds):
        rng.shuffle(order)
        for name in order:
            gc.collect()
            start = time.perf_counter()
            contenders[name](work[i % len(work)])
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Return the median of the ratios `above / below` of the same rounds, with its interval.

    Raises:
        ValueError: under 6 rounds, with which no order statistics bound a median at 95 %.
    """
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    n = len(ratios)
    rank = int(binom.ppf(0.025, n, 0.5))
    if n < 6:
        raise ValueError(f"{n} rounds bound no median at 95 %; take at least 6")
    return Ratio(median(ratios), ratios[max(0, rank - 1)], ratios[min(n - 1, n - rank)], n)


HIGH_WATER = """
import resource, sys
if sys.platform == "linux":  # ru_maxrss would count what the parent held when it made this process
    with open("/proc/self/status") as file:
        print(next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_memory(code: str, *arguments: str) -> int:
    """Return the largest resident memory, in bytes, of a fresh Python that runs some code."""
    command = [sys.executable, "-c", code + HIGH_WATER, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def machine(*packages: str) -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    versions = {"python": platform.python_version()}
    for name in ("torch", *packages):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    where = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"
    if torch.cuda.is_available():
        where += f", {torch.cuda.get_device_name()}"
    return {"machine": where, "versions": versions}


def report(bars: Sequence[Bar], *packages: str, **more: Any) -> bool:
    """Print a line a bar and, as the last line, everything as one JSON object; return whether all bars hold."""
    for bar in bars:
        sign = "<=" if bar.better == "lower" else ">="
        figure = bar.missing or f"{bar.value:.4g}" + (f" [{bar.lower:.4g}, {bar.upper:.4g}]" if bar.n else "")
        print(f"{'holds ' if bar.holds else 'MISSED'}  {bar.id:<44} {figure}  (bar {sign} {bar.bar:g})")
    rows = [{**asdict(bar), "holds": bar.holds} for bar in bars]
    print(json.dumps({"bars": rows, **machine(*packages), **more}))
    return all(bar.holds for bar in bars)
