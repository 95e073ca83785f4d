"""Transfer heat map: a row a fit, a column a part; orange above one half, blue where the sign has flipped."""

import plotly.graph_objects as go

from probes.judging.transfer import MEASURES, Transfer
from probes.look import DIVERGING, GREY, INK, TEMPLATE, plain, said
from probes.plots.frame import broken, short

__all__ = ["transfer_heat_map"]

LEAST_CELL, MOST_CELL = 44, 120
"""Pixels: the narrowest cell that holds a figure, and the widest that still looks like one."""
ROOM = 470
"""Pixels that 700 leave to the columns."""
DARK = 0.36
"""Distance from one half beyond which white text is easier to read."""


def transfer_heat_map(transfer: Transfer, measure: str = "auroc", *, titled: bool = True) -> go.Figure:
    """Draw one measure of a transfer matrix, every cell with its figure, and with its interval where there is room.

    Args:
        transfer: from `transfer_matrix`.
        measure: "auroc" or "accuracy".
        titled: say above what was fitted, and where.

    Raises:
        NotFound: no such measure.
    """
    values = transfer.values(measure)
    wide = min(MOST_CELL, max(LEAST_CELL, ROOM / len(transfer.columns)))
    figure = go.Figure(
        go.Heatmap(
            z=values, x=list(range(len(transfer.columns))), y=list(range(len(transfer.rows))), xgap=2, ygap=2,
            colorscale=DIVERGING, zmin=0, zmax=1, showscale=False, hoverinfo="skip",
        )
    )  # fmt: skip
    for y, row in enumerate(transfer.rows):
        for x, column in enumerate(transfer.columns):
            cell = transfer.cell(row, column)
            estimate = getattr(cell, measure)
            colour = "white" if abs(estimate.value - 0.5) > DARK else INK
            text = f"({short(estimate.value)})" if cell.seen else f"<b>{short(estimate.value)}</b>"
            lines = [(text, 13, 8 if wide >= 80 else 0)]
            if wide >= 80:
                lines.append((f"[{short(estimate.lower)}, {short(estimate.upper)}]", 10, -11))
            for words, size, shift in lines:
                figure.add_annotation(
                    x=x, y=y, showarrow=False, text=words, yshift=shift, font={"size": size, "color": colour}
                )
    left, top = 170, 62 + (26 if titled else 0)
    figure.update_layout(
        template=TEMPLATE, height=int(top + 34 + 54 * len(transfer.rows)), hovermode=False,
        margin={"l": left, "r": max(24, int(700 - left - wide * len(transfer.columns))), "t": top, "b": 34},
    )  # fmt: skip
    if titled:
        title = f"<b>{MEASURES[measure]}</b> of {plain(transfer.estimator)} at {plain(transfer.site)}"
        figure.update_layout(title={"text": title, "font": {"size": 14}, "x": 0.01, "xanchor": "left", "y": 0.985})
        figure.update_layout(title={"yanchor": "top", "pad": {"t": 4}})
    bare = {"showgrid": False, "showline": False, "ticks": "", "tickfont": {"size": 12.5}}
    figure.update_xaxes(
        bare, side="top", tickvals=list(range(len(transfer.columns))), range=[-0.5, len(transfer.columns) - 0.5],
        ticktext=[broken(said(name), max(6, int(wide / 7))) for name in transfer.columns], tickangle=0,
    )  # fmt: skip
    figure.update_yaxes(
        bare, tickvals=list(range(len(transfer.rows))), range=[len(transfer.rows) - 0.5, -0.5],
        ticktext=[broken(f"fitted on {said(name)}", 24) for name in transfer.rows], ticklabelstandoff=8,
    )  # fmt: skip
    figure.add_annotation(
        x=0, y=-6 / 54, yref="paper", xref="paper", xanchor="left", yanchor="top", showarrow=False,
        text="tested on the columns; (…): other entities of the same part were among those fitted",
        font={"size": 11, "color": GREY},
    )  # fmt: skip
    return figure
