"""The texts themselves: enough of them, none twice, none like another, none that gives an object away."""

import json
import re
from collections import Counter
from importlib.resources import files
from itertools import combinations

import pytest

from probes.errors import BadInput, NotFound
from probes.facts.facts import Fact, Topic, load_topic
from probes.facts.templates import RELATIONS, Relation
from probes.facts.wordings import frames, question_forms, relations_with_contexts, wordings

DATA = files("probes.facts").joinpath("data")
QUESTIONS = json.loads(DATA.joinpath("questions.json").read_text(encoding="utf-8"))
ORDINARY = DATA.joinpath("ordinary.txt").read_text(encoding="utf-8").splitlines()
FRANCE = Fact("France", "capital", "Paris")


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.replace("{question}", "").replace("{subject}", "").lower()))


def _likeness(one: str, other: str) -> float:
    """Jaccard index of the words.

    >>> _likeness("Hi! {question}", "Hi there, {question}")
    0.5
    """
    both, either = _words(one) & _words(other), _words(one) | _words(other)
    return len(both) / len(either) if either else 1.0


def test_likeness_of_two_frames_worked_by_hand():
    """{hi} and {hi, there} share one word of two; a frame is wholly like itself."""
    assert _likeness("Hi! {question}", "Hi there, {question}") == 0.5
    assert _likeness("Quick one: {question}", "{question} Quick one") == 1.0


def test_there_are_enough_frames_and_each_has_one_place_for_the_question():
    assert len(frames()) >= 240
    assert all(
        frame.count("{question}") == 1 and set(frame.replace("{question}", "")).isdisjoint("{}") for frame in frames()
    )


def test_no_two_frames_are_alike():
    assert [pair for pair in combinations(frames(), 2) if _likeness(*pair) >= 0.6] == []


def test_frames_differ_in_length_and_in_where_the_question_stands():
    lengths = [len(_words(frame)) for frame in frames()]
    assert min(lengths) == 0
    assert max(lengths) >= 30
    first = sum(frame.startswith("{question}") for frame in frames())
    last = sum(frame.endswith("{question}") for frame in frames())
    assert min(first, last, len(frames()) - first - last) >= 20


TOPIC_WORDS = re.compile(
    r"\b(capitals?|cit(y|ies)|countr(y|ies)|nations?|maps?|geography|france|french|paris|chemi\w+|elements?|symbols?|"
    r"animals?|species|zoolog\w+|spanish|translat\w+|words?|invent\w*|inventors?|larger|bigger|greater|numbers?)\b",
    re.IGNORECASE,
)


def test_frames_say_nothing_of_any_topic():
    # "In your own words" and "word for word" are about the manner of a reply.
    said = [
        frame
        for frame in frames()
        if TOPIC_WORDS.search(re.sub(r"(own|following|simple|so simple) words|Number \w+", "", frame))
    ]
    assert said == []


def test_ordinary_requests_are_many_and_distinct():
    assert len(ORDINARY) >= 260
    assert len({line.casefold() for line in ORDINARY}) == len(ORDINARY)
    assert all("{" not in line and line == line.strip() and line for line in ORDINARY)
    assert max(Counter(" ".join(line.split()[:2]) for line in ORDINARY).values()) < len(ORDINARY) / 4


def test_ordinary_requests_name_no_country_capital_element_animal_or_invention():
    named = {
        fact.subject.removeprefix("the ").casefold()
        for name in ("capitals", "elements", "animals")
        for fact in load_topic(name).facts
    }
    named |= {fact.object.casefold() for fact in load_topic("capitals").facts}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(named)))})\b")
    found = [line for line in ORDINARY if pattern.search(line.casefold())]
    assert pattern.search("two cats in spain")
    assert found == []


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_every_relation_has_six_forms_that_differ_and_end_as_sentences_do(relation):
    forms = question_forms(RELATIONS[relation])
    assert len(set(forms)) == len(forms) >= 6
    assert all(form.count("{subject}") == 1 and form.endswith(("?", ".")) for form in forms)
    assert [pair for pair in combinations(forms, 2) if _likeness(*pair) >= 0.85] == []


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("country", 200),
        ("city", 60),
        ("element", 60),
        ("word", 113),
        ("invention", 60),
        ("animal", 60),
        ("pair", 113),
        ("anything", 113),
    ],
)
def test_questions_about_a_subject_are_many_and_distinct(kind, least):
    questions = QUESTIONS["about"][kind]
    assert len({text.casefold() for text in questions}) == len(questions) >= least
    assert all(text.count("{subject}") == 1 and text.endswith(("?", ".", '."', '?"')) for text in questions)


