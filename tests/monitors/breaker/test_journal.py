"""The journal: nothing acknowledged is lost, nothing wrong is opened, nothing private is written."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy, State
from monitors.verdict import Verdict
from probes.errors import ArtifactError, BadInput, CouldNotRun

ROOT = Path(__file__).parents[3]


def alarm(name, reason="the score of token 2 is 3, above 1"):
    return Verdict.invalid(reason, request_id=name)


def child(code, *arguments, **rest):
    """Start Python on a piece of code, in the repository."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True, **rest
    )


TRIPPER = """
import sys
from monitors.breaker.breaker import Breaker
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy
from monitors.verdict import Verdict

journal = Journal(sys.argv[1], patience_s=60)
for i in range(int(sys.argv[3])):
    breaker = Breaker(Policy(1, 1, latch=True), journal=journal, name=f"{sys.argv[2]}-{i}")
    breaker.record(Verdict.invalid("test", request_id=f"{sys.argv[2]}-{i}"), breaker.ask())
    print(f"{sys.argv[2]}-{i}", flush=True)
"""


def test_kill_9_loses_no_trip_that_was_acknowledged(tmp_path):
    """Fault J1: twenty children trip breaker after breaker into one file and are killed wherever they happen to be."""
    path, rng = tmp_path / "trips.sqlite", random.Random(0)
    acknowledged = []
    for n in range(20):
        process = child(TRIPPER, path, n, 10_000)
        for _ in range(rng.randrange(4)):
            acknowledged.append(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [
            line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    assert len(acknowledged) >= 20
    with Journal(path) as journal:
        check = journal.verify()
        assert check.holds, check
        assert journal.replay().holds
        written = [row.entry.breaker for row in journal.rows()]
        assert set(acknowledged) <= set(written)
        assert len(written) <= len(acknowledged) + 20, "at most the one in flight when each was killed"
        for name in acknowledged:
            breaker = Breaker(Policy(1, 1, latch=True), journal=journal, name=name)
            assert breaker.state is State.OPEN
            with pytest.raises(BreakerOpen):
                breaker.ask()


def test_four_processes_write_one_file_without_a_gap(tmp_path):
    """Fault J3."""
    processes = [child(TRIPPER, tmp_path / "trips.sqlite", n, 15) for n in range(4)]
    for process in processes:
        assert len(process.communicate()[0].split()) == 15
        assert process.returncode == 0
    with Journal(tmp_path / "trips.sqlite") as journal:
        rows = journal.rows()
        assert [row.seq for row in rows] == list(range(1, 61))
        assert {row.entry.breaker for row in rows} == {f"{n}-{i}" for n in range(4) for i in range(15)}
        assert journal.verify().holds


def test_a_file_that_is_busy_being_made_is_waited_for(tmp_path, monkeypatch):
    """SQLite answers "busy" without waiting while another process starts the log of a new file."""
    opened, tries = Journal._open, []

    def busy_at_first(journal):
        tries.append(journal)
        if len(tries) > 1:
            return opened(journal)
        path = journal.path
        with closing(sqlite3.connect(path, timeout=0)) as one, closing(sqlite3.connect(path, timeout=0)) as two:
            one.execute("BEGIN EXCLUSIVE")
            return two.execute("PRAGMA journal_mode = WAL")

    monkeypatch.setattr(Journal, "_open", busy_at_first)
    Journal(tmp_path / "a.sqlite").close()
    assert len(tries) == 2
    tries.clear()
    with pytest.raises(CouldNotRun, match="locked"):
        Journal(tmp_path / "b.sqlite", patience_s=-1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_a_connection_of_its_own(tmp_path):
    with Journal(tmp_path / "trips.sqlite") as journal:
        Breaker(Policy(1, 1), journal=journal).force_open(by="parent", why="test")
        pid = os.fork()
        if pid == 0:
            inherited, code = journal._connection, 1
            try:
                Breaker(Policy(1, 1), journal=journal, name="child").force_open(by="child", why="test")
                code = 0 if journal._connection is not inherited else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        Breaker(Policy(1, 1), journal=journal).reset(by="parent", why="test")
        assert [row.entry.transition.who for row in journal.rows()] == ["parent", "child", "parent"]
        assert journal.verify().holds


def test_importing_it_brings_no_torch():
    code = "import sys, monitors.breaker.journal; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    process = child(code)
    assert process.communicate()[0].strip() == "[]"
    assert process.returncode == 0


SECRET = "the launch code is 7-Quokka-9"


@pytest.mark.parametrize("prompt", [SECRET, [{"role": "user", "content": SECRET}]])
def test_no_byte_of_a_prompt_is_written_unless_asked(tmp_path, capsys, prompt):
    """Fault J5, with its sanity half: the same prompt is found where it was asked for."""

    def written(folder, **options):
        folder.mkdir()
        with Journal(folder / "t.sqlite", **options) as journal:
            breaker = Breaker(Policy(1, 1), journal=journal)
            breaker.record(alarm("r1"), breaker.ask(), prompt=prompt)
            assert len(journal.rows()[0].entry.prompt_sha256) == 64
            during = b"".join(file.read_bytes() for file in folder.iterdir())
        return during + b"".join(file.read_bytes() for file in folder.iterdir())

    assert b"Quokka" not in written(tmp_path / "private")
    assert b"Quokka" in written(tmp_path / "kept", keep_prompts=True)
    with Journal(tmp_path / "closed.sqlite") as journal:
        breaker = Breaker(Policy(1, 1), journal=journal)
    breaker.record(alarm("r1"), breaker_permit(breaker), prompt=prompt)
    spilled = capsys.readouterr().err
    assert "r1" in spilled
    assert "Quokka" not in spilled


def breaker_permit(breaker):
    """A permit from a breaker whose journal is closed: it goes by its memory."""
    permit = breaker.ask()
    assert breaker.journal_degraded
    return permit


def test_rows_come_back_with_all_that_was_known(tmp_path):
    with Journal(tmp_path / "t.sqlite") as journal:
        one = Breaker(Policy(1, 2), journal=journal, name="one", clock=lambda: 12.5)
        Breaker(Policy(1, 2), journal=journal, name="two").force_open(by="Ada", why="drill")
        one.record(alarm("r1", "NaN at token 3"), one.ask())
        (row,) = journal.rows(breaker="one")
        assert (row.seq, row.hash) == journal.head
        assert (row.entry.at_s, row.entry.policy, row.entry.verdict.reason) == (12.5, Policy(1, 2), "NaN at token 3")
        assert row.entry.transition.after is State.OPEN
        assert len(journal.rows()) == 2
        assert journal.rows(breaker="three") == ()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, BadInput, "is no folder"),
        (lambda path: path.mkdir(parents=True), BadInput, "is not a file"),
        (
            lambda path: write(path, b"not a database, but long enough to be looked at" * 50),
            ArtifactError,
            "no journal",
        ),
        (lambda path: write(path, b"x"), ArtifactError, "too small to be a journal"),
        (lambda path: foreign(path), ArtifactError, "a SQLite file but no journal"),
        (lambda path: another_version(path), ArtifactError, "version 2, this program writes 1"),
        (lambda path: half(path), ArtifactError, "damaged"),
        (lambda path: no_head(path), ArtifactError, "damaged"),
    ],
)
def test_what_is_no_journal_is_one_clear_error_and_stays_as_it_was(tmp_path, make, error, message):
    path = tmp_path / "sub" / "trips.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    for read_only in (False, True):
        with pytest.raises(error, match=message):
            Journal(path, read_only=read_only)
    assert (path.read_bytes() if path.is_file() else None) == before


