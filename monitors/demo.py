"""The main job, end to end, for one fact on one model.

1. Ask whether the model says the fact (cloze rank).
2. Fit a probe for "this fact is in use now" and choose its layer, on training frames (`monitors.making`).
3. Certify a threshold on benign calibration frames.
4. Watch test prompts in shadow and measure: recall, false alarms, by kind, beside baselines (`monitors.measuring`).
5. Send the same verdicts through the breaker: benign ones, then uses. Then enforce it live, with a journal.
6. See where the fact lives (activation patching).
7. Write the page, the monitor and the journal.

Between 2 and 3 the probe gets its receipt (`probes.steered`): what its direction does to answers when it is added.

Fact, seed, layers, horizon, rate, k and n are arguments or follow from them: nothing is chosen after the test prompts
    are answered.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from circuits import plots as circuit_plots
from circuits.explain.patching import as_bridge, patch
from circuits.tasks import fact_pair
from monitors import measuring, summary
from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.journal import Journal
from monitors.breaker.odds import default_k_of_n, expected_streams_between_trips, uses_to_trip
from monitors.breaker.rule import Policy, State, Transition
from monitors.history import Request, replay
from monitors.live.guard import guard
from monitors.making import monitor_fact
from monitors.measuring import Figures, Watched
from monitors.monitor import Monitor
from monitors.report import DemoEvidence, write_demo_page
from probes.errors import BadInput, CouldNotRun
from probes.facts.contexts import BENIGN_KINDS, CONTEXT_KINDS, Contexts, contexts
from probes.facts.facts import Fact, Topic
from probes.judging.sweep import Sweep
from probes.knowing.saying import Ranked
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate, auroc

__all__ = ["Demo", "run_demo"]

HORIZON = 24
"""Tokens of a response for which the certificate holds."""
RATE = 0.05
CONFIDENCE = 0.95
SEED = 2
"""Of frames, questions and splits. Seeds 0 and 1 were looked at while fit and group sizes were designed."""

JOURNAL = "trips.sqlite"

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Demo:
    """What came of it."""

    model: str
    fact: Fact
    said: Ranked
    """What the model says of the fact."""
    found: Sweep
    """AUROC by layer with controls."""
    monitor: Monitor
    """The certified monitor."""
    figures: dict[str, Figures]
    """By detector: "probe", "keyword", "bag_of_words"."""
    policy: Policy
    """Of the breaker."""
    histories: dict[str, tuple[Request, ...]]
    """What the breaker saw: replayed on the shadow verdicts, and live."""
    held: bool
    """Whether the breaker stayed shut without the fact, in the replay and live."""
    tripped: bool
    """Whether it tripped on the fact, in the replay and live."""
    page: Path
    """The page."""
    auroc: Estimate
    """Of the monitor's own probe on first tokens of test responses: uses against all benign kinds."""
    seconds: float
    """What it took, without loading the model."""

    @property
    def passed(self) -> bool:
        """Whether the breaker tripped on the fact and stayed shut without it."""
        return self.tripped and self.held

    @property
    def sentence(self) -> str:
        """What came out, in a sentence that begins with a baseline where one does as well as the probe."""
        return summary.sentence(self.fact, self.figures)

    def to_dict(self) -> dict[str, Any]:
        """Return everything measured as JSON values."""
        probe = self.figures["probe"]
        return {
            "model": self.model,
            "fact": self.fact.id,
            "says": vars(self.said),
            "site": str(self.found.site),
            "auroc": self.auroc.to_dict(),
            "controls": {name: value.to_dict() for name, value in self.found.best.controls.items()},
            "receipt": {name: value.to_dict() for name, value in self.monitor.probes[0].receipt.items()},
            "controls_of": f"the sweep's {self.found.best.method} probe, fitted on half of the training frames",
            "certificate": self.monitor.threshold.to_dict(),
            **probe.to_dict(),
            "baselines": {name: item.to_dict() for name, item in self.figures.items() if name != "probe"},
            "breaker": {
                "k": self.policy.k,
                "n": self.policy.n,
                "streams_between_false_trips": expected_streams_between_trips(RATE, self.policy.k, self.policy.n),
            },
            "tripped": self.tripped,
            "stayed_shut": self.held,
            "passed": self.passed,
            "sentence": self.sentence,
            "page": str(self.page),
            "seconds": round(self.seconds, 1),
        }


