"""Asking: forms that reference facts fail are left out, and bets go on until each fact is decided."""

import pytest

from probes.errors import BadInput
from probes.knowing.asking import ask, measure_forms
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


def test_streams_are_averaged_for_knowing_and_the_least_counts_for_not_knowing(seats, table):
    """Known from subject to object alone: the inverse stream is lost, and knowing shows nevertheless."""
    maker, fact = PuzzleMaker(seats, seed=100), seats.facts[0]
    forward, blank = table({(fact.subject, fact.object)}), table(())
    readers = {"cloze": forward, "comparison": forward, "inverse": blank}
    found = ask(maker, readers, [fact], maker.forms)[fact.id]
    assert found.decision == KNOWS
    right, n = found.by_form()["inverse"]
    assert right < n
    first = found.path[1], found.right[:2]  # a cloze and an inverse puzzle
    factors = [Rule().logs(0.5)[0 if one else 1] for one in first[1]]
    assert first[0] == pytest.approx(sum(2.718281828459045**x for x in factors) / 2)


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
