"""From statements to a probe and its page: on a tiny model whose embedding says which city is in which country."""

import json
from dataclasses import replace

import pytest
import torch

import probes
from probes.errors import BadInput
from probes.facts.statements import LabelledText
from probes.judging.sweep import Row
from probes.plots.frame import short
from probes.probing import open_source, probe_truth
from probes.report import probe_page, write_probing


@pytest.fixture(scope="module")
def told(build):
    """A tiny model and labelled texts whose last word tells the label: half of the words are true ones."""
    words = [f"word{i}" for i in range(30)]
    texts = [
        LabelledText(f"the {a} is {b}", int(b[4:]) % 2 == 0, f"entity {i}")
        for i, a in enumerate(words)
        for b in (words[(i + 1) % 30], words[(i + 2) % 30])
    ]
    return build("llama", seed=1), texts


@pytest.fixture(scope="module")
def probing(told):
    model, texts = told
    return probe_truth(model, texts, name="word parity", estimators=("logistic", "mass_mean"))


def test_the_sentence_has_the_figures_and_what_the_score_is_not_ahead_of(probing):
    assert f"AUROC {probing.found.best.controls['auroc']}" in probing.sentence
    assert "unseen word parity" in probing.sentence
    behind = [claim.control for claim in probing.claims.each if claim.holds is not True]
    assert behind, "a bag of words knows the label of a word as well as the model does"
    assert probing.sentence.startswith("Not shown to be ahead of: ")
    assert short(0.5) == ".50"


def test_a_probe_that_can_have_no_receipt_says_so_and_why(probing, told):
    """The tiny tokenizer knows neither True nor False, so nothing can be asked."""
    assert dict(probing.found.best.receipt) == {}
    assert "first token" in next(note for note in probing.notes if note.startswith("no receipt: "))
    assert str(probing).endswith("no receipt: nobody measured whether the model uses this direction")
    model, texts = told
    without = probe_truth(model, texts, name="w", sites="resid_post.1", estimators=["mass_mean"], with_receipt=False)
    assert without.notes == ("no receipt: left out",)


def test_everything_goes_into_json(probing):
    told = json.loads(json.dumps(probing.to_dict(), allow_nan=False))
    assert told["site"] == str(probing.found.site)
    assert {"auroc", "shuffled_95", "random_95", "bag_of_words", "length", "log_probability", "layer_0"} <= set(
        told["controls"]
    )
    assert len(told["rows"]) == 3 * 2
    assert told["negated"] is None
    assert told["transfer"] == []


def test_scores_are_those_of_the_test_statements(probing):
    test = probing.found.test
    assert set(probing.scores) == {"true", "false"}
    assert len(probing.scores["true"]) == int(test.labels.sum())
    every = torch.cat([probing.scores["true"], probing.scores["false"]])
    assert torch.equal(every.sort().values, probing.found.scores.sort().values)


def test_the_page_says_first_what_matters_and_never_a_score_without_controls(probing, tmp_path):
    page = write_probing(tmp_path / "out", probing)
    html = page.read_text()
    assert probing.found.best.controls["auroc"].interval().split(" ")[0] in html
    for words in ("bag of words", "random directions", "shuffled", "What would score without knowledge", "Every layer"):
        assert words in html
    assert probes.LinearProbe.load(tmp_path / "out" / "probe").site == probing.found.site
    assert [section.title for section in probe_page(probing).sections][0] == "Scores"
    write_probing(tmp_path / "out", probing)  # in place of the older one


def test_a_source_is_a_topic_or_a_file_and_never_both(tmp_path):
    topic, name = open_source("capitals", None, limit=40)
    assert name == "capitals"
    assert len(topic.facts) == 20
    assert topic.facts != probes.load_topic("capitals").facts[:20], "drawn, not cut from the top"
    file = tmp_path / "mine.csv"
    file.write_text("text,label,group\nthe capital,1,a\nthe river,0,b\n")
    texts, name = open_source(None, file, text="text", label="label", group=None)
    assert name == "mine"
    assert [text.group for text in texts] == ["a", "b"]
    for both in (("capitals", file), (None, None)):
        with pytest.raises(BadInput, match="either facts"):
            open_source(*both)


@pytest.mark.embedded
@pytest.mark.slow
def test_cities_of_the_embedded_model_reach_the_published_figures(embedded_model):
    found = probe_truth(embedded_model, probes.load_topic("cities"))
    assert found.found.best.controls["auroc"].value >= 0.93
    assert found.negated.upper < 0.3, "the sign flip"
    assert found.first_layer >= 8, "the first layers know nothing of cities"
    assert found.claims.holds is True
    mended = found.transfers[-1]
    assert all(mended.cell(mended.rows[-1], column).auroc.lower > 0.8 for column in mended.columns)


def test_the_first_layer_is_the_first_whose_interval_stands_above_random_directions(probing):
    floor, best = probing.found.best.controls["random_95"].upper, probing.found.best
    sites = sorted({row.site for row in probing.found.rows})

    def figure(lower, value):
        return probes.Estimate(value, lower, 1.0, 100)

    heights = [figure(floor - 0.05, floor), figure(floor - 0.01, 0.999), figure(floor + 1e-6, 0.999)]
    rows = tuple(Row(site, best.method, height, height) for site, height in zip(sites, heights, strict=True))
    assert replace(probing, found=replace(probing.found, rows=rows)).first_layer == 2
    nowhere = tuple(replace(row, test=heights[0]) for row in rows)
    assert replace(probing, found=replace(probing.found, rows=nowhere)).first_layer is None