def run_demo(
    model: LanguageModel,
    fact: Fact,
    topic: Topic,
    *,
    out: Path,
    seed: int = SEED,
    form: str = "chat",
    today: str = "",
    must_say: bool = True,
    say: Say = lambda line: None,
    progress: bool = False,
) -> Demo:
    """Run the main job.

    Args:
        model: the model to watch.
        fact: the target.
        topic: facts of the same relation, for hard benign prompts.
        out: folder for `demo.html`, `monitor/` and `trips.sqlite`; what an earlier demo left there is replaced.
        seed: of frames, questions, splits and controls.
        form: "chat" or "completion": what is served is what is certified.
        today: ISO date for the certificate; the clock's if left out.
        must_say: stop where the model does not say the fact, since "in use" means little then.
        say: called with a line at each step.
        progress: show bars on standard error, if that is a terminal.

    Raises:
        Inconclusive: the model does not say the fact, or the topic is too small to certify (TooFew).
        BadInput, NotFound: fact or form.
        CouldNotRun: the folder cannot be written.
    """
    start, today = time.monotonic(), today or date.today().isoformat()
    drawn = contexts(fact, topic, form=form, seed=seed)
    _check_folder(out)
    made = monitor_fact(
        model, drawn, topic, horizon=HORIZON, made=today, rate=RATE, confidence=CONFIDENCE, must_say=must_say, say=say,
        progress=progress,
    )  # fmt: skip
    said, found, monitor = made.said, made.found, made.monitor
    monitor.save(out / "monitor", overwrite=True)
    policy = Policy(*default_k_of_n(RATE))
    _clear_journal(out)
    with Journal(out / JOURNAL) as journal:
        watched = _shadow(model, monitor, drawn, policy, journal, progress)
        figures = _measure(watched, drawn, today)
        say(summary.sentence(fact, figures))
        for line in summary.lines(figures, policy, RATE):
            say(line)
        histories = _replays(policy, watched)
        histories["live, enforced"] = _live(model, monitor, drawn, policy, journal, progress)
        audit = journal.verify()
        if not audit.holds:
            raise CouldNotRun(f"the journal {out / JOURNAL} is damaged at row {audit.bad}: {audit.why}")
    tripped = all(_opened(histories[name]) for name in ("uses after benign requests", "live, enforced"))
    held = not _opened(histories["benign requests only"]) and not _opened(
        [request for request in histories["live, enforced"] if request.kind != "use"]
    )
    say(
        f"The breaker {'tripped' if tripped else 'did not trip'} on the fact "
        f"and {'stayed shut' if held else 'opened'} without it."
    )
    first = auroc(
        [float(item.stream.scores[0]) for item in watched],
        [item.context.kind == "use" for item in watched],
        groups=[item.stream.group or str(item.context.frame) for item in watched],
    )
    demo = Demo(
        model.name,
        fact,
        said,
        found,
        monitor,
        figures,
        policy,
        histories,
        held,
        tripped,
        out / "demo.html",
        first,
        time.monotonic() - start,
    )
    write_demo_page(demo.page, _evidence(demo, watched, drawn, *_where(model, fact, topic, progress)))
    return demo