def write(path, data):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def foreign(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def journal_with_a_trip(path):
    path.parent.mkdir()
    with Journal(path) as journal:
        Breaker(Policy(1, 1), journal=journal).force_open(by="Ada", why="drill")


def another_version(path):
    journal_with_a_trip(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 2")


def half(path):
    journal_with_a_trip(path)
    write(path, path.read_bytes()[:8192])


def no_head(path):
    journal_with_a_trip(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE head")


def test_a_file_that_cannot_be_made_is_one_clear_error():
    with pytest.raises(CouldNotRun, match="cannot be used"):
        Journal("/proc/trips.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_without_write_permission_is_one_clear_error(tmp_path):
    journal_with_a_trip(tmp_path / "sub" / "t.sqlite")
    (tmp_path / "sub" / "t.sqlite").chmod(0o400)
    with pytest.raises(CouldNotRun, match="readonly"):
        Journal(tmp_path / "sub" / "t.sqlite")


def test_looking_does_not_write_or_make(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Journal(tmp_path / "typo.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []
    journal_with_a_trip(tmp_path / "sub" / "t.sqlite")
    with Journal(tmp_path / "sub" / "t.sqlite", read_only=True) as journal:
        assert journal.verify().rows == 1
        breaker = Breaker(Policy(1, 1), journal=journal)
        assert breaker.state is State.OPEN
        with pytest.raises(CouldNotRun, match="so it is not done"):
            breaker.reset(by="Ada", why="seen")


def test_an_empty_file_left_by_a_killed_program_is_taken_over(tmp_path):
    (tmp_path / "t.sqlite").touch()
    with Journal(tmp_path / "t.sqlite") as journal:
        assert journal.head == (0, "0" * 64)
        assert journal.verify().holds


def test_a_file_that_was_taken_away_is_noticed(tmp_path, capsys):
    path = tmp_path / "t.sqlite"
    with Journal(path) as journal:
        breaker = Breaker(Policy(1, 1, latch=True), journal=journal)
        path.rename(tmp_path / "elsewhere.sqlite")
        breaker.record(alarm("r1"), breaker.ask())
        assert breaker.state is State.OPEN
        assert breaker.journal_degraded
        path.touch()
        with pytest.raises(CouldNotRun, match="removed or replaced"):
            breaker.reset(by="Ada", why="seen")
    assert "still there" in capsys.readouterr().err


def test_another_writer_is_waited_for_only_so_long(tmp_path, capsys):
    path = tmp_path / "t.sqlite"
    with Journal(path, patience_s=0.05) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        breaker = Breaker(Policy(1, 1, latch=True), journal=journal)
        other.execute("BEGIN IMMEDIATE")
        breaker.record(alarm("r1"), breaker.ask())
        assert breaker.state is State.OPEN
        assert breaker.journal_degraded
        other.execute("ROLLBACK")
        breaker.force_open(by="Ada", why="to write what waits")
        assert not breaker.journal_degraded
        assert len(journal.rows()) == 2
    assert "locked" in capsys.readouterr().err


def test_the_file_itself_refuses_to_be_changed(tmp_path):
    journal_with_a_trip(tmp_path / "sub" / "t.sqlite")
    with closing(sqlite3.connect(tmp_path / "sub" / "t.sqlite")) as connection:
        for statement in ("UPDATE entries SET body = ''", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_a_closed_journal_says_so(tmp_path):
    journal = Journal(tmp_path / "t.sqlite")
    journal.close()
    journal.close()
    with pytest.raises(CouldNotRun, match="is closed"):
        journal.rows()


def test_a_strange_path_is_just_a_path(tmp_path):
    for name in ("a b.sqlite", "q?mode=ro.sqlite", "ü#%20.sqlite", ":memory:"):
        with Journal(tmp_path / name) as journal:
            Breaker(Policy(1, 1), journal=journal).force_open(by="Ada", why="drill")
        assert (tmp_path / name).is_file()


def test_the_page_for_three_in_the_morning_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Journal("trips.sqlite") as journal:
        breaker = Breaker(Policy(5, 10, latch=True), journal=journal)
        permit = breaker.ask()
        for i in range(5):
            breaker.record(alarm(f"r{i}"), permit, prompt="What is the capital of France?")
        assert breaker.state is State.OPEN
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tripped.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    space: dict = {}
    for block in blocks:
        exec(block, space)  # our own documentation
        if "read_only" in block:
            looked = space["journal"]
    looked.close()
    printed = capsys.readouterr().out
    assert "5 invalid r4" in printed
    assert "closed -> open 5 of the last 10 responses alarmed" in printed
    digest = printed.split()[-1]
    assert printed.count(digest) == 6, "each alarm's row and the prompt's own digest"
    with Journal("trips.sqlite") as journal:
        assert Breaker(Policy(5, 10), journal=journal).state is State.CLOSED
