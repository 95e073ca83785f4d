"""Choosing: which of many probes and statistics to watch with, and still a certificate.

Each pair of a probe and a set of statistics is a candidate. All score the very same benign answers, and each gets the
limits that a certificate at 1/m of the chance to miss allows, m the number of candidates: all their promises hold at
once, so the one that catches most uses may be taken, whatever it looked like on these answers (`monitors.threshold`
has the source). The price: with 30 layers 5 % at 95 % takes 125 benign groups of a kind in place of 59.

Limits: what the chosen one catches of the uses it was chosen on is what the luckiest of m caught; measure it on others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitors.calibration import calibrate_streams
from monitors.live.recorder import record_each
from monitors.monitor import Monitor
from monitors.threshold import Threshold
from monitors.traffic import SEEN, Prompt, check_groups, digest, label, mix_of
from monitors.verdict import Outcome, judge
from probes.errors import BadInput
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate, proportion, quantile
from probes.reading.probe import LinearProbe
from probes.reading.streams import Stream

__all__ = ["Candidate", "Choice", "check_choice", "choose", "ways_of"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One monitor that could be had."""

    monitor: Monitor
    """With limits that hold whichever candidate is taken."""
    caught: Estimate
    """Share of the uses that alarm; the interval is that of one candidate, and speaks for none that was chosen."""
    delay: Estimate | None
    """Tokens out before the alarm, the median over uses that alarm; None where none does."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        (probe,) = self.monitor.probes
        figures = {name: one and one.to_dict() for name, one in (("caught", self.caught), ("delay", self.delay))}
        return {"site": str(probe.site), "limits": dict(self.monitor.threshold.limits), **figures}

    def __str__(self) -> str:
        late = f", {self.delay.value:g} tokens before" if self.delay else ""
        (probe,) = self.monitor.probes
        return f"{probe.site}, {self.monitor.threshold.crossed}: {self.caught}{late}"


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidates, and which of them catches most."""

    candidates: tuple[Candidate, ...]
    """Probe by probe, each with one set of statistics after the other."""

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """From the one that catches most uses down; of equal ones first the one that lets out fewest tokens."""
        return tuple(sorted(self.candidates, key=lambda one: (-one.caught.value, one.delay.value if one.delay else 0)))

    @property
    def best(self) -> Candidate:
        """The first of `ranked`."""
        return self.ranked[0]

    @property
    def monitor(self) -> Monitor:
        """That of the best; its certificate says among how many it was chosen."""
        return self.best.monitor

    def __repr__(self) -> str:
        return f"Choice({self.best}; among {len(self.candidates)})"


def choose(
    model: LanguageModel,
    probes: Sequence[LinearProbe],
    benign: Iterable[Prompt],
    uses: Iterable[Prompt],
    *,
    concept: str,
    horizon: int,
    made: str,
    statistics: Sequence[str | Sequence[str]] = ("max",),
    rate: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
    valid_until: str | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Choice:
    """Let the model answer benign prompts and uses, certify every candidate, and see which catches most.

    Args:
        model: the model to be watched.
        probes: the candidates' probes, such as one of each layer; one alone in each candidate.
        benign: prompts as they are served, all in one form; neither they nor others of their groups were fitted on.
        uses: prompts, in the same form, whose answers should alarm.
        concept: what an alarm means.
        horizon: tokens of a response for which the promise will hold.
        made: ISO date of today.
        statistics: names, each for candidates of its own; several that a candidate runs together, as a list of them.
        rate: false alarms per benign response, in (0, 1).
        confidence: that the chosen monitor keeps the rate, over calibrations, choosing included.
        prompt_mix: more about the prompts, to be kept beside their form, their system prompt and digests of their
            groups (on which the chosen monitor is not certified again; `SEEN` may bring those that were fitted on).
        seed, valid_until, progress, options: see `monitors.traffic.certify`.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs, before anything is answered.
        BadInput: no probe, no statistic or one twice, no benign prompt or no use, or they come in several forms.
    """
    served, asked = list(benign), list(uses)
    about: dict[str, Any] = {"horizon": horizon, "made": made, "rate": rate, "confidence": confidence}
    about |= {"valid_until": valid_until, "promise": "confident"}
    ways, about["among"] = check_choice(len(probes), served, asked, statistics, **about)
    mix = {**mix_of(served), **(prompt_mix or {})}
    mix[SEEN] = sorted({*mix.get(SEEN, ()), *map(digest, served)})
    how = {"max_new_tokens": horizon, "progress": progress, **options}
    quiet, loud = (
        record_each(model, [[probe] for probe in probes], [one.prompt for one in prompts], **how)
        for prompts in (served, asked)
    )
    about |= {"seed": seed, "generation": model.generation_settings(options), "prompt_mix": mix}
    found = []
    for probe, benign_streams, use_streams in zip(probes, quiet, loud, strict=True):
        streams = label(benign_streams, served)
        for names in ways:
            threshold = calibrate_streams(streams, names, **about)
            found.append(Candidate(Monitor(concept, (probe,), threshold), *_power(threshold, use_streams)))
    return Choice(tuple(found))


def ways_of(statistics: str | Sequence[str | Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the sets of statistics that candidates run, each as a tuple."""
    given = [statistics] if isinstance(statistics, str) else statistics
    return [(one,) if isinstance(one, str) else tuple(one) for one in given]


def check_choice(
    probes: int,
    benign: Sequence[Prompt],
    uses: Sequence[Prompt],
    statistics: Sequence[str | Sequence[str]],
    **about: Any,
) -> tuple[list[tuple[str, ...]], int]:
    """Refuse a choice that cannot be certified, before anything is answered.

    Args:
        probes: how many.
        benign, uses, statistics: see `choose`.
        about: the other fields of a candidate's `Threshold`.

    Returns:
        The sets of statistics, and how many candidates there are.

    Raises:
        TooFew, BadInput: see `choose`.
    """
    ways = ways_of(statistics)
    if not probes or not all(ways) or not ways or len(set(ways)) < len(ways):
        raise BadInput(f"{probes} probes and the statistics {ways}; give one of each at least, and each once")
    forms = [mix_of(prompts)["form"] if prompts else "no" for prompts in (benign, uses)]
    if forms[0] != forms[1]:
        raise BadInput(f"uses in {forms[1]} form, and benign prompts in {forms[0]} form; give both in the same")
    texts = {Prompt(one.prompt).counts_as for one in benign}
    if twice := sum(Prompt(one.prompt).counts_as in texts for one in uses):
        raise BadInput(f"{twice} of the uses are among the benign prompts, too; a prompt is one or the other")
    for names in ways:
        check_groups(benign, names, among=probes * len(ways), **about)
    return ways, probes * len(ways)


def _power(threshold: Threshold, uses: Sequence[Stream]) -> tuple[Estimate, Estimate | None]:
    """Return the share of the streams that alarm, and the median of the tokens that are out by then."""
    verdicts = [judge(s.scores.tolist(), len(s.tokens), threshold, trace=threshold.trace(s.scores)) for s in uses]
    out = [verdict.token - 1 for verdict in verdicts if verdict.outcome is Outcome.ALARM]
    return proportion(len(out), len(uses)), quantile(out, 0.5) if out else None
