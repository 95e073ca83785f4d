"""The README's code runs, and prints what the README says it printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(marker: str) -> str:
    """The fenced block behind `<!-- marker -->`."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block {marker!r}"
    return found[1]


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.?\d+", line)]


@pytest.mark.embedded
def test_the_first_example_prints_what_the_readme_shows(embedded_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block("example:read"), "README.md", "exec"), {})  # what a reader would type
    printed, shown = capsys.readouterr().out.strip().splitlines(), block("output:read").strip().splitlines()
    assert len(printed) == len(shown)
    for now, then in zip(printed, shown, strict=True):
        assert re.sub(r"[-\d.]+", "#", now) == re.sub(r"[-\d.]+", "#", then)
        assert numbers(now) == pytest.approx(numbers(then), abs=0.02, rel=5e-4), (
            "another machine may round another way, no more"
        )


def test_every_command_of_the_readme_exists():
    from monitors.cli import app

    there = {command.name or command.callback.__name__ for command in app.registered_commands}
    there |= {group.typer_instance.info.name for group in app.registered_groups}
    named = set(re.findall(r"^    belief (\w+)", README, re.MULTILINE))
    assert named <= there
    assert {"demo", "fetch", "facts", "show", "trips"} <= named


def test_every_link_and_make_target_of_the_readme_exists():
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_notebook_of_the_quickstart_is_the_readmes_example():
    assert (ROOT / "examples" / "quickstart.py").read_text().endswith(block("example:read"))
