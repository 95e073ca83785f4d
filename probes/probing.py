"""Probing: the whole way from statements to a probe that one can believe, in one call.

1. Capture every layer at the last token of each statement.
2. Choose layer and estimator on calibration entities, report on test entities (sweep.py), beside every control
   (controls.py, model_controls.py), and say above which of them the score stands (claims.py).
3. Of a topic also the negated statements at the chosen layer: whether the probe's sign flips, and whether a fit on both
   polarities mends it (transfer.py).
4. The receipt, unless it is not wanted: what steering along the probe does to what the model says (receipt.py). Where
   none can be made, a note says why.

Limits: one seed, one split; transfer deals the entities out anew. A topic's paraphrases are not read.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from probes.activations.capture import Activations, capture
from probes.activations.cost import estimate_cost
from probes.errors import BadInput, TooFew
from probes.facts.facts import Topic, load_topic
from probes.facts.statements import load_statements
from probes.judging.claims import Claims, claims
from probes.judging.controls import MEANINGS
from probes.judging.model_controls import controls
from probes.judging.splits import row_labels, select
from probes.judging.sweep import Row, Sweep, sweep, transfer
from probes.judging.transfer import Transfer, transfer_matrix
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate
from probes.reading.streams import Stream, read
from probes.steering.receipt import bar_lines, receipt

__all__ = ["Probing", "open_source", "probe_truth"]

LONG = 2000
"""Statements from which on the cost is told before it is paid."""
BESIDE = {
    "shuffled_95": "shuffled labels",
    "random_95": "random directions",
    "bag_of_words": "bag of words",
    "log_probability": "log-probability",
}
"""Controls that the sentence names; of shuffles and directions the 95th percentile."""
SHOWN_GROUPS = 3
"""Test entities whose statements are shown token by token: the first ones, whatever they score."""


@dataclass(frozen=True, eq=False)
class Probing:
    """What came out."""

    source: str
    """Name of the topic, or of the file the statements came from."""
    model: str
    """Name of the model."""
    found: Sweep
    """All fits, and the chosen probe with every control."""
    negated: Estimate | None
    """AUROC on negated statements of the test entities, where there are such: below .5 the sign has flipped."""
    transfers: tuple[Transfer, ...]
    """Affirmed and negated, each trained and tested, by the chosen estimator and by TTPD; empty without negations."""
    notes: tuple[str, ...]
    """What was done to the statements that a reader should know."""
    scores: Mapping[str, Float[Tensor, "row"]]
    """Scores of the test statements by kind: "true", "false", "true, negated", "false, negated"."""
    streams: Mapping[str, Stream]
    """Some test statements token by token, by text."""
    seconds: float
    """How long it took."""

    @property
    def claims(self) -> Claims:
        """Above which controls the score stands."""
        return claims(self.found)

    @property
    def first_layer(self) -> int | None:
        """The first layer whose AUROC has an interval above what 95 of 100 random directions reach.

        Read off the chosen estimator at every layer, the floor at the chosen one; None where no layer stands above.
        """
        floor = self.found.best.controls["random_95"].upper
        rows = next(rows for rows in self.found.by_layer().values() if _has(rows, self.found))
        return next((row.site.layer for row in rows if row.test.lower > floor), None)

    @property
    def sentence(self) -> str:
        """What came out; where a control does as well, that comes first."""
        controls, site = self.found.best.controls, self.found.site
        beaten = [claim.control for claim in self.claims.each if claim.holds is not True]
        over = ", ".join(MEANINGS[name] for name in beaten)
        doubt = f"Not shown to be ahead of: {over}. " if beaten else ""
        flip = f"; negated {self.negated.interval()}" if self.negated is not None else ""
        beside = ", ".join(f"{words} {short(controls[name])}" for name, words in BESIDE.items() if name in controls)
        return (
            f"{doubt}Layer {site.layer} tells true from false on unseen {self.source}: AUROC {controls['auroc']} "
            f"({beside}){flip}."
        )

    def __str__(self) -> str:
        return "\n".join([self.sentence, str(self.claims), *bar_lines(self.found.best.receipt)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        best = self.found.best
        return {
            "source": self.source,
            "model": self.model,
            "sentence": self.sentence,
            "site": str(best.site),
            "method": best.method,
            "first_layer": self.first_layer,
            "stands": self.claims.holds,
            "statements_needed": self.claims.needed,
            "controls": {name: estimate.to_dict() for name, estimate in best.controls.items()},
            "receipt": {name: estimate.to_dict() for name, estimate in best.receipt.items()},
            "negated": self.negated.to_dict() if self.negated is not None else None,
            "transfer": [
                {
                    "estimator": transfer.estimator,
                    "train": cell.train,
                    "test": cell.test,
                    "auroc": cell.auroc.to_dict(),
                    "accuracy": cell.accuracy.to_dict(),
                }
                for transfer in self.transfers
                for cell in transfer.cells
            ],
            "notes": list(self.notes),
            "rows": [
                {"site": str(row.site), "estimator": row.method, "auroc": row.test.to_dict()} for row in self.found.rows
            ],
            "seconds": round(self.seconds, 1),
        }


def short(estimate: Estimate) -> str:
    """Return the value alone, ".97"."""
    return estimate.interval().split(" ")[0]


def probe_truth(
    model: LanguageModel,
    source: Topic | Sequence[Any],
    *,
    name: str = "",
    sites: Any = "resid_post.*",
    tokens: str | int = "last",
    estimators: Sequence[str] = ("logistic", "lda"),
    seed: int = 0,
    with_receipt: bool = True,
    say: Callable[[str], None] = lambda line: None,
    progress: bool = False,
) -> Probing:
    """Fit, choose, test and control a truth probe.

    Args:
        model: the model to read.
        source: a topic, or statements with labels and groups.
        name: what to call the source; by default the topic's name.
        sites: where to look.
        tokens: which token of a statement is read (see `capture`).
        estimators: what is tried.
        seed: of split, shuffles and directions.
        with_receipt: measure, on test entities, what steering along the probe does (receipt.py).
        say: is told what goes on, a line a step.
        progress: show bars on standard error.

    Raises:
        BadInput, TooFew, NotFound: as `capture`, `sweep` and `controls`.
    """
    start = time.perf_counter()
    topic = source if isinstance(source, Topic) else None
    statements = source.statements() if topic else list(source)
    say(f"{len(statements)} statements, {model.name}: reading")
    if len(statements) > LONG:
        say(f"this will take: {estimate_cost(model, statements, sites, tokens=tokens)}")
    acts = capture(model, statements, sites, tokens=tokens, progress=progress)
    options = {"seed": seed, "concept": f"truth of {name or topic.name}", "progress": progress}
    if model.device.type == "cuda":  # MPS has no float64
        options["device"] = model.device
    found = sweep(acts, estimators=estimators, **options)
    say(f"chosen on calibration entities: {found.best.method} at {found.site}; controls")
    found = found.with_controls(controls(found, model, progress=progress))
    parts, negated, transfers = {"": found.test}, None, ()
    if topic:
        say("negated statements at that layer, and transfer")
        denied = capture(model, topic.statements("negated"), found.site, tokens=tokens, progress=progress)
        negated = transfer(found.best, denied, groups=found.split.test)
        parts[", negated"] = select(denied, found.split.test)
        both = {topic.name: acts, "negated": denied}
        names = dict.fromkeys([found.best.method.split("(")[0], "ttpd"])
        transfers = tuple(
            transfer_matrix(both, site=found.site, estimator=name, unions=[tuple(both)], seed=seed) for name in names
        )
    found, why = _with_receipt(model, found, statements, seed, say, progress) if with_receipt else (found, "left out")
    return Probing(
        source=name or topic.name,
        model=model.name,
        found=found,
        negated=negated,
        transfers=transfers,
        notes=(*getattr(source, "notes", ()), *([f"no receipt: {why}"] if why else [])),
        scores=_scores(found, parts),
        streams=_streams(model, found),
        seconds=time.perf_counter() - start,
    )


def open_source(
    facts: str | None,
    statements: str | os.PathLike | None,
    *,
    limit: int | None = None,
    seed: int = 0,
    **columns: str | None,
) -> tuple[Topic | Sequence[Any], str]:
    """Return a topic or statements from a file, and their name.

    Args:
        facts: a shipped topic or a file of facts.
        statements: a file of labelled texts.
        limit: at most so many statements, of whole facts or groups.
        seed: of the draw, where there is a limit.
        columns: `text`, `label` and `group`, as `load_statements` takes them.

    Raises:
        BadInput: neither was given, or both.
    """
    if (facts is None) == (statements is None):
        raise BadInput("give either facts (a topic, or a file of facts) or statements (a file of labelled texts)")
    if facts is not None:
        topic = load_topic(facts)
        if limit is not None and 2 * len(topic.facts) > limit:
            drawn = random.Random(seed).sample(topic.facts, max(1, limit // 2))  # a fact is two statements
            topic = replace(topic, facts=tuple(drawn))
        return topic, topic.name
    return load_statements(statements, limit=limit, seed=seed, **columns), Path(statements).stem


def _with_receipt(
    model: LanguageModel, found: Sweep, statements: Sequence[Any], seed: int, say: Callable, progress: bool
) -> tuple[Sweep, str]:
    """Return the sweep with the receipt of its probe, and why there is none."""
    say("receipt: what steering along it does, beside random directions")
    unseen = [one for one in statements if one.group in set(found.split.test)]
    try:
        figures = receipt(model, found.best, unseen, seed=seed, progress=progress)
    except (BadInput, TooFew) as error:  # the probe stands without: that nobody proved its use is said with it
        return found, str(error)
    return replace(found, best=replace(found.best, receipt=figures)), ""


def _scores(found: Sweep, parts: Mapping[str, Activations]) -> dict[str, Tensor]:
    scores = {}
    for suffix, acts in parts.items():
        values, labels = found.best.scores(acts.values[found.site]), row_labels(acts)
        scores[f"true{suffix}"], scores[f"false{suffix}"] = values[labels], values[~labels]
    return scores


def _streams(model: LanguageModel, found: Sweep) -> dict[str, Stream]:
    shown = list(dict.fromkeys(found.test.groups))[:SHOWN_GROUPS]
    chosen = [
        (text, bool(label))
        for text, group, label in zip(found.test.texts, found.test.groups, found.test.labels, strict=True)
        if group in shown
    ]
    return {f"{'True' if label else 'False'}: {text}": read(model, found.best, text) for text, label in chosen[:6]}


def _has(rows: Sequence[Row], found: Sweep) -> bool:
    return any((row.site, row.method) == (found.site, found.best.method) for row in rows)
