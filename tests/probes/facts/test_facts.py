"""Facts and topics: a toy by hand, balance and labels, the topics that ship, files of one's own."""

import dataclasses
import json
import re
from collections import Counter

import numpy as np
import pytest

from probes.errors import BadInput, NotFound
from probes.facts.facts import KINDS, Fact, Topic, load_topic, topics
from probes.facts.templates import RELATIONS

PARIS, MADRID = Fact("France", "capital", "Paris"), Fact("Spain", "capital", "Madrid")


def toy(*facts, relation="capital"):
    return Topic("toy", RELATIONS[relation], facts)


@pytest.fixture(scope="module", params=topics())
def shipped(request):
    return load_topic(request.param)


def test_two_facts_unfold_into_four_statements():
    """By hand: of two capitals the wrong one is the other's."""
    statements = toy(PARIS, MADRID).statements()
    assert [(statement.text, statement.label) for statement in statements] == [
        ("The capital of France is Paris.", True),
        ("The capital of France is Madrid.", False),
        ("The capital of Spain is Madrid.", True),
        ("The capital of Spain is Paris.", False),
    ]
    assert [statement.group for statement in statements] == ["France + Spain"] * 4
    assert {(statement.polarity, statement.kind) for statement in statements} == {(True, "affirmed")}
    assert statements[1].fact == PARIS


def test_denying_turns_the_label_round():
    """By hand: it is true that the capital of France is not Madrid."""
    statements = toy(PARIS, MADRID).statements(["negated"])
    assert [(statement.text, statement.label) for statement in statements[:2]] == [
        ("The capital of France is not Paris.", False),
        ("The capital of France is not Madrid.", True),
    ]
    assert {(statement.polarity, statement.kind) for statement in statements} == {(False, "negated")}


def test_the_cloze_prompt_ends_right_before_the_object():
    topic = toy(PARIS, MADRID)
    assert topic.cloze(PARIS) == "The capital of France is"
    assert topic.statements()[0].text == f"{topic.cloze(PARIS)} {PARIS.object}."


def test_a_fact_reads_what_its_id_writes():
    assert Fact.parse(" France |capital|  Paris ") == PARIS
    assert PARIS.id == "France|capital|Paris"
    assert Fact.parse(MADRID.id) == MADRID
    assert Fact("東京", "country", "日本").id == "東京|country|日本"


@pytest.mark.parametrize("text", ["France", "France|capital", "France|capital|Paris|x", "", "France|capital|", "||"])
def test_what_is_not_three_parts_is_no_fact(text):
    with pytest.raises(BadInput, match="fact"):
        Fact.parse(text)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"subject": ""}, "subject is empty"),
        ({"object": "  "}, "object is empty"),
        ({"relation": ""}, "relation is empty"),
        ({"subject": " France"}, "space at an end"),
        ({"object": "Pa|ris"}, r"'\|' in it"),
        ({"object": "Pa\nris"}, "line end"),
        ({"object": "Pa\x00ris"}, "control character"),
        ({"object": "Pa\u2028ris"}, "line end"),
        ({"object": "Pa\ud800ris"}, "control character"),
        ({"subject": 3}, "subject 3 is not a text"),
        ({"object": None}, "object None is not a text"),
        ({"distractors": ("Lyon", "Paris")}, "'Paris' is among its own distractors"),
        ({"distractors": ("Lyon", "Lyon")}, "repeat"),
        ({"distractors": ("",)}, "distractor is empty"),
        ({"distractors": (3,)}, "distractor 3"),
        ({"distractors": "Lyon"}, "give a list"),
    ],
    ids=str,
)
def test_a_fact_with_a_faulty_part_is_refused(changes, complaint):
    with pytest.raises(BadInput, match=complaint):
        Fact(**{"subject": "France", "relation": "capital", "object": "Paris", **changes})


def test_a_topic_holds_each_fact_once_and_one_relation():
    with pytest.raises(BadInput, match="no facts"):
        toy()
    with pytest.raises(BadInput, match=r"'France\|capital\|Paris' 2 times"):
        toy(PARIS, MADRID, dataclasses.replace(PARIS, distractors=("Lyon",)))
    with pytest.raises(BadInput, match="one topic, one relation"):
        toy(PARIS, Fact("gold", "symbol", "Au"))
    assert len(repr(load_topic("cities"))) < 100


