"""Claims: what stands above its controls, and how many statements would show what does not yet."""

from types import SimpleNamespace

import numpy as np
import pytest

from probes.errors import BadInput, NotFound, TooFew
from probes.judging.claims import claims, entities_needed
from probes.judging.controls import MEANINGS, NEEDS_MODEL
from probes.judging.sweep import sweep
from probes.reading.metrics import Estimate, auroc_difference
from probes.reading.probe import LinearProbe


def _estimate(value, half, n=200):
    return Estimate(value, value - half, value + half, n)


def _found(entities=50, statements=100, **changed):
    figures = {
        "auroc": _estimate(0.70, 0.03),
        "shuffled_95": _estimate(0.60, 0.01),
        "shuffled_p": Estimate(1 / 201, 0.0, 0.02, 200),
        "random_95": _estimate(0.60, 0.01),
        "over_bag_of_words": _estimate(0.2, 0.1),
        "over_length": _estimate(0.2, 0.1),
        **changed,
    }
    figures = {name: figure for name, figure in figures.items() if figure is not None}
    test = SimpleNamespace(groups=tuple(f"entity {i % entities}" for i in range(statements)), texts=("",) * statements)
    return SimpleNamespace(best=LinearProbe(np.ones(2), 0.0, "resid_post.0", controls=figures), test=test)


def test_twice_the_deviation_takes_four_times_the_entities():
    """By hand: a lead of .1 with standard error .1 over 50 entities takes 50 (1.95996 + .84162)^2 = 392.4."""
    assert entities_needed(0.1, 0.1, 50) == 393
    assert entities_needed(0.1, 0.2, 50) == 1570
    assert entities_needed(0.2, 0.1, 50) == 99
    assert entities_needed(0.0, 0.1, 50) is None
    assert entities_needed(-0.1, 0.1, 50) is None
    assert entities_needed(0.1, 0.0, 50) == 1


def test_a_control_that_stays_asks_for_more_and_one_that_comes_down_for_less():
    """By hand: with r = 1 / 2, .2 - .5 (.1 + .84162 .06) = .12475 and 1.95996 .06 / 2 = .0588: enough by far."""
    alone = entities_needed(0.1, 0.06, 50)
    assert entities_needed(0.1, 0.06, 50, error=0.05) > alone
    assert entities_needed(0.1, 0.06, 50, error=0.12) is None, "the control's own error does not come down"
    assert entities_needed(0.2, 0.06, 50, spread=0.1) < alone
    assert entities_needed(0.2, 0.06, 50, spread=0.1, error=0.05, error_shrinks=True) > entities_needed(
        0.2, 0.06, 50, spread=0.1
    )
    r = (50 / entities_needed(0.2, 0.06, 50, spread=0.1)) ** 0.5
    assert 0.2 - r * (0.1 + (1.95996 + 0.84162) * 0.06) == pytest.approx(0, abs=0.003)


def test_every_claim_has_a_word_and_a_missing_control_says_so():
    found = claims(_found(over_bag_of_words=_estimate(-0.2, 0.1), over_length=_estimate(0.1, 0.2)))
    assert [claim.control for claim in found.each][:2] == ["shuffled_95", "random_95"]
    assert (found["shuffled_95"].holds, found["random_95"].holds) == (True, True)
    assert found["bag_of_words"].holds is False
    assert "fails: the control is better" in str(found["bag_of_words"])
    assert found["length"].holds is None
    assert found["layer_0"].lead is None
    assert "controls missing" in str(found["layer_0"])
    assert found.holds is False
    assert "<li>" in found._repr_html_()
    assert str(found).count("\n") == len(found.each) == 7


