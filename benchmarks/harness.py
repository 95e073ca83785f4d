"""What every benchmark of this project shares: who is measured when, what is quoted, and the last line of output.

1. Contenders run interleaved in one process, A B A B ..., after one warm-up each, so that a machine that slows down
   slows all of them.
2. What is quoted is the median of the ratios of neighbours, with the order statistics' interval. Absolute times are
   shown, and mean little.
3. The last line of output is one JSON object: bars, machine, versions.

A peer that is not installed is missing: its bar has no value and does not hold, it is not failed either.
Limits: peak memory is that of a whole process, in steps of what the kernel hands out; read it against a bare process.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from probes.reading.metrics import Estimate, quantile

PEAK = """
import resource, sys
try:  # ru_maxrss starts at what the parent had; the kernel's own mark starts at exec
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(peak, file=sys.__stdout__)
"""

__all__ = ["Bar", "finish", "interleave", "machine", "missing_bar", "peak_mib", "ratio", "versions"]


@dataclass(frozen=True)
class Bar:
    """A figure, and the figure it has to reach."""

    id: str
    """Such as "sweep.one_c"."""
    estimate: Estimate | None
    """What was measured; None where the peer is missing."""
    bar: float
    """What it has to reach."""
    better: str
    """"higher" or "lower"."""
    against: str = ""
    """Who was measured against."""

    @property
    def holds(self) -> bool | None:
        """Whether the median reaches the bar; None where nothing was measured."""
        if self.estimate is None:
            return None
        return self.estimate.value >= self.bar if self.better == "higher" else self.estimate.value <= self.bar

    def to_dict(self) -> dict[str, Any]:
        """Return the bar as JSON values."""
        there = self.estimate
        return {
            "id": self.id,
            "value": None if there is None else there.value,
            "bar": self.bar,
            "better": self.better,
            "holds": self.holds,
            "lower": None if there is None else there.lower,
            "upper": None if there is None else there.upper,
            "n": 0 if there is None else there.n,
            "against": self.against,
        }

    def __str__(self) -> str:
        sign = ">=" if self.better == "higher" else "<="
        if self.estimate is None:
            return f"{self.id}: missing, {self.against} is not installed (bar {sign} {self.bar:g})"
        words = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.id}: {self.estimate}, bar {sign} {self.bar:g}: {words}" + (
            f" (against {self.against})" if self.against else ""
        )


def missing_bar(id: str, bar: float, better: str, peer: str) -> Bar:
    """Return the bar of a peer that is not installed."""
    return Bar(id, None, bar, better, peer)


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    samples: int,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, ...]]:
    """Time contenders in turns and return the seconds of each, sample by sample.

    Args:
        contenders: what to call, by name; the order of the mapping is the order of a turn.
        samples: turns that count.
        warmups: turns before them.
        clock: in seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmups + samples):
        for name, call in contenders.items():
            start = clock()
            call()
            if turn >= warmups:
                seconds[name].append(clock() - start)
    return {name: tuple(each) for name, each in seconds.items()}


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Return the median of the paired ratios above / below, with the order statistics' 95 % interval.

    Fewer than six pairs have no such interval: then it ends at the extreme pairs, at a lower confidence than it says.
    """
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return quantile(pairs, 0.5, how=f"median of {len(pairs)} paired ratios; order-statistic interval")


def machine() -> str:
    """Return the machine in words: system, processor, cores, threads."""
    words = [platform.system(), platform.machine(), _processor(), f"{os.cpu_count()} cores"]
    torch = sys.modules.get("torch")
    if torch is not None:
        words.append(f"{torch.get_num_threads()} threads")
        if torch.cuda.is_available():
            words.append(torch.cuda.get_device_name())
    return ", ".join(word for word in words if word)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages, "missing" for what is not installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def finish(bars: Iterable[Bar], packages: Iterable[str], **more: Any) -> dict[str, Any]:
    """Print every bar, and as the last line the JSON object that tools read; return that object.

    Args:
        bars: what was measured.
        packages: whose versions count.
        more: further JSON values.
    """
    bars = list(bars)
    for bar in bars:
        print(bar)
    found = {"bars": [bar.to_dict() for bar in bars], "machine": machine(), "versions": versions(packages), **more}
    print(json.dumps(found))
    return found


def peak_mib(code: str) -> float:
    """Run Python code in a fresh process and return the peak of its resident memory, in MiB.

    Raises:
        subprocess.CalledProcessError: the code failed.
    """
    ran = subprocess.run([sys.executable, "-c", code + PEAK], check=True, stdout=subprocess.PIPE, text=True)
    return int(ran.stdout.strip().splitlines()[-1]) / 2**10