def test_an_unknown_kind_of_statement_names_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'negated'"):
        toy(PARIS, MADRID).statements(["negate"])
    assert toy(PARIS, MADRID).statements("negated") == toy(PARIS, MADRID).statements(["negated"])
    assert toy(PARIS, MADRID).statements([]) == []


def test_one_fact_loads_but_needs_a_distractor_for_a_false_statement():
    with pytest.raises(BadInput, match="'Paris' is the object of 1 of 1 facts.*distractors"):
        toy(PARIS).statements()
    statements = toy(dataclasses.replace(PARIS, distractors=("Lyon",))).statements()
    assert [statement.text for statement in statements] == [
        "The capital of France is Paris.",
        "The capital of France is Lyon.",
    ]


def test_an_object_of_most_facts_needs_distractors_too():
    owls, cats = Fact("owls", "class", "birds"), Fact("cats", "class", "mammals")
    ducks = Fact("ducks", "class", "birds")
    with pytest.raises(BadInput, match="'birds' is the object of 2 of 3 facts"):
        toy(owls, cats, ducks, relation="class").statements()
    given = [dataclasses.replace(fact, distractors=("fish", "insects")) for fact in (owls, cats, ducks)]
    wrong = toy(*given, relation="class").wrong_objects()
    assert set(wrong) <= {"fish", "insects"}


def test_a_closed_relation_takes_the_other_number():
    one, two = Fact("3 and 5", "larger", "5", ("3",)), Fact("9 and 2", "larger", "9", ("2",))
    assert toy(one, two, relation="larger").wrong_objects() == ("3", "2")
    with pytest.raises(BadInput, match="needs distractors"):
        toy(one, dataclasses.replace(two, distractors=()), relation="larger").statements()


def test_a_relation_without_paraphrases_says_so_only_when_they_are_asked_for():
    topic = dataclasses.replace(toy(PARIS, MADRID), relation=dataclasses.replace(RELATIONS["capital"], paraphrases=()))
    assert len(topic.statements(["affirmed", "negated"])) == 8
    with pytest.raises(BadInput, match="no paraphrases"):
        topic.statements(["paraphrased"])


def test_every_fact_gives_one_true_and_one_false_twin_in_the_same_words(shipped):
    statements = shipped.statements(KINDS, seed=1)
    assert len(statements) == 2 * len(KINDS) * len(shipped.facts)
    for one, other in zip(statements[::2], statements[1::2], strict=True):
        assert one.fact is other.fact
        assert one.label != other.label
        assert one.label == one.polarity  # the first of the twins has the fact's own object
        assert one.fact.object.lower() in one.text.lower()
        for text in (one.text, other.text):
            assert text[0].isupper()
            assert re.search(r"[^.]\.$", text)
            assert not re.search("  |[{}]", text)
    assert {statement.kind: statement.polarity for statement in statements} == {
        "affirmed": True,
        "negated": False,
        "paraphrased": True,
    }


def test_every_object_is_true_as_often_as_false(shipped):
    """The sanity half: objects that were simply drawn at random would not be."""
    objects = [fact.object for fact in shipped.facts]
    wrong = shipped.wrong_objects(seed=5)
    assert not any(right == other for right, other in zip(objects, wrong, strict=True))
    balanced = Counter(wrong) == Counter(objects)
    assert balanced != shipped.relation.closed
    assert Counter(objects[:-1] + [objects[0]]) != Counter(objects)


