"""A token strip says which token decided, what was withheld, and every token letter by letter."""

import re
from dataclasses import dataclass

import pytest
import torch

from probes.errors import BadInput
from probes.look import ACCENT, BLUE
from probes.reading.streams import Stream
from probes.strips import MOST_TOKENS, token_strip

TINTS = re.compile(r"background:([^;]+);color:[^;\"]+[^>]*>([^<]*)</span>")


@dataclass(frozen=True)
class Said:
    """A verdict in a few words."""

    outcome: str
    token: int | None
    reason: str


def stream(*scores: float, tokens: tuple[str, ...] = ()) -> Stream:
    return Stream(tokens or tuple(f"t{i}" for i in range(1, len(scores) + 1)), torch.tensor(scores))


def tint_of(html: str, token: str) -> str:
    return next(tint for tint, text in TINTS.findall(html) if text == token)


def opacity(tint: str) -> float:
    return float(tint.removesuffix(")").rpartition(",")[2])


def test_four_tokens_by_hand_the_third_crosses_and_is_withheld_with_what_follows():
    """Scores 0, 1, 5, 2 and a threshold of 4: token 3 decides, tokens 3 and 4 are struck through."""
    strip = token_strip(stream(0, 1, 5, 2), 4.0, Said("alarm", 3, "the score of token 3 is 5, above 4"))
    assert str(strip) == (
        "ALARM at token 3 of 4: the score of token 3 is 5, above 4\nt1  t2  t3   t4\n0.0 1.0 5.0^ 2.0"
    )
    html = strip._repr_html_()
    assert html.count("line-through") == 2
    assert html.count("▲") == 1
    assert tint_of(html, "t3") == ACCENT
    assert 'title="token 3: 5.000, withheld"' in html
    assert 'title="token 2: 1.000"' in html


def test_a_clear_response_is_neither_marked_nor_struck():
    html = token_strip(stream(0, 1, 3), 4.0, Said("clear", None, "the highest is 3")).html
    assert "line-through" not in html
    assert "▲" not in html


def test_without_a_verdict_the_first_crossing_is_marked_and_nothing_withheld():
    strip = token_strip(stream(0, 5, 6), 4.0)
    assert str(strip).startswith("3 tokens; token 2 crosses the threshold")
    assert strip.html.count("▲") == 1
    assert "line-through" not in strip.html


def test_a_score_right_at_the_threshold_is_no_crossing():
    assert "▲" not in token_strip(stream(0, 4), 4.0).html


def test_a_response_that_could_not_be_judged_is_withheld_as_a_whole():
    html = token_strip(stream(0, 1), 4.0, Said("invalid", None, "a probe was deaf")).html
    assert html.count("line-through") == 2
    assert "INVALID of 2" in html


def test_a_score_that_is_not_a_number_is_dark_and_crosses():
    strip = token_strip(stream(0, float("nan"), 1), 4.0)
    assert tint_of(strip.html, "t2") == "#1f2933"
    assert "token 2 crosses" in str(strip)


def test_with_a_threshold_the_tint_grows_up_to_it():
    html = token_strip(stream(0, 1, 3, 3.9), 4.0).html
    strengths = [opacity(tint_of(html, f"t{i}")) for i in range(1, 5)]
    assert strengths == sorted(strengths)
    assert strengths[0] == 0 < strengths[-1] < 0.65


def test_without_a_threshold_the_tint_is_orange_above_zero_and_blue_below():
    html = token_strip(stream(2, -2, 0)).html
    orange, blue = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (ACCENT, BLUE))
    assert tint_of(html, "t1") == f"rgba({','.join(map(str, orange))},0.62)"
    assert tint_of(html, "t2") == f"rgba({','.join(map(str, blue))},0.62)"
    assert opacity(tint_of(html, "t3")) == 0


def test_one_scale_makes_two_strips_comparable():
    weak, strong = stream(0, 1), stream(0, 3)
    alone = [tint_of(token_strip(s, 4.0, scale=(0, 4)).html, "t2") for s in (weak, strong)]
    assert opacity(alone[0]) < opacity(alone[1])


@pytest.mark.parametrize("scores", [(), (1.0,), (2.0, 2.0), (9.0, 9.0), (float("nan"),), (float("inf"), -float("inf"))])
@pytest.mark.parametrize("threshold", [None, 3.0])
def test_empty_constant_and_broken_streams_are_shown(scores, threshold):
    strip = token_strip(stream(*scores), threshold)
    assert f"{len(scores)} tokens" in str(strip)
    assert strip.html.startswith("<div")


def test_tokens_are_escaped_and_unseen_characters_shown():
    tokens = ('<img src=x onerror="x()">', "a\n", "", "\0", " Süd京", "&amp;")
    html = token_strip(stream(*range(6), tokens=tokens)).html
    for text in ("&lt;img src=x onerror=&quot;x()&quot;&gt;", "a↵", "∅", "␀", " Süd京", "&amp;amp;"):
        assert f">{text}</span>" in html
    assert "<img" not in html
    assert html.count("<br>") == 1


def test_the_reason_of_a_verdict_is_escaped():
    html = token_strip(stream(1), 0.0, Said("alarm", 1, '"><script>x()</script>')).html
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2  # once said, once in the label for screen readers


def test_a_very_long_response_and_a_very_long_token_are_cut_and_say_so():
    strip = token_strip(stream(*[0.0] * (MOST_TOKENS + 7)))
    assert "… and 7 more tokens" in strip.html
    assert "token 400:" in strip.html
    assert "token 401:" not in strip.html
    assert f">{'a' * 47}…</span>" in token_strip(stream(1, tokens=("a" * 10_000,))).html


def test_a_verdict_of_another_stream_is_refused():
    with pytest.raises(BadInput, match="the verdict names token 3 of a stream of 2; give the stream it was made of"):
        token_strip(stream(0, 1), 4.0, Said("alarm", 3, ""))
