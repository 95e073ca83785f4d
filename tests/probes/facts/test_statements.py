"""Own statements: three rows by hand in every kind of source, and each fault with its row."""

import json
import subprocess
import sys

import pytest

from probes.errors import BadInput, NotFound
from probes.facts.statements import LabelledText, load_statements

ROWS = [
    {"text": "Paris is in France.", "label": True, "group": "Paris"},
    {"text": "Paris is in Spain.", "label": False, "group": "Paris"},
    {"text": "Rome is in Italy.", "label": True, "group": "Rome"},
]
READ = (
    LabelledText("Paris is in France.", True, "Paris"),
    LabelledText("Paris is in Spain.", False, "Paris"),
    LabelledText("Rome is in Italy.", True, "Rome"),
)
CSV = "text,label,group\nParis is in France.,1,Paris\nParis is in Spain.,0,Paris\nRome is in Italy.,1,Rome\n"


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet as files

    def write(rows, name="t.parquet"):
        files.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        return tmp_path / name

    return write


def test_three_rows_read_the_same_from_every_kind_of_source(file, parquet):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    sources = [
        file("t.csv", CSV),
        file("windows.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        file("t.jsonl", lines + "\n"),
        parquet(ROWS),
        ROWS,
        iter(ROWS),
    ]
    for source in sources:
        found = load_statements(source)
        assert found.rows == READ
        assert found.notes == ()
    assert (found.labels, found.groups) == ((True, False, True), ("Paris", "Paris", "Rome"))
    assert list(found) == list(READ)
    assert found[1].text == found.texts[1]
    assert repr(load_statements(sources[0])).endswith("t.csv', 3 texts, 2 true, 2 groups)")


def test_a_hugging_face_dataset_and_a_data_frame_are_read_and_a_set_of_splits_is_not():
    code = (
        "import datasets, json, sys; from probes.facts.statements import load_statements;"
        f"rows = {ROWS!r}; whole = datasets.Dataset.from_list(rows);"
        "frame = whole.to_pandas();"
        "assert [r.group for r in load_statements(whole)] == ['Paris', 'Paris', 'Rome'];"
        "assert load_statements(frame).rows == load_statements(whole).rows;"
        "splits = datasets.DatasetDict(train=whole)\n"
        "try: load_statements(splits)\n"
        "except ValueError as error: assert 'choose one of its parts' in str(error) and 'train' in str(error)\n"
        "else: sys.exit('read a dictionary of splits')"
    )
    pytest.importorskip("datasets", exc_type=ImportError)
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)  # its imports warn, and leave threads


@pytest.mark.parametrize("true", [True, 1, 1.0, "1", "true", " TRUE ", "Yes"])
@pytest.mark.parametrize("false", [False, 0, 0.0, "0", "false", "No"])
def test_labels_are_true_or_false_in_many_spellings(true, false):
    found = load_statements([{"text": "a", "label": true}, {"text": "b", "label": false}])
    assert found.labels == (True, False)


@pytest.mark.parametrize("label", [2, -1, "maybe", "", None, float("nan"), 0.5, [1], "1.5", "wahr"])
def test_any_other_label_is_refused_by_its_row(label, file):
    rows = [{"text": "a", "label": True}, {"text": "b", "label": label}]
    with pytest.raises(BadInput, match=r"list, row 1: 'label' is .*; it must be true or false, 1 or 0, yes or no"):
        load_statements(rows)
    if isinstance(label, str):
        with pytest.raises(BadInput, match=r"t\.csv, line 3: 'label' is"):
            load_statements(file("t.csv", f"text,label\na,1\nb,{label}\n"))


def test_columns_have_the_names_one_gives_and_a_wrong_one_finds_its_nearest(file):
    path = file("cities.csv", "statement,label,city\nParis is in France.,1,Paris\nParis is in Spain.,0,Paris\n")
    found = load_statements(path, text="statement", group="city")
    assert found.groups == ("Paris", "Paris")
    with pytest.raises(NotFound, match="no column 'text'; There are: city, label, statement"):
        load_statements(path)
    with pytest.raises(NotFound, match="no column 'citi'; did you mean 'city'"):
        load_statements(path, text="statement", group="citi")
    with pytest.raises(NotFound, match="no column 'affirmed'"):
        load_statements(path, text="statement", polarity="affirmed")


def test_without_groups_each_text_is_its_own_and_the_notes_say_so():
    bare = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    found = load_statements(bare)
    assert found.groups == found.texts
    assert len(found.notes) == 1
    assert "each text is a group of its own" in repr(found)
    assert load_statements(bare, group=lambda row: row["text"].split()[0]).groups == ("Paris", "Paris", "Rome")
    assert load_statements(bare, group=lambda row: row["text"].split()[0]).notes == ()


def test_polarity_is_read_where_there_is_such_a_column():
    rows = [row | {"polarity": "yes", "denies": "no"} for row in ROWS]
    assert [row.polarity for row in load_statements(rows)] == [True] * 3
    assert [row.polarity for row in load_statements(rows, polarity="denies")] == [False] * 3
    assert [row.polarity for row in load_statements(ROWS)] == [None] * 3


