"""Toy: of the texts "a" and "b" with labels, the records are (a, True) and (b, False), and their digest is that of two
lines of JSON."""

import hashlib

import pytest

from probes import BadInput
from probes.activations.corpus import Ahead, Corpus, Record
from probes.facts.facts import Fact, Statement
from probes.facts.statements import LabelledText

FACT = Fact("France", "capital", "Paris")
TRUE = Statement("the capital of France is Paris", True, True, "France", "affirmed", FACT)


class Anew:
    """Texts that are made when they are looked at."""

    def __init__(self, *texts):
        self.texts = texts

    def __iter__(self):
        yield from self.texts


def test_the_digest_is_that_of_one_line_of_json_a_record():
    corpus = Corpus(Anew("a", "b"), labels=[True, False])
    assert list(corpus) == [Record("a", label=True), Record("b", label=False)]
    lines = b'["a",true,null,null,null]\n["b",false,null,null,null]\n'
    assert corpus.measure() == (2, hashlib.sha256(lines).hexdigest())
    assert corpus.measure() == corpus.measure()


@pytest.mark.parametrize(
    "other",
    [
        {"texts": ["a", "c"]},
        {"texts": ["b", "a"]},
        {"texts": ["ab", ""]},
        {"texts": ["a", "b", "b"], "labels": [True, False, False]},
        {"labels": [True, True]},
        {"labels": None},
        {"groups": ["x", "y"]},
        {"entities": ["x", "y"]},
    ],
)
def test_whatever_is_given_otherwise_gives_another_digest(other):
    given = {"texts": ["a", "b"], "labels": [True, False]}
    assert Corpus(**given).measure() != Corpus(**given | other).measure()


def test_statements_bring_what_is_known_of_them():
    (record,) = Corpus([TRUE])
    assert record == Record(TRUE.text, label=True, group="France", polarity=True, entity="France")
    (record,) = Corpus([TRUE], labels=[False])
    assert record == Record(TRUE.text, label=False, entity="France")
    (record,) = Corpus([LabelledText("a", True, "b")])
    assert record == Record("a", label=True, group="b")


def test_what_comes_next_is_seen_before_it_is_taken():
    ahead = Ahead(Corpus(["a", "b"]))
    empty = ahead.digest
    assert ahead.peek() == Record("a")
    assert (ahead.taken, ahead.digest) == (0, empty)
    assert ahead.take() == Record("a")
    assert ahead.taken == 1
    assert ahead.digest == Corpus(["a"]).measure()[1] != empty
    ahead.take()
    assert ahead.peek() is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"texts": "a text"}, "one string; give a list"),
        ({"texts": []}, "is empty"),
        ({"texts": {"a": 1}}, "texts is a dict"),
        ({"texts": 7}, "texts is a int"),
        ({"texts": iter(["a"])}, "gone through only once.*__iter__ starts anew"),
        ({"texts": (text for text in "ab")}, "texts is a generator"),
        ({"texts": ["a"], "labels": iter([True])}, "labels is a .*only once"),
        ({"texts": ["a", "b"], "labels": [True]}, "1 labels for more texts"),
        ({"texts": ["a"], "groups": ["x", "y"]}, "more groups than the 1 texts"),
        ({"texts": ["a", 7]}, "text 1: a int is neither"),
        ({"texts": ["a", [{"role": "user"}], []]}, "text 2: a list is neither"),
        ({"texts": ["a", TRUE]}, "text 1 is a Statement; give Statements alone"),
        ({"texts": [TRUE, "a"]}, "text 1 is a str; give Statements alone"),
        ({"texts": ["a", "\ud800"]}, "text 1 cannot be kept as JSON"),
        ({"texts": [[{"role": "user", "content": object()}]]}, "text 0 cannot be kept as JSON"),
    ],
)
def test_bad_input_is_one_clear_error(given, says):
    with pytest.raises(BadInput, match=says):
        Corpus(**given).measure()
