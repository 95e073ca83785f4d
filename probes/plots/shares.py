"""Shares with their intervals, a row each."""

from collections.abc import Collection, Mapping

import plotly.graph_objects as go

from probes.errors import BadInput
from probes.look import ACCENT, GREY, INK, percent, plain, said, shorten
from probes.plots.frame import broken, figure_of, note, rim
from probes.reading.metrics import Estimate

__all__ = ["recall_by"]


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
    texts = [broken(said(name)) for name in names]
    heights = [max(1, text.count("<br>") + 1) for text in texts]
    figure = figure_of(92 + sum(15 + 17 * lines for lines in heights), left=212, right=176, top=26 if limit else 12)
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
            x=[share.value], y=[row], mode="markers", marker={"color": colour, "size": 10, "line": rim(1)},
            hovertemplate=f"{plain(shorten(name, 80))}: {plain(share)}<extra></extra>",
        )  # fmt: skip
        note(figure, row, f"{_percent(share)} of {share.n}")
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


def _percent(share: Estimate) -> str:
    return f"<b>{percent(share.value)} %</b> [{percent(share.lower)}, {percent(share.upper)}]"
