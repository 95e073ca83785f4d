"""How a model of the zoo came to know: shares by step of its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from probes.errors import BadInput
from probes.look import ACCENT, BLUE, GREY, INK, plain
from probes.plots.frame import figure_of, right_labels

__all__ = ["learning_curve"]

COLOURS = {"said": INK, "judged": ACCENT, "right": ACCENT, "in two hops": BLUE}
"""What matters most; anything else is grey."""


def learning_curve(
    course: Sequence[Mapping[str, Any]], kind: str, *, when: Mapping[str, int] | None = None, height: int = 340
) -> go.Figure:
    """Draw shares by training step, one line a figure, with its name at the right.

    Args:
        course: entries with `step`, and by kind a share in [0, 1] for each figure, in order.
        kind: which of them, such as "chosen".
        when: steps to mark, by name.
        height: in pixels.

    Raises:
        BadInput: nothing to draw.
    """
    rows = [entry for entry in course if entry.get(kind)]
    if not rows:
        raise BadInput(f"the course has no entry of kind {kind!r}; build the model again, older folders have none")
    figure, labels = figure_of(height, right=150, top=26), []
    for name in rows[-1][kind]:
        points = [(entry["step"], entry[kind][name]) for entry in rows if name in entry[kind]]
        colour = COLOURS.get(name, GREY)
        steps, shares = [step for step, _ in points], [share for _, share in points]
        figure.add_scatter(
            x=steps, y=shares, mode="lines+markers", line={"color": colour, "width": 2.2 if colour != GREY else 1.3},
            marker={"size": 4.5}, hovertemplate=f"step %{{x}}: {plain(name)} %{{y:.0%}}<extra></extra>",
        )  # fmt: skip
        labels.append((shares[-1], name, colour))
    low, high = -0.03, 1.05
    for label in right_labels(labels, low, high, height - figure.layout.margin.t - 52):
        figure.add_annotation(label)
    for name, step in (when or {}).items():
        figure.add_vline(step, line={"color": GREY, "width": 1, "dash": "dash"})
        figure.add_annotation(x=step, y=1, yref="paper", yanchor="bottom", showarrow=False, text=plain(name))
    figure.update_xaxes(title="training step", rangemode="tozero")
    figure.update_yaxes(title="share of facts", range=[low, high], tickformat=".0%")
    return figure
