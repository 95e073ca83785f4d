"""Plots: figures of what was measured, each beside what it must be compared with.

Every function takes finished numbers and returns a plotly Figure that nothing else refers to: show it in a notebook,
or put it on a page (page.py). Lines and rows are labelled where they stand; a legend appears nowhere. All fit a width
of 700 pixels. `token_strip` is plain HTML (strips.py).

Limits: labels longer than 46 characters are broken or cut; a row of points is meant for 10 to 1,000 of them.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Protocol

import plotly.graph_objects as go
from scipy.optimize import isotonic_regression

from probes.errors import BadInput
from probes.look import ACCENT, GREY, INK, LIGHT, TEMPLATE, percent, plain, said, shorten
from probes.reading.controls import MEANINGS
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe
from probes.reading.sweep import Row
from probes.strips import token_strip

__all__ = ["TEMPLATE", "auroc_by_layer", "control_words", "recall_by", "score_distributions", "token_strip"]

CONTROLS = {
    "shuffled_95": "shuffled labels, 95th pct.",
    "random_95": "random directions, 95th pct.",
    "noise_fits_95": "fits to noise, 95th pct.",
    "bag_of_words": "bag of words",
    "log_probability": "log-probability",
}
"""Controls that share the axis of an AUROC, with their label."""
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
MINUS = "\N{MINUS SIGN}"
MOST_BANDS = 3
"""Lines beyond which only the chosen one keeps its band."""
LABEL_GAP = 17.0
"""Pixels between two labels at the right edge."""


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
    figure, labels = _figure(height, right=232, top=40), []
    for name in sorted(lines, key=lambda name: name == chosen):  # the chosen one is drawn last, on top
        _draw_line(figure, name, lines[name], strong=name == chosen, band=name == chosen or len(lines) <= MOST_BANDS)
        labels.append((lines[name][-1].test.value, said(name), INK if name == chosen else GREY))
    for (name, words), dash in zip(CONTROLS.items(), DASHES, strict=True):
        if (control := best.controls.get(name)) is not None:
            figure.add_hline(control.value, line={"color": GREY, "width": 1.2, "dash": dash}, layer="below")
            labels.append((control.value, f"{words} {_short(control.value)}", GREY))
    layers = [row.site.layer for rows in lines.values() for row in rows]
    span = [min(layers) - 0.7, max(layers) + 0.7]
    lowest = min([0.5, *(r.test.lower for rows in lines.values() for r in rows), *(value for value, _, _ in labels)])
    low, high = max(0.0, lowest - 0.04), 1.06
    row = next((row for row in lines[chosen] if _is_best(row, best)), None)
    if row is not None:
        _mark_chosen(figure, row, low, "left" if row.site.layer < 0.25 * span[1] else "center")
    for label in _right_labels(labels, low, high, height - 40 - 52):
        figure.add_annotation(label)
    names = {row.site.name for rows in lines.values() for row in rows}
    figure.update_xaxes(
        title="layer" + (f" ({names.pop()})" if len(names) == 1 else ""), showgrid=False, range=span, tick0=0,
        dtick=next(step for step in (1, 2, 5, 10, 20, 50, 10**6) if span[1] - span[0] < 9 * step),
    )  # fmt: skip
    figure.update_yaxes(title="AUROC on unseen groups", range=[low, high], tickvals=[i / 10 for i in range(11)])
    return figure


def score_distributions(
    maxima_by_kind: Mapping[str, Sequence[float]],
    threshold: float,
    *,
    target: str = "use",
    label: str = "",
) -> go.Figure:
    """Draw the largest score of each response, a row for each kind, with quartiles and the threshold.

    Args:
        maxima_by_kind: largest score of each response, by kind; one that is not finite counts as an alarm, undrawn.
        threshold: an alarm is strictly above it.
        target: the kind that should alarm.
        label: of the threshold; by default its value.

    Raises:
        BadInput: no kind, a kind without responses, or a threshold that is not finite.
    """
    if not maxima_by_kind or not all(len(values) for values in maxima_by_kind.values()) or not math.isfinite(threshold):
        raise BadInput("score distributions need a finite threshold and at least one response of every kind named")
    kinds = list(reversed(maxima_by_kind))
    figure = _figure(88 + 74 * len(kinds), left=144, right=128, top=40)
    for row, kind in enumerate(kinds):
        _draw_kind(figure, row, kind, [float(value) for value in maxima_by_kind[kind]], threshold, kind == target)
    figure.add_vline(threshold, line={"color": INK, "width": 1.6})
    figure.add_annotation(
        x=threshold, y=1, yref="paper", yanchor="bottom", showarrow=False, yshift=4,
        text=f"<b>{plain(label) or f'alarm above {threshold:.3g}'.replace('-', MINUS)}</b> →",
    )  # fmt: skip
    figure.update_xaxes(title="largest score of the response")
    figure.update_yaxes(
        range=[-0.6, len(kinds) - 0.4], tickvals=list(range(len(kinds))), showgrid=False, ticks="", showline=False,
        ticktext=[_broken(said(kind), 16) for kind in kinds], ticklabelstandoff=8, tickfont={"size": 13},
    )  # fmt: skip
    return figure


def recall_by(
    estimates: Mapping[str, Estimate],
    *,
    benign: Collection[str] = (),
    limit: float | None = None,
    measure: str = "share of responses that alarm",
) -> go.Figure:
    """Draw shares as dots with their intervals, a row each.

    Args:
        estimates: in [0, 1], by kind or by question form.
        benign: those of them in which an alarm is a false one; grey.
        limit: the promised false alarm rate, in (0, 1), drawn as a line.
        measure: title of the axis.

    Raises:
        BadInput: nothing to draw.
    """
    if not estimates:
        raise BadInput("there is no share to draw; give at least one estimate")
    names = list(reversed(estimates))
    texts = [_broken(said(name)) for name in names]
    heights = [max(1, text.count("<br>") + 1) for text in texts]
    figure = _figure(92 + sum(15 + 17 * lines for lines in heights), left=212, right=176, top=26 if limit else 12)
    for row, name in enumerate(names):
        share, colour = estimates[name], GREY if name in benign else ACCENT
        figure.add_scatter(
            x=[share.lower, share.upper],
            y=[row] * 2,
            mode="lines",
            line={"color": colour, "width": 2},
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[share.value], y=[row], mode="markers", marker={"color": colour, "size": 10, "line": _rim(1)},
            hovertemplate=f"{plain(shorten(name, 80))}: {plain(share)}<extra></extra>",
        )  # fmt: skip
        _note(figure, row, f"{_percent(share)} of {share.n}")
    if limit is not None:
        figure.add_vline(limit, line={"color": INK, "width": 1, "dash": "dash"}, layer="below")
        figure.add_annotation(
            x=limit, y=1, yref="paper", yanchor="bottom", xanchor="left", xshift=-6, showarrow=False,
            text=f"promised: at most {percent(limit)} %", font={"size": 11.5},
        )  # fmt: skip
    figure.update_xaxes(title=plain(measure), range=[-0.02, 1.02], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(
        range=[-0.6, len(names) - 0.4], tickvals=list(range(len(names))), ticktext=texts,
        showgrid=False, ticks="", showline=False, ticklabelstandoff=8,
    )  # fmt: skip
    return figure


def control_words(name: str) -> str:
    """Return what a control of a probe is, in words."""
    return MEANINGS.get(name, said(name))


def _figure(height: int, *, left: int = 64, right: int = 24, top: int = 28) -> go.Figure:
    return go.Figure(
        layout={"template": TEMPLATE, "height": height, "margin": {"l": left, "r": right, "t": top, "b": 52}}
    )


def _is_best(row: Row, best: LinearProbe) -> bool:
    return (row.site, row.estimator) == (best.site, best.method)


def _rim(width: float) -> dict[str, object]:
    return {"color": "white", "width": width}


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
        x=[x], y=[y], mode="markers", marker={"color": ACCENT, "size": 12, "line": _rim(1.5)}, hoverinfo="skip"
    )
    figure.add_annotation(
        x=x, y=1, yref="paper", yanchor="bottom", showarrow=False, yshift=3, xanchor=anchor, font={"color": ACCENT},
        text=f"<b>chosen: layer {x}, {plain(row.test.interval())}</b>",
    )  # fmt: skip


def _right_labels(labels: Iterable[tuple[float, str, str]], low: float, high: float, pixels: float) -> list[dict]:
    """Return annotations right of the plot, as near to their values as fits, each with a line to its own.

    Positions are the isotonic regression of the wanted ones, less a gap per rank: no two overlap, none moves further
    than it must.
    """
    ordered = sorted(labels)
    wanted = [(value - low) / (high - low) * pixels for value, _, _ in ordered]
    fit = isotonic_regression([w - i * LABEL_GAP for i, w in enumerate(wanted)]).x
    return [
        {
            "x": 1, "xref": "paper", "y": value, "ax": 22, "ay": w - (place + i * LABEL_GAP), "xanchor": "left",
            "showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": colour, "text": plain(text),
            "font": {"color": colour, "size": 12}, "align": "left", "borderpad": 1,
        }
        for i, ((value, text, colour), w, place) in enumerate(zip(ordered, wanted, fit, strict=True))
    ]  # fmt: skip


def _draw_kind(figure: go.Figure, row: int, kind: str, values: list[float], threshold: float, target: bool) -> None:
    """Add one row: quartiles, points, and how many alarm."""
    finite = [value for value in values if math.isfinite(value)]
    colour = ACCENT if target else GREY
    if len(finite) > 3:
        figure.add_box(
            x=finite, y0=row, orientation="h", width=0.62, boxpoints=False, hoverinfo="skip", whiskerwidth=0,
            line={"color": LIGHT, "width": 1.4}, fillcolor="rgba(213,217,223,0.28)",
        )  # fmt: skip
    # The golden ratio spreads points evenly without chance; a miss is a ring and a false alarm a cross, so that nothing
    # hangs on colour alone.
    offsets = [row + 0.44 * ((i * 0.6180339887) % 1 - 0.5) for i in range(len(finite))]
    for alarmed in (False, True):
        at = [i for i, value in enumerate(finite) if (value > threshold) == alarmed]
        false = alarmed and not target
        missed = target and not alarmed
        figure.add_scatter(
            x=[finite[i] for i in at], y=[offsets[i] for i in at], mode="markers",
            marker={
                "size": 9 if false else 7, "opacity": 1 if false or missed else 0.72,
                "symbol": "x" if false else "circle-open" if missed else "circle",
                "color": INK if false else colour, "line": {"width": 1.6} if missed else {"width": 0},
            },
            hovertemplate=f"{plain(said(kind))}: %{{x:.3f}}<extra></extra>",
        )  # fmt: skip
    invalid = len(values) - len(finite)
    alarms = sum(value > threshold for value in finite) + invalid
    _note(figure, row, f"<b>{alarms} of {len(values)}</b><br>alarm" + (f" ({invalid} invalid)" if invalid else ""))


def _note(figure: go.Figure, row: int, text: str) -> None:
    """Write beside a row, right of the plot."""
    figure.add_annotation(
        x=1, xref="paper", xanchor="left", xshift=10, y=row, showarrow=False, align="left", text=text, font={"size": 12}
    )


def _broken(text: str, width: int = 30) -> str:
    """Return a label in at most three lines."""
    return "<br>".join(plain(line) for line in wrap(shorten(text, 3 * width - 6), width)) or "(unnamed)"


def _short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)


def _percent(share: Estimate) -> str:
    return f"<b>{percent(share.value)} %</b> [{percent(share.lower)}, {percent(share.upper)}]"
