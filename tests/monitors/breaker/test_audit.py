"""Every single change to a journal's rows is found, and named by the first row concerned."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from monitors.breaker.audit import GENESIS, chain_hash, check_chain, check_replay
from monitors.breaker.breaker import Breaker
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy
from monitors.verdict import Verdict
from probes.errors import ArtifactError

N = 9


def test_a_chain_of_two_rows_by_hand():
    one = chain_hash(1, "a", "default", GENESIS, "{}")
    two = chain_hash(2, "b", "default", one, "{}")
    rows = [(1, "a", "default", "{}", GENESIS, one), (2, "b", "default", "{}", one, two)]
    assert check_chain(rows, [(2, two)]).holds
    assert check_chain([], [(0, GENESIS)]).holds
    assert check_chain(rows, [(1, one)]).bad == 3
    assert check_chain(rows[:1], [(2, two)]).bad == 2
    assert check_chain(rows[1:], [(2, two)]).bad == 1
    assert check_chain(rows[::-1], [(2, two)]).bad == 1


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A journal of nine rows: alarms, a trip, a reset, of two breakers."""
    path = tmp_path_factory.mktemp("journal") / "trips.sqlite"
    with Journal(path) as journal:
        for name in ("default", "tenant"):
            breaker = Breaker(Policy(3, 5), journal=journal, name=name)
            for i in range(4 if name == "default" else 3):
                permit = breaker.ask()
                breaker.record(Verdict.invalid(f"reason {i}", request_id=f"{name}/{i}"), permit)
                if i == 2:
                    breaker.reset(by="Ada", why="seen")
        assert len(journal.rows()) == N
        assert journal.verify().holds
        assert journal.verify().rows == N
    return path


@pytest.fixture
def path(original, tmp_path):
    """A copy to be tampered with."""
    return shutil.copy(original, tmp_path / "trips.sqlite")


def tamper(path, *statements):
    """Change the file as somebody would who knows SQLite: the triggers go first."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("DROP TRIGGER no_delete")
        for statement in statements:
            connection.execute(statement)


def verify(path, **rest):
    """Audit a file that may no longer open as a journal."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, id, breaker, body, previous, hash FROM entries ORDER BY seq").fetchall()
        return check_chain(rows, connection.execute("SELECT seq, hash FROM head").fetchall(), **rest)


EDITS = [
    "id = 'x'", "breaker = 'other'", "body = replace(body, 'e', 'E')", "body = body || ' '",
    "body = CAST(body AS BLOB)", "body = 1", "previous = hash", "hash = previous", "hash = upper(hash)",
    "seq = seq + 100", "seq = -seq",
]  # fmt: skip


@pytest.mark.parametrize("row", range(1, N + 1))
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_any_column_of_any_row_is_found(path, row, edit):
    """Fault J4."""
    tamper(path, f"UPDATE entries SET {edit} WHERE seq = {row}")
    check = verify(path)
    assert not check.holds
    assert check.bad == (1 if edit == "seq = -seq" else row)


@pytest.mark.parametrize("row", range(1, N + 1))
def test_a_deletion_is_found(path, row):
    tamper(path, f"DELETE FROM entries WHERE seq = {row}")
    assert verify(path).bad == row
    assert f"row {row} is missing" in verify(path).why


@pytest.mark.parametrize("row", range(1, N))
def test_a_swap_is_found(path, row):
    tamper(
        path,
        f"UPDATE entries SET seq = 1000 WHERE seq = {row}",
        f"UPDATE entries SET seq = {row} WHERE seq = {row + 1}",
        f"UPDATE entries SET seq = {row + 1} WHERE seq = 1000",
    )
    assert verify(path).bad == row


@pytest.mark.parametrize("last", [N, N - 1, 1])
def test_a_journal_without_its_last_rows_does_not_even_open(path, last):
    tamper(path, f"DELETE FROM entries WHERE seq >= {last}")
    assert verify(path).bad == last
    with pytest.raises(ArtifactError, match="does not end where it was left"):
        Journal(path)


def test_only_an_anchor_finds_that_the_whole_end_was_rewritten(path):
    with Journal(path) as journal:
        anchor = journal.head
    tamper(
        path,
        f"DELETE FROM entries WHERE seq = {N}",
        f"UPDATE head SET seq = {N - 1}, hash = (SELECT hash FROM entries WHERE seq = {N - 1})",
    )
    with Journal(path) as journal:
        assert journal.verify().holds
        check = journal.verify(anchor=anchor)
        assert (check.bad, check.holds) == (N, False)
        Breaker(Policy(1, 1), journal=journal).force_open(by="Eve", why="to make up the number")
        assert journal.head[0] == N
        assert journal.verify().holds
        assert journal.verify(anchor=anchor).bad == N


def test_an_anchor_of_earlier_stays_good(path):
    with Journal(path) as journal:
        anchor = journal.head
        Breaker(Policy(1, 1), journal=journal).force_open(by="Ada", why="drill")
        assert journal.verify(anchor=anchor).holds


def test_replay_names_the_first_row_that_the_rule_does_not_give(path):
    with Journal(path) as journal:
        rows = journal.rows()
        assert journal.replay().holds
        check = journal.replay(Policy(2, 5))
        assert check.bad == 2
        assert "row 2 says closed" in check.why
        assert "the rule says open" in check.why
    entries = [(row.seq, row.entry) for row in rows]
    assert check_replay(entries).rows == N
    del entries[1]
    assert check_replay(entries).bad == 3
