"""Asking: forms that reference facts fail are left out, and bets go on until each fact is decided."""

from dataclasses import replace
from math import exp

import pytest

from probes.errors import BadInput
from probes.knowing.asking import ONE_WAY, ask, measure_forms
from probes.knowing.betting import IGNORANT, KNOWS, Rule, bet
from probes.knowing.puzzles import PuzzleMaker


@pytest.fixture
def half(seats, table):
    """The even facts are known, both ways round."""
    maker = PuzzleMaker(seats, seed=100)
    known = {(fact.subject, fact.object) for fact in seats.facts[::2]}
    reader = table(known, seed=5)
    return maker, dict.fromkeys(maker.forms, reader), reader


def test_known_facts_are_known_and_others_are_not(seats, half):
    maker, readers, _ = half
    found = ask(maker, readers, seats.facts, maker.forms)
    decided = [found[fact.id].decision for fact in seats.facts]
    assert decided[::2] == [KNOWS] * 20
    assert decided[1::2].count(IGNORANT) >= 14, "of 39 twins some run out before they decide"
    assert KNOWS not in decided[1::2]


def test_with_one_stream_the_bets_are_those_of_betting(seats, half):
    maker, readers, _ = half
    for fact in seats.facts[:6]:
        asked = ask(maker, readers, [fact], ["cloze"])[fact.id]
        alone = bet(asked.right)
        assert asked.path == pytest.approx(alone.path)
        assert asked.refuting == pytest.approx([1 / wealth for wealth in alone.path])
        assert asked.decision == alone.decision
        assert asked.rate.n == alone.asked
        assert asked.by_form() == {"cloze": (asked.won, len(asked.puzzles))}


def test_knowing_takes_two_streams_or_the_only_one(seats, table):
    """Right from subject to object alone, in every puzzle: luck can do that, and two streams can tell."""
    maker, fact = PuzzleMaker(seats, seed=100), seats.facts[0]
    able, blank = table({(fact.subject, fact.object)}), table(())
    both = ask(maker, dict.fromkeys(maker.forms, able), [fact], maker.forms)[fact.id]
    assert both.decision == KNOWS
    one = ask(maker, {"cloze": able, "comparison": able, "inverse": blank}, [fact], maker.forms)[fact.id]
    assert one.decision == ONE_WAY
    assert one.by_form()["inverse"][0] < one.by_form()["inverse"][1]
    assert one.refuting[-1] >= 100, "knowing in two streams is refuted"
    alone = ask(maker, {"cloze": able}, [fact], ["cloze"])[fact.id]
    assert alone.decision == KNOWS


def test_one_way_is_rarely_said_of_who_ignores_the_subject(seats, table):
    """160 facts of answers that are drawn: at 1 % each, "one way" and "knows" come up a few times at most."""
    maker = PuzzleMaker(seats, seed=100)
    said = []
    for seed in range(4):
        blank = table((), seed)
        found = ask(maker, dict.fromkeys(maker.forms, blank), seats.facts, maker.forms)
        said += [asked.decision for asked in found.values()]
    assert said.count(ONE_WAY) <= 4
    assert said.count(KNOWS) <= 4
    assert said.count(IGNORANT) >= 120


def test_the_stream_that_is_left_is_asked_on_until_it_is_won_or_the_rounds_are_over(seats, table):
    """The inverse is refuted within 12 rounds; the other one takes 14, for 1.5^14 > 200: two streams, 1 % in all."""
    maker = PuzzleMaker(seats, seed=100)
    every = dict.fromkeys(maker.forms, table({(fact.subject, fact.object) for fact in seats.facts}))
    found = ask(maker, every | {"inverse": table((), 3)}, seats.facts, maker.forms)
    refuted = [fact for fact in seats.facts if found[fact.id].refuting[-1] >= 100]
    early = [fact for fact in refuted if found[fact.id].by_form()["inverse"][1] <= 12]
    assert len(early) >= 4
    for fact in early:
        assert found[fact.id].decision == ONE_WAY
        assert sum(n for form, (_, n) in found[fact.id].by_form().items() if form != "inverse") == 14
    cut = ask(maker, every | {"inverse": table((), 3)}, seats.facts, maker.forms, most=12)
    assert {cut[fact.id].decision for fact in early} == {IGNORANT}


def test_the_smaller_wealth_of_a_pair_counts_by_hand(seats, table):
    """After one puzzle of each of two streams, one right and one wrong: 1.5 and .25, so .25; and 1 / 1.5 / 2."""
    right, wrong = (exp(x) for x in Rule().logs(0.5))
    maker = PuzzleMaker(seats, seed=100)
    for fact in seats.facts:
        found = ask(maker, dict.fromkeys(maker.forms, table((), 9)), [fact], maker.forms, most=1)[fact.id]
        wealths = [right if one else wrong for one in found.right]
        assert found.path[-1] == pytest.approx(min(wealths))
        assert found.refuting[-1] == pytest.approx(1 / min(wealths) / 2)


def test_each_round_is_one_reading_and_nothing_is_asked_after_the_decision(seats, half):
    maker, readers, reader = half
    found = ask(maker, readers, seats.facts[:4], ["cloze"], most=3)
    assert all(len(asked.puzzles) == 3 for asked in found.values())
    asked = ask(maker, readers, seats.facts[:1], ["cloze"])[seats.facts[0].id]
    assert len(asked.puzzles) == Rule().fewest()[0] == 12
    assert reader.read_prompts
    with pytest.raises(BadInput):
        ask(maker, readers, seats.facts, [])
    with pytest.raises(BadInput):
        ask(maker, readers, seats.facts, ["cloze"], most=0)


def test_a_form_that_reference_facts_fail_is_not_measurable(seats, table):
    maker = PuzzleMaker(seats, seed=100)
    able, unable = table({(fact.subject, fact.object) for fact in seats.facts}), table(())
    readers = {"cloze": able, "comparison": able, "inverse": unable}
    forms = {form.name: form for form in measure_forms(maker, readers, seats.facts[:12])}
    assert [name for name, form in forms.items() if form.measurable] == ["cloze", "comparison"]
    assert forms["inverse"].asked == 48
    assert "of 48 right" in forms["inverse"].why
    few = {form.name: form for form in measure_forms(maker, readers, seats.facts[:4])}
    assert few["cloze"].measurable
    assert not few["comparison"].measurable
    assert "fewer than 5" in few["comparison"].why


def test_a_form_without_a_puzzle_for_a_fact_is_no_stream_of_it(seats, lands, table):
    """Two hops lead on from the first ten seats alone: the others are decided by the two streams that they have."""
    few = replace(lands, facts=lands.facts[:10])
    maker = PuzzleMaker(seats, [few], seed=100)
    able, blank = table({(fact.subject, fact.object) for fact in seats.facts}), table(())
    readers = {"cloze": able, "comparison": able, "inverse": able, "two hops": blank}
    found = ask(maker, readers, seats.facts[20:22], maker.forms)
    for asked in found.values():
        assert asked.decision == KNOWS
        assert "two hops" not in asked.by_form()
        assert len(asked.puzzles) == 2 * Rule().fewest()[0]
