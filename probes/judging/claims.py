"""Claims: whether a score stands above each of its controls, and how many statements it would take to say so.

A score speaks of knowledge where its lead over every control has an interval above 0:

1. over the 95th percentile of random directions and of labels shuffled by entity, where moreover p <= .05 / checks;
2. over bag of words, length, log-probability, layer 0 and random weights, paired on the same rows.

A lead whose interval includes 0 is inconclusive, neither won nor lost. How many entities it would take to win with
probability .8, were the lead just as large: with r = sqrt(entities now / entities then), the lower end of the interval
then is expected at

    lead - r spread - sqrt((z r s)^2 + e^2),  z = 1.96,  s = standard error now,

and it lies above 0 with probability .8 where that is at least .84 r s. For paired leads spread = e = 0, which is
n >= n_now ((1.96 + .84) s / lead)^2. The percentile of random directions stays where it is and e is its error; that of
shuffles comes down to .5 as r, and so does e.

Sources: Lehr, Statistics in Medicine 11 (1992) 1099, for the rule; Zou & Donner, ibid. 27 (2008) 1693, for leads over a
percentile. Limits: it supposes the same probe; a probe fitted on more statements reads better. A lead that was seen
once is as uncertain as its interval, and so is the number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from math import ceil, sqrt
from typing import Protocol, runtime_checkable

from scipy.optimize import brentq
from scipy.stats import norm

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, nearest
from probes.judging.controls import MEANINGS, check_draws, lead
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe

__all__ = ["Claim", "Claims", "claims", "entities_needed"]

MOST = 10**6
"""Times as many entities as there are, beyond which no number is named."""


@runtime_checkable
class Found(Protocol):
    """What `claims` needs of a Sweep."""

    best: LinearProbe
    test: Activations


@dataclass(frozen=True)
class Claim:
    """Whether the probe stands above one control."""

    control: str
    """The control's name in `MEANINGS`."""
    holds: bool | None
    """True: the lead is above 0. False: it is below. None: its interval includes 0, or the control is missing."""
    lead: Estimate | None
    """Probe - control, in AUROC; None where the control is missing."""
    entities: int
    """Test entities there are."""
    needed_entities: int | None
    """Test entities that would show this lead with probability .8; None where it is shown, missing, or not above 0."""
    needed: int | None
    """Statements in the test part that this comes to."""
    why: str = ""
    """What else keeps it from holding."""

    def __str__(self) -> str:
        over = f"above {MEANINGS[self.control]}"
        if self.lead is None:
            return f"{over}: controls missing"
        said = {True: "holds", False: "fails: the control is better", None: "inconclusive"}[self.holds]
        if self.needed is not None:
            said += f"; about {self.needed:,} test statements of {self.needed_entities:,} entities would show this lead"
            said += f" (there are {self.entities:,})"
        elif self.holds is None and self.lead.value <= 0:
            said += "; no number of statements shows a lead that is not there"
        return f"{over}: {self.lead.interval()}, {said}" + (f"; {self.why}" if self.why else "")