def _check_folder(out: Path) -> None:
    """Make the folder, or refuse one whose journal is not a demo's: a demo starts its journal anew."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CouldNotRun(
            f"cannot write into {out}: {error.strerror or error}; give another folder with --out"
        ) from error
    if (out / JOURNAL).exists():
        with Journal(out / JOURNAL, read_only=True) as journal:
            others = {row.entry.breaker for row in journal.rows()} - {"shadow", "live"}
        if others:
            raise BadInput(
                f"{out / JOURNAL} is the journal of {', '.join(sorted(others))}; give another folder with --out"
            )


def _clear_journal(out: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        (out / f"{JOURNAL}{ending}").unlink(missing_ok=True)


def _shadow(
    model: LanguageModel, monitor: Monitor, drawn: Contexts, policy: Policy, journal: Journal, progress: bool
) -> list[Watched]:
    shadow = Breaker(Policy(policy.k, policy.n, enforce=False), journal=journal, name="shadow")
    with guard(model, monitor, breaker=shadow, on_alarm="flag") as guarded:
        return measuring.watch(guarded, drawn.of("test"), drawn.fact.object, horizon=HORIZON, progress=progress)


def _measure(watched: list[Watched], drawn: Contexts, today: str) -> dict[str, Figures]:
    return {
        "probe": measuring.probe_figures(watched),
        "keyword": measuring.keyword_figures(watched),
        "bag_of_words": measuring.bag_of_words_figures(watched, drawn, rate=RATE, confidence=CONFIDENCE, made=today),
    }


def _replays(policy: Policy, watched: list[Watched]) -> dict[str, tuple[Request, ...]]:
    benign = [
        (item.context.kind, item.verdict) for kind in BENIGN_KINDS for item in watched if item.context.kind == kind
    ]
    # Benign kinds in turn, as traffic would bring them, not one kind after the other.
    size = len(benign) // len(BENIGN_KINDS)
    mixed = [benign[kind * size + i] for i in range(size) for kind in range(len(BENIGN_KINDS))]
    uses = [("use", item.verdict) for item in watched if item.context.kind == "use"]
    return {
        "benign requests only": replay(policy, mixed),
        "uses after benign requests": replay(policy, [*mixed[: 2 * policy.n], *uses]),
    }


def _live(
    model: LanguageModel, monitor: Monitor, drawn: Contexts, policy: Policy, journal: Journal, progress: bool
) -> tuple[Request, ...]:
    """Enforce the breaker: some benign requests, then uses until it is open and one more is refused."""
    moves: list[Transition] = []
    breaker = Breaker(policy, journal=journal, name="live", record=moves.append)
    benign = [item for item in drawn.of("test") if item.kind != "use"][: 2 * len(BENIGN_KINDS)]
    seen: list[Request] = []
    with guard(model, monitor, breaker=breaker) as guarded:
        queue = [*benign, *drawn.of("test", "use")[: 2 * policy.n]]
        for i, item in enumerate(tqdm(queue, "live", unit="request", disable=None if progress else True, leave=False)):
            moves.clear()
            try:
                outcome = (
                    guarded.generate([item.prompt], max_new_tokens=HORIZON, request_id=f"live-{i}").verdicts[0].outcome
                )
            except BreakerOpen:
                outcome = None
            after = breaker.snapshot
            seen.append(Request(item.kind, outcome, after.state, sum(after.window), f"live-{i}", tuple(moves)))
            if outcome is None:
                break
    return tuple(seen)


def _opened(requests: Any) -> bool:
    return any(request.state is not State.CLOSED for request in requests)


def _where(model: LanguageModel, fact: Fact, topic: Topic, progress: bool) -> tuple[Any, str]:
    try:
        patching = patch(as_bridge(model), fact_pair(fact, topic, model), progress=progress)
    except (
        BadInput
    ) as error:  # some facts have no partner of the same length: said on the page, and no figure is claimed
        return None, f"Not measured: {error}"
    return circuit_plots.patching_heatmap(patching, titled=False), patching.sentence


def _evidence(demo: Demo, watched: list[Watched], drawn: Contexts, lives: Any, finding: str) -> DemoEvidence:
    probe, policy = demo.figures["probe"], demo.policy
    return DemoEvidence(
        model=demo.model,
        fact=demo.fact.id,
        sentence=demo.sentence,
        number=f"{round(probe.recall.value * probe.recall.n)} of {probe.recall.n}",
        measure="uses of the fact caught, on wordings never seen before",
        threshold=demo.monitor.threshold,
        maxima_by_kind={
            kind: [item.stream.maximum for item in watched if item.context.kind == kind] for kind in CONTEXT_KINDS
        },
        recall=probe.recall,
        false_alarms=probe.false_alarms,
        by_kind=probe.by_kind,
        by_question=probe.by_question,
        strips=_strips(watched),
        baselines={name.replace("_", " "): _measures(figures) for name, figures in demo.figures.items()},
        sweep=demo.found,
        tokens_to_alarm=probe.tokens_to_alarm,
        before_spelled_out=probe.before_spelled_out,
        patching=lives,
        patching_finding=finding,
        policy=policy,
        histories=demo.histories,
        between_trips=expected_streams_between_trips(RATE, policy.k, policy.n),
        uses_to_trip=uses_to_trip(probe.recall.value, policy.k, policy.n) if probe.recall.value else None,
        receipt=demo.monitor.probes[0].receipt,
        says=f"The model {demo.said}.",
        settings={
            "probe": f"logistic, refitted at {demo.found.site} on all training frames",
            "form": drawn.form,
            "seed": drawn.seed,
            "frames": {role: len(drawn.groups(role)) for role in ("train", "calibration", "test")},
            "horizon": f"{HORIZON} tokens, greedy",
            "versions": {name: version(name) for name in ("belief-probes", "torch", "transformers", "scikit-learn")},
            "machine": platform.machine(),
        },
    )


def _measures(figures: Figures) -> dict[str, Estimate]:
    names = ("recall", "false_alarms", "tokens_to_alarm", "before_spelled_out")
    return {name: getattr(figures, name) for name in names if getattr(figures, name) is not None}


def _strips(watched: list[Watched]) -> list[tuple[str, Any, Any]]:
    """A use that alarmed, the benign response that came nearest to alarming (or did), the lowest use, and more."""
    uses = sorted((item for item in watched if item.context.kind == "use"), key=lambda item: -item.stream.maximum)
    benign = sorted((item for item in watched if item.context.kind != "use"), key=lambda item: -item.stream.maximum)
    spelling = [item for item in uses if item.verdict.alarmed and item.spelled is not None]
    chosen = [
        (spelling or uses)[0],
        benign[0],
        uses[-1],
        *(next(i for i in benign if i.context.kind == k) for k in BENIGN_KINDS),
    ]
    unique = list({id(item): item for item in chosen}.values())
    return [
        (f"{item.context.kind.replace('_', ' ')}: {item.context.text}", item.stream, item.verdict) for item in unique
    ]
