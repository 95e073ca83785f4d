"""Certificates by simulation: are the promises of a threshold kept in worlds whose truth is known.

    python benchmarks/certificates.py [--repeats 200] [--streams 200] [--tokens 400]

Five worlds of exchangeable benign streams. In each, a threshold is calibrated over and over on fresh streams, and its
true rate is read off 20,000 more:

1. independent   standard normal scores
2. ar            autocorrelated, AR(.6), of variance 1
3. offset        an offset of each stream's own and AR(.6) on top
4. heavy         Student's t with 3 degrees of freedom, scaled to variance 1
5. lengths       independent, 20 to 400 tokens

`marginal`: the mean of the true rates must be k / (n + 1) within 3 standard errors (statistics are continuous; a CUSUM
of a short stream is often 0, and such ties only lower the rate). `confident`: at most 5 % of the thresholds may have a
true rate above the promised one.

Power: a shift of one standard deviation from token 200, from token 0, at the same certified rate.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from benchmarks.harness import Bar, finish
from monitors.calibration import Threshold, calibrate_streams, order_statistic
from probes.reading.metrics import Estimate, mean, proportion
from probes.reading.statistics import parse_statistic
from probes.reading.streams import Stream

RATE = 0.05
TRUTH = 20_000
"""Streams on which a true rate is read off."""
STATISTICS: Mapping[str, tuple[str, ...]] = {
    "max": ("max",),
    "rolling mean": ("max_rolling_mean(20)",),
    "cusum": ("cusum(0.5)",),
    "centred": ("centred_cusum(0.5, 50)",),
    "centred, winsorised": ("centred_cusum(0.5, 50, 2.5)",),
    "pair": ("cusum(0.5)", "centred_cusum(0.5, 50, 2.5)"),
}


def ar(rng: np.random.Generator, count: int, tokens: int, rho: float = 0.6) -> np.ndarray:
    """AR(1) scores of variance 1."""
    noise = rng.standard_normal((count, tokens), dtype=np.float32)
    found = np.empty_like(noise)
    found[:, 0] = noise[:, 0]
    for t in range(1, tokens):
        found[:, t] = rho * found[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    return found


WORLDS: Mapping[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "independent": lambda rng, count, tokens: rng.standard_normal((count, tokens), dtype=np.float32),
    "ar": ar,
    "offset": lambda rng, count, tokens: ar(rng, count, tokens) + rng.standard_normal((count, 1), dtype=np.float32),
    "heavy": lambda rng, count, tokens: (rng.standard_t(3, (count, tokens)) / math.sqrt(3)).astype(np.float32),
    "lengths": lambda rng, count, tokens: rng.standard_normal((count, tokens), dtype=np.float32),
}


def lengths_of(world: str, rng: np.random.Generator, count: int, tokens: int) -> np.ndarray:
    return rng.integers(20, tokens + 1, count) if world == "lengths" else np.full(count, tokens)


def streams_of(scores: np.ndarray, lengths: np.ndarray) -> list[Stream]:
    words = ("",) * scores.shape[1]
    rows = zip(torch.from_numpy(scores), lengths, strict=True)
    return [Stream(words[:length], row[:length], kind="benign") for row, length in rows]


def alarms(threshold: Threshold, largest: Mapping[str, Float[Tensor, "stream"]]) -> Float[Tensor, "stream"]:
    """Return which streams alarm, from the largest value of each statistic."""
    return torch.stack([largest[name] > limit for name, limit in threshold.limits.items()]).any(0).float()


def largest_of(scores: np.ndarray, lengths: np.ndarray) -> dict[str, Float[Tensor, "stream"]]:
    past = torch.arange(scores.shape[1]) >= torch.from_numpy(lengths).unsqueeze(1)
    names = {name for several in STATISTICS.values() for name in several}
    values = {name: parse_statistic(name)(torch.from_numpy(scores)) for name in names}
    return {name: each.masked_fill(past, -torch.inf).amax(1) for name, each in values.items()}


def audit(world: str, repeats: int, streams: int, tokens: int, seed: int) -> Iterator[tuple[str, str, Estimate, float]]:
    """Yield promise, statistics, the measured figure and its bar."""
    rng = np.random.default_rng([seed, *world.encode()])
    held = largest_of(WORLDS[world](rng, TRUTH, tokens), lengths_of(world, rng, TRUTH, tokens))
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        benign = streams_of(WORLDS[world](rng, streams, tokens), lengths_of(world, rng, streams, tokens))
        for promise in ("marginal", "confident"):
            for label, names in STATISTICS.items():
                made = calibrate_streams(
                    benign, names, horizon=tokens, made="2026-01-31", rate=RATE, promise=promise
                )
                rates.setdefault((promise, label), []).append(float(alarms(made, held).mean()))
    for (promise, label), found in rates.items():
        if promise == "confident":
            broken = sum(rate > RATE for rate in found)
            yield promise, label, proportion(broken, repeats, how="calibrations whose true rate is above 5 %"), 0.05
        else:
            yield promise, label, mean(found), RATE


def power(streams: int, tokens: int, seed: int) -> Iterator[tuple[str, str, int, float]]:
    """Yield world, statistics, the token of the shift and the share of shifted streams that alarm."""
    for world in ("independent", "ar", "offset", "heavy"):
        rng = np.random.default_rng([seed, 7, *world.encode()])
        benign = streams_of(WORLDS[world](rng, streams, tokens), np.full(streams, tokens))
        for at in (tokens // 2, 0):
            shifted = WORLDS[world](rng, 2000, tokens)
            shifted[:, at:] += 1
            held = largest_of(shifted, np.full(2000, tokens))
            for label, names in STATISTICS.items():
                made = calibrate_streams(benign, names, horizon=tokens, made="2026-01-31", rate=RATE)
                yield world, label, at, float(alarms(made, held).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--streams", type=int, default=200, help="benign streams of a calibration")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for row in power(500, options.tokens, options.seed):
        print(row, flush=True)


if __name__ == "__main__":
    main()
