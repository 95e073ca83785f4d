"""The permutation of wrong objects: a toy by hand, its properties, and scipy as the judge of when there is one."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from probes.facts.twins import cells, permute_wrong


def wrong_objects(subjects, objects, seed):
    permutation = permute_wrong(subjects, objects, seed=seed)
    return None if permutation is None else tuple(objects[i] for i in permutation)


def test_two_facts_swap_their_objects():
    """By hand: of two objects there is one way to be wrong twice."""
    for seed in range(5):
        assert wrong_objects(["France", "Spain"], ["Paris", "Madrid"], seed) == ("Madrid", "Paris")


def test_a_subject_with_two_right_objects_gets_neither():
    """By hand: France and its other city must get the two Spanish ones, in one order or the other."""
    subjects = ["France", "France", "Spain", "Spain"]
    wrong = wrong_objects(subjects, ["Paris", "Lyon", "Madrid", "Seville"], 0)
    assert set(wrong[:2]) == {"Madrid", "Seville"}
    assert set(wrong[2:]) == {"Paris", "Lyon"}


def test_an_object_right_for_more_than_half_leaves_no_permutation():
    assert permute_wrong(["a", "b", "c"], ["x", "x", "y"], seed=0) is None
    assert permute_wrong(["a"], ["x"], seed=0) is None
    assert permute_wrong(["a", "b", "c", "d"], ["x", "x", "y", "z"], seed=0) is not None


def test_the_seed_decides_and_another_seed_decides_otherwise():
    subjects, objects = [f"s{i}" for i in range(40)], [f"o{i % 8}" for i in range(40)]
    drawn = {permute_wrong(subjects, objects, seed=seed) for seed in range(6)}
    assert len(drawn) == 6
    assert permute_wrong(subjects, objects, seed=3) == permute_wrong(subjects, objects, seed=3)


def test_wrong_objects_are_spread_over_all_that_are_wrong():
    """Over many seeds the first of five subjects gets each of the four others, none far more often than another."""
    names = list("abcde")
    count = Counter(wrong_objects(names, names, seed)[0] for seed in range(400))
    assert set(count) == set("bcde")
    assert max(count.values()) < 2 * min(count.values())


def test_facts_swap_in_pairs_and_three_where_the_number_is_odd():
    for n in (40, 41):
        names = [f"s{i}" for i in range(n)]
        sizes = Counter(cells(names, permute_wrong(names, [f"o{i % 7}" for i in range(n)], seed=1)))
        assert Counter(sizes.values()) == ({2: 20} if n == 40 else {2: 19, 3: 1})


def test_in_every_cell_each_object_is_wrong_as_often_as_right():
    """So whatever cells a split puts into a part, the object says nothing about the label there."""
    subjects, objects = [f"s{i}" for i in range(61)], [f"o{i % 9}" for i in range(61)]
    permutation = permute_wrong(subjects, objects, seed=0)
    cell_of = cells(subjects, permutation)
    for cell in set(cell_of):
        inside = [i for i in range(61) if cell_of[i] == cell]
        assert Counter(objects[i] for i in inside) == Counter(objects[permutation[i]] for i in inside)


def test_a_subject_is_in_one_cell_with_all_its_facts():
    """By hand: a swaps with c, b with d; a and b are one subject, so all four hang together."""
    assert cells(["a", "a", "c", "d"], [2, 3, 0, 1]) == (0, 0, 0, 0)
    assert cells(["a", "b", "c", "d"], [2, 3, 0, 1]) == (0, 1, 0, 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("pqrstuv"), st.sampled_from("abcd")), min_size=1, max_size=14), st.integers())
def test_there_is_a_permutation_exactly_where_scipy_finds_a_perfect_matching(facts, seed):
    subjects, objects = [fact[0] for fact in facts], [fact[1] for fact in facts]
    right = set(facts)
    allowed = csr_matrix(np.array([[(subject, thing) not in right for thing in objects] for subject in subjects]))
    perfect = bool((maximum_bipartite_matching(allowed) >= 0).all())
    wrong = wrong_objects(subjects, objects, seed)
    assert (wrong is not None) == perfect
    if wrong is not None:
        assert Counter(wrong) == Counter(objects)
        assert not set(zip(subjects, wrong, strict=True)) & right
