"""The demo's page leads with the sentence, shows what was measured, leaves out what was not, and escapes all of it."""

import json
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from monitors.breaker.rule import Policy
from monitors.calibration import calibrate
from monitors.history import replay
from monitors.report import DemoEvidence, demo_page, write_demo_page
from monitors.verdict import Outcome, Verdict, judge
from probes.judging.sweep import Row
from probes.model.sites import Site
from probes.reading.metrics import Estimate, proportion
from probes.reading.probe import LinearProbe
from probes.reading.streams import Stream

PAYLOADS = (Path(__file__).parents[1] / "payloads.txt").read_text(encoding="utf-8").splitlines()
ALL = " ".join(PAYLOADS)


@dataclass(frozen=True, eq=False)
class Swept:
    best: LinearProbe

    def by_layer(self):
        row = Row(Site("resid_post", 1), "logistic", Estimate(0.9, 0.8, 1.0, 10), Estimate(0.95, 0.9, 0.97, 60))
        return {"logistic": (row,)}


def threshold(kind: str = "ordinary", setting: str = "max_new_tokens"):
    maxima = {kind: {i: i / 100 for i in range(93)}, "same_subject": {i: i / 50 for i in range(93)}}
    return calibrate(
        maxima, horizon=48, made="2026-11-22", rate=0.05, generation={setting: 48}, prompt_mix={"form": "chat"}
    )


LIMIT = threshold()
USE = Stream(("The", " capital", " is"), torch.tensor([0.0, 1.0, 9.0]), kind="use")
BENIGN = Stream(("The", " cheese"), torch.tensor([0.5, 1.2]), kind="same_subject")


def evidence(**changes) -> DemoEvidence:
    """The least that a page needs."""
    least = DemoEvidence(
        model="tiny", fact="France|capital|Paris", sentence="It heard 3 of 4.", number="3 of 4", measure="uses heard",
        threshold=LIMIT, maxima_by_kind={"use": [9.0, 8.0, 7.0, 0.0], "ordinary": [0.0, 0.1]},
        recall=proportion(3, 4), false_alarms=proportion(0, 2),
        by_kind={"use": proportion(3, 4), "ordinary": proportion(0, 2)},
        strips=[
            ("What is the capital?", USE, judge(USE.scores, 3, LIMIT)),
            ("Which cheese?", BENIGN, judge(BENIGN.scores, 2, LIMIT)),
        ],
    )  # fmt: skip
    return replace(least, **changes)


def full(text: str = "", **changes) -> DemoEvidence:
    """Everything that a page can show, with a text put wherever text from outside can come."""
    verdict = Verdict(Outcome.ALARM, 1, 5.0, 5.0, "crossed " + text, 1, 1, request_id=text)
    controls = {"auroc": proportion(9, 10), "new" + text: proportion(1, 2)}
    probe = LinearProbe(torch.ones(2), 0.0, Site("resid_post", 1), method="logistic", controls=controls)
    strips = [(f"prompt {text}", Stream((text or "a",), torch.tensor([5.0]), kind=text), verdict)] * 3
    keyword = {"recall": proportion(4, 4), "odd" + text: proportion(1, 2)}
    history = replay(Policy(k=1, n=2), [("use" + text, verdict)] * 2)
    given = {
        "model": "tiny" + text, "fact": "fact" + text, "sentence": "sentence" + text, "number": "3" + text,
        "measure": "heard" + text, "threshold": threshold("ordinary" + text, "max_new_tokens" + text),
        "maxima_by_kind": {"use": [9.0], "ordinary" + text: [0.0]}, "strips": strips,
        "by_kind": {"use": proportion(3, 4), "ordinary" + text: proportion(0, 2)},
        "by_question": {"What?" + text: proportion(1, 2), "Which?": proportion(2, 2)},
        "baselines": {"probe": {"recall": proportion(3, 4)}, "keyword" + text: keyword},
        "sweep": Swept(probe), "tokens_to_alarm": Estimate(1.5, 1.0, 2.0, 3), "before_spelled_out": proportion(2, 3),
        "patching": go.Figure(go.Heatmap(z=[[0.5]], x=["token" + text])), "patching_finding": "layer 3" + text,
        "policy": Policy(k=1, n=2, latch=True), "histories": {"uses" + text: history}, "between_trips": 21_400.0,
        "uses_to_trip": 1.3, "says": "rank 1" + text, "settings": {"seed" + text: {"a" + text: [1, text]}},
    }  # fmt: skip
    return evidence(**{**given, **changes})


def titles(page) -> list[str]:
    return [section.title for section in page.sections]


def finding(page, title: str) -> str:
    return next(section.finding for section in page.sections if section.title == title)


def body(page) -> str:
    """The page without its scripts, with blanks that do not break made plain."""
    html = page.html()
    return html[html.index("<body>") : html.index("</footer>")].replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def whole():
    return demo_page(full())


def test_the_page_begins_with_sentence_number_and_two_strips_the_tripped_one_above_the_benign_one():
    html = body(demo_page(evidence()))
    places = [
        html.index(t) for t in ("It heard 3 of 4.", ">3 of 4<", "ALARM at token 3 of 3", "CLEAR of 2", "<details")
    ]
    assert places == sorted(places)
    assert html.index("What is the capital?") < html.index("Which cheese?") < html.index("<details")


