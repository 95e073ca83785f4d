"""Puzzles: one by hand, a coin that is fair to whoever ignores the subject, draws that stay, leaks that are refused."""

from dataclasses import replace

import numpy as np
import pytest

import probes
from probes.errors import BadInput, NotFound
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing.puzzles import FORMS, Puzzle, PuzzleMaker, gives_away, lift


def drawn(maker, fact, form, count):
    puzzles, used = [], []
    for number in range(count):
        puzzle = maker.draw(fact, form, number, used)
        puzzles.append(puzzle)
        used.append(puzzle.twin.id)
    return puzzles


def test_a_puzzle_by_hand():
    """France or Spain, Paris or Madrid: Paris is lifted by 3 - 1 = 2 and Madrid by 2 - 1.5 = .5 after France."""
    france, spain = (Fact.parse(text) for text in ("France|capital|Paris", "Spain|capital|Madrid"))
    puzzle = Puzzle(france, spain, "cloze", 0, False, (("of France is",), ("of Spain is",)), ("Paris", "Madrid"), (),
                    (("of Peru is",),))  # fmt: skip
    table = {"of France is": (3.0, 2.0), "of Spain is": (2.0, 3.0), "of Peru is": (1.0, 1.5)}

    def lookup(prompts, texts):
        return np.array([[table[prompt][("Paris", "Madrid").index(text)] for text in texts] for prompt in prompts])

    assert lift(["Paris", "Madrid"], ("of France is",), (("of Peru is",),), lookup).tolist() == [2.0, 0.5]
    assert puzzle.right == "Paris"
    assert puzzle.won(lookup)
    tails = replace(puzzle, tails=True)
    assert (tails.question, tails.right) == (("of Spain is",), "Madrid")
    assert tails.won(lookup), "1 < 1.5"
    assert set(puzzle.prompts) == {"of France is", "of Peru is"}, "only what is asked is looked up"

    def lima(prompts, texts):
        france = np.array([[9.0 if "France" in prompt else 0.0] for prompt in prompts])
        return np.concatenate([lookup(prompts, texts[:2]), france], 1)

    assert replace(puzzle, rivals=("Lima",)).answer(lima) == "Madrid", "what a rival beats isn't the answer"


def test_a_shipped_topic_has_all_forms_and_they_read_as_english():
    maker = PuzzleMaker(probes.load_topic("capitals"), [probes.load_topic("cities")], seed=100)
    assert maker.forms == FORMS
    fact = next(fact for fact in maker.topic.facts if fact.subject == "Italy")
    starts = ("The capital of ", "Of ", "", "The capital of the country in which the city of ")
    for form, start in zip(FORMS, starts, strict=True):
        puzzle = maker.draw(fact, form, 0)
        assert puzzle.question[0].startswith(start)
        assert puzzle.question[0].endswith(("is", "of"))
        assert puzzle.options[0] == ("Italy" if form == "inverse" else "Rome")
    a, b = maker.draw(fact, "comparison", 0).question
    assert a != b
    assert sorted(a) == sorted(b), "both orders of the same words"
    cities = PuzzleMaker(probes.load_topic("cities"), [probes.load_topic("capitals")], seed=100)
    milan = next(fact for fact in cities.topic.facts if fact.subject == "Milan")
    assert cities.draw(milan, "two hops", 0).options[0] == "Rome", "on from the object"


@pytest.mark.parametrize("form", ["cloze", "comparison", "inverse"])
def test_who_ignores_the_subject_is_right_under_one_side_of_the_coin_and_wrong_under_the_other(seats, table, form):
    maker, lookup = PuzzleMaker(seats, seed=100), table((), ignores=True)
    for puzzle in drawn(maker, seats.facts[3], form, 20):
        # A comparison names its options in its prompts, so ignoring the subject means the same numbers for both.
        assert puzzle.won(lookup) != replace(puzzle, tails=not puzzle.tails).won(lookup)


def test_the_coin_is_fair_and_each_twin_comes_once(seats):
    maker = PuzzleMaker(seats, seed=100)
    every = [puzzle for fact in seats.facts for puzzle in drawn(maker, fact, "cloze", 30)]
    tails = np.mean([puzzle.tails for puzzle in every])
    assert abs(tails - 0.5) < 4 * 0.5 / np.sqrt(len(every))
    for fact in seats.facts[:5]:
        twins = [puzzle.twin.id for puzzle in every if puzzle.fact == fact]
        assert len(set(twins)) == 30
        assert fact.id not in twins
    runs = [puzzle.tails for puzzle in every]
    assert 0.4 < np.mean(np.array(runs[1:]) != np.array(runs[:-1])) < 0.6, "one coin says nothing of the next"


def test_who_knows_wins_and_who_has_noise_is_at_chance(seats, table):
    """Known alone: right nearly always. Unknown with all twins known: at chance, the twin's link is not asked for."""
    maker, fact = PuzzleMaker(seats, seed=100), seats.facts[0]
    links = {(other.subject, other.object) for other in seats.facts}
    own = {(fact.subject, fact.object)}
    for form in ("cloze", "inverse"):
        puzzles = drawn(maker, fact, form, 38)
        alone, every = table(own), table(links)
        assert sum(puzzle.won(alone) for puzzle in puzzles) >= 34
        assert sum(puzzle.won(every) for puzzle in puzzles) == 38
    shares = []
    for seed in range(12):
        lookup = table(links - own, seed)
        shares.append(np.mean([puzzle.won(lookup) for puzzle in drawn(maker, fact, "cloze", 38)]))
    assert abs(np.mean(shares) - 0.5) < 0.12


