"""Report: the page of the demo, from plain finished values.

In this order: the sentence and the number; a tripped response above a hard benign one; then, folded away, the scores
with the threshold and its certificate, recall and false alarms by kind and by question, AUROC by layer beside its
controls, the baselines, where the fact lives, the breaker's history, more responses, the settings. What was not
measured is left out, never shown as passed.

Limits: prompts and responses are on the page in full, for whoever made the demo to read; the journal keeps digests.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitors.evidence import DemoEvidence
from monitors.history import breaker_history
from monitors.verdict import Verdict
from probes import plots
from probes.look import percent, said
from probes.page import Block, Grid, Page, Plot, Section
from probes.reading.metrics import Estimate
from probes.reading.streams import Stream
from probes.report import receipt_section

__all__ = ["DemoEvidence", "demo_page", "write_demo_page"]

MEASURES = {
    "recall": "recall",
    "false_alarms": "false alarms",
    "tokens_to_alarm": "tokens released before the alarm (median)",
    "before_spelled_out": "alarm before the fact was spelled out",
    "auroc": "AUROC",
}
"""Measures that name themselves badly, in words."""
PLAIN_NUMBERS = ("tokens_to_alarm", "auroc")
"""Measures that are no shares, so that a percent sign would be wrong."""


def demo_page(evidence: DemoEvidence) -> Page:
    """Return the page of a demo."""
    makers = (_scores, _shares, _layers, _baselines, _receipt, _patching, _breaker, _responses, _settings)
    return Page(
        title=f"{evidence.fact} in {evidence.model}",
        sentence=evidence.sentence,
        number=evidence.number,
        measure=evidence.measure,
        picture=[block for item in evidence.strips[:2] for block in _strip(evidence, item)],
        sections=[section for make in makers if (section := make(evidence)) is not None],
        foot=f"Made by belief-probes on {evidence.threshold.made}. This file asks nothing of any other host.",
    )


def write_demo_page(path: str | os.PathLike, evidence: DemoEvidence) -> Path:
    """Write the page of a demo, whole or not at all, and return where it is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: the path is a folder.
    """
    return demo_page(evidence).write(path)


def _scores(evidence: DemoEvidence) -> Section:
    limit = evidence.threshold
    word = "certified at" if limit.certified else "promised (not certified):"
    picture = Plot(
        plots.score_distributions(evidence.maxima_by_kind, limit.value, target=evidence.target),
        "The largest score of each test response, a dot each, over the quartiles of its kind. A response alarms at its "
        "first token above the line. Rings: uses that were missed; crosses: false alarms.",
    )
    finding = f"{word} {percent(limit.rate)} % false alarms for each benign kind; alarm above {limit.value:.3g}"
    return Section("Scores and certificate", finding, [picture, *_certificate(evidence)], unfolded=True)


def _certificate(evidence: DemoEvidence) -> list[Block]:
    limit = evidence.threshold
    rows = [
        ("promise", limit.promise + ("" if limit.certified else ", on average over calibrations: no certificate")),
        ("false alarms per response", f"at most {percent(limit.rate)} % of each benign kind"),
        ("confidence", f"{percent(limit.confidence)} %" if limit.confidence is not None else "none stated"),
        ("horizon", f"{limit.horizon} tokens; what comes later is not certified"),
        ("alarm", limit.crossed),
        *((f"generation: {said(name)}", _value(value)) for name, value in limit.generation.items()),
        *((f"prompts: {said(name)}", _value(value)) for name, value in limit.prompt_mix.items()),
        ("made", limit.made),
        ("valid until", limit.valid_until or "not stated"),
    ]
    kinds = [
        (said(kind), str(n), _value(limit.per_kind["max"][kind]), _share(evidence.by_kind.get(kind)))
        for kind, n in limit.groups.items()
    ]
    head = ("benign kind", "groups", "threshold of its own", "false alarms on unseen responses")
    return [
        Grid(head, kinds, "The threshold is the largest of the kinds', so that the promise holds for each of them."),
        Grid((), rows, "The certificate:"),
    ]


def _shares(evidence: DemoEvidence) -> Section:
    benign = [kind for kind in evidence.by_kind if kind != evidence.target]
    blocks: list[Block] = []
    if evidence.by_kind:
        figure = plots.recall_by(evidence.by_kind, benign=benign, limit=evidence.threshold.rate)
        confidence = next(iter(evidence.by_kind.values())).confidence
        blocks.append(
            Plot(figure, f"Share of unseen responses that alarm, by kind, with {percent(confidence)} % intervals.")
        )
    if evidence.by_question:
        worst = min(evidence.by_question, key=lambda form: evidence.by_question[form].value)
        figure = plots.recall_by(evidence.by_question, measure="recall")
        caption = f"Recall by question form. The worst: “{worst}”, {_share(evidence.by_question[worst])}."
        blocks.append(Plot(figure, caption))
    measures = {"tokens_to_alarm": evidence.tokens_to_alarm, "before_spelled_out": evidence.before_spelled_out}
    delay = [(MEASURES[name], _number(name, estimate)) for name, estimate in measures.items() if estimate is not None]
    if delay:
        blocks.append(Grid((), delay))
    finding = f"recall {_share(evidence.recall)}; false alarms {_share(evidence.false_alarms)}"
    return Section("Recall and false alarms", finding, blocks)


def _layers(evidence: DemoEvidence) -> Section | None:
    if evidence.sweep is None:
        return None
    best = evidence.sweep.best
    own = best.controls.get("auroc")
    blocks: list[Block] = [
        Plot(
            plots.auroc_by_layer(evidence.sweep),
            "AUROC on test groups that neither fitted nor chose, with 95 % intervals. Dashed: what would be reached "
            "without knowledge, at the chosen layer.",
        )
    ]
    if best.controls:
        rows = [(plots.control_words(name), str(estimate)) for name, estimate in best.controls.items()]
        blocks.append(Grid(("at the chosen layer", "value [95 % interval]"), rows))
    finding = f"{best.method} at {best.site}" + (f": AUROC {own.interval()}" if own is not None else "")
    return Section("Which layer tells", finding, blocks)


def _baselines(evidence: DemoEvidence) -> Section | None:
    if not evidence.baselines:
        return None
    names = list(dict.fromkeys(name for measures in evidence.baselines.values() for name in measures))
    rows = [
        (detector, *(_number(name, measures.get(name)) for name in names))
        for detector, measures in evidence.baselines.items()
    ]
    recalls = [
        f"{name} {_percent(m['recall'])}" for name, m in evidence.baselines.items() if m.get("recall") is not None
    ]
    head = ("detector", *(MEASURES.get(name, said(name)) for name in names))
    caption = (
        "The same prompts and responses for all. A baseline that has a threshold is certified as the probe is, on "
        "the same calibration frames."
    )
    return Section("Would less have done?", "recall: " + ", ".join(recalls), [Grid(head, rows, caption)])


def _receipt(evidence: DemoEvidence) -> Section | None:
    if not evidence.receipt:
        return None
    about = (
        "The probe reads that the fact is being used. Whether the model listens to that direction is another question: "
        "the direction is added behind cloze prompts of other facts, and it should bring this fact's object up. A "
        "monitor needs no yes here: it has to read the use, not to cause it."
    )
    return receipt_section(evidence.receipt, f"in use: {evidence.fact}", "the object over the prompts' own", about)


def _patching(evidence: DemoEvidence) -> Section | None:
    if evidence.patching is None:
        return None
    caption = (
        "One clean activation put into the corrupted run, layer by layer and token by token. 1: the answer is back in "
        "full; 0: nothing changes."
    )
    finding = evidence.patching_finding or "activation patching of the residual stream"
    return Section("Where the fact lives", finding, [Plot(evidence.patching, caption)])


def _breaker(evidence: DemoEvidence) -> Section | None:
    if not evidence.histories:
        return None
    policy, rows = evidence.policy, []
    if policy is not None:
        latch = ", and stays open until a person resets it" if policy.latch else ""
        alarms = f"{policy.k} alarm{'s' * (policy.k > 1)} among the last {policy.n} responses"
        rows.append(("trips at", alarms + latch))
    if evidence.between_trips is not None:
        every = f"one expected every {evidence.between_trips:,.0f} benign responses"
        rows.append(("false trips", f"{every}, at the promised rate"))
    if evidence.uses_to_trip is not None:
        mean = f"after {evidence.uses_to_trip:.1f} uses of the fact on average"
        rows.append(("true trips", f"{mean}, at the measured recall"))
    blocks: list[Block] = [Grid((), rows)] if rows else []
    findings = []
    for title, requests in evidence.histories.items():
        picture = breaker_history(requests, target=evidence.target)
        blocks += [title, picture]
        findings.append(f"{title}: {picture.text.splitlines()[0].rpartition('; ')[2]}")
    return Section("The breaker", "; ".join(findings), blocks)


def _responses(evidence: DemoEvidence) -> Section | None:
    more = evidence.strips[2:]
    if not more:
        return None
    blocks = [block for item in more for block in _strip(evidence, item)]
    return Section("More responses", f"{len(more)} more, token by token", blocks)


def _settings(evidence: DemoEvidence) -> Section | None:
    rows = [("model", evidence.model), ("fact", evidence.fact)]
    rows += [("says the fact", evidence.says)] if evidence.says else []
    rows += [(said(name), _value(value)) for name, value in evidence.settings.items()]
    return Section("Settings", "fixed before the test responses were generated", [Grid((), rows)])


def _strip(evidence: DemoEvidence, item: tuple[str, Stream, Verdict]) -> list[Block]:
    title, stream, verdict = item
    # One scale for all strips: no tint at the median of what is benign, full tint at the threshold.
    benign = sorted(
        score
        for _, other, _ in evidence.strips
        if other.kind != evidence.target
        for score in other.scores.tolist()
        if score < evidence.threshold.value
    )
    low = benign[len(benign) // 2] if benign else evidence.threshold.value - 1.0
    scale = (low, evidence.threshold.value)
    return [title, plots.token_strip(stream, evidence.threshold.value, verdict, scale=scale)]


def _share(share: Estimate | None) -> str:
    return (
        f"{_percent(share)}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{share.n}" if share is not None else "not measured"
    )


def _percent(share: Estimate) -> str:
    return f"{percent(share.value)} % [{percent(share.lower)}, {percent(share.upper)}]"


def _number(name: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return "not measured"
    return str(estimate) if name in PLAIN_NUMBERS else _share(estimate)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{said(str(name))} {_value(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}") if isinstance(value, float) else str(value)
