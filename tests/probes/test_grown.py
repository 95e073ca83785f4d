"""`belief zoo`: a model is built or read back, examined, and shown with its course."""

import dataclasses
import json

import pytest

from probes import BadInput, NotFound
from probes.grown import grow, planted_page
from probes.zoo.confusion import Confusion

TABLE = Confusion({("knows", "planted", "says"): (True, 31, 1, 0), ("knows", "planted", "knows"): (True, 16, 8, 8)})


def test_the_page_says_what_must_be_so_and_how_it_came_to_know(knows):
    planted, _ = knows
    page = planted_page(planted)
    assert page.number == str(sum(row.says is not None for row in planted.truth))
    truth, reached, facts, settings = page.sections
    told, taught = truth.blocks[0].rows
    assert told == ("planted", "32", "yes", "left open", "yes", "yes"), "judging is not learned by a nano model"
    learned = sum(row.says is True for row in planted.truth if row.klass == "reference")
    assert taught[:3] == ("reference", "144", f"yes {learned}, left open {144 - learned}" if learned < 144 else "yes")
    assert len(page.picture[0].figure.data) == 5
    assert reached.blocks[0].rows[0][:2] == ("planted", "100 %")
    assert facts.finding == "176 in all"
    assert ("checkpoints", "10, in checkpoint-<step>/") in settings.blocks[0].rows


def test_the_number_counts_facts_once_and_those_alone_of_which_something_is_claimed(knows):
    planted = knows[0]
    first, *rest = planted.truth
    open_ = dataclasses.replace(planted, truth=(first, first, *(row.left_open() for row in rest)))
    assert planted_page(open_).number == "1"


def test_with_a_table_the_number_counts_answers_and_the_worst_row_is_named(knows):
    page = planted_page(knows[0], TABLE)
    assert page.number == "47 of 64"
    assert page.sections[1].finding == "right of 50 % in the worst row"
    assert page.sections[1].blocks[0].rows[1][2:6] == ("yes", "16", "8", "8")
    assert "know found" in page.html()


def test_a_folder_without_a_course_has_a_page_too(knows):
    planted = dataclasses.replace(knows[0], about={"size": "nano"})
    assert "not written down" in planted_page(planted).html()


def test_a_built_folder_is_read_back_and_not_built_again(knows, monkeypatch):
    from probes import grown

    monkeypatch.setattr(grown, "build_zoo", lambda *_, **__: pytest.fail("built again"))
    planted, table, page = grow(str(knows[1]))
    assert (planted.name, table, page) == ("knows", None, knows[1] / "page.html")
    assert page.is_file()


def test_the_course_rises_and_is_written_to_the_folder(knows):
    course = json.loads((knows[1] / "zoo.json").read_text())["about"]["course"]
    assert [entry["step"] for entry in course][:10] == list(range(60, 601, 60)), "a round more may follow elsewhere"
    assert course[0]["chosen"]["said"] < 0.5 < course[-1]["chosen"]["said"]


def test_what_cannot_be_grown_is_refused(knows, tmp_path):
    with pytest.raises(BadInput, match="give --out DIR"):
        grow("knows")
    with pytest.raises(BadInput, match="built already; leave --out away"):
        grow(str(knows[1]), out=tmp_path / "other")
    with pytest.raises(NotFound, match="neither a model of the zoo nor the folder of one"):
        grow(str(tmp_path))
