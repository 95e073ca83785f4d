"""Journal: the breaker's entries in one SQLite file: durable, in order, and hard to change unseen.

Durable: write-ahead log with `synchronous=FULL`; an entry is on disk before `append`'s transaction returns, whatever
is killed afterwards. Several processes and threads may write one file: each transaction takes the write lock at its
start (BEGIN IMMEDIATE), waiting at most `patience_s`.

Tamper-evident: each row keeps a hash of itself and the row before (see audit); sequence numbers are 1, 2, 3 without a
gap, and a table of one row notes the last number and hash. Triggers refuse UPDATE and DELETE, which stops accidents.
`verify` names the first bad row after an edit, a deletion or a reordering, at the end of the table too; a journal that
lacks its last rows does not even open.

Not detectable: somebody who may write the file and recomputes every later hash with the last one, or puts back an
older copy of the whole file. Note `head` somewhere else from time to time: `verify(anchor=...)` notices both, as long
as the anchor is newer than what was taken away.

Private: prompts are kept as their sha256 only, unless `keep_prompts` is set. Request ids and reasons are kept as they
are: put no prompt in them.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from monitors.breaker.audit import GENESIS, Check, chain_hash, check_chain, check_replay
from monitors.breaker.entries import Entry, decode, encode
from monitors.breaker.rule import Policy, Snapshot
from monitors.sqlite_file import SMALLEST, clear_errors, identity
from probes.errors import ArtifactError, BadInput, CouldNotRun

__all__ = ["Journal", "Row"]

VERSION = 1
"""Of the tables; kept in the file's `user_version`."""
APPLICATION = 0x42454C4A
"""Kept in the file's `application_id`: "BELJ"."""
EVIDENCE = "keep the file as evidence and start from a backup"
TABLES = (
    "CREATE TABLE entries (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, breaker TEXT NOT NULL, "
    "body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)",
    "CREATE INDEX entries_by_breaker ON entries (breaker, seq)",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL)",
    f"INSERT INTO head VALUES (1, 0, '{GENESIS}')",
    "CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)
_LEFT_BY_PARENT: list[sqlite3.Connection] = []  # SQLite forbids to close in a forked child what its parent opened


@dataclass(frozen=True)
class Row:
    """One entry where it stands in the journal."""

    seq: int
    """1, 2, 3, ... without a gap."""
    entry: Entry
    """What happened."""
    hash: str
    """Of this row and, through the chain, of all before it."""