def test_adding_a_fact_moves_no_coin_and_no_twin_but_where_it_becomes_one(seats):
    more = replace(seats, facts=(Fact("Newww", "seat", "Fresh", topic="seats"), *seats.facts))
    before, after = PuzzleMaker(seats, seed=100), PuzzleMaker(more, seed=100)
    moved = 0
    for fact in seats.facts:
        for form in ("cloze", "inverse"):
            for number in range(6):
                old, new = before.draw(fact, form, number), after.draw(fact, form, number)
                assert old.tails == new.tails
                if old.twin != new.twin:
                    assert new.twin.subject == "Newww"
                    moved += 1
    assert moved < 40 * 2 * 6 * 0.1
    assert PuzzleMaker(seats, seed=101).draw(seats.facts[0], "cloze", 0) != before.draw(seats.facts[0], "cloze", 0)
    assert PuzzleMaker(seats, seed=100).draw(seats.facts[0], "cloze", 0) == before.draw(seats.facts[0], "cloze", 0)


def test_two_hops_go_through_the_other_topic_both_ways(seats, lands):
    onward = PuzzleMaker(seats, [lands], seed=100).draw(seats.facts[5], "two hops", 0)
    assert onward.options[0] == "Qor5"
    assert {prompts[0].startswith("The land of the seat of Aab") for prompts in onward.references} == {True}
    assert onward.options[0] != onward.options[1], "twins whose lands are the same tell nothing"
    back = PuzzleMaker(lands, [seats], seed=100).draw(lands.facts[5], "two hops", 0)
    assert back.questions[0] == ("The land of the seat of Aab05 is",)
    assert PuzzleMaker(seats, [seats], seed=1).draw(seats.facts[0], "two hops", 0) is None


def test_what_would_give_the_answer_away_is_refused(seats):
    assert gives_away("Tunisia", "Tunis")
    assert gives_away("Guatemala", "Guatemala City")
    assert gives_away("34 and 87", "87")
    assert not gives_away("Algeria", "Algiers")
    assert not gives_away("indium", "In"), "two letters count as they are written"
    leaky = Fact("Zyxland", "seat", "Zyxland Town", topic="seats")
    topic = replace(seats, facts=(*seats.facts, leaky))
    maker = PuzzleMaker(topic, seed=100)
    assert "gives 'Zyxland Town' away" in maker.refusal(leaky)
    assert maker.draw(leaky, "cloze", 0) is None
    twins = {p.twin.id for fact in seats.facts[:10] for p in drawn(maker, fact, "cloze", 30)}
    assert leaky.id not in twins, "nor does it give another's away as a twin"
    several = Topic("seats", seats.relation, (*seats.facts, Fact("Aab00", "seat", "Other")))
    assert "several objects" in PuzzleMaker(several, seed=1).refusal(several.facts[0])
    with pytest.raises(BadInput, match="no other fact can be a twin"):
        PuzzleMaker(probes.load_topic("larger"))


def test_options_and_rivals_that_begin_alike_are_left_out(seats):
    heads = {fact.object: i % 4 for i, fact in enumerate(seats.facts)}
    for puzzle in drawn(PuzzleMaker(seats, seed=100, heads=heads), seats.facts[2], "cloze", 20):
        assert heads[puzzle.options[1]] != 2
        assert all(heads[text] != 2 for text in puzzle.rivals)
    plain = [heads[p.options[1]] for p in drawn(PuzzleMaker(seats, seed=100), seats.facts[2], "cloze", 39)]
    assert 2 in plain


def test_a_relation_without_wordings_lacks_that_form_and_a_topic_without_twins_is_refused():
    bare = Relation("bare", "{subject} has {object}.", "{subject} has no {object}.", (), "{subject} has")
    topic = Topic("bare", bare, (Fact("Aaaa", "bare", "Bbbb"), Fact("Cccc", "bare", "Dddd")))
    maker = PuzzleMaker(topic)
    assert maker.forms == ("cloze",)
    assert maker.draw(topic.facts[0], "inverse", 0) is None
    assert maker.draw(topic.facts[0], "cloze", 0, used=[topic.facts[1].id]) is None
    with pytest.raises(NotFound, match="no form of puzzle"):
        maker.draw(topic.facts[0], "riddle", 0)
    with pytest.raises(BadInput, match="leave no twin"):
        PuzzleMaker(Topic("one", bare, topic.facts[:1]))


def test_all_wordings_of_a_form_are_asked_and_one_that_misleads_is_outvoted(seats):
    maker = PuzzleMaker(seats, seed=100)
    fact = seats.facts[0]
    puzzle = maker.draw(fact, "cloze", 0)
    assert len(puzzle.question) == len(seats.relation.clozes) > 1
    own, other = puzzle.options[puzzle.tails], puzzle.options[not puzzle.tails]
    misled = puzzle.question[0]

    def one(prompt, text):
        if prompt not in puzzle.question:
            return 0.0
        return {other: 3.0}.get(text, 0.0) if prompt == misled else {own: 9.0}.get(text, 0.0)

    assert puzzle.won(lambda prompts, texts: np.array([[one(p, t) for t in texts] for p in prompts]))
