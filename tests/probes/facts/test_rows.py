"""Reading topic files: what is taken, and each fault with its line."""

import json

import pytest

from probes.errors import BadInput, NotFound
from probes.facts.rows import Row, read_rows

PARIS = '{"subject": "France", "relation": "capital", "object": "Paris"}'
ROME = '{"subject": "Italy", "relation": "capital", "object": "Rome", "distractors": ["Milan"]}'


def test_two_lines_are_two_rows(file):
    """By hand: the second fact stands in line 3, for line 2 is empty."""
    path = file("t.jsonl", f"{PARIS}\n\n{ROME}\n")
    header, rows = read_rows(path)
    assert header is None
    assert rows == [
        Row(f"{path}, line 1", {"subject": "France", "relation": "capital", "object": "Paris"}),
        Row(f"{path}, line 3", {"subject": "Italy", "relation": "capital", "object": "Rome", "distractors": ["Milan"]}),
    ]


def test_csv_says_the_same_as_jsonl(file):
    jsonl = file("t.jsonl", f"{PARIS}\n{ROME}\n")
    table = "subject,relation,object,distractors\r\nFrance,capital,Paris,\r\nItaly, capital ,Rome,Milan\r\n"
    _, rows = read_rows(file("t.csv", table))
    expected = [{"distractors": []} | row.fields for row in read_rows(jsonl)[1]]
    assert [row.fields for row in rows] == expected


def test_csv_cells_may_be_quoted_and_distractors_are_parted_by_semicolons(file):
    _, rows = read_rows(
        file("t.CSV", 'object,subject,relation,distractors\n"Washington, D.C.",US,capital,Boston; Miami;')
    )
    assert rows[0].fields == {
        "object": "Washington, D.C.",
        "subject": "US",
        "relation": "capital",
        "distractors": ["Boston", "Miami"],
    }


def test_the_first_line_may_be_a_header(file):
    header, rows = read_rows(file("t.jsonl", '{"name": "mine ", "relation": {"name": "seat"}}\n' + PARIS))
    assert header.fields == {"name": "mine", "relation": {"name": "seat"}}
    assert len(rows) == 1


def test_a_byte_order_mark_and_windows_line_ends_are_taken(file):
    _, rows = read_rows(file("t.jsonl", b"\xef\xbb\xbf" + f"{PARIS}\r\n{ROME}\r\n".encode()))
    assert [row.fields["object"] for row in rows] == ["Paris", "Rome"]


def test_an_accent_typed_in_two_ways_is_one_spelling(file):
    one, two = '{"subject": "S\u00e3o"', '{"subject": "Sa\u0303o"'
    end = ', "object": "x"}\n'
    _, rows = read_rows(file("t.jsonl", one + end + two + end))
    assert one != two
    assert rows[0].fields == rows[1].fields


def test_a_line_separator_within_a_text_does_not_end_the_line(file):
    _, rows = read_rows(file("t.jsonl", PARIS.replace("France", "Fr\u2028ance") + "\n" + ROME))
    assert [row.where.rsplit(" ", 1)[1] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ('{"subject": "Italy", ', "broken JSON"),
        ('{"subject": "Italy", "object": "a", "object": "b"}', "broken JSON.*twice"),
        ('{"subject": "Italy", "object": ' + "[" * 100_000, "broken JSON"),
        ('{"subject": "Italy", "object": ' + "9" * 5000 + "}", "broken JSON"),
        ('["Italy", "capital", "Rome"]', "not an object"),
        ("null", "not an object"),
        ('{"subject": "Italy", "relation": "capital"}', "'object' is missing"),
        ('{"object": "Rome", "relation": "capital"}', "'subject' is missing"),
        ('{"name": "a header that comes too late"}', "'subject' is missing"),
        ('{"subject": 3, "relation": "capital", "object": "Rome"}', "'subject' is 3; give a text"),
        ('{"subject": "Italy", "relation": null, "object": "Rome"}', "'relation' is None; give a text"),
        ('{"subject": "Italy", "relation": {"name": "a"}, "object": "Rome"}', "'relation' is {.*; give a text"),
        ('{"subject": "Italy", "relation": "capital", "object": NaN}', "'object' is nan; give a text"),
        ('{"subject": "Italy", "object": "Rome", "distractors": "Milan"}', "'distractors'.*list of texts"),
        ('{"subject": "Italy", "object": "Rome", "distractors": ["Milan", 3]}', "'distractors'.*list of texts"),
        (
            '{"subject": "Italy", "object": "Rome", "distractor": []}',
            "no field 'distractor'; did you mean 'distractors'",
        ),
    ],
    ids=lambda text: text[:60],
)
def test_a_bad_line_is_refused_with_its_number(file, bad, complaint):
    path = file("t.jsonl", f"{PARIS}\n\n{bad}\n{ROME}\n")
    with pytest.raises(BadInput, match=rf"t\.jsonl, line 3: .*{complaint}") as caught:
        read_rows(path)
    assert caught.value.exit_code == 2
    read_rows(file("t.jsonl", f"{PARIS}\n{ROME}\n"))  # the rest of the file is sound


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("subject,object\nFrance,Paris", "line 1: no column 'relation'"),
        ("subject;relation;object\nFrance;capital;Paris", "line 1: no column 'subject'"),
        ("subject,relation,object,object\na,b,c,d", "line 1: a column is named twice"),
        ("subject,relation,object,year\na,b,c,d", "line 2: a fact has no field 'year'"),
        ("subject,relation,object\n\nFrance,capital", "line 3: 2 cells for 3 columns"),
        ("subject,relation,object\nUS,capital,Washington, D.C.", "line 2: 4 cells for 3 columns"),
        ('subject,relation,object\nFrance,capital,"Paris', "line 2: broken CSV"),
        ('subject,relation,object\nFrance,capital,"Pa"ris', "line 2: broken CSV"),
        ("subject,relation,object\n" + "a" * 200_000, "line 2: broken CSV"),
    ],
    ids=lambda text: text[:60],
)
def test_a_bad_table_is_refused_with_its_line(file, table, complaint):
    with pytest.raises(BadInput, match=rf"t\.csv, {complaint}"):
        read_rows(file("t.csv", table))


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_bytes_that_are_not_utf8_are_refused_with_their_line(file, name):
    rows = "subject,relation,object\nPeru,capital,Lima\nS\xe3o,capital,x\n"
    with pytest.raises(BadInput, match="line 3: not UTF-8"):
        read_rows(file(name, rows.encode("latin-1")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", ""),
        ("t.jsonl", "\n \n"),
        ("t.jsonl", json.dumps({"name": "only a header"})),
        ("t.csv", ""),
        ("t.csv", "subject,relation,object\n"),
    ],
)
def test_a_file_without_facts_is_refused(file, name, content):
    with pytest.raises(BadInput, match="no facts"):
        read_rows(file(name, content))


def test_a_faulty_header_is_refused_with_its_line(file):
    for header, complaint in [
        ({"nam": "x"}, "line 1: a header has no field 'nam'; did you mean 'name'"),
        ({"licence": 3}, "line 1: 'licence' is 3"),
        ({"relation": ["a"]}, "line 1: 'relation' is"),
    ]:
        with pytest.raises(BadInput, match=complaint):
            read_rows(file("t.jsonl", f"{json.dumps(header)}\n{PARIS}"))


def test_what_is_no_readable_file_is_said_in_one_line(file, tmp_path):
    with pytest.raises(NotFound, match="no file .*nowhere.jsonl"):
        read_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(BadInput, match="must end in .jsonl or .csv"):
        read_rows(file("t.json", PARIS))
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read_rows(folder)