def test_questions_for_a_kind_of_subject_do_not_come_twice_through_the_general_ones():
    texts = [text.casefold() for kind in ("anything", "country") for text in QUESTIONS["about"][kind]]
    assert len(set(texts)) == len(texts)
    for kind in ("city", "element", "invention", "animal"):
        assert set(QUESTIONS["about"][kind]).isdisjoint(QUESTIONS["about"]["anything"]), kind


def test_no_question_about_a_subject_is_a_question_form_of_its_relation():
    for relation in RELATIONS.values():
        assert set(question_forms(relation)).isdisjoint(QUESTIONS["about"][relation.subject_kind])


def test_questions_about_a_country_ask_for_no_capital_city():
    """ "Capital" is said where it means money or the death penalty, so that the word alone tells nothing."""
    said = [text for text in QUESTIONS["about"]["country"] if "capital" in text.lower()]
    assert len(said) >= 3
    assert [text for text in said if not re.search(r"capital (punishment|gains|do I need)", text)] == []


def test_an_unknown_relation_lists_the_known_ones():
    tune = Relation("tune", "{subject} is in {object}.", "{subject} is not in {object}.", (), "{subject} is in")
    with pytest.raises(NotFound, match="capital.*class.*country.*inventor.*larger.*spanish.*symbol"):
        question_forms(tune)
    assert set(relations_with_contexts()) == set(RELATIONS)


def _keys(questions: tuple[str, ...]) -> Topic:
    relation = Relation(
        "key", "{subject} is in {object}.", "{subject} is not in {object}.", (), "{subject} is in", questions=questions
    )
    return Topic(
        "keys",
        relation,
        tuple(Fact(f"the sonata {n}", "key", key) for n, key in enumerate(["C major", "D minor"] * 70)),
    )


def test_a_relation_of_ones_own_brings_its_forms_and_gets_the_general_questions():
    topic = _keys(("In which key is {subject}?", "Is {subject} in C major?"))
    found = wordings(topic.facts[0], topic)
    assert found.forms == ("In which key is {subject}?",), "the other one gives the object away"
    assert found.about == ()
    assert found.most >= 113


def test_forms_that_all_give_the_object_away_are_refused():
    topic = _keys(("Is {subject} in C major?",))
    with pytest.raises(BadInput, match="C major"):
        wordings(topic.facts[0], topic)


def test_a_fact_of_another_relation_is_refused():
    with pytest.raises(BadInput, match="symbol.*capitals"):
        wordings(Fact("gold", "symbol", "Au"), load_topic("capitals"))


def test_texts_that_say_the_object_or_the_subject_are_passed_over():
    """Indium is written In: frames that say "in" stay, those that begin with "In" go."""
    topic = load_topic("elements")
    (indium,) = (wordings(fact, topic) for fact in topic.facts if fact.object == "In")
    left = [frame for _, frame in indium.frames]
    assert any(re.search(r"\bin\b", frame) for frame in left)
    assert any(re.search(r"\bIn\b", frame) for frame in frames())
    assert not any(re.search(r"\bIn\b", frame) for frame in left)
    guitar = wordings(Fact("the guitar", "inventor", "somebody"), load_topic("inventions"))
    assert any("guitar" in line for line in ORDINARY)
    assert not any("guitar" in line for line in guitar.ordinary)


def test_other_subjects_come_once_and_without_the_target():
    relation = RELATIONS["capital"]
    facts = (
        FRANCE,
        Fact("Spain", "capital", "Madrid"),
        Fact("Spain", "capital", "Toledo"),
        Fact("Paris County", "capital", "Rome"),
    )
    assert wordings(FRANCE, Topic("few", relation, facts)).subjects == ("Spain",)
