"""Wordings: grammar by hand for each relation that ships, then what templates are refused."""

import pytest

from probes.errors import BadInput, NotFound
from probes.facts.templates import RELATIONS, Relation, capitalise, fill, find_relation


def seat(**changes):
    wordings = {
        "name": "seat",
        "affirmed": "The seat of {subject} is {object}.",
        "negated": "The seat of {subject} is not {object}.",
        "paraphrases": ("{object} is the seat of {subject}.",),
        "cloze": "The seat of {subject} is",
    }
    return Relation(**{**wordings, **changes})


def test_a_template_is_filled_and_its_first_letter_raised():
    """By hand: only the first letter changes, and articles within the sentence stay small."""
    text = fill("{subject} has its capital in {object}.", "the Netherlands", "Amsterdam")
    assert text == "The Netherlands has its capital in Amsterdam."
    assert fill("The capital of {subject} is", "the Netherlands") == "The capital of the Netherlands is"
    assert capitalise("AK-47") == "AK-47"
    assert capitalise("élan") == "Élan"
    assert capitalise("") == ""


def test_an_object_with_a_full_stop_of_its_own_does_not_double_it():
    assert fill("It is {object}.", "", "Washington, D.C.") == "It is Washington, D.C."
    assert fill("It is {object}...", "", "Rome") == "It is Rome..."


def test_braces_in_a_subject_are_text_and_not_blanks():
    assert fill("{subject} is {object}.", "{object}", "{subject}") == "{object} is {subject}."


@pytest.mark.parametrize(
    ("relation", "subject", "object", "affirmed", "negated", "cloze"),
    [
        (
            "capital",
            "the Philippines",
            "Manila",
            "The capital of the Philippines is Manila.",
            "The capital of the Philippines is not Manila.",
            "The capital of the Philippines is",
        ),
        (
            "country",
            "The Hague",
            "the Netherlands",
            "The city of The Hague is in the Netherlands.",
            "The city of The Hague is not in the Netherlands.",
            "The city of The Hague is in",
        ),
        (
            "symbol",
            "gold",
            "Au",
            "The chemical symbol of gold is Au.",
            "The chemical symbol of gold is not Au.",
            "The chemical symbol of gold is",
        ),
        (
            "spanish",
            "perro",
            "dog",
            "The Spanish word 'perro' means 'dog'.",
            "The Spanish word 'perro' does not mean 'dog'.",
            "The Spanish word 'perro' means",
        ),
        (
            "inventor",
            "the airplane",
            "the Wright brothers",
            "The inventor of the airplane was the Wright brothers.",
            "The inventor of the airplane was not the Wright brothers.",
            "The inventor of the airplane was",
        ),
        (
            "class",
            "owls",
            "birds",
            "In zoology, owls are birds.",
            "In zoology, owls are not birds.",
            "In zoology, owls are",
        ),
        (
            "larger",
            "34 and 87",
            "87",
            "Of 34 and 87, the larger number is 87.",
            "Of 34 and 87, the larger number is not 87.",
            "Of 34 and 87, the larger number is",
        ),
    ],
)
def test_each_relation_reads_as_english(relation, subject, object, affirmed, negated, cloze):
    wordings = RELATIONS[relation]
    assert fill(wordings.affirmed, subject, object) == affirmed
    assert fill(wordings.negated, subject, object) == negated
    assert fill(wordings.cloze, subject) == cloze


def test_every_case_of_the_grammar_test_is_a_relation_and_every_relation_a_case():
    cases = test_each_relation_reads_as_english.pytestmark[0].args[1]
    assert [case[0] for case in cases] == list(RELATIONS)


@pytest.mark.parametrize("relation", RELATIONS.values(), ids=lambda relation: relation.name)
def test_a_shipped_relation_has_three_or_more_paraphrases_that_affirm(relation):
    wordings = {relation.affirmed, relation.negated, *relation.paraphrases}
    assert len(relation.paraphrases) >= 3
    assert len(wordings) == len(relation.paraphrases) + 2
    assert all(text.endswith(".") for text in wordings)
    assert not any(" not " in text for text in (relation.affirmed, *relation.paraphrases))
    assert " not " in relation.negated
    assert not relation.cloze.endswith(" ")


