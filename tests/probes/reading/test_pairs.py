"""CCS: the loss of two pairs by hand, truth planted in pairs, and the trap it is known for."""

import numpy as np
import pytest
import torch

from probes.errors import BadInput, TooFew
from probes.model.sites import Site
from probes.reading.metrics import auroc_values
from probes.reading.pairs import ccs_loss, fit_ccs


def _pairs(count=100, width=12, *, strength=3.0, trap=0.0, seed=0):
    """Twins that share their noise, differ by truth on axis 0, by side on axis 1, and by something else on axis 2."""
    rng = np.random.default_rng(seed)
    truth, other = rng.random((2, count)) < 0.5
    axes, base = np.eye(width), rng.standard_normal((count, width)) + 3
    moved = np.outer(2.0 * truth - 1, strength * axes[0]) + np.outer(2.0 * other - 1, trap * axes[2])
    sides = [base + sign * moved + 0.3 * rng.standard_normal((count, width)) for sign in (1, -1)]
    sides[0] += 5 * axes[1]
    return *(torch.from_numpy(side) for side in sides), truth


def test_the_loss_of_two_pairs_by_hand():
    """.9 and .1 are consistent and leave .1^2; .8 and .6 miss by .4 and leave .6^2: mean (.01 + .16 + .36) / 2."""
    first, second = torch.tensor([[0.9], [0.8]]), torch.tensor([[0.1], [0.6]])
    assert ccs_loss(first, second).item() == pytest.approx(0.265)
    assert ccs_loss(torch.full((3, 1), 0.5), torch.full((3, 1), 0.5)).item() == pytest.approx(0.25)


def test_truth_that_is_planted_is_found_without_labels():
    first, second, truth = _pairs()
    probe = fit_ccs(first, second, site="resid_post.2", seed=0, labels=truth[:20].tolist() + truth[20:].tolist())
    assert (probe.site, probe.method) == (Site("resid_post", 2), "ccs")
    fresh, twin, fresh_truth = _pairs(seed=1)
    assert ((probe.scores(fresh) > probe.scores(twin)).numpy() == fresh_truth).mean() > 0.97
    single = auroc_values(probe.scores(fresh)[:, None].double(), torch.from_numpy(fresh_truth))[0]
    assert single > 0.95
    blind = fit_ccs(first, second, site="resid_post.2", seed=0)
    turned = fit_ccs(first, second, site="resid_post.2", seed=0, labels=~truth)
    assert torch.equal(turned.weight, -probe.weight)
    assert torch.equal(blind.weight, probe.weight) or torch.equal(blind.weight, -probe.weight)


def test_which_side_a_text_stands_on_moves_no_score():
    first, second, truth = _pairs()
    probe = fit_ccs(first, second, site="resid_post.2", seed=0, labels=truth)
    between = (first - second).mean(0)
    assert abs(float(probe.weight.double() @ between)) < 1e-5 * float(probe.weight.double().norm() * between.norm())
    assert between.norm() > 4  # the sanity half
    assert probe.scores(first).mean().item() == pytest.approx(probe.scores(second).mean().item(), abs=1e-4)


def test_a_stronger_consistent_feature_takes_the_place_of_truth():
    """The trap: with something louder that also differs within pairs, CCS reads that, at no higher loss."""
    first, second, truth = _pairs(strength=0.5, trap=5.0)
    probe = fit_ccs(first, second, site="resid_post.2", seed=0, labels=truth)
    fresh, twin, fresh_truth = _pairs(strength=0.5, trap=5.0, seed=1)
    assert ((probe.scores(fresh) > probe.scores(twin)).numpy() == fresh_truth).mean() < 0.75
    assert probe.direction[2].abs() > probe.direction[0].abs()


def test_the_seed_decides_all_and_the_global_generator_nothing():
    first, second, _ = _pairs()
    state = torch.random.get_rng_state()
    once, again = (fit_ccs(first, second, site="resid_post.2", seed=3, steps=50) for _ in range(2))
    assert torch.equal(once.weight, again.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = fit_ccs(first, second, site="resid_post.2", seed=4, steps=50)
    assert not torch.equal(other.weight, once.weight)


def test_more_restarts_never_end_on_a_higher_loss():
    first, second, _ = _pairs(strength=0.3)

    def loss(restarts):
        probe = fit_ccs(first, second, site="resid_post.2", seed=0, steps=30, restarts=restarts)
        sides = [torch.sigmoid(probe.scores(side))[:, None] for side in (first, second)]
        return ccs_loss(*sides).item()

    assert loss(10) < loss(1)


def test_a_constant_feature_does_no_harm():
    first, second, truth = _pairs()
    first[:, 5] = second[:, 5] = 0.3
    probe = fit_ccs(first, second, site="resid_post.2", seed=0, labels=truth)
    assert ((probe.scores(first) > probe.scores(second)).numpy() == truth).mean() > 0.97


def test_what_are_no_pairs_is_refused():
    first, second, truth = _pairs(20)
    fit = {"site": "resid_post.2", "seed": 0}
    with pytest.raises(BadInput, match="the two rows of each pair"):
        fit_ccs(first, second[:10], **fit)
    with pytest.raises(BadInput, match="row 3 of the negative side is not finite"):
        fit_ccs(first, second.where(torch.arange(20)[:, None] != 3, float("nan")), **fit)
    with pytest.raises(TooFew, match="2 pairs"):
        fit_ccs(first[:1], second[:1], **fit)
    for twin in (first, first + 2):
        with pytest.raises(BadInput, match="one and the same shift"):
            fit_ccs(first, twin, **fit)
    with pytest.raises(BadInput, match="one a pair"):
        fit_ccs(first, second, labels=truth[:5], **fit)
    with pytest.raises(BadInput, match="at least 1"):
        fit_ccs(first, second, restarts=0, **fit)
