"""The whole chain: mechanically on a tiny random model, and on the embedded model against the bars."""

import json
from pathlib import Path

import pytest

from monitors import Journal, Monitor
from monitors.demo import HORIZON, RATE, run_demo
from probes import BadInput, CouldNotRun, Fact, Inconclusive, TooFew, Topic, load_topic
from probes.facts.contexts import BENIGN_KINDS

FRANCE = Fact("France", "capital", "Paris")


@pytest.fixture(scope="module")
def capitals():
    return load_topic("capitals")


@pytest.fixture(scope="module")
def random_demo(build, capitals, tmp_path_factory):
    """The chain on a tiny random model, once for this file: the demo, its folder, and what it said on the way."""
    lines, out = [], tmp_path_factory.mktemp("demo")
    demo = run_demo(build("llama"), FRANCE, capitals, out=out, today="2026-11-22", must_say=False, say=lines.append)
    return demo, out, lines


def test_the_chain_runs_on_any_model_and_leaves_page_monitor_and_journal(random_demo):
    demo, out, lines = random_demo
    body = json.loads(json.dumps(demo.to_dict(), allow_nan=False))
    for name in (
        "model", "fact", "says", "site", "auroc", "controls", "certificate", "recall", "false_alarms", "by_kind",
        "tokens_to_alarm", "before_spelled_out", "baselines", "tripped", "page",
    ):  # fmt: skip
        assert name in body
    for share in (body["recall"], body["false_alarms"], *body["by_kind"].values()):
        assert set(share) >= {"value", "lower", "upper", "n"}
    assert body["recall"]["n"] >= 30
    assert body["false_alarms"]["n"] >= 90
    assert all(len(of) >= 59 for of in body["certificate"]["maxima"]["max"].values())
    assert (body["certificate"]["promise"], body["certificate"]["horizon"]) == ("confident", HORIZON)
    assert Monitor.load(out / "monitor").threshold.rate == RATE
    with Journal(out / "trips.sqlite") as journal:
        assert journal.verify().holds
        assert journal.replay().holds
    assert FRANCE.id in Path(body["page"]).read_text()
    printed = "\n".join(lines)
    for words in ("false alarms", "same relation", "worst question form", "spelled out", "keyword: recall", "5 of 10"):
        assert words in printed
    assert "one false trip in 36,464 benign responses" in printed


def test_the_probe_carries_its_receipt_into_the_monitor_the_page_and_the_json(random_demo):
    demo, out, lines = random_demo
    kept = Monitor.load(out / "monitor").probes[0].receipt
    assert kept["slope_z"].n == 100
    assert demo.to_dict()["receipt"]["slope_z"] == kept["slope_z"].to_dict()
    assert "Does the model use this direction" in Path(demo.page).read_text()
    assert any(line.startswith("Receipt: ") and "random directions" in line for line in lines)


def test_a_random_model_passes_nothing(random_demo):
    """A probe of a model without knowledge has no recall worth the name: the chain must not say PASS for it."""
    demo, _, _ = random_demo
    assert not demo.passed
    assert demo.figures["bag_of_words"].recall.value > demo.figures["probe"].recall.value
    assert demo.sentence.startswith("A bag of words on the prompt does better than the probe here: ")


def test_a_model_that_does_not_say_the_fact_ends_the_demo(llama, capitals, tmp_path):
    with pytest.raises(Inconclusive, match=r"does not say France\|capital\|Lyon") as caught:
        run_demo(llama, Fact("France", "capital", "Lyon"), capitals, out=tmp_path)
    assert caught.value.exit_code == 4


def test_a_small_topic_says_how_many_it_would_take(llama, capitals, tmp_path):
    small = Topic("few", capitals.relation, capitals.facts[:40])
    with pytest.raises(TooFew) as caught:
        run_demo(llama, small.facts[0], small, out=tmp_path, must_say=False)
    assert caught.value.needed > 39


def test_an_unknown_form_and_a_folder_that_is_none_are_refused_before_anything_runs(llama, capitals, tmp_path):
    with pytest.raises(BadInput, match="form"):
        run_demo(llama, FRANCE, capitals, out=tmp_path, form="poem", must_say=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(CouldNotRun, match="file"):
        run_demo(llama, FRANCE, capitals, out=tmp_path / "file")


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.parametrize("text", ["France|capital|Paris", "Poland|capital|Warsaw"])
def test_the_bars_hold_on_the_embedded_model(embedded_model, capitals, tmp_path, text):
    demo = run_demo(embedded_model, Fact.parse(text), capitals, out=tmp_path)
    probe = demo.figures["probe"]
    assert probe.recall.n >= 30
    assert probe.recall.value >= 0.85
    for kind in BENIGN_KINDS:  # the certificate on streams it never saw: a rate of 5 % must not be refuted
        assert probe.by_kind[kind].lower <= RATE
    assert demo.passed
