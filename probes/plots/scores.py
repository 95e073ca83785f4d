"""Scores: of responses by kind with the threshold, of statements by truth with the boundary."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from probes.errors import BadInput
from probes.look import ACCENT, GREY, INK, LIGHT, plain, said
from probes.plots.frame import MINUS, broken, figure_of, note

__all__ = ["score_distributions", "score_histograms"]


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
    figure = figure_of(88 + 74 * len(kinds), left=144, right=128, top=40)
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
        ticktext=[broken(said(kind), 16) for kind in kinds], ticklabelstandoff=8, tickfont={"size": 13},
    )  # fmt: skip
    return figure


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
    note(figure, row, f"<b>{alarms} of {len(values)}</b><br>alarm" + (f" ({invalid} invalid)" if invalid else ""))


def score_histograms(
    scores_by_kind: Mapping[str, Sequence[float]],
    threshold: float = 0.0,
    *,
    target: Collection[str] = ("true",),
    label: str = "boundary",
    bins: int = 48,
) -> go.Figure:
    """Draw how scores are spread, one histogram above the other on one axis, with the share above the threshold.

    Args:
        scores_by_kind: such as {"true": ..., "false": ..., "true, negated": ..., "false, negated": ...}.
        threshold: 0 is a probe's own boundary.
        target: the kinds that should lie above it.
        label: of the threshold.
        bins: of the axis, from the 0.5th to the 99.5th percentile of all scores; what lies beyond is in the last ones.

    Raises:
        BadInput: no kind, a kind without scores, or a score that is not finite.
    """
    values = {kind: np.asarray(scores, dtype=float) for kind, scores in scores_by_kind.items()}
    if not values or not all(v.size and np.isfinite(v).all() for v in values.values()) or not math.isfinite(threshold):
        raise BadInput("score histograms need a finite threshold and finite scores of every kind named")
    every = np.concatenate(list(values.values()))
    low, high = (min(threshold, np.percentile(every, 0.5)), max(threshold, np.percentile(every, 99.5)))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    figure, kinds = figure_of(78 + 66 * len(values), left=132, right=120, top=40), list(reversed(values))
    figure.update_layout(bargap=0.06, barmode="overlay")
    for row, kind in enumerate(kinds):
        share = np.histogram(np.clip(values[kind], edges[0], edges[-1]), edges)[0] / values[kind].size
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2, y=0.82 * share / share.max(), base=row, customdata=100 * share,
            marker={"color": ACCENT if kind in target else GREY, "line": {"width": 0}},
            hovertemplate=f"{plain(said(kind))}, scores about %{{x:.3g}}: %{{customdata:.1f}} %<extra></extra>",
        )  # fmt: skip
        figure.add_hline(row, line={"color": LIGHT, "width": 1}, layer="below")
        above = float((values[kind] > threshold).mean())
        text = f"<b>{100 * above:.0f} %</b> above"
        note(figure, row + 0.36, f"{text}<br>n = {values[kind].size}")
    figure.add_vline(threshold, line={"color": INK, "width": 1.4, "dash": "dash"})
    figure.add_annotation(
        x=threshold, y=1, yref="paper", yanchor="bottom", showarrow=False, yshift=4,
        text=f"<b>{plain(label)} {threshold:.3g}</b>".replace("-", MINUS),
    )  # fmt: skip
    figure.update_xaxes(title="score", range=[edges[0], edges[-1]])
    figure.update_yaxes(
        range=[-0.08, len(kinds)], tickvals=[row + 0.36 for row in range(len(kinds))], showgrid=False, ticks="",
        ticktext=[broken(said(kind), 16) for kind in kinds], showline=False, ticklabelstandoff=8, tickfont={"size": 13},
    )  # fmt: skip
    return figure
