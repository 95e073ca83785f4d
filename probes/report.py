"""Report: the page of a probe, and that of a direction's receipt, from plain finished values.

In this order: the sentence and the number; AUROC by layer beside its controls; then the scores by truth and polarity,
every control in words, transfer, some statements token by token, the settings. What was not measured is left out,
never shown as passed. A receipt: the sentence and z; the dose-response; every figure in words; what the model answers
with and without; the settings.

Limits: statements are on the page in full.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from probes import plots
from probes.look import percent, whole
from probes.page import Block, Grid, Page, Plot, Section
from probes.probing import Probing
from probes.reading.metrics import Estimate
from probes.steered import Steered
from probes.steering.receipt import BARS, MEANINGS, bar_words, shortfalls
from probes.steering.vectors import SteeringVector

__all__ = ["probe_page", "receipt_section", "steering_page", "write_probing", "write_steering"]


def probe_page(probing: Probing) -> Page:
    """Return the page of a probe."""
    found = probing.found
    makers = (_scores, _transfer, _controls, _receipt, _statements, _layers, _settings)
    return Page(
        title=f"Truth of {probing.source} in {probing.model}",
        sentence=probing.sentence,
        number=found.best.controls["auroc"].interval().split(" ")[0],
        measure="AUROC on entities that neither fitted nor chose",
        picture=[
            Plot(
                plots.auroc_by_layer(found),
                "AUROC on test entities, with 95 % intervals. Dashed: what is reached without knowledge, at the chosen "
                "layer.",
            )
        ],
        sections=[section for make in makers if (section := make(probing)) is not None],
        foot="Made by belief-probes. This file asks nothing of any other host.",
    )


def write_probing(folder: str | os.PathLike, probing: Probing) -> Path:
    """Write the probe (FOLDER/probe) and its page (FOLDER/page.html) in place of older ones; return where the page is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: something else stands there.
    """
    probing.found.best.save(Path(folder) / "probe", overwrite=True)
    return probe_page(probing).write(Path(folder) / "page.html")


def _scores(probing: Probing) -> Section:
    kinds = {kind: scores.tolist() for kind, scores in probing.scores.items()}
    figure = plots.score_histograms(kinds, target=[kind for kind in kinds if kind.startswith("true")])
    finding = "how scores are spread, and where the fit's own boundary lies"
    caption = "Scores of the test statements. Orange should lie right of the boundary, grey left of it."
    if probing.negated is not None:
        finding = f"negated statements: AUROC {probing.negated.interval()}"
        caption += " Where the negated ones lie the other way round, the probe reads the claim, not its truth."
    return Section("Scores", finding, [Plot(figure, caption)], unfolded=True)


def _transfer(probing: Probing) -> Section | None:
    if not probing.transfers:
        return None
    blocks: list[Block] = []
    for transfer in probing.transfers:
        caption = (
            f"AUROC of {transfer.estimator}, fitted on the rows, tested on the columns; no entity is in both. Blue: "
            "the sign has flipped. At the fit's own boundary the accuracy is in the table below."
        )
        blocks += [Plot(plots.transfer_heat_map(transfer), caption), transfer.table("accuracy")]
    last = probing.transfers[-1]
    finding = f"{last.estimator} fitted on both polarities: " + ", ".join(
        f"{column} {last.cell(last.rows[-1], column).auroc.interval()}" for column in last.columns
    )
    return Section("Does it carry over to negations", finding, blocks)


def _controls(probing: Probing) -> Section:
    controls = probing.found.best.controls
    rows = [
        (
            plots.control_words(name),
            f"{estimate.interval(3 if name.endswith('_p') else 2)}, n = {estimate.n}",
            estimate.how,
        )
        for name, estimate in controls.items()
    ]
    head = ("at the chosen layer", "value [95 % interval]", "how")
    stands = {True: "the score stands above every one of them", False: "one of them is better", None: "inconclusive"}
    caption = "Leads are paired: probe and control on the same statements."
    blocks = [probing.claims, Grid(head, rows, caption)]
    return Section("What would score without knowledge", stands[probing.claims.holds], blocks)


def _statements(probing: Probing) -> Section | None:
    if not probing.streams:
        return None
    blocks: list[Block] = []
    for text, stream in probing.streams.items():
        blocks += [text, plots.token_strip(stream)]
    return Section("Statements token by token", f"{len(probing.streams)} of the test statements", blocks)


def _layers(probing: Probing) -> Section:
    first = probing.first_layer
    finding = f"above random directions from layer {first} on" if first is not None else "no layer stands above chance"
    return Section("Every layer", finding, [probing.found.table])


def _settings(probing: Probing) -> Section:
    best, split = probing.found.best, probing.found.split
    groups = {role: len(getattr(split, role)) for role in ("train", "calibration", "test")}
    rows = [
        ("model", probing.model),
        ("statements of", probing.source),
        ("probe", f"{best.method} at {best.site}, tokens: {best.tokens}"),
        ("entities", ", ".join(f"{role} {n}" for role, n in groups.items())),
        ("confidence of intervals", f"{percent(best.controls['auroc'].confidence)} %"),
        ("time", f"{probing.seconds:.0f} s"),
        *(("note", note) for note in probing.notes),
    ]
    return Section("Settings", "fixed before the test entities were looked at", [Grid((), rows)])


def steering_page(steered: Steered) -> Page:
    """Return the page of a direction's receipt."""
    sections = [_figures(steered.receipt), _replies(steered), _conditions(steered)]
    return Page(
        title=f"Steering {steered.model}: {steered.direction.concept or steered.direction.method}",
        sentence=steered.sentence,
        number=f"{steered.receipt['slope_z'].value:.1f}",
        measure="standard deviations from what random directions of the same length do",
        picture=[_doses(steered.receipt, steered.direction.concept, steered.answers)],
        sections=[section for section in sections if section is not None],
        foot="Made by belief-probes. This file asks nothing of any other host.",
    )


