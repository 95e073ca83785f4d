"""Look: what every figure, strip and page shares: four colours, one plotly template, text made harmless.

One accent stands for the target and for alarms, greys for everything benign, blue for the opposite of the concept; no
meaning hangs on colour alone. The accent is dark enough for white text on it (contrast 5.2 to 1), and the pair of
accent and blue keeps apart for the colour-blind.

Limits: plotly reads a few tags in its labels (`<b>`, `<br>`, `<a href>`), so whatever comes from outside passes
through `plain` before it becomes a label.
"""

from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

__all__ = [
    "ACCENT",
    "BLUE",
    "DIVERGING",
    "FONT",
    "GREY",
    "INK",
    "LIGHT",
    "TEMPLATE",
    "Html",
    "percent",
    "plain",
    "said",
    "shorten",
    "whole",
]

INK = "#1f2933"
"""Text, and the line that matters."""
GREY = "#626b78"
"""Benign kinds, controls, second text; contrast 5.4 to 1 on white."""
LIGHT = "#d5d9df"
"""Rules and grids."""
ACCENT = "#c2410c"
"""The target, alarms, what was chosen."""
BLUE = "#2b6cb0"
"""Scores below zero, where zero is the boundary."""
DIVERGING = ((0.0, BLUE), (0.5, "#ffffff"), (1.0, ACCENT))
"""Colour scale around what means nothing."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True, repr=False)
class Html:
    """Something to look at: HTML in a notebook and on a page, plain text everywhere else."""

    html: str
    """A fragment in which everything from outside is escaped already."""
    text: str
    """The same in plain text."""

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.html

    def __html__(self) -> str:
        """Tell jinja and markupsafe that this is escaped."""
        return self.html


def plain(text: Any) -> str:
    """Return text as a plotly label that shows it letter by letter, without tags, entities or formulas."""
    # Plotly knows few entities: quotes stay as they are, and a pair of dollars would ask for MathJax.
    return escape(str(text), quote=False).replace("$", "&#36;")


def shorten(text: str, most: int) -> str:
    """Return a text of at most `most` characters, cut at the end with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def said(name: str) -> str:
    """Return an identifier as words, "same_relation" as "same relation"; any other text as it is."""
    return name.replace("_", " ") if name.isidentifier() else name


def percent(share: float) -> str:
    """Return a share in [0, 1] in percent, without the sign: ".025" is "2.5", ".4" is "40"."""
    value = 100 * share
    return f"{value:.1f}".removesuffix(".0") if value >= 1 else f"{value:.2g}"


def _template() -> go.layout.Template:
    axis = {
        "showgrid": True,
        "gridcolor": "#eceef1",
        "zeroline": False,
        "showline": True,
        "linecolor": LIGHT,
        "ticks": "outside",
        "tickcolor": LIGHT,
        "ticklen": 4,
        "title": {"standoff": 10, "font": {"size": 13, "color": INK}},
    }
    layout = go.Layout(
        font={"family": FONT, "size": 12.5, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        colorway=[INK, GREY, ACCENT, BLUE],
        margin={"l": 64, "r": 24, "t": 28, "b": 52},
        xaxis=axis,
        yaxis=axis,
        showlegend=False,
        hoverlabel={"bgcolor": "white", "bordercolor": LIGHT, "font": {"family": FONT, "size": 12, "color": INK}},
    )
    return go.layout.Template(layout=layout)


TEMPLATE = _template()
"""Of every figure of the project."""


def whole(text: str) -> str:
    """Return a text that no line break cuts apart: an interval in a narrow column."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")
