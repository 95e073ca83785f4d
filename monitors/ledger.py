"""Ledger: the streams since a certificate was made, so that a drift of the traffic revokes it.

A file that keeps, of every guarded response that the certificate speaks for, what the monitor's statistics came to
within the horizon: numbers only, no text. `drift.py` compares them with the values that the certificate rests on, each
statistic with its part of the error. A guard that is given a ledger calls no verdict certified once it is revoked;
`belief show` says how it stands.

A response that was stopped has no value beyond its crossing. So every value counts up to the limit at most, those of
the calibration too; a stream like those of the calibration is then no likelier to lie at the limit than its rank says.

One SQLite file may be shared by processes and by certificates. Reading takes no lock; who writes keeps what could not
be written and writes it the next time. A new calibration is another certificate and starts anew.

Limits: benign kinds are pooled as they were calibrated; traffic with another mix of them is a drift, and so are true
uses of a fact. What could not be scored is counted, and no evidence. Where one statistic stops a response, the others
count what they had come to by then.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

from monitors.drift import Drift, watch_drift
from monitors.sqlite_file import SMALLEST, clear_errors, identity
from monitors.threshold import Threshold
from probes.errors import ArtifactError, BadInput, CouldNotRun
from probes.reading.streams import Stream

__all__ = ["Ledger"]

ERROR = 0.01
"""Probability of ever revoking falsely; one for all, so that whoever opens a file says the same."""
APPLICATION = 0x42454C4C
"""Kept in the file's `application_id`: "BELL"."""
VERSION = 1
TABLES = (
    "CREATE TABLE streams (seq INTEGER PRIMARY KEY, certificate TEXT NOT NULL, came_to TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


class Ledger:
    """What guarded responses came to since a certificate was made.

    Args:
        path: the file; made where it is missing (its folder is not).
        threshold: the certificate.
        patience_s: seconds to wait for another writer.

    Raises:
        BadInput: the folder is missing, or the path is no file.
        ArtifactError: the file is no ledger, or is damaged. CouldNotRun: it cannot be opened.
    """

    def __init__(self, path: str | Path, threshold: Threshold, *, patience_s: float = 5.0):
        self.path = Path(path).absolute()
        self.threshold = threshold
        self.streams = self.unscored = 0
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._last = 0
        self._pending: list[tuple[str, str]] = []
        self._certificate = hashlib.sha256(json.dumps(threshold.to_dict(), sort_keys=True).encode()).hexdigest()
        limits = threshold.limits
        # Each candidate of a choice could have been taken, and one with low values would be: all share the error.
        error = ERROR / (len(limits) * threshold.among)
        self._drifts: dict[str, Drift] = {
            name: watch_drift([min(value, limits[name]) for of in kinds.values() for value in of], error=error)
            for name, kinds in threshold.maxima.items()
        }
        self._file: tuple[int, int] | None = None
        if not self.path.parent.is_dir() or (self.path.exists() and not self.path.is_file()):
            raise BadInput(f"{self.path} is no place for a ledger; give the path of a file in a folder that is there")
        if not self.path.exists():
            self._make()
        if self.path.stat().st_size < SMALLEST:
            raise ArtifactError(f"{self.path} is too small to be a ledger; give another path")
        self.refresh()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r}, {self.sentence})"

    @property
    def drifts(self) -> Mapping[str, Drift]:
        """The evidence by statistic."""
        return dict(self._drifts)

    @property
    def revoked(self) -> bool:
        """Whether the traffic is no longer what the certificate was made on, as of the last look at the file."""
        return any(drift.revoked for drift in self._drifts.values())

    @property
    def sentence(self) -> str:
        """How many streams there were, and what they say of the certificate."""
        count = f"{self.streams} streams since the certificate"
        count += f", {self.unscored} of them without a score" if self.unscored else ""
        ended = {name: drift.revoked_at for name, drift in self._drifts.items() if drift.revoked_at is not None}
        if ended:
            name = min(ended, key=ended.__getitem__)
            return f"{count}; revoked at scored stream {ended[name]}: by {name} they lie above those it was made on"
        most = max(drift.wealth * drift.error for drift in self._drifts.values())
        return f"{count}; not revoked (evidence {most:.2g} of 1)"

    def to_dict(self) -> dict[str, Any]:
        """Return counts and evidence, for JSON."""
        drifts = {name: {"wealth": one.wealth, "revoked_at": one.revoked_at} for name, one in self._drifts.items()}
        return {"streams": self.streams, "unscored": self.unscored, "revoked": self.revoked, "drifts": drifts}

    def add(self, streams: Sequence[Stream | None]) -> None:
        """Take responses in, in their order.

        Args:
            streams: of each response; None for one that could not be judged.

        Raises:
            CouldNotRun: the file cannot be written. What was not written is written the next time.
            ArtifactError: the file is no longer the one that was opened, or is damaged.
        """
        rows = [(self._certificate, json.dumps(None if one is None else self._came_to(one))) for one in streams]
        with self._lock:
            self._pending += rows
            with self._opened() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO streams (certificate, came_to) VALUES (?, ?)", self._pending)
                connection.execute("COMMIT")
            self._pending = []
            self.refresh()

    def refresh(self) -> None:
        """Count what has been added to the file since the last look, by whomever.

        Raises:
            CouldNotRun, ArtifactError: see `add`.
        """
        query = "SELECT seq, came_to FROM streams WHERE certificate = ? AND seq > ? ORDER BY seq"
        with self._lock:
            with self._opened() as connection:
                found = connection.execute(query, (self._certificate, self._last)).fetchall()
            held = [self._decode(seq, text) for seq, text in found]
            values = [one for one in held if one is not None]
            limits = self.threshold.limits
            self._drifts = {
                name: drift.after(*(min(one[name], limits[name]) for one in values))
                for name, drift in self._drifts.items()
            }
            self.streams += len(held)
            self.unscored += len(held) - len(values)
            self._last = found[-1][0] if found else self._last

    def _came_to(self, stream: Stream) -> dict[str, float] | None:
        """Return the largest value of each statistic within the horizon; None where one has none that is finite."""
        scores = stream.scores[: self.threshold.horizon]
        held = {one.name: float(one.largest(scores)) for one in self.threshold.statistics}
        return held if all(map(isfinite, held.values())) else None

    def _decode(self, seq: int, text: str) -> dict[str, float] | None:
        try:
            held = json.loads(text)
            fits = held is None or (set(held) == set(self._drifts) and all(isfinite(held[name]) for name in held))
        except (ValueError, TypeError, OverflowError) as error:
            raise ArtifactError(f"{self.path}, row {seq}: {error}; start a new ledger") from error
        if not fits:
            raise ArtifactError(f"{self.path}, row {seq} is {text!r:.80}, no values of its statistics; start a new one")
        return held

    def _make(self) -> None:
        """Make the file whole under another name, so that no other process ever sees a part of it."""
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as connection:
                for statement in TABLES:
                    connection.execute(statement)
            with suppress(FileExistsError):  # somebody else was faster: theirs is as good
                os.link(part, self.path)
        except (OSError, sqlite3.Error) as error:
            raise CouldNotRun(f"the ledger {self.path} cannot be made ({error}); check disk and permissions") from error
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file for a moment, if it is still the one that it was, with errors of our own kind."""
        with clear_errors(self.path, "ledger", damaged="start a new one", lost="was it taken away?"):
            if self._file is not None and identity(self.path) != self._file:
                raise ArtifactError(f"{self.path} was replaced while it was open; start a new ledger")
            uri = f"file:{quote(str(self.path))}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=self._patience_s, isolation_level=None)) as connection:
                self._check_schema(connection)
                yield connection
            self._file = identity(self.path)

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        names = ("application_id", "user_version")
        application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        if application != APPLICATION:
            raise ArtifactError(f"{self.path} is a SQLite file but no ledger; give another path")
        if version != VERSION:
            raise ArtifactError(f"{self.path} is a ledger of version {version}, this program writes {VERSION}")
