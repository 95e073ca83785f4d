"""Bets on answers: five answers by hand, errors by adding up every course and by simulation, Wald's numbers."""

from math import log

import numpy as np
import pytest
from scipy.stats import beta

from probes.errors import BadInput
from probes.knowing.betting import IGNORANT, KNOWS, UNDECIDED, Rule, bet, odds, right_rate

PLAIN = Rule(margin=0.0)
MOST = 120


def test_five_answers_by_hand():
    """Against .5 and for .9, a right answer is worth .9 / .5 = 1.8 and a wrong one .1 / .5 = .2."""
    found = bet([True, True, False, True, True], rule=PLAIN)
    assert found.path == pytest.approx([1.8, 3.24, 0.648, 1.1664, 2.09952])
    assert (found.decision, found.won, found.asked) == (UNDECIDED, 4, 5)
    assert str(found) == "4 of 5, undecided"


def test_it_stops_where_it_is_decided_and_looks_no_further():
    """1.8^8 = 110 is the first power above 100; .2^3 = 1 / 125 the first below 1 / 100."""
    assert bet([True] * 50, rule=PLAIN).asked == 8
    assert bet([True] * 50, rule=PLAIN).decision == KNOWS
    found = bet([False] * 3 + [True] * 47, rule=PLAIN)
    assert (found.decision, found.asked, found.won) == (IGNORANT, 3, 0)
    assert PLAIN.fewest() == (8, 3)
    assert Rule(alpha=0.2, goal=0.8, margin=0.0).fewest(0.16) == (1, 2), "0.8 / .16 = 5 = 1 / alpha: reached"
    assert bet([], rule=PLAIN).decision == UNDECIDED


def test_chance_may_differ_from_answer_to_answer():
    found = bet([True, True], [0.5, 0.25], rule=PLAIN)
    assert found.path == pytest.approx([1.8, 1.8 * 3.6])
    assert bet([], []).path == ()


