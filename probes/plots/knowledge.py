"""What a model knows beside what it says, and how the bets on one fact went."""

from collections.abc import Mapping, Sequence
from math import log10

import plotly.graph_objects as go

from probes.errors import BadInput
from probes.look import ACCENT, GREY, INK, LIGHT, plain, shorten
from probes.plots.frame import figure_of

__all__ = ["quadrants", "wealth"]

PLACES = {"knows-denies": (0, 1), "knows-says": (1, 1), "ignorant": (0, 0), "guesses": (1, 0)}
"""Says to the right, knows above."""
TINTS = {"knows-denies": "#fbe9df", "guesses": "#e5eef8"}
"""Where the two disagree."""
WIDEST = 42
"""Letters of an example that fit into a quadrant."""


def quadrants(counts: Mapping[str, int], examples: Mapping[str, Sequence[str]] | None = None) -> go.Figure:
    """Draw the four quadrants with how many facts each has, and some of them by name.

    Args:
        counts: by quadrant, see `knowing.knowledge.QUADRANTS`; others than the four are written beneath.
        examples: some facts of each.

    Raises:
        BadInput: nothing was counted.
    """
    if not sum(counts.values()):
        raise BadInput("there is no fact to draw; give at least one")
    figure = figure_of(380, left=110, right=24, top=16)
    for name, (x, y) in PLACES.items():
        figure.add_shape(
            type="rect", x0=x, x1=x + 1, y0=y, y1=y + 1, line={"color": LIGHT, "width": 1},
            fillcolor=TINTS.get(name, "#ffffff"), layer="below",
        )  # fmt: skip
        some = [plain(shorten(text, WIDEST)) for text in (examples or {}).get(name, ())[:3]]
        figure.add_annotation(
            x=x + 0.5,
            y=y + 0.62,
            showarrow=False,
            font={"size": 34, "color": INK},
            text=f"<b>{counts.get(name, 0)}</b>",
        )
        below = "<br>".join([f"<b>{name}</b>", *some])
        figure.add_annotation(
            x=x + 0.5, y=y + 0.46, yanchor="top", showarrow=False, text=below, font={"size": 12, "color": GREY}
        )  # fmt: skip
    rest = ", ".join(f"{n} {name}" for name, n in counts.items() if n and name not in PLACES)
    axis = {"showgrid": False, "showline": False, "ticks": "", "tickvals": [0.5, 1.5], "range": [0, 2]}
    figure.update_xaxes(axis, ticktext=["doesn't say it", "says it"], title=plain(rest))
    figure.update_yaxes(axis, ticktext=["doesn't know it", "knows it"])
    return figure


def wealth(
    path: Sequence[float], refuting: Sequence[float], right: Sequence[bool], *, alpha: float = 0.01
) -> go.Figure:
    """Draw the wealth of the two bets on one fact after each puzzle, up to where it was decided.

    Args:
        path: of the bet against chance.
        refuting: of the bet against knowing.
        right: whether each puzzle was got right.
        alpha: wealth 1 / alpha decides.

    Raises:
        BadInput: no puzzle, or numbers of different length.
    """
    if not path or not len(path) == len(refuting) == len(right):
        raise BadInput(
            f"{len(path)}, {len(refuting)} and {len(right)} numbers; give one of each a puzzle, at least one"
        )
    figure, steps = figure_of(230, left=64, right=150, top=12), list(range(1, len(path) + 1))
    floor = 1e-6  # a logarithmic axis shows no more
    for name, values, colour in (("knows", path, ACCENT), ("does not know", refuting, GREY)):
        figure.add_scatter(
            x=steps, y=[max(value, floor) for value in values], mode="lines", line={"color": colour, "width": 2},
            hovertemplate=f"puzzle %{{x}}: wealth on '{name}' %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
    fills = [ACCENT if one else "white" for one in right]
    marks = ["right" if one else "wrong" for one in right]
    figure.add_scatter(
        x=steps, y=[max(value, floor) for value in path], mode="markers", customdata=marks,
        marker={"size": 7, "color": fills, "line": {"color": ACCENT, "width": 1}},
        hovertemplate="puzzle %{x}: %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(1 / alpha, line={"color": INK, "width": 1, "dash": "dash"})
    note = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 8, "showarrow": False, "font": {"size": 11.5}}
    figure.add_annotation(note, y=log10(1 / alpha), text=f"decided at {1 / alpha:g}")
    apart = path[-1] >= refuting[-1]
    figure.add_annotation(note, y=log10(max(path[-1], floor)), yshift=-18 if apart else 0, text="<b>knows</b>",
                          font={"size": 11.5, "color": ACCENT})  # fmt: skip
    figure.add_annotation(note, y=log10(max(refuting[-1], floor)), yshift=0 if apart else -18, text="does not know",
                          font={"size": 11.5, "color": GREY})  # fmt: skip
    figure.update_xaxes(title="puzzle (filled: right)")
    figure.update_yaxes(title="wealth", type="log", exponentformat="power", nticks=5)
    return figure
