"""Token strip: a response token by token, tinted by score, in plain HTML that needs no script.

Without a threshold the tint is orange above 0 and blue below, as 0 is a probe's own boundary. With one it is orange
alone and grows up to the threshold; scores above it are solid. The token that decided carries a mark, and where a
verdict says that the response was stopped, it and what follows are struck through: nobody was sent them.

Limits: at most 400 tokens are shown (the count of the others is said), and 48 characters of a token.
"""

import math
from html import escape
from typing import Protocol

from probes.errors import BadInput
from probes.look import ACCENT, BLUE, FONT, GREY, INK, Html, shorten
from probes.reading.streams import Stream

__all__ = ["Judgement", "token_strip"]

MOST_TOKENS = 400
MOST_CHARACTERS = 48
TINT = 0.62
"""Opacity of a score right at the threshold, or of the strongest where there is none: dark text stays legible."""
CELL = "display:inline-block;min-width:27px;margin:2px 1px 4px;text-align:center;vertical-align:top"
CONTROL = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥", "\0": "␀"})


class Judgement(Protocol):
    """What a strip needs of a verdict; `monitors.verdict.Verdict` is one."""

    @property
    def outcome(self) -> str:
        """ "clear", "alarm" or "invalid"."""

    @property
    def token(self) -> int | None:
        """1-based index of the token that decided."""

    @property
    def reason(self) -> str:
        """Why, in a sentence."""


def token_strip(
    stream: Stream,
    threshold: float | None = None,
    verdict: Judgement | None = None,
    *,
    scale: tuple[float, float] | None = None,
) -> Html:
    """Return the tokens of a stream, tinted by their scores.

    Args:
        stream: tokens and scores.
        threshold: where an alarm begins; None tints around 0.
        verdict: what the monitor made of it; the tokens from the deciding one on are shown as withheld.
        scale: scores without tint and with the full one, to compare strips; by default from the stream itself.

    Returns:
        HTML for a notebook or a page; as a string, the tokens with their scores beneath.

    Raises:
        BadInput: the verdict names a token that the stream does not have.
    """
    scores = [float(score) for score in stream.scores]
    decided = verdict.token if verdict is not None else _crossing(scores, threshold)
    if decided is not None and not 1 <= decided <= len(scores):
        raise BadInput(
            f"the verdict names token {decided} of a stream of {len(scores)}; give the stream it was made of"
        )
    withheld = verdict is not None and str(verdict.outcome) != "clear"
    shown = min(len(scores), MOST_TOKENS)
    low, high = scale or _scale(scores, threshold)
    spans = []
    for i in range(shown):
        gone = withheld and (decided is None or i + 1 >= decided)
        tint = _tint(scores[i], threshold, low, high)
        spans.append(_span(stream.tokens[i], i + 1, scores[i], tint, mark=i + 1 == decided, gone=gone))
    if shown < len(scores):
        spans.append(f'<span style="color:{GREY};padding:0 .4em">… and {len(scores) - shown} more tokens</span>')
    words = _words(len(scores), decided, verdict)
    style = f"font:15px/1.25 {FONT};color:{INK};background:#fff;padding:.25em 0".replace('"', "'")
    html = (
        f'<div role="group" aria-label="{escape(words)}" style="{style}">{_badge(words, verdict)}{"".join(spans)}</div>'
    )
    return Html(html, _text(stream.tokens[:shown], scores[:shown], decided, words))


def _crossing(scores: list[float], threshold: float | None) -> int | None:
    """Return the first token above the threshold or without a finite score."""
    if threshold is None:
        return None
    return next((i for i, s in enumerate(scores, start=1) if not math.isfinite(s) or s > threshold), None)


def _scale(scores: list[float], threshold: float | None) -> tuple[float, float]:
    finite = [score for score in scores if math.isfinite(score)] or [0.0]
    if threshold is None:
        return 0.0, max(map(abs, finite)) or 1.0
    low = min(finite)
    return (low if low < threshold else threshold - 1.0), threshold


def _tint(score: float, threshold: float | None, low: float, high: float) -> str:
    """Return the CSS of a token's background and text."""
    if not math.isfinite(score):
        return f"background:{INK};color:#fff"
    if threshold is not None and score > threshold:
        return f"background:{ACCENT};color:#fff"
    strength = (score - low) / (high - low)
    red, green, blue = (int(c, 16) for c in _pairs(BLUE if strength < 0 and threshold is None else ACCENT))
    part = min(1.0, abs(strength) if threshold is None else max(0.0, strength) ** 1.5) * TINT
    return f"background:rgba({red},{green},{blue},{part:.2f});color:{INK}"


def _pairs(colour: str) -> tuple[str, str, str]:
    return colour[1:3], colour[3:5], colour[5:7]


def _span(token: str, index: int, score: float, tint: str, *, mark: bool, gone: bool) -> str:
    visible = escape(shorten(token.translate(CONTROL), MOST_CHARACTERS)) or "∅"
    if gone and not mark:
        tint = f"background:#f3f4f6;color:{GREY}"
    line = ";text-decoration:line-through" if gone else ""
    edge = f";outline:2px solid {INK};outline-offset:1px;font-weight:600" if mark else ""
    number = ("▲ " if mark else "") + f"{score:.1f}".replace("-", "\N{MINUS SIGN}")
    below = f"color:{ACCENT};font-weight:700" if mark else f"color:{GREY}"
    title = f"token {index}: {score:.3f}" + (", withheld" if gone else "")
    return (
        f'<span title="{title}" style="{CELL}">'
        f'<span style="display:block;white-space:pre;border-radius:3px;padding:2px 3px;{tint}{line}{edge}">{visible}'
        f'</span><span style="display:block;font-size:10px;line-height:1.5;{below}">{number}</span>'
        "</span>" + ("<br>" if token.endswith("\n") else "")
    )


def _words(tokens: int, decided: int | None, verdict: Judgement | None) -> str:
    if verdict is None:
        crossing = f"; token {decided} crosses the threshold" if decided else ""
        return f"{tokens} tokens{crossing}"
    where = f" at token {decided}" if decided else ""
    return f"{str(verdict.outcome).upper()}{where} of {tokens}: {verdict.reason}"


def _badge(words: str, verdict: Judgement | None) -> str:
    if verdict is None:
        return ""
    head, _, rest = words.partition(":")
    colour = GREY if str(verdict.outcome) == "clear" else ACCENT
    return (
        f'<div style="font-size:13px;margin-bottom:.35em"><b style="color:{colour}">{escape(head)}</b>'
        f'<span style="color:{GREY}">:{escape(rest)}</span></div>'
    )


def _text(tokens: tuple[str, ...], scores: list[float], decided: int | None, words: str, width: int = 100) -> str:
    """Set tokens and scores in two lines each, in blocks of a terminal's width."""
    blocks, upper, lower = [words], "", ""
    for i, (token, score) in enumerate(zip(tokens, scores, strict=True), start=1):
        shown = shorten(token.translate(CONTROL), MOST_CHARACTERS)
        number = f"{score:.1f}" + ("^" if i == decided else "")
        size = max(len(shown), len(number)) + 1
        if len(upper) + size > width:
            blocks += [upper.rstrip(), lower.rstrip()]
            upper = lower = ""
        upper, lower = upper + shown.ljust(size), lower + number.ljust(size)
    return "\n".join([*blocks, upper.rstrip(), lower.rstrip()])
