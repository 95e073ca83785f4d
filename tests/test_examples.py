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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_small_static_and_says_what_its_script_says(path):
    cells = json.loads(path.read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = path.with_suffix(".py").read_text()
    for line in source.splitlines():
        assert line in script
    assert path.stat().st_size < 700_000
    assert "plotly.js" not in path.read_text()
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
