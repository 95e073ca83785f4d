"""Strict JSON: what it writes, what it reads back, and what it refuses."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.errors import ArtifactError
from probes.strict_json import canonical, parse, require, short

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


def test_a_toy_is_written_sorted_without_spaces_in_utf_8():
    """Two keys out of order, a float, a tuple and an umlaut."""
    assert canonical({"b": 1.0, "a": (True, None, "ü")}, "f") == '{"a":[true,null,"ü"],"b":1.0}'.encode()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES))
def test_what_is_written_is_read_back_to_the_bit(value):
    raw = canonical(value, "f")
    found = parse(raw, "f")
    assert canonical(found, "f") == raw
    assert repr(found) == repr(json.loads(raw))  # repr tells -0.0 from 0.0 and 1 from 1.0 and True


@pytest.mark.parametrize(
    "value",
    [{"a": math.nan}, {"a": math.inf}, {1: "a"}, {"a": {None: 1}}, {"a": object()}, {"a": "\ud800"}, {"a": {1, 2}}],
)
def test_what_json_cannot_say_is_refused_when_written(value):
    with pytest.raises(ArtifactError, match="^f would hold what JSON cannot"):
        canonical(value, "f")


def test_a_value_that_contains_itself_is_refused_when_written():
    loop: dict = {}
    loop["a"] = loop
    with pytest.raises(ArtifactError, match="what JSON cannot"):
        canonical(loop, "f")


REFUSED = {
    "nothing": (b"", "Expecting value"),
    "a list": (b"[1]", "no JSON object"),
    "a number": (b"1", "no JSON object"),
    "two objects": (b"{}{}", "Extra data"),
    "a NUL at the end": (b"{}\0", "Extra data"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not strict JSON"),
    "latin-1": (b'{"a":"\xfc"}', "no UTF-8 at byte 6"),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "no UTF-8"),
    "a key twice": (b'{"a":1,"a":1}', "'a' is there twice"),
    "a key twice, deep": (b'{"b":[{"a":1,"\\u0061":2}]}', "'a' is there twice"),
    "NaN": (b'{"a":NaN}', "NaN is no number"),
    "Infinity": (b'{"a":-Infinity}', "-Infinity is no number"),
    "a float beyond all floats": (b'{"a":1e999}', "beyond all floating numbers"),
    "2 to the 63": (b'{"a":9223372036854775808}', "64 bits"),
    "5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", "64 bits"),
    "a comment": (b'{"a":1/*b*/}', "not strict JSON"),
    "a trailing comma": (b'{"a":1,}', "not strict JSON"),
    "single quotes": (b"{'a':1}", "not strict JSON"),
    "a control character": (b'{"a":"\n"}', "not strict JSON"),
    "17 levels": (b'{"a":' * 17 + b"1" + b"}" * 17, "deeper than 16"),
    "a tower of lists": (b'{"a":' + b"[" * 150_000 + b"]" * 150_000 + b"}", "deeper than 16"),
    "a string without an end": (b'{"a":"', "not strict JSON"),
    "a string of quotes without an end": (b'{"a":"' + b'\\"' * 500_000, "not strict JSON"),
    "the same with a lone backslash at the end": (b'{"a":"' + b'\\"' * 500_000 + b"\\", "not strict JSON"),
    "100,000 keys and one of them twice": (
        b"{" + b"".join(b'"%d":0,' % i for i in range(100_000)) + b'"99999":0}',
        "'99999' is there twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_but_one_strict_object_is_refused_within_a_second(name):
    raw, why = REFUSED[name]
    start = time.process_time()
    with pytest.raises(ArtifactError, match=why) as caught:
        parse(raw, "f.json")
    assert time.process_time() - start < 1
    assert str(caught.value).startswith("f.json ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_sixteen_levels_and_brackets_within_strings_are_taken():
    assert parse(b'{"a":' * 16 + b"1" + b"}" * 16, "f")
    assert parse(b'{"a":"' + b"[{" * 1000 + b'\\""}', "f") == {"a": "[{" * 1000 + '"'}


FIELDS = {
    "bias": float,
    "n": int,
    "name": str,
    "on": bool,
    "layers": list[int],
    "parts": dict[str, str],
    "note": str | None,
}
GOOD = {"bias": 1, "n": 2, "name": "x", "on": True, "layers": [3], "parts": {"a": "b"}, "note": None}


def test_require_returns_each_field_in_its_type():
    found = require({**GOOD, "inner": {"x": 0.5}}, {**FIELDS, "inner": {"x": float}})
    assert found == {**GOOD, "inner": {"x": 0.5}}
    assert type(found["bias"]) is float
    assert require({"note": "yes"}, {"note": str | None}) == {"note": "yes"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bias", "1"),
        ("bias", True),
        ("bias", math.nan),
        ("n", 1.0),
        ("n", True),
        ("n", None),
        ("name", 1),
        ("on", 1),
        ("layers", {"a": 1}),
        ("layers", [1, 2.0]),
        ("parts", ["a"]),
        ("parts", {"a": 1}),
        ("note", 1),
    ],
)
def test_require_refuses_another_type_and_names_the_field(field, value):
    with pytest.raises(ArtifactError, match=rf"manifest.json has body\.{field}.* is wanted"):
        require({**GOOD, field: value}, FIELDS)


def test_require_refuses_missing_and_unknown_fields():
    with pytest.raises(ArtifactError, match='no field "n" in body'):
        require({name: value for name, value in GOOD.items() if name != "n"}, FIELDS)
    with pytest.raises(ArtifactError, match="unknown field 'colour' in body"):
        require({**GOOD, "colour": 1}, FIELDS)
    with pytest.raises(ArtifactError, match=r"unknown field 'y' in body\.inner"):
        require({"inner": {"x": 0.5, "y": 1}}, {"inner": {"x": float}})
    with pytest.raises(ArtifactError, match=r"body\.inner = 3, where object is wanted"):
        require({"inner": 3}, {"inner": {"x": float}})


def test_a_hostile_text_is_shown_escaped_and_cut():
    assert short("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert len(short("a" * 10_000)) < 70