class Journal:
    """One file of entries.

    Args:
        path: the file; made where it is missing (its folder is not).
        read_only: look, never write or make.
        keep_prompts: keep prompts as text beside their digests.
        patience_s: seconds to wait for another writer.

    Raises:
        BadInput: the folder is missing, or the path is no file.
        ArtifactError: the file is no journal, is damaged, was written by another version, or lacks its last rows.
        CouldNotRun: the file cannot be opened or written.
    """

    def __init__(
        self, path: str | Path, *, read_only: bool = False, keep_prompts: bool = False, patience_s: float = 5.0
    ):
        self.path = Path(path).absolute()
        self.read_only = read_only
        self.keep_prompts = keep_prompts
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._written = 0
        self._connection: sqlite3.Connection | None = None
        self._check_path()
        with self._clear_errors():
            self._connect()

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is appended inside, durably and alone, or nothing.

        Raises:
            CouldNotRun: it cannot be written: read-only, disk full, another writer for too long, closed, taken away.
        """
        with self._use() as connection:
            self._check_same_file()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def append(self, entry: Entry) -> int:
        """Write one entry, inside a transaction; return its sequence number."""
        with self._use() as connection:
            assert connection.in_transaction, "append belongs inside a transaction"
            seq, previous = connection.execute("SELECT seq, hash FROM head").fetchone()
            body = encode(entry)
            digest = chain_hash(seq + 1, entry.id, entry.breaker, previous, body)
            row = (seq + 1, entry.id, entry.breaker, body, previous, digest)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE head SET seq = ?, hash = ?", (seq + 1, digest))
            self._written += 1
            return seq + 1

    def holds(self, entry_id: str) -> bool:
        """Say whether an entry is there already."""
        with self._use() as connection:
            return connection.execute("SELECT 1 FROM entries WHERE id = ?", (entry_id,)).fetchone() is not None

    def last(self, breaker: str) -> Snapshot | None:
        """Return what the breaker of that name remembered last, or None.

        Raises:
            ArtifactError: its last row cannot be read.
        """
        query = "SELECT seq, id, body FROM entries WHERE breaker = ? ORDER BY seq DESC LIMIT 1"
        with self._use() as connection:
            found = connection.execute(query, (breaker,)).fetchone()
        return None if found is None else self._decode(found[0], breaker, *found[1:]).after

    def version(self) -> tuple[int, int]:
        """Return something that differs once anybody has written: this journal, another one, another process."""
        with self._use() as connection:
            return connection.execute("PRAGMA data_version").fetchone()[0], self._written

    @property
    def head(self) -> tuple[int, str]:
        """Last sequence number and hash, to be noted elsewhere as an anchor for `verify`."""
        with self._use() as connection:
            return connection.execute("SELECT seq, hash FROM head").fetchone()

    def rows(self, *, breaker: str | None = None) -> tuple[Row, ...]:
        """Return all rows in order, or those of one breaker.

        Raises:
            ArtifactError: a row cannot be read; says which.
        """
        query = "SELECT seq, id, breaker, body, hash FROM entries WHERE ? IN (breaker, '') ORDER BY seq"
        with self._use() as connection:
            found = connection.execute(query, (breaker or "",)).fetchall()
        return tuple(Row(seq, self._decode(seq, name, key, body), digest) for seq, key, name, body, digest in found)

    def verify(self, *, anchor: tuple[int, str] | None = None) -> Check:
        """Check the chain of hashes and say which row is the first that is wrong or missing.

        Args:
            anchor: a `head` noted earlier; its row must still be there, unchanged.
        """
        with self._use() as connection, self._reading(connection):
            found = connection.execute(
                "SELECT seq, id, breaker, body, previous, hash FROM entries ORDER BY seq"
            ).fetchall()
            head = connection.execute("SELECT seq, hash FROM head").fetchall()
        return check_chain(found, head, anchor)

    def replay(self, policy: Policy | None = None) -> Check:
        """Run the rule again over the recorded events and name the first row that comes out otherwise.

        Args:
            policy: the policy to replay under; None: for each row the one that was in force.
        """
        return check_replay(((row.seq, row.entry) for row in self.rows()), policy)

    def _check_path(self) -> None:
        if not self.path.parent.is_dir():
            raise BadInput(f"{self.path.parent} is no folder; make it first: a journal is not put anywhere by mistake")
        if self.path.exists() and not self.path.is_file():
            raise BadInput(f"{self.path} is not a file; give the path of a SQLite file such as trips.sqlite")
        # SQLite takes a file of one byte for an empty one and writes over it; to open it here would drop its locks.
        if self.path.exists() and 0 < self.path.stat().st_size < SMALLEST:
            raise ArtifactError(f"{self.path} is too small to be a journal; give another path")
        if self.read_only and not self.path.exists():
            raise BadInput(f"{self.path} does not exist; give the path of a journal")

    def _connect(self) -> None:
        deadline_s = time.monotonic() + self._patience_s
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                # SQLite waits for other writers by itself, but not while another process gives a new file its log.
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)

    def _open(self) -> None:
        mode = "ro" if self.read_only else "rwc"
        uri = f"file:{quote(str(self.path))}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, timeout=self._patience_s, isolation_level=None, check_same_thread=False
        )
        try:
            if not self.read_only:
                self._make_tables(connection)
            self._check_schema(connection)  # before anything about a foreign file is changed
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            self._file = identity(self.path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._owner = connection, os.getpid()

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """Make the tables in an empty file; taking the write lock also finds out whether it can be written."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in TABLES:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            raise ArtifactError(f"{self.path} is a SQLite file but no journal; give another path")
        if version != VERSION:
            raise ArtifactError(
                f"{self.path} is a journal of version {version}, this program writes {VERSION}; "
                "use the program that made it, or start a new file"
            )
        last = connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchall()
        if connection.execute("SELECT seq, hash FROM head").fetchall() != (last or [(0, GENESIS)]):
            raise ArtifactError(
                f"{self.path} does not end where it was left: rows are missing or were added; {EVIDENCE}"
            )

    def _check_same_file(self) -> None:
        """SQLite would go on writing to a file that was deleted or replaced, where nobody would find it."""
        if identity(self.path) != self._file:
            raise CouldNotRun(
                f"{self.path} was removed or replaced while it was open; put it back, or restart with a new one"
            )

    def _decode(self, seq: int, breaker: str, key: str, body: str) -> Entry:
        try:
            return decode(breaker, key, body)
        except ArtifactError as error:
            raise ArtifactError(f"{self.path}, row {seq}: {error}") from error

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """Hand out the connection to one thread at a time, with errors of our own kind."""
        with self._lock, self._clear_errors():
            if self._connection is None:
                raise CouldNotRun(f"the journal {self.path} is closed; open it again")
            if self._owner != os.getpid():
                _LEFT_BY_PARENT.append(self._connection)
                self._connect()
            yield self._connection

    @contextmanager
    def _reading(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Let several queries see one state of the file."""
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")

    def _clear_errors(self) -> AbstractContextManager[None]:
        return clear_errors(self.path, "journal", damaged=EVIDENCE, lost="check that it is still there")