def write_steering(folder: str | os.PathLike, steered: Steered) -> Path:
    """Write the direction with its receipt (FOLDER/probe or FOLDER/vector) and its page; return where the page is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: something else stands there.
    """
    kind = "vector" if isinstance(steered.direction, SteeringVector) else "probe"
    steered.direction.save(Path(folder) / kind, overwrite=True)
    return steering_page(steered).write(Path(folder) / "page.html")


def _receipt(probing: Probing) -> Section | None:
    best = probing.found.best
    return receipt_section(best.receipt, best.concept, "True over False") if best.receipt else None


def receipt_section(receipt: Mapping[str, Estimate], concept: str, answers: str, about: str = "") -> Section:
    """Return a section of a receipt: the dose-response, and every figure with its bar, met or not.

    Args:
        receipt: of a probe or a vector.
        concept: what the direction is of.
        answers: what the readout compares, "True over False".
        about: what else a reader should be told of it, a paragraph above.
    """
    section = _figures(receipt)
    told = [about] if about else []
    return Section(
        "Does the model use this direction",
        section.finding,
        [*told, _doses(receipt, concept, answers), *section.blocks],
    )


def _doses(receipt: Mapping[str, Estimate], concept: str, answers: str) -> Plot:
    caption = (
        "The direction is added at the last token of each prompt. Orange: how far that moves the model's answer, with "
        "95 % intervals; grey: what random directions of the same length do. A direction that the model uses leaves "
        "the grey on both sides."
    )
    return Plot(plots.dose_response(receipt, label=concept or "this direction", answers=answers), caption)


def _figures(receipt: Mapping[str, Estimate]) -> Section:
    rows = []
    for name, words in MEANINGS.items():
        if name in receipt:
            figure = receipt[name]
            cells = (f"{whole(figure.interval(3))}, {whole(f'n = {figure.n}')}", whole(bar_words(receipt, name)))
            rows.append((words, *cells, figure.how))
    short = shortfalls(receipt)
    finding = f"every bar of {len(BARS)} is met" if not short else "; ".join(short)
    head = ("figure", "value [95 % interval]", "bar", "how")
    return Section("Every figure of the receipt", finding, [Grid(head, rows)])


def _replies(steered: Steered) -> Section | None:
    if not steered.replies:
        return None
    caption = f"Greedy; steered by {steered.coefficient:g} residual norms from the last token of the prompt on."
    grid = Grid(("prompt", "plain", "steered"), steered.replies, caption)
    changed = sum(plain != new for _, plain, new in steered.replies)
    return Section("What it answers", f"{changed} of {len(steered.replies)} answers change", [grid], unfolded=True)


def _conditions(steered: Steered) -> Section:
    direction = steered.direction
    rows = [
        ("model", steered.model),
        ("asked", steered.asked),
        ("direction", f"{direction.method} at {direction.site}, read at tokens: {direction.tokens}"),
        ("largest dose", f"{steered.coefficient:g} residual norms"),
        ("time", f"{steered.seconds:.0f} s"),
    ]
    return Section("Settings", "where and how", [Grid((), rows)])
