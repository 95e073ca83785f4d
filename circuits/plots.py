"""Plots: what was found inside a model, as plotly figures that fit a width of 700 pixels.

A heat map of effects is orange where the clean answer comes back, blue where it is pushed further away, and white at 0.

Limits: tokens longer than 14 characters are cut, prompts longer than 90; above 60 positions labels get close.
"""

import math
from textwrap import wrap

import plotly.graph_objects as go

from circuits.explain.patching import Patching
from probes.errors import BadInput
from probes.look import DIVERGING, TEMPLATE, plain, shorten

__all__ = ["patching_heatmap"]

GRID = "#e6e9ed"
"""Shows in the gaps between cells, so that cells without effect are seen to be there."""
CONTROL = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥", "\0": "␀"})
BAR = {
    "title": {"text": "effect (0 = corrupted, 1 = clean)", "side": "right", "font": {"size": 12}},
    "thickness": 12, "outlinewidth": 0, "ypad": 0, "nticks": 6, "ticks": "",
}  # fmt: skip
TOP_LEFT = {"x": 0.01, "xanchor": "left", "y": 1, "yanchor": "top"}
MOST_CHARACTERS = 14
WIDTH = 520
"""Pixels that 700 leave to the columns."""


def patching_heatmap(patching: Patching, *, titled: bool = True) -> go.Figure:
    """Draw the effect of every layer and position, layer 0 at the bottom.

    Args:
        patching: what `patch` returned.
        titled: say above what the table says: `Patching.sentence`, where it has one. False leaves that to a caption.

    Raises:
        BadInput: an effect is not finite.
    """
    effect = patching.effect.tolist()
    if not all(math.isfinite(value) for row in effect for value in row):
        raise BadInput("an effect is not finite; a heat map needs a number in every cell")
    layers, positions = patching.effect.shape
    most = max(1.0, float(patching.effect.abs().max()))  # at least 1: a table of small effects has to look like one
    names = [[plain(visible(token)) for token in row] for row in (patching.tokens, patching.corrupted_tokens)]
    figure = go.Figure(
        go.Heatmap(
            z=effect, customdata=[names[0]] * layers, xgap=1, ygap=1,
            colorscale=DIVERGING, zmin=-most, zmax=most, zmid=0, colorbar=BAR,
            hovertemplate="layer %{y}, position %{x}: %{customdata}<br>effect %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    # The axis counts positions, so that tokens which repeat stay columns of their own.
    labels = [clean if clean == other else f"{clean}<br>({other})" for clean, other in zip(*names, strict=True)]
    wide = 7.5 * max(len(visible(token)) for token in (*patching.tokens, *patching.corrupted_tokens))
    upright = wide + 8 > WIDTH / positions
    lines = _title(patching) if titled else []
    top, bottom = 26 + 19 * len(lines) if lines else 16, int(24 + (wide if upright else 36))
    height = top + bottom + max(180, min(14 * layers, 560))
    figure.update_layout(template=TEMPLATE, plot_bgcolor=GRID, height=height, margin={"t": top, "b": bottom})
    figure.update_layout(title={"text": "<br>".join(lines), "font": {"size": 14}, "pad": {"t": 12}, **TOP_LEFT})
    bare = {"showgrid": False, "showline": False, "ticks": ""}
    figure.update_xaxes(
        bare, tickvals=list(range(positions)), ticktext=labels, range=[-0.5, positions - 0.5],
        tickangle=-90 if upright else 0,
    )  # fmt: skip
    figure.update_yaxes(
        bare, title=f"layer ({patching.site})", dtick=1 if layers <= 12 else 5, tick0=0, range=[-0.5, layers - 0.5]
    )
    return figure


def _title(patching: Patching) -> list[str]:
    """The sentence in bold, where there is one, and the prompts."""
    pair = patching.pair
    sentence = patching.sentence or f"Patching {patching.site}: {pair.answer.strip()} or {pair.wrong.strip()}?"
    prompts = [f"Clean: “{pair.clean}”", f"Corrupted: “{pair.corrupted}”"]
    if len(", ".join(prompts)) <= 90:
        prompts = [", c".join([prompts[0], prompts[1][1:]])]
    return [f"<b>{plain(line)}</b>" for line in wrap(sentence, 86)] + [plain(shorten(line, 90)) for line in prompts]


def visible(token: str) -> str:
    """Return a token so that it can be seen: without the space in front, with signs for what leaves no mark."""
    return shorten(token.translate(CONTROL).strip(" "), MOST_CHARACTERS) or "␣"
