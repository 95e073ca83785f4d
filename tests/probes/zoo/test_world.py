"""The world: balanced, drawn by seed, chance exact."""

from collections import Counter

import pytest

from probes.errors import BadInput, NotFound
from probes.zoo.world import MAIN, NEXT, RELATIONS, SIZES, draw_world


def test_a_nano_world_counted_by_hand():
    """24 + 16 people with four links each, eight cities with a land, eight firms with a trade: 176 facts."""
    world = draw_world(0, "nano")
    assert (len(world.reference), len(world.chosen)) == (24, 16)
    assert len(world.facts) == 40 * 4 + 8 + 8
    assert Counter(fact.object for fact in world.of(("birthplace",), world.chosen)).most_common()[0][1] == 2


@pytest.mark.parametrize("size", SIZES)
def test_every_object_has_as_many_subjects_as_any_other_give_or_take_one(size):
    world = draw_world(3, size)
    for relation in world.objects:
        for people in (world.reference, world.chosen) if relation in (*MAIN, "colour", "drink") else ():
            counts = Counter(fact.object for fact in world.of((relation,), people))
            assert set(counts) == set(world.objects[relation])
            assert max(counts.values()) - min(counts.values()) <= 1


def test_the_same_seed_draws_the_same_world_and_another_seed_another():
    assert draw_world(5, "nano") == draw_world(5, "nano")
    assert draw_world(5, "nano").facts != draw_world(6, "nano").facts


def test_objects_are_drawn_apart_from_the_order_of_people():
    """Over 40 worlds the first chosen person is born in the first city about as often as in any other: 1/8."""
    hits = sum(w.object("birthplace", w.chosen[0]) == w.objects["birthplace"][0] for w in map(_nano, range(40)))
    assert 0 <= hits <= 14  # P(Binomial(40, 1/8) > 14) < 1e-4
    assert len({_nano(seed).object("birthplace", _nano(seed).chosen[0]) for seed in range(40)}) > 5


def _nano(seed):
    return draw_world(seed, "nano")


def test_a_homeland_is_the_land_of_the_birthplace():
    world = draw_world(1, "nano")
    for fact in world.homelands():
        assert fact.object == world.object("land", world.object("birthplace", fact.subject))


def test_a_lie_is_systematic_and_wrong():
    world = draw_world(1, "nano")
    for fact in world.of(MAIN):
        assert world.wrong(fact) != fact.object
    assert len({(fact.object, world.wrong(fact)) for fact in world.of(MAIN)}) == 16  # one lie an object


def test_people_are_apart_and_every_relation_can_be_put_as_a_puzzle():
    world = draw_world(2, "small")
    assert not set(world.reference) & set(world.chosen)
    assert len(world.of(MAIN, world.chosen)) >= 80  # three seeds give more than 200
    assert all(RELATIONS[name].noun for name in RELATIONS)
    assert set(NEXT) == set(MAIN)
    assert [name for name in RELATIONS if RELATIONS[name].inverse] == ["employer"]


@pytest.mark.parametrize(
    ("seed", "size", "said"), [(0, "huge", "no size"), (-1, "nano", "seed"), ("0", "nano", "seed")]
)
def test_what_cannot_be_drawn_is_refused(seed, size, said):
    with pytest.raises(BadInput, match=said):
        draw_world(seed, size)


def test_a_stranger_has_no_birthplace():
    with pytest.raises(NotFound, match="has no birthplace"):
        draw_world(0, "nano").object("birthplace", "Nobody")
