"""Making a monitor: of a fact that is known by name, or of whatever sets some prompts apart from the rest.

1. `monitor_fact`: prompts are drawn that need the fact, beside hard benign ones (`probes.facts.contexts`); layer and
   probe come from training frames (`fitting.py`), the certificate from frames of its own. What `belief demo` does
   before it measures.
2. `monitor_uses`: with prompts of one's own, uses and benign ones. Groups are dealt to two roles: on the first a probe
   is fitted at every layer, on the second one layer and statistic is chosen that keeps a certificate (`choosing.py`).
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from monitors import fitting
from monitors.choosing import Choice, check_choice, choose, ways_of
from monitors.monitor import Monitor
from monitors.threshold import needed
from monitors.traffic import SEEN, Prompt, check_groups, digest, mix_of
from probes.errors import BadInput, Inconclusive, TooFew
from probes.facts.contexts import Contexts
from probes.facts.facts import Fact, Topic
from probes.judging.sweep import Sweep
from probes.knowing.saying import Ranked, rank_object
from probes.model.language_model import LanguageModel
from probes.reading.metrics import proportion
from probes.reading.probe import LinearProbe
from probes.steered import prove

__all__ = ["FactMonitor", "monitor_fact", "monitor_uses"]

Say = Callable[[str], None]
FITTED = 24
"""Groups of each kind that are fitted on, at least."""
HELD = 10
"""Groups of uses that are chosen on, at least."""


@dataclass(frozen=True, eq=False)
class FactMonitor:
    """A monitor for one fact, and what it came from."""

    monitor: Monitor
    """With its certificate; its probe carries a receipt where one could be made."""
    said: Ranked
    """What the model says of the fact."""
    found: Sweep
    """AUROC by layer with controls, on frames that were not fitted on."""


def monitor_fact(
    model: LanguageModel,
    drawn: Contexts,
    topic: Topic,
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    confidence: float = 0.95,
    valid_until: str | None = None,
    must_say: bool = True,
    say: Say = lambda line: None,
    progress: bool = False,
) -> FactMonitor:
    """Fit and certify a monitor for "this fact is in use now".

    Args:
        model: the model to watch.
        drawn: prompts that need the fact and hard benign ones, in the form that is served (`probes.contexts`).
        topic: facts of the same relation.
        horizon: tokens of a response for which the promise will hold.
        made: ISO date of today.
        rate: false alarms per benign response of each kind, in (0, 1).
        confidence: that the rate holds, over calibrations.
        valid_until: ISO date of its end; none is stated if left out.
        must_say: stop where the model does not say the fact, since "in use" means little then.
        say: called with a line at each step.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        Inconclusive: the model does not say the fact, or there are too few frames to certify (TooFew).
    """
    fact, seed = drawn.fact, drawn.seed
    benign = [one for one in fitting.as_prompts(drawn.of("calibration")) if one.kind != fitting.USE]
    about = {"horizon": horizon, "made": made, "rate": rate, "confidence": confidence, "valid_until": valid_until}
    check_groups(benign, "max", promise="confident", **about)
    said = rank_object(model, fact, topic)
    say(f"The model {said}.")
    if must_say and not said.holds:
        raise Inconclusive(f"{model.name} does not say {fact.id}: it {said}; choose a fact that it says")
    say(f"{drawn}")
    train = fitting.as_prompts(drawn.of("train"))
    acts, kinds = fitting.capture_prompts(model, train, horizon=horizon, progress=progress)
    found, probe = fitting.fit_probe(acts, kinds, concept=f"in use: {fact.id}", seed=seed, progress=progress)
    say(f"Fitted at {found.site}: AUROC {found.best.controls['auroc']} at the first token, on frames not fitted on.")
    probe = _with_receipt(model, probe, fact, topic, seed, say, progress)
    monitor, _ = fitting.certify_fact(model, probe, drawn, **about, progress=progress)
    say(f"Certified: {monitor.threshold.sentence}")
    return FactMonitor(monitor, said, found)


def _with_receipt(
    model: LanguageModel, probe: LinearProbe, fact: Fact, topic: Topic, seed: int, say: Say, progress: bool
) -> LinearProbe:
    """Return the probe with its receipt; as it is, and said so, where none can be made."""
    try:
        steered = prove(model, direction=probe, topic=topic, fact=fact, seed=seed, progress=progress)
    except (BadInput, TooFew) as error:
        say(f"No receipt: {error}")
        return probe
    say(f"Receipt: {steered.sentence}")
    return replace(probe, receipt=steered.receipt)


def monitor_uses(
    model: LanguageModel,
    uses: Sequence[Prompt],
    benign: Sequence[Prompt],
    *,
    concept: str,
    horizon: int,
    made: str,
    sites: Any = "resid_post.*",
    statistics: Sequence[str | Sequence[str]] = ("max",),
    rate: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
    valid_until: str | None = None,
    say: Say = lambda line: None,
    progress: bool = False,
    **options: Any,
) -> Choice:
    """Fit a probe at every site on a part of the prompts, and choose among them on the rest.

    Args:
        model: the model to watch.
        uses: prompts whose answers should alarm; a probe learns the decision on their first token. Their kinds do not
            matter.
        benign: prompts whose answers should not, in the same form; the harder to tell apart, the better.
        concept: what an alarm means.
        horizon: tokens of a response for which the promise will hold.
        made: ISO date of today.
        sites: where a probe is fitted; each is a candidate with each of the statistics.
        statistics, rate, confidence, valid_until: see `choose`.
        seed: of the roles and of the draw within groups.
        say: called with a line at each step.
        progress: show bars on standard error, if that is a terminal.
        options: those of transformers' `generate`; greedy unless `do_sample` is given.

    Returns:
        The choice; `.monitor` is what to save. It keeps digests of the groups that were fitted and chosen on, so that
        it is not certified on them again.

    Raises:
        TooFew: of uses or of a benign kind there are too few groups to fit, choose and certify; says how many it needs.
        Inconclusive: no candidate is shown to catch more of the uses than of benign prompts.
        BadInput: see `choose`; or a benign kind is called "use".
    """
    if any(one.kind == fitting.USE for one in benign):
        raise BadInput(f"benign prompts of kind {fitting.USE!r}; give those apart, as uses")
    wanted = model.sites(sites)
    named = [*(replace(one, kind=fitting.USE) for one in uses), *benign]
    least = _least(statistics, len(wanted), rate, confidence)
    fitted, held = _deal(named, least, seed)
    quiet, loud = ([one for one in held if (one.kind == fitting.USE) is use] for use in (False, True))
    about = {"horizon": horizon, "made": made, "rate": rate, "confidence": confidence, "valid_until": valid_until}
    _, among = check_choice(len(wanted), quiet, loud, statistics, **about, promise="confident")
    mix_of(named)  # all in one form
    say(f"Fitting on {len(fitted)} prompts, choosing among {among} on {len(held)}.")
    acts, _ = fitting.capture_prompts(model, fitted, sites=wanted, horizon=horizon, progress=progress, **options)
    probes = [fitting.fit_stream(acts, site, concept) for site in wanted]
    found = choose(
        model, probes, quiet, loud, concept=concept, statistics=statistics, seed=seed, progress=progress,
        prompt_mix={SEEN: sorted(set(map(digest, fitted)))}, **about, **options,
    )  # fmt: skip
    best = found.best.caught
    shown = proportion(round(best.value * best.n), best.n, confidence=1 - 0.05 / among)
    if shown.lower <= rate:
        raise Inconclusive(
            f"the best of {among} catches {best.value:.0%} of {best.n} uses, with the choice paid for at least "
            f"{shown.lower:.0%}: no more than the {rate:.0%} of benign prompts that may alarm. Bring more uses, or "
            "such as are more alike"
        )
    return found


def _least(statistics: Sequence[str | Sequence[str]], sites: int, rate: float, confidence: float) -> int:
    """Return how many groups of a benign kind the certificate of a choice takes."""
    ways = ways_of(statistics)
    if not all(ways) or not ways or not sites:
        raise BadInput(f"{sites} sites and the statistics {ways}; give one of each at least")
    return needed(rate, confidence=confidence, statistics=max(map(len, ways)), among=sites * len(ways))


def _deal(prompts: Sequence[Prompt], least: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Deal groups out to fitting and to choosing: half to each, but to choosing what the certificate takes at least.

    A group is in one role with all its prompts. Kinds that share groups are dealt in the same shares, those of the same
    kinds among themselves: so a kind has the same mixture of groups in either role, as a certificate needs.
    """
    kinds: dict[str, set[str]] = {}
    for one in prompts:
        kinds.setdefault(one.counts_as, set()).add(one.kind)
    names = sorted(set().union(*kinds.values()))
    if fitting.USE not in names or len(names) < 2:
        raise BadInput(f"prompts of the kinds {names}; give uses, and benign ones of one kind at least")
    groups = {name: sum(name in held for held in kinds.values()) for name in names}
    shares = {}
    for name in names:
        held = HELD if name == fitting.USE else least
        if groups[name] < FITTED + held:
            hint = "" if name == fitting.USE else ", or choose among fewer sites and statistics"
            raise TooFew(
                f"kind {name!r} has {groups[name]} groups; to fit on {FITTED} and choose and certify on {held} it "
                f"takes {FITTED + held}: bring {FITTED + held - groups[name]} more{hint}",
                FITTED + held,
            )
        shares[name] = min(max(0.5, FITTED / groups[name]), 1 - held / groups[name])
    strata: dict[tuple[str, ...], list[str]] = {}
    for group, held in sorted(kinds.items()):
        strata.setdefault(tuple(sorted(held)), []).append(group)
    first: set[str] = set()
    for mixed, mine in strata.items():
        share = min(shares[name] for name in _linked(mixed, strata))
        random.Random(f"roles|{seed}|{mixed}").shuffle(mine)
        first |= set(mine[: math.floor(share * len(mine) + 1e-9)])
    for name in names:
        fit = sum(name in kinds[group] for group in first)
        if fit < FITTED:
            raise TooFew(
                f"of the {groups[name]} groups of kind {name!r} {fit} are left to fit on, where it takes {FITTED}: the "
                "kinds that share groups with it need the rest for their certificate; bring more groups of those kinds",
                FITTED,
            )
    return [one for one in prompts if one.counts_as in first], [one for one in prompts if one.counts_as not in first]


def _linked(kinds: Iterable[str], strata: Iterable[tuple[str, ...]]) -> set[str]:
    """Return the kinds that share groups with some, or with others that do."""
    found, size = set(kinds), 0
    while len(found) > size:
        size = len(found)
        found |= {name for mixed in strata if found & set(mixed) for name in mixed}
    return found
