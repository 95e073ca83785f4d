"""Drift: when the traffic is no longer what a certificate was made on, so that it has to be revoked.

A conformal test martingale over streams. Let m values have been seen, those of the calibration first.

1. p = (number of them above the new one + U (number equal + 1)) / (m + 1), with U uniform. As long as all streams are
   exchangeable these p are independent and uniform, whatever the distribution: exactly, for any calibration.
2. Bets against uniform: k p^(k - 1) for k = 1 (no bet), 1/2, 1/4 pays where p is small, that is where streams score
   higher than they did. The capital is spread over the three, and before stream t a part of it, 1 / (t + 100), is dealt
   anew: so a drift finds some of it left however late it comes, at a price that grows with log t alone.
3. The capital is a martingale that starts at 1. It ever reaches 1 / error with probability `error` at most (Ville):
   then the certificate is revoked, for good.

The new value joins those that were seen. (To compare with the calibration values alone would use the same errors of a
finite sample again and again, and revokes falsely far more often than promised.) So a drift is best found while what
was seen before it outnumbers what came after.

Sources: Vovk, Nouretdinov & Gammerman 2003 (testing exchangeability on-line); Vovk et al. 2021 (2102.09958), the
jumping between bets. Limits: one-sided, a drop in scores goes unnoticed, as it breaks no promise about false alarms.
Streams must be benign like those of the calibration: true uses of a fact, or another mix of kinds, are a drift, too,
and so is a return to normal after a quieter spell, since what was seen in it counts.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from probes.errors import BadInput

__all__ = ["Drift", "watch_drift"]

POWERS = (1.0, 0.5, 0.25)
"""Exponents of the bets."""
LATE = 100
"""Before stream t a part 1 / (t + LATE) of the capital is dealt anew; a constant part would use it up in time."""


@dataclass(frozen=True, eq=False)
class Drift:
    """How far the evidence against a certificate has come."""

    seen: tuple[float, ...]
    """Sorted values of all streams so far, those of the calibration among them."""
    capital: tuple[float, ...]
    """On each bet."""
    error: float = 0.01
    """Probability of ever revoking falsely."""
    streams: int = 0
    """Since the calibration."""
    revoked_at: int | None = None
    """The stream that revoked it, counted from 1."""
    seed: int = 0
    """Of what breaks ties."""

    def __repr__(self) -> str:
        state = f"revoked at stream {self.revoked_at}" if self.revoked else f"wealth {self.wealth:.3g}"
        return f"Drift({self.streams} streams since the calibration, {state})"

    @property
    def wealth(self) -> float:
        """1 at the start; what it reaches is the evidence."""
        return sum(self.capital)

    @property
    def revoked(self) -> bool:
        return self.revoked_at is not None

    def after(self, *values: float) -> "Drift":
        """Return the state after more streams; once revoked it stays as it is.

        Args:
            values: the largest value of the statistic over each stream, in their order.

        Raises:
            BadInput: one is not finite; a stream that could not be scored is no evidence about those that were.
        """
        odd = next((value for value in values if not isfinite(value)), None)
        if odd is not None:
            raise BadInput(f"a stream came to {odd}; only finite values can be compared")
        if self.revoked:
            return self
        seen, capital, number, revoked_at = list(self.seen), self.capital, self.streams, self.revoked_at
        for value in values:
            if revoked_at is not None:
                break
            number += 1
            low, high = bisect_left(seen, value), bisect_right(seen, value)
            tie = 1.0 - random.Random(f"{self.seed}|{number}").random()  # in (0, 1]
            p = (len(seen) - high + tie * (high - low + 1)) / (len(seen) + 1)
            dealt = 1 / (number + LATE)
            part = dealt * sum(capital) / len(POWERS)
            capital = tuple(
                ((1 - dealt) * own + part) * k * p ** (k - 1) for own, k in zip(capital, POWERS, strict=True)
            )
            seen.insert(high, value)
            revoked_at = number if sum(capital) >= 1 / self.error else None
        return Drift(tuple(seen), capital, self.error, number, revoked_at, self.seed)


def watch_drift(values: Iterable[float], *, error: float = 0.01, seed: int = 0) -> Drift:
    """Return the state before the first stream.

    Args:
        values: what the statistic came to on the calibration streams, one a group.
        error: probability of ever revoking falsely, in (0, 1).
        seed: of what breaks ties.

    Raises:
        BadInput: no values, one that is not finite, or no probability.
    """
    seen = sorted(map(float, values))
    if not seen or not all(map(isfinite, seen)):
        raise BadInput(f"{len(seen)} calibration values, some of them perhaps not finite; give finite ones")
    if not 0 < error < 1:
        raise BadInput(f"error {error!r} is not between 0 and 1; 1 % is .01")
    return Drift(tuple(seen), (1 / len(POWERS),) * len(POWERS), error, seed=seed)
