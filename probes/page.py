"""Page: one self-contained HTML file: a sentence, a number, a picture; then the evidence, folded away.

1. Whatever text comes in is escaped: jinja's autoescape in the markup; `<`, `>` and `&` as \\u003c ... in the figures'
   JSON; tags that plotly would obey in a label, but for bold, italics, line breaks and the like, are shown as text.
2. A content security policy allows two scripts by their SHA-256 (plotly's and ours), inline styles, images within the
   page, and nothing else: what escaping missed would still not run, and nothing is asked of any host.
3. plotly.min.js is there once, at the end, and not at all where there is no figure. A figure is drawn when it is first
   seen: in a folded section it has no width. Printing unfolds all.
4. The file is written beside its place and renamed into it: whole or not at all.

Source: Content Security Policy Level 3, section 2.3.1 (hashes).
Limits: plotly makes it 5 MB; a block with `_repr_html_` is trusted to have escaped what it holds, as ours do.
"""

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from probes.errors import BadInput, CouldNotRun
from probes.look import ACCENT, FONT, GREY, INK, LIGHT

__all__ = ["Grid", "Page", "Plot", "Section"]

TAG = re.compile(r"<(?!/?(?:b|i|br|sub|sup|extra)>)")
"""A tag in a plotly label, except the harmless ones, which have no attributes."""


class Shown(Protocol):
    """Anything with a picture of itself in HTML: a token strip, a table of a sweep."""

    def _repr_html_(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Plot:
    """A plotly figure with what it shows."""

    figure: go.Figure
    """Drawn when it is first seen."""
    caption: str
    """What to see in it, in a sentence or two; also what a screen reader says."""


@dataclass(frozen=True)
class Grid:
    """A table."""

    headings: Sequence[str]
    """Of the columns; may be empty where the first column names each row."""
    rows: Sequence[Sequence[str]]
    """Cells in order; the first of a row is its heading."""
    caption: str = ""
    """What it shows."""

    def __post_init__(self) -> None:
        widths = {len(row) for row in [self.headings, *self.rows] if len(row)}
        if len(widths) > 1:
            raise BadInput(f"rows of {sorted(widths)} cells in one table; give each row one cell a heading")


Block = str | Plot | Grid | Shown
"""What a page is made of; a string is a paragraph."""


@dataclass(frozen=True, eq=False)
class Section:
    """One piece of evidence."""

    title: str
    """What was asked."""
    finding: str
    """The answer in few words, read without unfolding."""
    blocks: Sequence[Block]
    """Figures, tables, strips, paragraphs."""
    unfolded: bool = False
    """Whether it stands open at first."""


@dataclass(frozen=True, eq=False)
class Page:
    """A report as one file."""

    title: str
    """Of the window, and above the sentence."""
    sentence: str
    """What came out, in one sentence."""
    number: str
    """The number that matters most, such as "37 of 40"."""
    measure: str
    """What the number counts."""
    picture: Sequence[Block]
    """The one picture that everybody should see."""
    sections: Sequence[Section]
    """The evidence."""
    foot: str = ""
    """How it was made."""

    def __repr__(self) -> str:
        return f"Page({self.title!r}, {self.number} {self.measure}, {len(self.sections)} sections)"

    def html(self) -> str:
        """Return the whole file as text."""
        drawn: list[Plot] = []
        picture = [_block(block, drawn) for block in self.picture]
        sections = [(section, [_block(block, drawn) for block in section.blocks]) for section in self.sections]
        return _template().render(
            page=self,
            picture=picture,
            sections=sections,
            figures=[Markup(_json(figure.figure)) for figure in drawn],
            plotly=Markup(_plotly()) if drawn else "",
            policy=_policy,
            look={"accent": ACCENT, "grey": GREY, "ink": INK, "light": LIGHT, "font": Markup(FONT)},
        )

    def write(self, path: str | os.PathLike) -> Path:
        """Write the file whole or not at all, in place of one that is there, and return where it is.

        Raises:
            BadInput: the path is a folder.
            CouldNotRun: no space, no permission, a broken disk; nothing is left behind, and an older file stays.
        """
        target = Path(os.path.abspath(os.path.expanduser(path)))
        if target.is_dir():
            raise BadInput(f"{target} is a folder; name a file in it, such as {target / 'page.html'}")
        body = self.html().encode("utf-8", "replace")  # a lone surrogate of a file name becomes a question mark
        staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(staged, "xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, target)
        except OSError as error:
            raise CouldNotRun(
                f"could not write {target}: {error.strerror or error}; a page takes {len(body) / 1e6:.0f} MB there"
            ) from error
        finally:  # KeyboardInterrupt included
            staged.unlink(missing_ok=True)
        return target


def _block(block: Block, drawn: list[Plot]) -> dict[str, Any]:
    """Return what the template needs of a block, and put its figure among those to draw."""
    match block:
        case str():
            return {"kind": "text", "text": block}
        case Plot():
            drawn.append(block)
            height = block.figure.layout.height or 400
            return {"kind": "figure", "caption": block.caption, "height": int(height), "number": len(drawn) - 1}
        case Grid():
            return {"kind": "grid", "grid": block}
    if not callable(getattr(block, "_repr_html_", None)):
        raise BadInput(f"a {type(block).__name__} is no block of a page; give text, a Plot, a Grid or a token strip")
    return {"kind": "html", "html": Markup(block._repr_html_())}


def _json(figure: go.Figure) -> str:
    """Return a figure as JSON that cannot end its script element, with labels that hold no foreign tags."""
    body = json.dumps(_tame(json.loads(figure.to_json())), allow_nan=False)
    for character in "<>&":
        body = body.replace(character, f"\\u{ord(character):04x}")
    return body


def _tame(value: Any) -> Any:
    """Return JSON data in which every string shows unknown tags as text."""
    if isinstance(value, dict):
        return {key: _tame(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tame(item) for item in value]
    return TAG.sub("&lt;", value) if isinstance(value, str) else value


def _policy(scripts: Sequence[str]) -> str:
    """Return the content security policy that lets these scripts run, and no other."""
    # A digest is of the text between the tags: the template must add nothing there, not even a line break.
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts if text)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("\r\n", "\n")  # as a browser would before it takes the digest


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files("probes").joinpath("page.html.j2").read_text(encoding="utf-8"))
