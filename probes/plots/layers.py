"""AUROC by layer, beside its controls."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import plotly.graph_objects as go

from probes.errors import BadInput
from probes.judging.controls import MEANINGS
from probes.judging.sweep import Row
from probes.look import ACCENT, GREY, INK, plain, said
from probes.plots.frame import figure_of, right_labels, rim, short
from probes.reading.probe import LinearProbe

__all__ = ["Swept", "auroc_by_layer", "control_words"]

CONTROLS = {
    "shuffled_95": "shuffled labels, 95th pct.",
    "random_95": "random directions, 95th pct.",
    "noise_fits_95": "fits to noise, 95th pct.",
    "bag_of_words": "bag of words",
    "log_probability": "log-probability",
}
"""Controls that share the axis of an AUROC, with their label."""
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_BANDS = 3
"""Lines beyond which only the chosen one keeps its band."""


class Swept(Protocol):
    """What a plot needs of a Sweep."""

    best: LinearProbe

    def by_layer(self) -> Mapping[str, Sequence[Row]]: ...


def auroc_by_layer(found: Swept, *, height: int = 400) -> go.Figure:
    """Draw AUROC on test entities by layer, one line an estimator, with intervals, the chosen layer and its controls.

    Args:
        found: a Sweep.
        height: of the figure, in pixels.

    Raises:
        BadInput: the sweep has no rows.
    """
    lines = {name: tuple(rows) for name, rows in found.by_layer().items() if rows}
    if not lines:
        raise BadInput("the sweep has no rows; sweep at least one site with one estimator")
    best = found.best
    chosen = next((n for n, rows in lines.items() if any(_is_best(row, best) for row in rows)), next(iter(lines)))
    figure, labels = figure_of(height, right=232, top=40), []
    for name in sorted(lines, key=lambda name: name == chosen):  # the chosen one is drawn last, on top
        _draw_line(figure, name, lines[name], strong=name == chosen, band=name == chosen or len(lines) <= MOST_BANDS)
        labels.append((lines[name][-1].test.value, said(name), INK if name == chosen else GREY))
    for (name, words), dash in zip(CONTROLS.items(), DASHES, strict=True):
        if (control := best.controls.get(name)) is not None:
            figure.add_hline(control.value, line={"color": GREY, "width": 1.2, "dash": dash}, layer="below")
            labels.append((control.value, f"{words} {short(control.value)}", GREY))
    layers = [row.site.layer for rows in lines.values() for row in rows]
    span = [min(layers) - 0.7, max(layers) + 0.7]
    lowest = min([0.5, *(r.test.lower for rows in lines.values() for r in rows), *(value for value, _, _ in labels)])
    low, high = max(0.0, lowest - 0.04), 1.06
    row = next((row for row in lines[chosen] if _is_best(row, best)), None)
    if row is not None:
        _mark_chosen(figure, row, low, "left" if row.site.layer < 0.25 * span[1] else "center")
    for label in right_labels(labels, low, high, height - 40 - 52):
        figure.add_annotation(label)
    names = {row.site.name for rows in lines.values() for row in rows}
    figure.update_xaxes(
        title="layer" + (f" ({names.pop()})" if len(names) == 1 else ""), showgrid=False, range=span, tick0=0,
        dtick=next(step for step in (1, 2, 5, 10, 20, 50, 10**6) if span[1] - span[0] < 9 * step),
    )  # fmt: skip
    figure.update_yaxes(title="AUROC on unseen groups", range=[low, high], tickvals=[i / 10 for i in range(11)])
    return figure


def control_words(name: str) -> str:
    """Return what a control of a probe is, in words."""
    return MEANINGS.get(name, said(name))


def _is_best(row: Row, best: LinearProbe) -> bool:
    return (row.site, row.method) == (best.site, best.method)


def _draw_line(figure: go.Figure, name: str, rows: Sequence[Row], *, strong: bool, band: bool) -> None:
    """Add a line, with its band of intervals where that can be told from the others'."""
    layers, colour = [row.site.layer for row in rows], INK if strong else GREY
    if band:
        figure.add_scatter(
            x=layers + layers[::-1], y=[row.test.upper for row in rows] + [row.test.lower for row in reversed(rows)],
            fill="toself", fillcolor="rgba(31,41,51,0.13)" if strong else "rgba(98,107,120,0.10)", mode="none",
            hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=layers, y=[row.test.value for row in rows], mode="lines+markers" if len(rows) < 60 else "lines",
        line={"color": colour, "width": 2.4 if strong else 1.4}, marker={"size": 4.5 if strong else 3},
        hovertemplate=[f"{plain(row.site)}, {plain(name)}: {plain(row.test)}<extra></extra>" for row in rows],
    )  # fmt: skip


def _mark_chosen(figure: go.Figure, row: Row, low: float, anchor: str) -> None:
    x, y = row.site.layer, row.test.value
    figure.add_scatter(x=[x, x], y=[low, y], mode="lines", line={"color": ACCENT, "width": 1.2}, hoverinfo="skip")
    figure.add_scatter(
        x=[x], y=[y], mode="markers", marker={"color": ACCENT, "size": 12, "line": rim(1.5)}, hoverinfo="skip"
    )
    figure.add_annotation(
        x=x, y=1, yref="paper", yanchor="bottom", showarrow=False, yshift=3, xanchor=anchor, font={"color": ACCENT},
        text=f"<b>chosen: layer {x}, {plain(row.test.interval())}</b>",
    )  # fmt: skip
