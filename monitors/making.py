"""Making a monitor: of a fact that is known by name, or of whatever sets some prompts apart from the rest.

1. `monitor_fact`: prompts are drawn that need the fact, beside hard benign ones (`probes.facts.contexts`); layer and
   probe come from training frames (`fitting.py`), the certificate from frames of its own. What `belief demo` does
   before it measures.
2. `monitor_uses`: with prompts of one's own, uses and benign ones. Groups are dealt to two roles: on the first a probe
   is fitted at every layer, on the second one layer and statistic is chosen that keeps a certificate (`choosing.py`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from monitors import fitting
from monitors.choosing import Choice, choose
from monitors.monitor import Monitor
from monitors.threshold import needed
from monitors.traffic import Prompt
from probes.errors import BadInput, Inconclusive, TooFew
from probes.facts.contexts import Contexts
from probes.facts.facts import Fact, Topic
from probes.judging.sweep import Sweep
from probes.knowing.saying import Ranked, rank_object
from probes.model.language_model import LanguageModel
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
    monitor, _ = fitting.certify_fact(
        model, probe, drawn, horizon=horizon, made=made, rate=rate, confidence=confidence, valid_until=valid_until,
        progress=progress,
    )  # fmt: skip
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
        uses: prompts whose answers should alarm, from their first token on.
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
        The choice; `.monitor` is what to save.

    Raises:
        TooFew: of uses or of a benign kind there are too few groups to fit, choose and certify; says how many it needs.
        BadInput: see `choose`; or a benign kind is called "use".
    """
    if any(one.kind == fitting.USE for one in benign):
        raise BadInput(f"benign prompts of kind {fitting.USE!r}; give those apart, as uses")
    wanted, shared = model.sites(sites), max((1 if isinstance(one, str) else len(one) for one in statistics), default=1)
    among = len(wanted) * len(statistics)
    quota = max(1, needed(rate, confidence=confidence, statistics=shared, among=max(1, among)))
    named = [*(replace(one, kind=fitting.USE) for one in uses), *benign]
    fitted, held = _deal(named, quota, seed)
    say(f"Fitting on {len(fitted)} prompts, choosing among {among} on {len(held)}.")
    acts, _ = fitting.capture_prompts(model, fitted, sites=wanted, horizon=horizon, progress=progress, **options)
    probes = [fitting.fit_stream(acts, site, concept) for site in wanted]
    quiet, loud = ([one for one in held if (one.kind == fitting.USE) is use] for use in (False, True))
    return choose(
        model, probes, quiet, loud, concept=concept, horizon=horizon, made=made, statistics=statistics, rate=rate,
        confidence=confidence, seed=seed, valid_until=valid_until, progress=progress, **options,
    )  # fmt: skip


def _deal(prompts: Sequence[Prompt], quota: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Deal groups out to fitting and to choosing: half of the uses', and of benign ones what the certificate leaves.

    A group is in one role with all its prompts, of whatever kinds.
    """
    groups: dict[str, set[str]] = {}
    for one in prompts:
        groups.setdefault(one.kind, set()).add(one.counts_as)
    if fitting.USE not in groups or len(groups) < 2:
        raise BadInput(f"prompts of the kinds {sorted(groups)}; give uses, and benign ones of one kind at least")
    least = {kind: HELD if kind == fitting.USE else quota for kind in groups}
    for kind, mine in groups.items():
        if len(mine) < FITTED + least[kind]:
            raise TooFew(
                f"kind {kind!r} has {len(mine)} groups; to fit on {FITTED} and choose and certify on {least[kind]} it "
                f"takes {FITTED + least[kind]}: bring {FITTED + least[kind] - len(mine)} more, or name fewer sites",
                FITTED + least[kind],
            )
    wanted = {kind: max(FITTED, min(len(mine) // 2, len(mine) - least[kind])) for kind, mine in groups.items()}
    every = sorted(set().union(*groups.values()))
    random.Random(f"roles|{seed}").shuffle(every)
    first: set[str] = set()
    for group in every:  # into fitting, where a kind of it still wants some and all of them can spare it
        mine = {kind: of for kind, of in groups.items() if group in of}
        wants = any(len(first & of) < wanted[kind] for kind, of in mine.items())
        if wants and all(len(of - first) > least[kind] for kind, of in mine.items()):
            first.add(group)
    for kind, mine in groups.items():
        if len(first & mine) < FITTED:
            raise TooFew(
                f"kind {kind!r} shares groups with others, which leaves {len(first & mine)} to fit on where it takes "
                f"{FITTED}; bring more groups",
                FITTED,
            )
    return [one for one in prompts if one.counts_as in first], [one for one in prompts if one.counts_as not in first]
