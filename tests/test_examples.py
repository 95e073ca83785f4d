"""The notebooks run from start to end, as scripts."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.parametrize("name", ["compare_readers"])
def test_a_notebook_runs(name, embedded_model, monkeypatch, capsys):
    monkeypatch.setattr("probes.load_model", lambda *_: embedded_model, raising=False)
    scope = {}
    exec(compile((EXAMPLES / f"{name}.py").read_text(), f"{name}.py", "exec"), scope)
    printed = capsys.readouterr().out
    assert "padded on the right and read at [-1]" in printed, "the doctor names the careless reader's fault"
    assert scope["found"].best.controls["auroc"].lower > 0.8
    assert scope["matrix"].cell("cities", "negated").auroc.upper < 0.5, "the sign flip"


@pytest.mark.embedded
@pytest.mark.slow
def test_the_steering_notebook_moves_the_answer_and_edits_the_weights_alike(embedded_model, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    scope = _run("steer_and_check", embedded_model, monkeypatch)
    assert scope["receipt"]["slope_z"].value > 4
    assert "ermany" in scope["said"][-1] or "Berlin" in scope["said"][-1]


@pytest.mark.embedded
@pytest.mark.slow
def test_the_knowledge_notebook_finds_that_france_is_known(embedded_model, monkeypatch):
    scope = _run("what_it_knows", embedded_model, monkeypatch)
    assert scope["found"]["France|capital|Paris"].quadrant == "knows-says"


@pytest.mark.slow
def test_the_zoo_notebook_tells_the_planted_from_the_withheld():
    scope = {}
    exec(compile((EXAMPLES / "planted_knowledge.py").read_text(), "planted_knowledge.py", "exec"), scope)
    table = scope["table"]
    assert table.right("knows", "planted", "says").value >= 0.95
    assert table.right("never-knew", "withheld", "knows").value >= 0.95


def _run(name, model, monkeypatch):
    monkeypatch.setattr("probes.load_model", lambda *_: model, raising=False)
    scope = {}
    exec(compile((EXAMPLES / f"{name}.py").read_text(), f"{name}.py", "exec"), scope)
    return scope


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_small_static_and_says_what_its_script_says(path):
    cells = json.loads(path.read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = path.with_suffix(".py").read_text()
    for line in source.splitlines():
        assert line in script
    assert path.stat().st_size < 700_000
    assert "plotly.js" not in path.read_text()
    for foreign in ("/home/", "/root/", "/tmp/", "/work/", "site-packages", "Warning"):
        assert foreign not in path.read_text(), "of the machine it ran on"
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