def test_an_interval_that_includes_the_control_is_inconclusive_and_names_a_number():
    """By hand: lead .1 [-.1, .3] with 50 entities of two statements: 50 (2.80159 * .10204 / .1)^2 = 409 entities."""
    found = claims(_found(over_length=_estimate(0.1, 0.2)))
    assert (found["length"].needed_entities, found["length"].needed) == (409, 818)
    assert "about 818 test statements of 409 entities would show this lead (there are 50)" in str(found["length"])
    assert found.needed == 818
    assert found.holds is None
    none = claims(_found(over_length=_estimate(-0.1, 0.2)))["length"]
    assert (none.holds, none.needed) == (None, None)
    assert "not there" in str(none)
    blurred = claims(_found(random_95=_estimate(0.68, 0.05)))["random_95"]
    assert (blurred.holds, blurred.needed) == (None, None)
    assert "give more draws" in str(blurred)
    assert str(found).startswith("Inconclusive: the score is not shown to stand")


def test_all_must_hold_for_the_score_to_stand():
    every = {name: _estimate(0.2, 0.1) for name in MEANINGS if name.startswith("over_")}
    assert claims(_found(**every)).holds is True
    assert claims(_found(**every)).needed is None
    assert claims(_found(**every, auroc=_estimate(0.55, 0.2))).holds is None
    assert claims(_found(**every, random_95=_estimate(0.9, 0.01))).holds is False


def test_p_counts_too_and_is_corrected_for_the_number_of_checks():
    found = _found(shuffled_p=Estimate(0.02, 0.0, 0.05, 400))
    assert claims(found)["shuffled_95"].holds is True
    assert claims(found, checks=2)["shuffled_95"].holds is True
    assert claims(found, checks=3)["shuffled_95"].holds is None
    assert "p = 0.02 is above .05 / 3 checks" in str(claims(found, checks=3)["shuffled_95"])
    with pytest.raises(TooFew, match="give draws=440") as caught:
        claims(found, checks=11)
    assert caught.value.needed == 440
    with pytest.raises(NotFound, match="over 'bag_of_word'; did you mean 'bag_of_words'"):
        claims(found)["bag_of_word"]
    with pytest.raises(BadInput, match="no random_95 among its controls"):
        claims(_found(random_95=None))


def test_a_sweep_claims_what_was_planted_and_nothing_where_nothing_was(planted):
    known, unknown = (claims(sweep(planted(s, groups=100, layers=1))) for s in ({0: 2.0}, {}))
    ours = [name.removeprefix("over_") for name in MEANINGS if name.startswith("over_") and name not in NEEDS_MODEL]
    for name in ("shuffled_95", "random_95", *ours):
        assert known[name].holds is True
        assert unknown[name].holds is not True
    assert known.holds is None, "the controls that need the model are missing"
    assert known["layer_0"].lead is None


def _twins(rng, entities, ahead):
    """Two scores of twins that share what is hard about an entity; the first knows more."""
    labels = np.tile([1.0, 0.0], entities)
    groups = np.repeat(np.arange(entities), 2)
    shared = rng.standard_normal(2 * entities)
    scores = (size * labels + shared + rng.standard_normal(2 * entities) for size in (0.6 + ahead, 0.6))
    return *scores, labels == 1, groups


def test_the_number_named_shows_the_lead_in_eight_of_ten_repetitions():
    """Simulation: deviation and lead from one large sample, then 300 samples of the size that was named, and half."""
    rng = np.random.default_rng(0)
    *scores, labels, groups = _twins(rng, 20000, 0.4)
    large = auroc_difference(*scores, labels, groups=groups)
    needed = entities_needed(large.value, (large.upper - large.lower) / 2 / 1.95996, 20000)
    assert 50 < needed < 500
    share = {}
    for entities in (needed, needed // 2):
        drawn = (_twins(rng, entities, 0.4) for _ in range(300))
        share[entities] = np.mean([auroc_difference(a, b, y, groups=g).lower > 0 for a, b, y, g in drawn])
    assert 0.73 < share[needed] < 0.87  # three standard deviations about .8
    assert share[needed // 2] < 0.65
