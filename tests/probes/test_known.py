"""The page of what a model knows: of each fact what was measured, and what that means; on a model told by hand."""

import json
from dataclasses import replace

import pytest

from probes.errors import BadInput, NotFound
from probes.knowing.believing import Belief
from probes.knowing.know import know
from probes.knowing.knowledge import Knowing
from probes.known import know_topic, knowing_page, write_knowing
from probes.look import whole
from probes.page import Grid
from probes.reading.metrics import Estimate

RECEIPT = "word1|seat|word17"


@pytest.fixture(scope="module")
def found(seated):
    model, topic = seated
    return know(model, topic, only=topic.facts[:3] + topic.facts[14:], aspects=["says", "knows", "uses"], seed=100)


@pytest.fixture
def file(seated, tmp_path, monkeypatch):
    """The topic as a file, for a model that is loaded by any name."""
    model, topic = seated
    monkeypatch.setattr("probes.known.load_model", lambda name: model)
    wordings = {name: getattr(topic.relation, name) for name in ("name", "affirmed", "negated", "cloze")}
    header = {"name": "seats", "relation": {**wordings, "paraphrases": list(topic.relation.paraphrases)}}
    lines = [header, *({"subject": fact.subject, "object": fact.object} for fact in topic.facts)]
    path = tmp_path / "seats.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def details(knowing, name, receipts=None):
    page = knowing_page(knowing, receipts or {})
    return next(section for section in page.sections if section.title.startswith(f"{name} |"))


def test_the_page_has_the_sentence_the_table_and_every_fact_those_that_disagree_first(found, tmp_path):
    html = write_knowing(tmp_path / "out", found).read_text("utf-8")
    for words in (found.sentence, "All facts, by disagreement", "word2 | word18", "Forms and settings"):
        assert words in html
    titles = [section.title for section in knowing_page(found).sections]
    assert titles[1] == f"{found.by_disagreement()[0].fact.subject} | {found.by_disagreement()[0].fact.object}"
    with pytest.raises(BadInput, match="no fact"):
        knowing_page(Knowing("m", ("t",), (), {}, {}, found.rule, 0))


def test_each_aspect_says_what_it_asks_and_what_was_measured(found):
    row = found["word0|seat|word16"]
    grid = details(found, "word0").blocks[0]
    assert [cells[0] for cells in grid.rows] == ["says", "believes", "knows", "uses"]
    says, believes, knows, uses = ([*cells] for cells in grid.rows)
    assert says[2:] == ["yes", "rank 1 of 16; greedy decoding begins “word16”"]
    assert believes[2:] == ["not decided", "not measurable: not asked for"]
    assert knows[3] == f"{row.asked.won} of {len(row.asked.puzzles)} right: {row.asked.decision}"
    assert f"loses {row.used.drop.interval()} nats more" in uses[3]
    assert uses[3].endswith("ahead of wrong ones")
    unsaid = replace(row, said=replace(row.said, rank=2))
    assert row.used.holds
    cells = details(replace(found, rows=(unsaid,)), "word0").blocks[0].rows[3]
    assert cells[2] == "no"
    assert cells[3].endswith("nothing is used that is not given as an answer")


def test_statements_are_shown_with_the_highest_score_first(found):
    margin = Estimate(1.0, 0.5, 1.5, 3)
    belief = Belief(margin, (("it is here", False, 0.1), ("it is there", True, 2.0), ("it is far", False, -1.0)))
    row = replace(found.rows[0], belief=belief, believes=margin)
    section = details(replace(found, rows=(row,)), row.fact.subject)
    grid = next(block for block in section.blocks if isinstance(block, Grid) and block.headings[0] == "statement")
    assert [cells[1] for cells in grid.rows] == ["true", "false", "false"]
    assert section.blocks[0].rows[1][3] == "1.00 [.50, 1.50] spreads of false statements above their mean"


def test_a_topic_is_asked_by_name_or_file_and_some_of_it(file, tmp_path):
    done, receipts, page = know_topic("tiny", file, 3, out=tmp_path / "out", aspects=["says", "knows"])
    assert len(done.rows) == 3
    assert receipts == {}
    assert page.exists()
    with pytest.raises(BadInput, match="limit 0"):
        know_topic("tiny", file, 0)


def test_a_receipt_is_made_of_the_facts_asked_for_and_stands_with_them(file, tmp_path):
    done, receipts, page = know_topic("tiny", file, 1, receipts=[RECEIPT] * 2, out=tmp_path / "out", aspects=["says"])
    assert [*receipts] == [RECEIPT]
    assert RECEIPT in {row.fact.id for row in done.rows}, "asked about though it was not drawn"
    section = details(done, "word1", receipts)
    assert section.finding.endswith(", with a receipt")
    assert any(receipts[RECEIPT].sentence in block for block in section.blocks if isinstance(block, str))
    bars = [cells[2] for block in section.blocks if isinstance(block, Grid) and "bar" in block.headings
            for cells in block.rows if cells[2]]  # fmt: skip
    assert [bar.split(":")[0] for bar in bars] == [*map(whole, ["at least 5", "at most 0.1", "at most 0.02"])]
    assert "with a receipt" in page.read_text("utf-8")
    with pytest.raises(NotFound, match="did you mean"):
        know_topic("tiny", file, 1, receipts=["word1|seat|word71"])