@pytest.mark.parametrize("rule", [PLAIN, Rule(), Rule(goal=0.8, margin=0.05, alpha=0.05)], ids=str)
@pytest.mark.parametrize("chances", [0.5, 0.25, [0.5, 0.25, 1 / 3] * (MOST // 3)], ids=["half", "quarter", "mixed"])
def test_by_every_course_neither_error_exceeds_alpha_anywhere_on_a_grid(rule, chances):
    """Exact: the worst rate within each hypothesis. With mixed chances the rate is that of the smallest one."""
    least = min(chances) if isinstance(chances, list) else chances
    most = 60 if isinstance(chances, list) else MOST
    for rate in np.linspace(0, least + rule.margin, 8):
        assert odds(rate, most, chances, rule=rule).knows <= rule.alpha
    for rate in np.linspace(rule.goal, 1, 8):
        assert odds(rate, most, chances, rule=rule).ignorant <= rule.alpha
    worst = odds(least + rule.margin, most, chances, rule=rule)
    assert worst.knows > rule.alpha / 30 or isinstance(chances, list), "the promise isn't kept by never deciding"
    assert worst.knows + worst.ignorant + worst.undecided == pytest.approx(1)


def test_just_outside_the_hypotheses_the_error_is_larger_than_alpha():
    """The sanity half: the same sum finds a broken promise where nothing was promised."""
    assert odds(0.68, MOST).knows > 0.02
    assert odds(0.82, MOST).ignorant > 0.02


@pytest.mark.parametrize(("rate", "power"), [(0.9, 0.98), (0.95, 0.999), (1.0, 1.0)])
def test_who_knows_is_told_so(rate, power):
    assert odds(rate, MOST).knows >= power
    assert odds(rate, MOST, rule=PLAIN).knows >= power


@pytest.mark.parametrize(("rate", "power"), [(0.5, 0.999), (0.6, 0.98), (0.3, 0.99999)])
def test_who_guesses_is_told_so(rate, power):
    assert odds(rate, MOST).ignorant >= power


def test_simulated_streams_agree_with_the_sum_over_courses():
    rng = np.random.default_rng(3)
    for rate in (0.6, 0.75, 0.9):
        found = [bet(rng.random(40) < rate) for _ in range(1500)]
        exact = odds(rate, 40)
        for decision, share in ((KNOWS, exact.knows), (IGNORANT, exact.ignorant)):
            seen = np.mean([one.decision == decision for one in found])
            assert abs(seen - share) <= 4 * np.sqrt(share * (1 - share) / 1500) + 1e-9, (rate, decision)
        assert np.mean([one.asked for one in found]) == pytest.approx(exact.asked, rel=0.06)


def test_an_answer_that_leans_on_those_before_it_breaks_nothing():
    """Ville's promise holds for any dependence as long as each answer is a fair coin given the past: here the order of
    chances is picked by the past, always the bolder bet after a loss."""
    rng, errors = np.random.default_rng(4), 0
    for _ in range(4000):
        wealth, rule = 0.0, PLAIN
        for _ in range(60):
            chance = 0.25 if wealth < 0 else 0.5
            wealth += rule.logs(chance)[0 if rng.random() < chance else 1]
            if wealth >= rule.bound:
                errors += 1
                break
    assert errors <= 4000 * 0.01 + 3 * np.sqrt(40)


def test_walds_expected_number():
    """.5 against .9 at 1 %: 4.605 / (.9 ln 1.8 + .1 ln .2) = 12.5; the exact number adds the overshoot."""
    assert PLAIN.expected(0.9) == pytest.approx(-log(0.01) / (0.9 * log(1.8) + 0.1 * log(0.2)))
    assert round(PLAIN.expected(0.9), 1) == 12.5
    assert PLAIN.expected(0.9) < odds(0.9, 400, rule=PLAIN).asked < PLAIN.expected(0.9) + 3
    assert Rule().expected(0.9) == pytest.approx(20.3, abs=0.1)


def test_the_interval_of_a_share_covers_whenever_one_stops():
    """Coverage under the very early stopping that breaks Clopper-Pearson: stop when the rate is first excluded."""
    rng, rate, misses, naive = np.random.default_rng(5), 0.7, 0, 0
    table: dict[tuple[int, int], tuple[bool, bool]] = {}
    for _ in range(400):
        won, missed = 0, [False, False]
        for asked, right in enumerate(rng.random(60) < rate, start=1):
            won += int(right)
            if (won, asked) not in table:
                found = right_rate(won, asked)
                cp = beta.ppf([0.025, 0.975], [max(won, 1e-9), won + 1], [asked - won + 1, max(asked - won, 1e-9)])
                table[won, asked] = (not found.lower <= rate <= found.upper, not cp[0] <= rate <= cp[1])
            missed = [a or b for a, b in zip(missed, table[won, asked], strict=True)]
        misses, naive = misses + missed[0], naive + missed[1]
    assert misses <= 400 * 0.05 + 2 * np.sqrt(19)
    assert naive > 400 * 0.08


def test_the_interval_at_the_ends():
    assert right_rate(0, 9).lower == 0.0
    assert right_rate(9, 9).upper == 1.0
    assert right_rate(9, 9).lower == pytest.approx((0.05 / 10) ** (1 / 9), rel=1e-6), "p^9 = .05 B(10, 1)"
    assert right_rate(3, 10).lower < 0.3 < right_rate(3, 10).upper


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bet([2]),
        lambda: bet([True], [0.5, 0.5]),
        lambda: bet([True], 0.95),
        lambda: bet([True], 0.0),
        lambda: bet([True], 0.8),
        lambda: Rule(goal=1.0),
        lambda: Rule(margin=-0.1),
        lambda: Rule(alpha=0.0),
        lambda: odds(1.2, 10),
        lambda: odds(0.5, 0),
        lambda: right_rate(0, 0),
        lambda: right_rate(5, 4),
    ],
)
def test_what_cannot_be_bet_on_is_refused(wrong):
    with pytest.raises(BadInput):
        wrong()