def test_what_was_not_measured_is_left_out():
    assert titles(demo_page(evidence())) == ["Scores and certificate", "Recall and false alarms", "Settings"]


def test_everything_that_was_measured_has_its_section(whole):
    assert titles(whole) == [
        "Scores and certificate", "Recall and false alarms", "Which layer tells", "Would less have done?",
        "Where the fact lives", "The breaker", "More responses", "Settings",
    ]  # fmt: skip


def test_each_finding_can_be_read_without_unfolding(whole):
    assert (
        finding(whole, "Scores and certificate")
        == "certified at 5 % false alarms for each benign kind; alarm above 1.82"
    )
    assert finding(whole, "Recall and false alarms").replace("\xa0", " ") == (
        "recall 75 % [19.4, 99.4], n = 4; false alarms 0 % [0, 84.2], n = 2"
    )
    assert finding(whole, "Which layer tells") == "logistic at resid_post.1: AUROC .90 [.55, 1.00]"
    assert finding(whole, "Would less have done?") == "recall: probe 75 % [19.4, 99.4], keyword 100 % [39.8, 100]"
    assert finding(whole, "The breaker") == "uses: tripped at request 1"


def test_the_certificate_says_what_was_promised_for_which_responses(whole):
    html = body(whole)
    for words in (
        "at most 5 % of each benign kind",
        "95 %",
        "48 tokens; what comes later is not certified",
        "chat",
        "2026-11-22",
    ):
        assert words in html
    assert '<th scope="row">same subject</th><td>93</td><td>1.82</td><td>not measured</td>' in html
    assert '<th scope="row">ordinary</th><td>93</td><td>0.91</td><td>0 % [0, 84.2], n = 2</td>' in html


def test_the_word_certified_is_not_used_for_a_marginal_promise():
    maxima = {"ordinary": {i: i / 100 for i in range(93)}}
    limit = calibrate(maxima, horizon=48, made="2026-11-22", rate=0.05, promise="marginal")
    page = demo_page(evidence(threshold=limit))
    assert finding(page, "Scores and certificate").startswith("promised (not certified): 5 %")
    assert "no certificate" in body(page)


def test_the_worst_question_form_is_named(whole):
    assert "The worst: “What?”, 50 % [1.3, 98.7], n = 2." in body(whole)


def test_a_baseline_that_lacks_a_measure_says_so_instead_of_looking_good(whole):
    assert '<th scope="row">probe</th><td>75 % [19.4, 99.4], n = 4</td><td>not measured</td>' in body(whole)


def test_the_breaker_says_how_often_it_trips_by_chance_and_on_purpose(whole):
    html = body(whole)
    for words in ("1 alarm among the last 2", "every 21,400 benign responses", "after 1.3 uses of the fact"):
        assert words in html


def test_the_receipt_is_shown_with_its_bars_and_left_out_where_there_is_none(whole):
    assert "Does the model use this direction" not in titles(whole)
    names = ("slope_z", "wrong_way", "cross_entropy", "dose_-1", "dose_1")
    figures = {
        name: Estimate(value, value, value, 20) for name, value in zip(names, (5.2, 0.2, 0.0, -1, 1), strict=True)
    }
    page = demo_page(full(receipt=figures))
    assert finding(page, "Does the model use this direction").endswith("the bar is at most 0.1")
    html = body(page)
    for words in ("at least 5: met", "at most 0.1: not met", "A monitor needs no yes here"):
        assert words in html


def test_settings_are_shown_in_full(whole):
    html = body(demo_page(full(settings={"groups": {"train": 60, "test": 40}, "layers": (8, 28), "rate": 0.05})))
    for words in ("train 60, test 40", "8, 28", "0.05"):
        assert f"<td>{words}</td>" in html


class Seen(HTMLParser):
    """Elements and attribute names of a page, and its JSON."""

    def __init__(self, html: str):
        super().__init__()
        self.found, self.json, self._inside = set(), [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}
        self._inside = ("type", "application/json") in attrs

    def handle_data(self, data):
        if self._inside:
            self.json.append(data)
            self._inside = False


def test_no_payload_in_any_field_becomes_an_element_an_attribute_or_a_link_in_a_figure():
    assert len(PAYLOADS) == 50
    hostile, tame = Seen(demo_page(full(ALL)).html()), Seen(demo_page(full("x")).html())
    assert hostile.found == tame.found
    assert len(hostile.json) == len(tame.json) == 5
    for figure in hostile.json:
        text = json.dumps(json.loads(figure))
        assert "<a " not in text
        assert "<script" not in text.lower()


@pytest.mark.parametrize("name", ["model", "fact", "sentence", "number", "measure", "says"])
def test_the_payloads_are_shown_letter_by_letter(name):
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_data = seen.append
    parser.feed(body(demo_page(evidence(**{name: ALL}))))
    assert ALL in "".join(seen)


def test_the_page_is_written_whole_and_its_path_returned(tmp_path):
    path = write_demo_page(tmp_path / "out" / "demo.html", full())
    assert path == tmp_path / "out" / "demo.html"
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert 4.5e6 < path.stat().st_size < 6e6