@dataclass(frozen=True)
class Claims:
    """Every claim of one probe, to print or to show in a notebook."""

    each: tuple[Claim, ...]
    """In the order of `MEANINGS`."""

    @property
    def holds(self) -> bool | None:
        """Whether all hold; None where none fails but some are inconclusive or missing."""
        states = {claim.holds for claim in self.each}
        return False if False in states else None if None in states else True

    @property
    def needed(self) -> int | None:
        """Test statements that the most demanding inconclusive claim would need, or None where none names a number."""
        return max((claim.needed for claim in self.each if claim.needed is not None), default=None)

    def __getitem__(self, control: str) -> Claim:
        found = {claim.control: claim for claim in self.each}
        if control not in found:
            raise NotFound(f"nothing is claimed over {control!r}; {nearest(str(control), found)}")
        return found[control]

    def __str__(self) -> str:
        heads = {
            True: "The score stands above every control.",
            False: "A control is better than the score.",
            None: "Inconclusive: the score is not shown to stand above every control.",
        }
        return "\n".join([heads[self.holds], *(f"  {claim}" for claim in self.each)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *rest = str(self).split("\n")
        return f"<p>{escape(head)}</p><ul>{''.join(f'<li>{escape(line.strip())}</li>' for line in rest)}</ul>"


def claims(found: Found, *, checks: int = 1) -> Claims:
    """Say of a sweep's best probe above which of its controls it stands.

    Args:
        found: what `sweep` returned, best `with_controls(probes.controls(found, model))`.
        checks: how many results such as this one are corrected together; p must be at most .05 / checks.

    Raises:
        BadInput: the probe has no controls. TooFew: too few shuffles for that many checks.
    """
    controls = found.best.controls
    lacking = [name for name in ("auroc", "random_95", "shuffled_95", "shuffled_p") if name not in controls]
    if lacking:
        raise BadInput(f"this probe has no {', '.join(lacking)} among its controls; take it from a sweep")
    check_draws(controls["shuffled_p"].n, checks)
    entities, statements = len(set(found.test.groups)), len(found.test.texts)
    made = [_over_percentile(controls, name, checks, entities) for name in ("shuffled_95", "random_95")]
    paired = [name.removeprefix("over_") for name in MEANINGS if name.startswith("over_")]
    made += [_paired(name, controls.get(f"over_{name}"), entities) for name in paired]
    of = statements / entities
    return Claims(
        tuple(
            Claim(name, holds, ahead, entities, needed, None if needed is None else ceil(needed * of), why)
            for name, holds, ahead, needed, why in made
        )
    )


Made = tuple[str, bool | None, Estimate | None, int | None, str]


def _over_percentile(controls: Mapping[str, Estimate], name: str, checks: int, entities: int) -> Made:
    score, bar, p = controls["auroc"], controls[name], controls["shuffled_p"].value
    ahead = lead(score, bar, how=f"AUROC - {MEANINGS[name]}; interval of Zou & Donner (2008)")
    holds, why = _decided(ahead), ""
    shrinks = name == "shuffled_95"
    if shrinks and holds and p > 0.05 / checks:
        holds, why = None, f"p = {p:.3g} is above .05 / {checks} checks"
    needed = None
    if holds is None and not why:
        error, spread = bar.upper - bar.value, bar.value - 0.5
        lower_end = score.value - score.lower
        needed = entities_needed(
            score.value - 0.5 if shrinks else ahead.value,
            lower_end / _z(score.confidence),
            entities,
            spread=spread if shrinks else 0.0,
            error=error,
            error_shrinks=shrinks,
        )
        if needed is None and ahead.value > 0:
            why = "the percentile's own error is too large for this lead: give more draws"
    return name, holds, ahead, needed, why


def _paired(name: str, ahead: Estimate | None, entities: int) -> Made:
    if ahead is None:
        return name, None, None, None, ""
    holds, needed = _decided(ahead), None
    if holds is None:
        needed = entities_needed(ahead.value, (ahead.upper - ahead.lower) / 2 / _z(ahead.confidence), entities)
    return name, holds, ahead, needed, ""


def _decided(ahead: Estimate) -> bool | None:
    return True if ahead.lower > 0 else False if ahead.upper < 0 else None


def _z(confidence: float) -> float:
    return float(norm.ppf((1 + confidence) / 2))


def entities_needed(
    lead: float,
    deviation: float,
    entities: int,
    *,
    spread: float = 0.0,
    error: float = 0.0,
    error_shrinks: bool = False,
    confidence: float = 0.95,
    power: float = 0.8,
) -> int | None:
    """Return how many entities would show a lead, or None where no number up to a million times as many would.

    Args:
        lead: what the probe is ahead by; over .5 for a control that comes down to .5.
        deviation: standard error of the lead with `entities` entities.
        entities: how many there are.
        spread: how far above .5 such a control stands now.
        error: half the width of the control's own interval.
        error_shrinks: whether that comes down with more entities too.
        confidence: of the two-sided interval whose lower end must be above 0.
        power: probability that it is.
    """
    z, further = _z(confidence), float(norm.ppf(power))

    def expected(r: float) -> float:
        own = r * error if error_shrinks else error
        return lead - r * (spread + further * deviation) - sqrt((z * r * deviation) ** 2 + own**2)

    least, most = 1 / sqrt(MOST), 100.0
    if expected(least) <= 0:
        return None
    if expected(most) >= 0:
        return 1
    return ceil(entities / brentq(expected, least, most) ** 2 - 1e-9)