def test_an_unknown_relation_names_the_nearest_and_lists_all():
    with pytest.raises(NotFound, match=r"'captial'.*did you mean 'capital'\?.*class.*country.*symbol") as caught:
        find_relation("captial")
    assert caught.value.exit_code == 2
    assert find_relation("capital") is RELATIONS["capital"]


@pytest.mark.parametrize(
    "changes",
    [
        {"affirmed": "The seat is {object}."},
        {"affirmed": "{subject} {subject} {object}."},
        {"affirmed": "The {kind} of {subject} is {object}."},
        {"affirmed": "{subject} is {object}. }"},
        {"affirmed": "{subject.__class__} is {object}."},
        {"negated": " {subject} is not {object}."},
        {"negated": "{subject}\nis not {object}."},
        {"negated": 3},
        {"paraphrases": ("{subject}.",)},
        {"paraphrases": "{subject} is {object}."},
        {"paraphrases": None},
        {"cloze": "The seat of {subject} is {object}"},
        {"cloze": "The seat of {subject} is "},
        {"cloze": ""},
        {"questions": ("What is {object}?",)},
        {"noun": "the seat of {object}"},
        {"noun": "the seat of {subject} in {object}"},
        {"noun": "the seat"},
        {"noun": "the {object} of {subject}"},
        {"noun": 3},
        {"inverse": ("{subject} is the seat of",)},
        {"inverse": "{object} is the seat of"},
        {"name": "two words"},
        {"name": ""},
        {"name": "a|b"},
        {"closed": "yes"},
        {"subject_kind": 3},
    ],
    ids=str,
)
def test_a_relation_with_a_faulty_part_is_refused_by_name(changes):
    with pytest.raises(BadInput, match="relation"):
        seat(**changes)


def test_a_relation_without_a_fault_is_taken_and_frozen():
    relation = seat(paraphrases=["{object} seats {subject}."], questions=["Where does {subject} sit?"])
    assert relation.paraphrases == ("{object} seats {subject}.",)
    assert relation.questions == ("Where does {subject} sit?",)
    assert hash(relation) == hash(seat(paraphrases=relation.paraphrases, questions=relation.questions))


@pytest.mark.parametrize(
    ("relation", "phrase", "inverse"),
    [
        ("capital", "the capital of France", "Paris is the capital of"),
        ("country", "the country in which the city of Lyon lies", "Among the cities of France is"),
        ("symbol", "the chemical symbol of gold", "Au is the chemical symbol of"),
        ("spanish", "the meaning of the Spanish word 'perro'", "The Spanish word for 'dog' is"),
        ("inventor", "the inventor of the radio", "Guglielmo Marconi was the inventor of"),
        ("class", "the group of animals that owls belong to", "Among the birds are"),
        ("larger", "the larger number of 34 and 87", None),
    ],
)
def test_each_relation_has_the_wordings_of_puzzles(relation, phrase, inverse):
    """By hand: `noun` within a sentence, so without a capital; the subject completes `inverse`."""
    subjects = {"country": "Lyon", "symbol": "gold", "spanish": "perro", "inventor": "the radio", "class": "owls"}
    objects = {"capital": "Paris", "symbol": "Au", "spanish": "dog", "inventor": "Guglielmo Marconi", "class": "birds"}
    wordings = RELATIONS[relation]
    subject = subjects.get(relation, "34 and 87" if relation == "larger" else "France")
    assert wordings.noun.replace("{subject}", subject) == phrase
    texts = [fill(text, "", objects.get(relation, "France")) for text in wordings.inverse]
    assert inverse in texts if inverse else texts == []


def test_clozes_are_the_cloze_and_the_paraphrases_that_end_in_the_object():
    relation = seat(paraphrases=["{object} seats {subject}.", "Look for {subject} in {object}."])
    assert relation.clozes == ("The seat of {subject} is", "Look for {subject} in")
    assert RELATIONS["capital"].clozes[1] == "The capital city of {subject} is called"
    for known in RELATIONS.values():
        assert all("{object}" not in text and "{subject}" in text for text in known.clozes)
