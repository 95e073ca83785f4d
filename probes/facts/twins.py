"""Wrong answers for false statements: a permutation of the right ones, in cells as small as can be.

Give each of n subjects one of the n objects so that none is right where it lands. Then every object is wrong as often
as it is right, and the object alone says nothing about the label. That must hold in every part of a split, too: were
"Paris" true in training and false in the test, a bag of words would score far below one half, and beating it would
mean nothing. So facts swap objects in pairs (one cell of three where their number is odd), and a cell is never split:

1. put the facts in random order, facts of one object beside each other, and pair each with the one half a turn away:
   their objects differ unless one object has more than half of the facts;
2. where a subject with several right objects spoils every one of some draws, take any permutation without a fixed
   answer (a perfect matching along augmenting paths; Kuhn, The Hungarian method for the assignment problem, Naval
   Research Logistics Quarterly 2, 1955); its cells are its cycles.

Limits: step 2 takes seconds from some thousands of facts on, and its cells can be large.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

__all__ = ["cells", "permute_wrong"]

DRAWS = 50


def permute_wrong(subjects: Sequence[str], objects: Sequence[str], *, seed: int) -> tuple[int, ...] | None:
    """Return for each fact the index of the fact whose object is its wrong answer, a permutation.

    Args:
        subjects: one a fact; a subject with several facts has several right objects, and gets none of them.
        objects: the right object of each.
        seed: draws among the permutations.

    Returns:
        The permutation; None where there is none, as when one object is right for most facts.
    """
    right: dict[str, set[str]] = {}
    for subject, thing in zip(subjects, objects, strict=True):
        right.setdefault(subject, set()).add(thing)

    def wrong(row: int, column: int) -> bool:
        return objects[column] not in right[subjects[row]]

    generator = random.Random(seed)
    for _ in range(DRAWS):
        drawn = _swap(objects, generator)
        if drawn and all(wrong(row, column) for row, column in enumerate(drawn)):
            return drawn
    columns = list(range(len(objects)))
    generator.shuffle(columns)
    column_of: dict[int, int] = {}
    for row in range(len(objects)):
        if not _augment(row, lambda row: (column for column in columns if wrong(row, column)), column_of):
            return None
    return tuple(column_of[row] for row in range(len(objects)))


def cells(subjects: Sequence[str], permutation: Sequence[int]) -> tuple[int, ...]:
    """Return the cell of each fact, named by its first fact: facts that share an object or a subject are in one."""
    root = list(range(len(subjects)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    seen: dict[str, int] = {}
    for i, j in enumerate(permutation):
        for other in (j, seen.setdefault(subjects[i], i)):
            first, second = sorted((find(i), find(other)))
            root[second] = first
    return tuple(find(i) for i in range(len(subjects)))


def _swap(objects: Sequence[str], generator: random.Random) -> tuple[int, ...] | None:
    """Draw swaps in pairs, and one cycle of three where the number is odd; some may still be right where they land."""
    order = list(range(len(objects)))
    generator.shuffle(order)
    partner = list(range(len(objects)))
    if len(order) % 2:
        three = list({objects[i]: i for i in order}.values())[:3]
        if len(three) < 3:
            return None
        for i, j in zip(three, [*three[1:], three[0]], strict=True):
            partner[i] = j
        order = [i for i in order if i not in three]
    place = {thing: k for k, thing in enumerate(dict.fromkeys(objects[i] for i in order))}
    order.sort(key=lambda i: place[objects[i]])  # stable: facts of one object stay in their random order
    half = len(order) // 2
    for i, j in zip(order[:half], order[half:], strict=True):
        partner[i], partner[j] = j, i
    return tuple(partner)


def _augment(start: int, allowed: Callable[[int], Iterable[int]], column_of: dict[int, int]) -> bool:
    """Find a column for row `start`, moving other rows to other columns if need be; False if there is none."""
    owner = {column: row for row, column in column_of.items()}
    wanted_by: dict[int, int] = {}
    queue = deque([start])
    while queue:
        row = queue.popleft()
        for column in allowed(row):
            if column in wanted_by:
                continue
            wanted_by[column] = row
            if column in owner:
                queue.append(owner[column])
                continue
            while row != start:  # back along the path: each row takes the column it wanted and frees the one it had
                column_of[row], column = column, column_of[row]
                row = wanted_by[column]
            column_of[start] = column
            return True
    return False
