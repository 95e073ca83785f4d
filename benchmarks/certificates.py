"""Certificates by simulation: are the promises of a threshold kept in worlds whose truth is known.

    python benchmarks/certificates.py [--repeats 200] [--streams 200] [--tokens 400] [--seed 0]

Five worlds of exchangeable benign streams. In each, a threshold is calibrated over and over on fresh streams, and its
true rate is read off 20,000 more:

1. independent   standard normal scores
2. ar            autocorrelated, AR(.6), of variance 1
3. offset        AR(.6) around an offset of each stream's own, of standard deviation .5
4. heavy         Student's t with 3 degrees of freedom, scaled to variance 1
5. lengths       independent, 20 to 400 tokens

`marginal`: the mean of the true rates must be k / (n + 1) within 3 standard errors; of two statistics that share the
rate, at most the rate (and where a statistic is often 0, as a centred cusum of short streams, at most k / (n + 1)).
`confident`: the thresholds whose true rate is above the promised one must be no more than 5 % of them, as far as the
repeats can tell (binomial test at 1 %).

Power: the share of streams that alarm where scores rise by one standard deviation from the middle, or from token 0.

Choosing: of 30 monitors on independent scores the one with the lowest limit is taken, which would catch most. Its true
rate must be above the promised one in no more than 5 % of the repeats; printed beside it is what comes of a choice
that is not paid for.

A sixth world drifts: from some stream on all scores lie one standard deviation higher. There the promise breaks, and
`monitors.drift` must revoke it, and nearly never where nothing drifts.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from benchmarks.harness import Bar, finish
from monitors.calibration import calibrate, calibrate_streams
from monitors.drift import watch_drift
from monitors.threshold import Threshold, order_statistic
from probes.reading.metrics import Estimate, quantile
from probes.reading.statistics import parse_statistic
from probes.reading.streams import Stream

RATE, CONFIDENCE, MADE = 0.05, 0.95, "2026-01-31"
FALSE, STREAMS = 0.01, 10_000
"""False revocations allowed, over so many streams."""
LAYERS = 30
QUIET, MOST = 1000, 1000
"""Streams before an early drift, and how many of drifted ones are tried."""
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
    "offset": lambda rng, count, tokens: (
        ar(rng, count, tokens) + 0.5 * rng.standard_normal((count, 1), dtype=np.float32)
    ),
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
    names = {name for several in STATISTICS.values() for name in several}
    padded = torch.from_numpy(scores), torch.from_numpy(lengths)
    return {name: parse_statistic(name).largest(*padded) for name in names}


def audit(world: str, options: argparse.Namespace) -> Iterator[Bar]:
    """Yield the bars of one world, each promise and statistic."""
    rng, n, tokens = np.random.default_rng([options.seed, *world.encode()]), options.streams, options.tokens
    held = largest_of(WORLDS[world](rng, TRUTH, tokens), lengths_of(world, rng, TRUTH, tokens))
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeats):
        benign = streams_of(WORLDS[world](rng, n, tokens), lengths_of(world, rng, n, tokens))
        for promise in ("marginal", "confident"):
            for label, names in STATISTICS.items():
                made = calibrate_streams(benign, names, horizon=tokens, made=MADE, rate=RATE, promise=promise)
                rates.setdefault((promise, label), []).append(float(alarms(made, held).mean()))
    for (promise, label), found in rates.items():
        name = f"certificates.{promise}.{world}.{label}"
        if promise == "confident":
            broken = sum(rate > RATE for rate in found)
            p = float(binom.sf(broken - 1, len(found), 1 - CONFIDENCE))
            yield Bar(name, figure(p, len(found), f"p of {broken} broken of {len(found)}"), 0.01, "higher", "its 5 %")
            continue
        expected = order_statistic(n, rate=RATE, promise=promise) / (n + 1)
        shared = len(STATISTICS[label]) > 1
        # The pool that true rates are read off is finite, too, and the same for all repeats.
        spread = math.hypot(np.std(found, ddof=1) / math.sqrt(len(found)), math.sqrt(expected * (1 - expected) / TRUTH))
        z = (np.mean(found) - (RATE if shared else expected)) / spread
        tied = shared or (world == "lengths" and label.startswith("centred"))
        how = f"mean rate {np.mean(found):.4f}, expected {'at most ' if tied else ''}{RATE if shared else expected:.4f}"
        yield Bar(name, figure(z if tied else abs(z), len(found), how), 3.0, "lower", "standard errors")


def power(options: argparse.Namespace) -> None:
    """Print a table: the share of shifted streams that alarm, by promise."""
    tokens, n = options.tokens, 500
    print(f"power at {RATE:.0%}, {n} benign streams; marginal / confident, shift of 1 from token {tokens // 2}, from 0")
    for world in ("independent", "ar", "offset", "heavy"):
        rng = np.random.default_rng([options.seed, 7, *world.encode()])
        benign = streams_of(WORLDS[world](rng, n, tokens), np.full(n, tokens))
        found: dict[str, list[str]] = {}
        for at in (tokens // 2, 0):
            shifted = WORLDS[world](rng, 4000, tokens)
            shifted[:, at:] += 1
            held = largest_of(shifted, np.full(4000, tokens))
            for label, names in STATISTICS.items():
                both = [
                    calibrate_streams(benign, names, horizon=tokens, made=MADE, rate=RATE, promise=promise)
                    for promise in ("marginal", "confident")
                ]
                found.setdefault(label, []).append(" / ".join(f"{alarms(made, held).mean():.2f}" for made in both))
        for label, cells in found.items():
            print(f"  {world:<12}{label:<22}{cells[0]:<16}{cells[1]}")


def chosen(options: argparse.Namespace) -> Iterator[Bar]:
    """Yield the bar of the monitor that looks best of many, and print what becomes of it where that is not paid for."""
    rng, n, tokens = np.random.default_rng([options.seed, 5]), options.streams, options.tokens
    held = torch.from_numpy(ar(rng, TRUTH, tokens).max(1))
    about = {"horizon": tokens, "made": MADE, "rate": RATE}
    broken = {1: 0, LAYERS: 0}
    for _ in range(options.repeats):
        maxima = ar(rng, LAYERS * n, tokens).max(1).reshape(LAYERS, n)
        for among in broken:
            lowest = min(calibrate({"benign": enumerate(of)}, among=among, **about).value for of in maxima)
            broken[among] += float((held > lowest).float().mean()) > RATE
    print(f"the best of {LAYERS}, not paid for: {broken[1]} of {options.repeats} promises broken")
    p = float(binom.sf(broken[LAYERS] - 1, options.repeats, 1 - CONFIDENCE))
    how = f"p of {broken[LAYERS]} broken of {options.repeats}"
    yield Bar("certificates.chosen", figure(p, options.repeats, how), 0.01, "higher", "its 5 %")


def drifting(options: argparse.Namespace) -> Iterator[Bar]:
    """Yield the bars of the sixth world: how often is revoked falsely, and how soon where there is a drift."""
    rng, tokens = np.random.default_rng([options.seed, 6]), options.tokens
    for n in (100, 500):
        benign = streams_of(WORLDS["ar"](rng, n, tokens), np.full(n, tokens))
        made = calibrate_streams(benign, "max", horizon=tokens, made=MADE, rate=RATE)
        broken = float(alarms(made, largest_of(WORLDS["ar"](rng, 4000, tokens) + 1, np.full(4000, tokens))).mean())
        print(f"drift of 1 at n = {n}: {broken:.2f} of benign streams alarm where {RATE:.2f} were promised")
        pool = largest_of(WORLDS["ar"](rng, TRUTH, tokens), np.full(TRUTH, tokens))["max"].numpy()
        false, delays = 0, {QUIET: [], STREAMS: []}
        for seed in range(options.repeats):
            values = rng.choice(pool, n + STREAMS).tolist()
            soon = watch_drift(values[:n], error=FALSE, seed=seed).after(*values[n : n + QUIET])
            late = soon.after(*values[n + QUIET :])
            for quiet, state in ((QUIET, soon), (STREAMS, late)):
                after = state.after(*(rng.choice(pool, MOST) + 1).tolist())
                delays[quiet].append(MOST if after.revoked_at is None else max(0, after.revoked_at - quiet))
            false += late.revoked
        p = float(binom.sf(false - 1, options.repeats, FALSE))
        how = f"p of {false} false revocations in {options.repeats} runs of {STREAMS} streams"
        yield Bar(f"certificates.drift.false.{n}", figure(p, options.repeats, how), 0.01, "higher", "its 1 %")
        for quiet, found in delays.items():
            after = quantile(found, 0.5, how=f"streams from the drift to the revocation, after {quiet} without")
            print(f"after {quiet} streams without: revoked {after} after it; not in {MOST}: {found.count(MOST)}")


def figure(value: float, n: int, how: str) -> Estimate:
    return Estimate(float(value), float(value), float(value), n, how=how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--streams", type=int, default=200, help="benign streams of a calibration")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    power(options)
    every = []
    for part in [*(audit(world, options) for world in WORLDS), chosen(options), drifting(options)]:
        for bar in part:
            print(bar, "|", bar.estimate.how, flush=True)
            every.append(bar)
    finish(every, ["torch", "numpy", "scipy"])


if __name__ == "__main__":
    main()
