"""The frame of every figure: size and template, names of rows, notes beside them, labels that keep apart."""

from collections.abc import Iterable
from textwrap import wrap

import plotly.graph_objects as go
from scipy.optimize import isotonic_regression

from probes.look import TEMPLATE, plain, shorten

__all__ = ["MINUS", "broken", "figure_of", "note", "right_labels", "rim", "short"]

MINUS = "\N{MINUS SIGN}"
LABEL_GAP = 17.0
"""Pixels between two labels at the right edge."""


def figure_of(height: int, *, left: int = 64, right: int = 24, top: int = 28) -> go.Figure:
    return go.Figure(
        layout={"template": TEMPLATE, "height": height, "margin": {"l": left, "r": right, "t": top, "b": 52}}
    )


def rim(width: float) -> dict[str, object]:
    return {"color": "white", "width": width}


def right_labels(labels: Iterable[tuple[float, str, str]], low: float, high: float, pixels: float) -> list[dict]:
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


def note(figure: go.Figure, row: int, text: str) -> None:
    """Write beside a row, right of the plot."""
    figure.add_annotation(
        x=1, xref="paper", xanchor="left", xshift=10, y=row, showarrow=False, align="left", text=text, font={"size": 12}
    )


def broken(text: str, width: int = 30) -> str:
    """Return a label in at most three lines."""
    return "<br>".join(plain(line) for line in wrap(shorten(text, 3 * width - 6), width)) or "(unnamed)"


def short(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)
