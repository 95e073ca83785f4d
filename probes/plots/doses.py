"""Dose-response: what adding a direction does to a readout, beside random directions of the same length."""

import re
from collections.abc import Mapping

import plotly.graph_objects as go

from probes.errors import BadInput
from probes.look import ACCENT, GREY, INK, LIGHT, percent, plain
from probes.plots.frame import MINUS, broken, figure_of, right_labels, rim
from probes.reading.metrics import Estimate

__all__ = ["dose_response"]

DOSE = re.compile(r"(dose|random)_(-?[\d.]+(?:e[-+]?\d+)?)")
TOP, BOTTOM = 44, 52
WIDTH = 22
"""Letters of a line of the label, which has its room at the right."""


def dose_response(
    receipt: Mapping[str, Estimate], *, label: str = "this direction", answers: str = "", height: int = 400
) -> go.Figure:
    """Draw the change of the readout by dose, with intervals, over the band of random directions.

    Args:
        receipt: from `probes.receipt`, or that of a saved probe or vector.
        label: of the direction, where its line ends.
        answers: what the readout compares, such as "True over False".
        height: of the figure, in pixels.

    Raises:
        BadInput: the receipt has no doses.
    """
    lines: dict[str, dict[float, Estimate]] = {"dose": {}, "random": {}}
    for name, estimate in receipt.items():
        if found := DOSE.fullmatch(name):
            lines[found[1]][float(found[2])] = estimate
    if not lines["dose"]:
        raise BadInput("this receipt has no doses to draw; make one with probes.receipt(model, probe, topic)")
    doses, random = (dict(sorted(line.items())) for line in (lines["dose"], lines["random"]))
    ends = [end for estimate in (*doses.values(), *random.values()) for end in (estimate.lower, estimate.upper)]
    margin = 0.08 * (max(*ends, 0.0) - min(*ends, 0.0)) or 1.0
    low, high = min(*ends, 0.0) - margin, max(*ends, 0.0) + margin
    figure = figure_of(height, left=76, right=190, top=TOP)
    figure.add_hline(0, line={"color": LIGHT, "width": 1}, layer="below")
    figure.add_vline(0, line={"color": LIGHT, "width": 1}, layer="below")
    labels = []
    if random:
        _draw_band(figure, random)
        n = next(iter(random.values())).n
        labels.append((random[max(random)].value, f"{n} random directions,<br>middle 95 %", GREY))
    _draw_line(figure, doses)
    labels.append((doses[max(doses)].value, f"<b>{broken(label, WIDTH)}</b>", ACCENT))
    places = right_labels([(value, "", colour) for value, _, colour in labels], low, high, height - TOP - BOTTOM)
    for place, (_, text, _) in zip(places, sorted(labels), strict=True):
        figure.add_annotation({**place, "text": text})
    figure.add_annotation(
        x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=10, showarrow=False,
        align="left", text=_headline(receipt), font={"color": INK, "size": 12.5},
    )  # fmt: skip
    reach = 1.06 * max(map(abs, doses))
    figure.update_xaxes(title="dose, in residual norms", showgrid=False, range=[-reach, reach], tickvals=[*doses, 0.0])
    figure.update_xaxes(ticktext=[f"{dose:+g}".replace("-", MINUS) for dose in doses] + ["0"])
    of = f", {plain(answers)}" if answers else ""
    figure.update_yaxes(title=f"logit change{of}", range=[low, high], tickformat="~g")
    return figure


def _draw_band(figure: go.Figure, random: Mapping[float, Estimate]) -> None:
    """Add where random directions lie: nothing at dose 0, by definition."""
    band = sorted([*((dose, e.lower, e.upper) for dose, e in random.items()), (0.0, 0.0, 0.0)])
    x, lower, upper = (list(column) for column in zip(*band, strict=True))
    figure.add_scatter(
        x=x + x[::-1], y=upper + lower[::-1], fill="toself", fillcolor="rgba(98,107,120,0.18)", mode="none",
        hoverinfo="skip",
    )  # fmt: skip


def _draw_line(figure: go.Figure, doses: Mapping[float, Estimate]) -> None:
    """Add the direction itself: a line through the plain model, a dot with its interval at each dose."""
    for dose, estimate in doses.items():
        figure.add_scatter(
            x=[dose, dose], y=[estimate.lower, estimate.upper], mode="lines", line={"color": ACCENT, "width": 2},
            hoverinfo="skip",
        )  # fmt: skip
    through = sorted([*((dose, estimate.value) for dose, estimate in doses.items()), (0.0, 0.0)])
    x, y = (list(column) for column in zip(*through, strict=True))
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": ACCENT, "width": 2.4}, hoverinfo="skip")
    figure.add_scatter(
        x=list(doses), y=[estimate.value for estimate in doses.values()], mode="markers",
        marker={"color": ACCENT, "size": 10, "line": rim(1.5)},
        hovertemplate=[f"dose {dose:+g}: {plain(estimate)}<extra></extra>" for dose, estimate in doses.items()],
    )  # fmt: skip


def _headline(receipt: Mapping[str, Estimate]) -> str:
    parts = []
    if "slope_z" in receipt:
        z = receipt["slope_z"]
        parts.append(f"<b>{_number(z.value, 1)} s.d.</b> from random directions")
    if "wrong_way" in receipt:
        wrong = receipt["wrong_way"]
        parts.append(f"{percent(wrong.value)} % of {wrong.n} move the wrong way")
    if "cross_entropy" in receipt:
        parts.append(f"cross-entropy {_number(receipt['cross_entropy'].value, 3, sign=True)}")
    return " · ".join(parts)


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)
