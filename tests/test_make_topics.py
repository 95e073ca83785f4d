"""The topics that ship are what their script makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from probes.facts.facts import load_topic, topics

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "probes" / "facts" / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A process of its own: the script's packages may warn, and warnings are errors here."""
    folder = tmp_path_factory.mktemp("topics")
    command = [sys.executable, str(ROOT / "scripts" / "make_topics.py"), "--out", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


def test_the_script_makes_every_topic_and_nothing_else(made):
    assert {path.name for path in made.iterdir()} == {f"{name}.jsonl" for name in topics()}
    by_hand = {"self.jsonl"}  # what a model may know about itself is no topic of the world
    assert {path.name for path in DATA.glob("*.jsonl")} == {f"{name}.jsonl" for name in topics()} | by_hand


@pytest.mark.parametrize("name", topics())
def test_the_shipped_bytes_are_what_the_script_makes(made, name):
    again, ships = (made / f"{name}.jsonl").read_bytes(), (DATA / f"{name}.jsonl").read_bytes()
    header = ships.split(b"\n", 1)[0].decode()
    assert again == ships, f"other versions of the packages than in {header}, or the script ran not since it changed?"


def test_the_topics_stay_small():
    assert sum(path.stat().st_size for path in DATA.glob("*.jsonl")) < 300_000


def test_the_documentation_counts_the_facts_that_ship():
    page = (ROOT / "docs" / "facts.md").read_text("utf-8")
    for name in topics():
        topic = load_topic(name)
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert f"| `{topic.relation.name}` |" in line
        assert f"| {len(topic.facts)} |" in line
        assert line.endswith(f"| {topic.licence} |")


def test_the_files_in_the_documentation_load(tmp_path):
    page = (ROOT / "docs" / "facts.md").read_text("utf-8")
    files = re.findall(r"```(json|csv)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in files] == ["json", "csv", "json"]
    for kind, text in files:
        path = tmp_path / ("t.jsonl" if kind == "json" else "t.csv")
        path.write_text(text, "utf-8")
        assert len(load_topic(path).statements(["affirmed", "negated"])) == 8