def test_a_text_that_repeats_counts_once_and_one_that_contradicts_itself_is_refused(file):
    found = load_statements([*ROWS, ROWS[0] | {"text": " Paris is in France. "}])
    assert found.rows == READ
    assert "1 rows repeat a text" in found.notes[0]
    with pytest.raises(BadInput, match=r"row 3: 'Rome is in Italy.' has the label False, and in row 2 True; give it"):
        load_statements([*ROWS, ROWS[2] | {"label": False}])
    with pytest.raises(BadInput, match=r"line 5: 'Rome is in Italy.' has the group 'Italy', and in line 4 'Rome'"):
        load_statements(file("t.csv", CSV + "Rome is in Italy.,1,Italy\n"))


def test_one_letter_typed_in_two_ways_is_one_group():
    names = "Zürich", "Zu\u0308rich"
    rows = [{"text": f"{i}", "label": i, "group": name} for i, name in enumerate(names)]
    assert len(set(load_statements(rows).groups)) == 1


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "", "label": 1, "group": "a"}, "'text' is ''"),
        ({"text": "  ", "label": 1, "group": "a"}, "'text' is '  '"),
        ({"text": None, "label": 1, "group": "a"}, "'text' is None"),
        ({"text": 3, "label": 1, "group": "a"}, "'text' is 3"),
        ({"label": 1, "group": "a"}, "'text' is None"),
        ({"text": "x", "label": 1, "group": ""}, "the group is ''"),
        ({"text": "x", "label": 1, "group": None}, "the group is None"),
        ({"text": "x", "label": 1, "group": float("nan")}, "the group is nan"),
        ({"text": "x", "label": 1}, "the group is None"),
        ("x", "a str has no columns"),
    ],
)
def test_a_fault_in_a_row_is_refused_with_its_number(row, complaint):
    with pytest.raises(BadInput, match=rf"list, row 3: {complaint}"):
        load_statements([*ROWS, row])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.txt", "x", "must end in .csv, .jsonl or .parquet"),
        ("t.csv", "", "has no rows in it"),
        ("t.csv", "text,label\n", "has no rows in it"),
        ("t.csv", "text,label\na,1\nb\n", "line 3: 1 cells for 2 columns"),
        ("t.csv", "text,text\na,1\n", "line 1: a column is named twice; the first line names each column once"),
        ("t.csv", b"text,label\nZ\xfcrich,1\n", "line 2: not UTF-8"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "line 2: broken JSON"),
        ("t.parquet", "no parquet", "cannot be read as Parquet"),
        ("t.csv", "text,label\na,1\nb,1\n", "all 2 texts of .* are True; give texts of both labels"),
    ],
)
def test_a_fault_in_a_file_is_refused(file, name, content, complaint):
    with pytest.raises(BadInput, match=complaint):
        load_statements(file(name, content))


def test_what_is_no_source_is_refused(tmp_path):
    for name in ("none.csv", "none.jsonl", "none.parquet"):
        with pytest.raises(NotFound, match="there is no file"):
            load_statements(tmp_path / name)
    with pytest.raises(BadInput, match="cannot read statements from a int"):
        load_statements(3)
    with pytest.raises(BadInput, match="choose one of its parts"):
        load_statements({"train": ROWS})


@pytest.fixture
def sorted_by_label():
    """60 groups of true texts, 40 of false ones, 20 twins, sorted as badly as can be; two texts a group."""
    rows = [{"text": f"true {i}", "label": 1, "group": f"t{i // 2}"} for i in range(120)]
    rows += [{"text": f"false {i}", "label": 0, "group": f"f{i // 2}"} for i in range(80)]
    return rows + [{"text": f"twin {i}", "label": i % 2, "group": f"w{i // 2}"} for i in range(40)]


def test_a_limit_takes_whole_groups_of_every_kind_wherever_they_stand(sorted_by_label):
    found = load_statements(sorted_by_label, limit=61, seed=0)
    assert len(found) == 60
    kinds = [name[0] for name in found.groups]
    assert {kind: kinds.count(kind) for kind in "tfw"} == {"t": 30, "f": 20, "w": 10}
    for name in set(found.groups):
        assert found.groups.count(name) == 2
    assert found.notes == ("60 of 240 texts, of 30 groups, drawn with seed 0",)
    order = [row["text"] for row in sorted_by_label]
    assert list(found.texts) == [text for text in order if text in found.texts]
    assert list(found.texts) != order[:60]


def test_a_draw_is_its_seeds_own_whatever_the_order_of_the_file(sorted_by_label):
    first = set(load_statements(sorted_by_label, limit=60).texts)
    assert first == set(load_statements(sorted_by_label[::-1], limit=60).texts)
    assert first != set(load_statements(sorted_by_label, limit=60, seed=1).texts)
    assert first < set(load_statements(sorted_by_label, limit=120).texts), "a larger limit adds, it does not redraw"
    assert load_statements(sorted_by_label, limit=10**6).notes == ()


def test_a_limit_below_the_smallest_group_is_refused(sorted_by_label):
    for limit in (1, 0, -3):
        with pytest.raises(BadInput, match=f"limit={limit}, and the smallest group has 2 texts"):
            load_statements(sorted_by_label, limit=limit)


def test_reading_a_csv_brings_neither_torch_nor_pyarrow():
    code = "import sys, probes.facts.statements; sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
