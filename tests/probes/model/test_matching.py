"""Comparing two fingerprints: which parts differ, what is said of them, and what may be allowed."""

import pytest

from probes.errors import BadInput, Mismatch
from probes.model.matching import describe, differing, match

WEIGHTS = "float32:aa bfloat16:bb float16:cc"
FULL = {
    "config": "1",
    "weights.embed": WEIGHTS,
    **{f"weights.block.{layer}": WEIGHTS for layer in range(12)},
    "weights.rest": WEIGHTS,
    "tokenizer": "2",
    "template": "3",
    "dtype": "float32",
}


def test_a_toy_with_two_changed_parts():
    """Layer 10 and the tokenizer; layers are in the order of numbers, not of letters."""
    other = {**FULL, "tokenizer": "x", "weights.block.10": "float32:zz bfloat16:bb float16:cc", "weights.block.9": "y"}
    assert differing(FULL, other) == ["weights.block.9", "weights.block.10", "tokenizer"]
    assert differing(FULL, FULL) == []
    assert match(FULL, dict(FULL)) == ()


def test_a_part_that_only_one_has_differs():
    shorter = {name: value for name, value in FULL.items() if name != "weights.block.11"}
    assert differing(FULL, shorter) == differing(shorter, FULL) == ["weights.block.11"]


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        (("float32", "float32:1 bfloat16:2 float16:3"), ("bfloat16", "float32:4 bfloat16:2 float16:5"), True),
        (("float32", "float32:1 bfloat16:2 float16:3"), ("float16", "float32:4 bfloat16:6 float16:3"), True),
        (("float32", "float32:1 bfloat16:2 float16:3"), ("float16", "float32:1 bfloat16:6 float16:5"), True),
        (("float32", "float32:1 bfloat16:2 float16:3"), ("bfloat16", "float32:4 bfloat16:5 float16:3"), False),
        (("float32", "float32:1 bfloat16:2 float16:3"), ("float32", "float32:4 bfloat16:2 float16:3"), False),
        (("bfloat16", "float32:1 bfloat16:2 float16:3"), ("bfloat16", "float32:1 bfloat16:2 float16:4"), False),
        (("bfloat16+float32", "float32:1 bfloat16:2"), ("float32", "float32:3 bfloat16:2"), True),
        (("float32", "float32:1"), ("float64", "float32:1 bfloat16:9"), True),
        (("float32", "no digest at all"), ("float16", "nor this"), False),
    ],
)
def test_across_dtypes_weights_agree_in_the_digest_of_one_of_the_two(a, b, agree):
    first, second = (
        {**FULL, "dtype": dtype, "weights.embed": digest, "weights.rest": "float16:0"} for dtype, digest in (a, b)
    )
    for found in (differing(first, second), differing(second, first)):
        assert ("weights.embed" not in found) == agree
        assert ("dtype" in found) == (a[0] != b[0])
        assert "weights.rest" not in found


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["weights.block.3"], "weights of layer 3"),
        (["weights.block.10", "weights.block.9", "weights.block.2"], "weights of layers 2, 9, 10"),
        (["weights.block.7", "weights.block.8", "weights.block.9", "weights.block.3"], "weights of layers 3, 7 to 9"),
        (
            ["dtype", "weights.rest", "config", "weights.block.0", "weights.embed"],
            "configuration, weights of layer 0, embedding weights, weights outside the blocks, dtype",
        ),
        (["tokenizer", "template"], "tokenizer, chat template"),
        (["something new"], "something new"),
        ([], ""),
    ],
)
def test_parts_are_described_as_people_say_them(parts, said):
    assert describe(parts) == said


def test_a_mismatch_names_the_parts_and_what_to_allow():
    other = {**FULL, "weights.block.2": "x", "weights.block.3": "x", "weights.block.4": "x", "template": "x"}
    with pytest.raises(Mismatch) as caught:
        match(FULL, other)
    assert caught.value.parts == ("weights.block.2", "weights.block.3", "weights.block.4", "template")
    assert "what differs: weights of layers 2 to 4, chat template." in str(caught.value)
    assert "allow={'template', 'weights'}" in str(caught.value)


def test_what_is_allowed_is_returned_and_nothing_else_is_let_by():
    other = {**FULL, "weights.block.2": "x", "weights.rest": "x", "template": "x"}
    assert match(FULL, other, allow={"weights", "template"}) == ("weights.block.2", "weights.rest", "template")
    assert match(FULL, other, allow=["weights.block.2", "weights.rest", "template", "dtype"])
    assert match(FULL, {**FULL, "template": "x"}, allow="template") == ("template",)
    with pytest.raises(Mismatch) as caught:
        match(FULL, other, allow={"weights"})
    assert caught.value.parts == ("template",)
    with pytest.raises(Mismatch) as caught:
        match(FULL, other, allow={"weights.block.2", "template"})
    assert caught.value.parts == ("weights.rest",)


@pytest.mark.parametrize("name", ["weight", "weights.block.99", "weights.block", "", 3])
def test_an_unknown_name_in_allow_is_an_error_even_where_nothing_differs(name):
    with pytest.raises(BadInput, match="is no part of a fingerprint"):
        match(FULL, FULL, allow=[name])
    with pytest.raises(BadInput, match="did you mean 'weights'"):
        match(FULL, FULL, allow=["weight"])


def test_an_artifact_without_a_fingerprint_matches_nothing_silently():
    for actual in (FULL, {}):
        with pytest.raises(Mismatch, match="does not say on which model it was made"):
            match({}, actual)
    everything = {"config", "weights", "tokenizer", "template", "dtype"}
    assert set(match({}, FULL, allow=everything)) == set(FULL)
    with pytest.raises(Mismatch):
        match(FULL, {})
