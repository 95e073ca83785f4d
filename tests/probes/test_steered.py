"""`belief steer` on a tiny model: what it prints, what it writes, and what it refuses."""

import dataclasses
import json
import sys

import pytest
import torch
from tokenizers import Tokenizer

import probes
from monitors import cli as door
from probes import BadInput, LinearProbe, SteeringVector, TooFew
from probes.facts.facts import Fact, Topic, load_topic
from probes.report import steering_page, write_steering
from probes.steered import load_direction, open_question, prove

FEW = {"directions": 20, "ablations": 3, "contrasts": 8}


@pytest.fixture(scope="module")
def model(build, tokenizer):
    """The tiny model, with two of its words called True and False."""
    words = tokenizer.backend_tokenizer.to_str().replace('"please"', '"True"').replace('"now"', '"False"')
    named = type(tokenizer)(tokenizer_object=Tokenizer.from_str(words), pad_token="<pad>", eos_token="<eos>")
    return dataclasses.replace(build("llama"), tokenizer=named)


@pytest.fixture(scope="module")
def topic():
    """Sixty facts in words that the tiny tokenizer knows."""
    pairs = [(f"{kind} word{i}", f"word{i + 1}") for kind in ("city", "river") for i in range(30)]
    facts = tuple(Fact(subject, "capital", thing) for subject, thing in pairs)
    return dataclasses.replace(load_topic("capitals"), facts=facts)


@pytest.fixture(scope="module")
def steered(model, topic):
    return prove(model, topic=topic, fact=topic.facts[0], prompts=["the capital of France is"], coefficient=0.5, **FEW)


def test_a_fact_is_steered_at_three_quarters_of_the_depth_and_asked_elsewhere(steered, topic):
    assert str(steered.direction.site) == "resid_post.2"
    assert steered.direction.concept == "city word0|capital|word1"
    assert steered.coefficient == 0.5
    assert steered.sentence.startswith("Not shown to be used") == bool(steered.shortfalls)
    assert "of 20 random" not in steered.asked
    for words in ("standard deviations from 20 random directions", "move the wrong way", "cross-entropy"):
        assert words in steered.sentence
    assert json.loads(json.dumps(steered.to_dict()))["receipt"]["slope_z"]["n"] == 20


def test_truth_is_fitted_on_one_half_and_asked_on_the_other(model, topic):
    found = prove(model, topic=topic, layer=1, **FEW)
    assert str(found.direction.site) == "resid_post.1"
    assert found.answers == "True over False"
    assert "use" in found.receipt


def test_the_page_says_first_what_matters_and_shows_foreign_text_letter_by_letter(steered):
    page = steering_page(steered)
    assert page.sentence == steered.sentence
    assert page.number == f"{steered.receipt['slope_z'].value:.1f}"
    html = steering_page(dataclasses.replace(steered, replies=(("<script>alert(1)</script>", "a", "b"),))).html()
    assert "<script>alert(1)" not in html
    assert "1 of 1 answers change" in html
    assert "share of random slopes at least as large" in html


def test_what_is_written_is_loaded_again_with_its_receipt(steered, tmp_path):
    page = write_steering(tmp_path, steered)
    assert page.is_file()
    loaded = load_direction(tmp_path / "vector")
    assert isinstance(loaded, SteeringVector)
    assert dict(loaded.receipt) == dict(steered.receipt)
    write_steering(tmp_path, steered)


def test_a_saved_probe_gets_its_receipt(model, topic, tmp_path):
    LinearProbe.from_weights(torch.randn(32), 0.0, "resid_post.1", concept="truth").save(tmp_path / "p")
    found = prove(model, direction=load_direction(tmp_path / "p"), topic=topic, coefficient=1.0, **FEW)
    write_steering(tmp_path / "out", found)
    loaded = LinearProbe.load(tmp_path / "out" / "probe")
    assert "slope_z" in loaded.receipt
    assert "truth" in found.sentence


def test_probing_brings_the_receipt(model, topic):
    statements = topic.statements()
    done = probes.probe_truth(model, statements, name="words", sites="resid_post.1")
    assert "slope_z" in done.found.best.receipt
    assert not any("receipt" in note for note in done.notes)
    assert "bar at least 5: " in str(done)
    assert done.to_dict()["receipt"]["slope_z"]["n"] == 100
    from probes.report import probe_page

    assert "Does the model use this direction" in [section.title for section in probe_page(done).sections]


def test_questions_are_opened_by_name():
    topic, fact = open_question(None, "France|capital|Paris")
    assert (topic.name, fact.object) == ("capitals", "Paris")
    assert open_question("cities", None)[1] is None
    assert open_question(None, None) == (None, None)
    with pytest.raises(BadInput, match="no fact of topic"):
        open_question("cities", "France|capital|Paris")


def test_bad_input_is_refused(model, topic):
    with pytest.raises(BadInput, match="give a topic"):
        prove(model)
    with pytest.raises(TooFew, match="12"):
        prove(model, topic=Topic("few", topic.relation, topic.facts[:6]))


def test_the_command_prints_one_object_and_its_exit_code_says_whether_bars_are_reached(
    model, topic, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("probes.model.language_model.load_model", lambda name: model)
    monkeypatch.setattr("probes.steered.load_topic", lambda name: topic)
    monkeypatch.setattr(sys, "argv", ["belief", "steer", "tiny", "--fact", "city word0|capital|word1", "--json",
                                      "--out", str(tmp_path / "out"), "--coefficient", "0.5"])  # fmt: skip
    with pytest.raises(SystemExit) as caught:
        door.main()
    said = json.loads(capsys.readouterr().out)
    assert caught.value.code == (1 if said["shortfalls"] else 0)
    assert (tmp_path / "out" / "page.html").is_file()
    assert (tmp_path / "out" / "vector" / "manifest.json").is_file()
