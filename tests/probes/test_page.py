"""A page is one file that shows what it was given, letter by letter, and asks nothing of anybody."""

import base64
import errno
import hashlib
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from probes.errors import BadInput, CouldNotRun
from probes.look import Html, percent, plain, said, shorten
from probes.page import Grid, Page, Plot, Section

PAYLOADS = (Path(__file__).parents[1] / "payloads.txt").read_text(encoding="utf-8").splitlines()
VOID = {"meta", "link", "br", "img", "input", "embed", "base", "source"}


class Parsed(HTMLParser):
    """The elements, attributes, scripts and visible text of a page."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.scripts, self.texts, self.open = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def policy(self) -> str:
        return next(value for tag, name, value in self.attributes if tag == "meta" and "default-src" in (value or ""))


def bars(label: str = "") -> go.Figure:
    return go.Figure(
        go.Bar(x=[1, 2], y=[3, float("nan")], name=label), layout={"title": {"text": label}, "height": 200}
    )


def page(*sections: Section, sentence: str = "It heard 3 of 4.", picture=()) -> Page:
    return Page("a title", sentence, "3 of 4", "uses heard", picture, sections, "a foot")


def allowed_digests(policy: str) -> list[str]:
    return [part.strip("';").removeprefix("sha256-") for part in policy.split() if "sha256-" in part]


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_sentence_comes_first_then_the_number_then_the_picture_then_the_folded_evidence():
    html = page(Section("why", "because", ["a paragraph"]), picture=["the picture"]).html()
    body = html[html.index("<body>") :]
    places = [body.index(text) for text in ("It heard 3 of 4.", ">3 of 4<", "the picture", "<details>", "a paragraph")]
    assert places == sorted(places)


def test_a_section_is_folded_unless_it_says_otherwise():
    assert page(Section("a", "b", [])).html().count("<details open>") == 0
    assert page(Section("a", "b", [], unfolded=True)).html().count("<details open>") == 1


def test_plotly_is_inlined_once_for_many_figures_and_not_at_all_for_none():
    without = page(Section("a", "b", ["text"])).html()
    assert len(without) < 20_000
    html = page(Section("a", "b", [Plot(bars(), "one"), Plot(bars(), "two")]), picture=[Plot(bars(), "three")]).html()
    kinds = [attributes.get("type") for attributes, _ in Parsed(html).scripts]
    assert kinds == ["application/json"] * 3 + [None, None]
    assert 4e6 < len(html) < 6e6


def test_the_policy_lets_exactly_the_scripts_of_the_page_run():
    parsed = Parsed(page(picture=[Plot(bars(), "one")]).html())
    ours = [text for attributes, text in parsed.scripts if "type" not in attributes]
    assert [digest(text) for text in ours] == allowed_digests(parsed.policy)
    assert parsed.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in parsed.policy.split("style-src")[0]


def test_every_figure_on_the_page_is_valid_json_with_the_numbers_that_were_given():
    parsed = Parsed(page(picture=[Plot(bars("<b>bold</b> & <i onclick=x>"), "one")]).html())
    figure = json.loads(parsed.scripts[0][1])
    assert figure["data"][0]["y"] == [3, None]
    assert figure["layout"]["title"]["text"] == "<b>bold</b> & &lt;i onclick=x>"
    assert not {"<", ">", "&"} & set(parsed.scripts[0][1])


def test_a_figure_has_its_caption_as_text_and_for_screen_readers():
    parsed = Parsed(page(picture=[Plot(bars(), 'says "so"')]).html())
    assert ("div", "aria-label", 'says "so"') in parsed.attributes
    assert 'says "so"' in parsed.texts


def test_no_payload_becomes_an_element_an_attribute_or_a_script():
    assert len(PAYLOADS) == 50
    hostile = [everywhere(payload) for payload in PAYLOADS]
    blocks = [block for blocks in hostile for block in blocks]
    text = " ".join(PAYLOADS)
    made = Page(text, text, text, text, blocks, [Section(text, text, blocks)], text).html()
    parsed, tame = Parsed(made), Parsed(page(Section("a", "b", everywhere("x")), picture=everywhere("x")).html())
    assert set(parsed.tags) == set(tame.tags)
    assert {(tag, name) for tag, name, _ in parsed.attributes} == {(tag, name) for tag, name, _ in tame.attributes}
    assert [text for attributes, text in parsed.scripts if "type" not in attributes] == [
        text for attributes, text in tame.scripts if "type" not in attributes
    ]
    assert parsed.policy == tame.policy
    assert {value for _, name, value in parsed.attributes if name in ("href", "src")} == {"data:,"}
    shown = "\n".join(parsed.texts)
    assert all(shown.count(payload) >= 5 for payload in PAYLOADS)  # said in full, nothing dropped


def test_the_parser_of_the_payload_test_does_see_a_payload_that_was_not_escaped():
    parsed = Parsed(page(picture=[Html('<img src="http://127.0.0.1/x" onerror="x()">', "")]).html())
    assert ("img", "onerror", "x()") in parsed.attributes


def everywhere(text: str) -> list:
    return [text, Plot(bars(text), text), Grid((text, text), [(text, text)], text), Grid((), [(text, text)])]


def test_writing_puts_the_whole_file_in_place_of_an_older_one_and_makes_folders(tmp_path):
    target = tmp_path / "a" / "b.html"
    assert page().write(target) == target
    page(sentence="Another sentence.").write(target)
    assert "Another sentence." in target.read_text(encoding="utf-8")
    assert os.listdir(target.parent) == ["b.html"]


def test_a_full_disk_leaves_the_older_page_and_nothing_else(tmp_path, monkeypatch):
    target = page().write(tmp_path / "page.html")
    before = target.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CouldNotRun, match=r"could not write .*page\.html: No space left on device; a page takes"):
        page(sentence="Another sentence.").write(target)
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["page.html"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        page().write(tmp_path / "page.html")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BadInput, match="is a folder; name a file in it"):
        page().write(tmp_path)


def test_a_lone_surrogate_of_a_file_name_does_not_stop_the_page(tmp_path):
    target = page(sentence="caf\udce9 ☕ 東京").write(tmp_path / "page.html")
    assert "caf? ☕ 東京" in target.read_text(encoding="utf-8")


def test_a_table_with_ragged_rows_is_refused():
    with pytest.raises(BadInput, match=r"rows of \[1, 2\] cells in one table"):
        Grid(("a", "b"), [("only one",)])


def test_what_is_no_block_is_refused_by_name():
    with pytest.raises(BadInput, match="a float is no block of a page"):
        page(picture=[3.0]).html()


def test_html_shows_itself_in_a_notebook_and_reads_as_text_elsewhere():
    both = Html("<b>x</b>", "x")
    assert (both._repr_html_(), str(both), repr(both)) == ("<b>x</b>", "x", "x")


@pytest.mark.parametrize(
    ("share", "words"), [(0.925, "92.5"), (1.0, "100"), (0.0, "0"), (0.05, "5"), (0.001, "0.1"), (0.0005, "0.05")]
)
def test_a_share_in_percent_says_no_more_digits_than_it_needs(share, words):
    assert percent(share) == words


def test_labels_are_made_harmless_short_and_readable():
    assert plain("<a href='x'>&$") == "&lt;a href='x'&gt;&amp;&#36;"
    assert (shorten("abcdef", 4), shorten("abcd", 4)) == ("abc…", "abcd")
    assert (said("same_relation"), said("the ____ of {x}")) == ("same relation", "the ____ of {x}")