@pytest.mark.parametrize("name", ["capitals", "cities", "spanish", "inventions", "animals"])
def test_a_bag_of_words_knows_nothing_after_a_split_by_group(name):
    """Split by entity alone, objects that are true in training are false in the test, and it scores near 0, not 0.5."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupShuffleSplit

    statements = load_topic(name).statements()
    words = CountVectorizer(token_pattern=r"[^ ]+").fit_transform(statement.text for statement in statements)
    labels = np.array([statement.label for statement in statements])

    def bag_of_words(groups):
        split = GroupShuffleSplit(5, test_size=0.3, random_state=0).split(words, labels, groups)
        fit = LogisticRegression(max_iter=2000).fit
        scores = [(labels[b], fit(words[a], labels[a]).decision_function(words[b])) for a, b in split]
        return np.mean([roc_auc_score(*pair) for pair in scores])

    assert abs(bag_of_words([statement.group for statement in statements]) - 0.5) < 0.05
    if name != "animals":  # seven classes are common enough to balance by themselves
        assert bag_of_words([statement.fact.subject for statement in statements]) < 0.4


def test_larger_tells_nothing_by_the_place_and_little_by_the_size_of_a_number():
    facts = load_topic("larger").facts
    first = sum(fact.subject.startswith(f"{fact.object} and") for fact in facts)
    assert first == len(facts) / 2
    right, wrong = Counter(fact.object for fact in facts), Counter(fact.distractors[0] for fact in facts)
    assert all(int(fact.object) > int(fact.distractors[0]) for fact in facts)
    assert all(right[str(number)] == wrong[str(number)] == 4 for number in range(27, 83))
    assert right["99"] == 4  # and at the ends of the range it does tell, as the docstring says
    assert wrong["99"] == 0


def test_the_seed_draws_the_false_objects_and_kinds_share_them(shipped):
    one, same = shipped.wrong_objects(seed=0), shipped.wrong_objects(seed=0)
    assert one == same
    if not shipped.relation.closed:
        assert one != shipped.wrong_objects(seed=1)
    statements = shipped.statements(["negated", "affirmed"])
    half = len(statements) // 2
    assert all(
        denied.text.replace(" does not mean ", " means ").replace(" not ", " ") == affirmed.text
        for denied, affirmed in zip(statements[:half], statements[half:], strict=True)
    )


def test_paraphrases_go_round_all_wordings_and_twins_share_theirs():
    topic = load_topic("capitals")
    texts = [statement.text for statement in topic.statements(["paraphrased"])]
    assert texts[0] == "The capital city of China is called Beijing."
    assert texts[1].startswith("The capital city of China is called ")
    assert texts[2] == "As for India, the capital is New Delhi."
    starts = Counter(text.split(" of ")[0] for text in texts if text.startswith(("The capital city", "On a map")))
    assert abs(starts["The capital city"] - starts["On a map"]) <= 2


def test_a_topic_that_ships_is_whole(shipped):
    subjects = [fact.subject for fact in shipped.facts]
    assert len(subjects) >= {"cities": 600, "spanish": 200, "animals": 150, "larger": 300}.get(shipped.name, 100)
    assert len(set(subjects)) == len(subjects)
    assert shipped.licence in {"CC-BY-4.0", "MIT", "Apache-2.0"}
    assert shipped.source
    assert shipped.relation == RELATIONS[shipped.relation.name]
    assert shipped.relation.topic == shipped.name
    assert {fact.topic for fact in shipped.facts} == {shipped.name}
    assert not any(text.startswith("The ") for fact in shipped.facts for text in (fact.object,))


def test_facts_that_everybody_knows_are_there():
    known = {fact.id for name in topics() for fact in load_topic(name).facts}
    assert {
        "France|capital|Paris",
        "the Netherlands|capital|Amsterdam",
        "Munich|country|Germany",
        "The Hague|country|the Netherlands",
        "gold|symbol|Au",
        "perro|spanish|dog",
        "the telephone|inventor|Alexander Graham Bell",
        "owls|class|birds",
    } <= known
    assert not {"Israel|capital|Jerusalem", "Bolivia|capital|Sucre", "Singapore|capital|Singapore"} & known
    assert not any("Mexico City" in fact for fact in known)


def test_cities_are_spread_over_countries():
    count = Counter(fact.object for fact in load_topic("cities").facts)
    assert max(count.values()) <= 15
    assert len(count) > 100


# Files of one's own


@pytest.fixture
def file(tmp_path):
    def write(name, *lines):
        path = tmp_path / name
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
        return path

    return write


SEAT = {
    "name": "seat",
    "affirmed": "The seat of {subject} is {object}.",
    "negated": "The seat of {subject} is not {object}.",
    "cloze": "The seat of {subject} is",
    "paraphrases": ["{object} is the seat of {subject}."],
    "questions": ["Where is the seat of {subject}?"],
    "subject_kind": "body",
}


def row(subject, object, **more):
    return {"subject": subject, "object": object, **more}


def test_a_file_of_a_known_relation_becomes_a_topic(file):
    path = file("mine.jsonl", row("France", "Paris", relation="capital", distractors=["Lyon"]))
    topic = load_topic(str(path))
    assert (topic.name, topic.licence, topic.relation) == ("mine", "", RELATIONS["capital"])
    assert topic.facts == (Fact("France", "capital", "Paris", ("Lyon",), "mine"),)
    table = file("mine.csv", "subject,relation,object,distractors", "France,capital,Paris,Lyon")
    assert load_topic(table).facts == topic.facts


def test_a_header_brings_a_relation_of_ones_own(file):
    about = {"name": "seats", "licence": "CC0-1.0", "source": "me", "relation": SEAT}
    topic = load_topic(file("t.jsonl", about, row("the EU", "Brussels"), row("the AU", "Addis Ababa", relation="seat")))
    assert (topic.name, topic.licence, topic.source) == ("seats", "CC0-1.0", "me")
    assert topic.relation.questions == ("Where is the seat of {subject}?",)
    assert [statement.text for statement in topic.statements(["negated", "paraphrased"])[1::4]] == [
        "The seat of the EU is not Addis Ababa.",
        "Addis Ababa is the seat of the EU.",
    ]
    assert topic.cloze(topic.facts[0]) == "The seat of the EU is"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (row("Italy", "", relation="capital"), "object is empty"),
        (row("It|aly", "Rome", relation="capital"), r"'\|' in it"),
        (row("Italy", "Rome", relation="capital", distractors=["Rome"]), "'Rome' is among its own distractors"),
        (row("Spain", "Madrid", relation="capital"), "earlier line"),
        (row("Spain", "Madrid", relation="capital", distractors=["Seville"]), "earlier line"),
        (row("gold", "Au", relation="symbol"), "relation 'symbol' in a topic of 'capital'"),
        (row("gold", "Au", relation="symbl"), "relation 'symbl' in a topic of 'capital'"),
    ],
    ids=str,
)
def test_a_bad_fact_is_refused_with_its_line_and_nothing_is_loaded(file, bad, complaint):
    first, good = row("Spain", "Madrid", relation="capital"), row("Peru", "Lima", relation="capital")
    with pytest.raises(BadInput, match=rf"t\.jsonl, line 2: .*{complaint}"):
        load_topic(file("t.jsonl", first, bad, good))
    assert len(load_topic(file("t.jsonl", first, good)).facts) == 2


@pytest.mark.parametrize(
    ("relation", "error", "complaint"),
    [
        ("capitol", NotFound, "'capitol' is not known; did you mean 'capital'.*header"),
        ({**SEAT, "name": "capital"}, BadInput, "ships already"),
        ({**SEAT, "cloze": "The seat is"}, BadInput, r"must have \{subject\} once"),
        ({**SEAT, "topic": "x"}, BadInput, "no field 'topic'"),
        ({**SEAT, "paraphrase": []}, BadInput, "no field 'paraphrase'; did you mean 'paraphrases'"),
        ({"name": "seat", "affirmed": SEAT["affirmed"]}, BadInput, "lacks 'negated'"),
        ({**SEAT, "affirmed": ["{subject} {object}"]}, BadInput, "not one line of text"),
        ({}, BadInput, "lacks 'name'"),
        ("", NotFound, "relation '' is not known"),
    ],
    ids=str,
)
def test_a_faulty_relation_in_the_header_is_refused_with_its_line(file, relation, error, complaint):
    with pytest.raises(error, match=rf"line 1: .*{complaint}"):
        load_topic(file("t.jsonl", {"relation": relation}, row("France", "Paris")))


def test_a_relation_that_is_nowhere_or_unknown_is_refused_with_its_line(file):
    with pytest.raises(BadInput, match="line 1: the field 'relation' is missing"):
        load_topic(file("t.jsonl", row("France", "Paris")))
    with pytest.raises(NotFound, match="line 2: relation 'captial' is not known; did you mean 'capital'"):
        load_topic(file("t.csv", "subject,relation,object", "France,captial,Paris"))


def test_an_unknown_topic_names_the_nearest_and_lists_all(tmp_path):
    with pytest.raises(NotFound, match="'captials'.*did you mean 'capitals'.*animals.*spanish") as caught:
        load_topic("captials")
    assert caught.value.exit_code == 2
    with pytest.raises(NotFound, match="there is no file"):
        load_topic(tmp_path / "mine.jsonl")
    with pytest.raises(BadInput, match="must end in .jsonl or .csv"):
        load_topic(tmp_path)


def test_a_name_that_ships_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "capitals").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert load_topic("capitals").name == "capitals"
