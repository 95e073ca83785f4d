"""Calibration: from benign responses to a threshold with a promise (`threshold.py` says which, and how).

The unit is the response, never the token, and the quantity is the largest value that a running statistic
(probes/reading/statistics.py) takes up to a horizon: stopping at the first crossing and looking at the whole response
afterwards give the same alarms.

Limits: groups must be exchangeable with what is served (same form, settings and kinds of prompt); a drift voids the
promise (drift.py notices one). Choosing layer or statistic on the same responses voids it too, unless `among` says
among how many (choosing.py).
"""

import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch

from monitors.threshold import Threshold
from probes.errors import BadInput
from probes.reading.statistics import Statistic, parse_statistic
from probes.reading.streams import Stream

__all__ = ["calibrate", "calibrate_streams"]

Maxima = Mapping[str, Mapping[Hashable, float] | Iterable[tuple[Hashable, float]]]
"""By benign kind: the largest value of one response of each group, as a mapping from group or as pairs."""


def calibrate(
    maxima: Maxima,
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    promise: str = "confident",
    confidence: float = 0.95,
    statistic: str = "max",
    generation: Mapping[str, Any] | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    valid_until: str | None = None,
    among: int = 1,
) -> Threshold:
    """Set the threshold at which each kind of benign response alarms no more often than `rate`.

    Args:
        maxima: for each benign kind, the largest value of one response of each group: a mapping from group, or
            (group, maximum) pairs.
        horizon: tokens of a response that the maxima cover.
        made: ISO date or time of today, from the caller.
        rate: false alarms per benign response, in (0, 1).
        promise: "confident" (certified) or "marginal".
        confidence: of "confident", in (0, 1).
        statistic: what the maxima are maxima of.
        generation: settings under which the responses were generated.
        prompt_mix: form and mixture of the prompts.
        valid_until: ISO date or time after which the threshold must be made again.
        among: of how many monitors this is one that is chosen with the same responses in view; "confident" alone.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs.
        BadInput: no kind, a group twice within a kind, or a maximum that is not finite.

    Source:
        Wilks (1941) for "confident"; Papadopoulos et al. (2002) and Vovk et al. (2005) for "marginal".
    """
    return _certify(
        {str(parse_statistic(statistic)): maxima}, rate, promise, confidence, horizon=horizon, made=made,
        generation=generation, prompt_mix=prompt_mix, valid_until=valid_until, among=among,
    )  # fmt: skip


def calibrate_streams(
    streams: Iterable[Stream],
    statistics: str | Statistic | Sequence[str | Statistic] = "max",
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    promise: str = "confident",
    confidence: float = 0.95,
    seed: int = 0,
    generation: Mapping[str, Any] | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    valid_until: str | None = None,
    among: int = 1,
) -> Threshold:
    """As `calibrate`, from streams and for any statistics.

    Args:
        streams: of benign responses, with kind and group; of a group that has several one is drawn, as they are no
            independent witnesses. A stream without a group is a group of its own.
        statistics: one of `probes.reading.statistics` or its name, or several that share the rate.
        horizon: tokens of a response for which the promise will hold; what lies behind is not looked at.
        made, rate, promise, confidence, generation, prompt_mix, valid_until, among: see `calibrate`.
        seed: of the draw within groups.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs.
        BadInput: no stream, no statistic or one twice, or a score that is not finite.
    """
    given = [statistics] if isinstance(statistics, str | Statistic) else list(statistics)
    wanted = [one if isinstance(one, Statistic) else parse_statistic(one) for one in given]
    if not wanted or len({one.name for one in wanted}) < len(wanted):
        raise BadInput(f"statistics {[str(one) for one in wanted]}; give one at least, and each once")
    by_kind: dict[str, dict[Hashable, list[Stream]]] = {}
    for number, stream in enumerate(streams):
        by_kind.setdefault(stream.kind, {}).setdefault(stream.group or number, []).append(stream)
    drawn = {
        kind: {group: random.Random(f"{seed}|{kind}|{group}").choice(of) for group, of in groups.items()}
        for kind, groups in by_kind.items()
    }
    maxima = {
        one.name: {
            kind: list(zip(groups, _largest(one, groups.values(), horizon), strict=True))
            for kind, groups in drawn.items()
        }
        for one in wanted
    }
    return _certify(
        maxima, rate, promise, confidence, horizon=horizon, made=made, generation=generation, prompt_mix=prompt_mix,
        valid_until=valid_until, among=among,
    )  # fmt: skip


def _largest(statistic: Statistic, streams: Iterable[Stream], horizon: int) -> list[float]:
    """Return the largest value over each stream up to the horizon; NaN for one without tokens."""
    scores = [stream.scores[:horizon] for stream in streams]
    lengths = torch.tensor([len(row) for row in scores])
    return statistic.largest(torch.nn.utils.rnn.pad_sequence(scores, batch_first=True), lengths).tolist()


def _certify(
    maxima: Mapping[str, Maxima], rate: float, promise: str, confidence: float, *, generation: Mapping[str, Any] | None,
    prompt_mix: Mapping[str, Any] | None, **about: Any,
) -> Threshold:  # fmt: skip
    """Return the threshold of maxima by statistic, kind and group."""
    values = {
        name: {str(kind): _maxima(str(kind), pairs) for kind, pairs in kinds.items()} for name, kinds in maxima.items()
    }
    if not all(values.values()):
        raise BadInput("no benign responses were given; give those of at least one kind")
    sure = confidence if promise == "confident" else None
    return Threshold(values, rate, promise, sure, generation=generation or {}, prompt_mix=prompt_mix or {}, **about)


def _maxima(kind: str, pairs: Mapping[Hashable, float] | Iterable[tuple[Hashable, float]]) -> list[float]:
    """Return a kind's maxima, one for each group, checked."""
    found: dict[Hashable, float] = {}
    for group, maximum in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if group in found:
            raise BadInput(
                f"group {group!r} of kind {kind!r} comes twice; a group counts once: give one response of it"
            )
        found[group] = float(maximum)
        if not math.isfinite(found[group]):
            which = f"the maximum of group {group!r} of kind {kind!r} is {found[group]}"
            raise BadInput(f"{which}; a benign response that cannot be scored is a fault to be found first")
    return list(found.values())
