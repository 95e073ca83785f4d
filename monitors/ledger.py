"""Ledger: the streams since a certificate was made, so that a drift of the traffic revokes it.

A file that keeps, of every guarded response, what the monitor's statistics came to within the horizon: numbers only,
no text. `drift.py` compares them with the values that the certificate rests on, each statistic with its part of the
error. A guard that is given a ledger calls no verdict certified once it is revoked; `belief show` says how it stands.

A response that was stopped has no value beyond its crossing. So every value counts up to the limit at most, those of
the calibration too; a stream like those of the calibration is then no likelier to lie at the limit than its rank says.

One SQLite file may be shared by processes and by certificates: a ledger reads what others have added for the same
certificate before it adds. A new calibration is another certificate and starts anew.

Limits: benign kinds are pooled as they were calibrated; traffic with another mix of them is a drift, and so are true
uses of a fact. What could not be scored is counted, and no evidence. Where one statistic stops a response, the others
count what they had come to by then.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from monitors.drift import Drift, watch_drift
from monitors.threshold import Threshold
from probes.errors import ArtifactError, BadInput, CouldNotRun
from probes.reading.streams import Stream

__all__ = ["Ledger"]

APPLICATION = 0x42454C4C
"""Kept in the file's `application_id`: "BELL"."""
TABLE = "CREATE TABLE streams (seq INTEGER PRIMARY KEY, certificate TEXT NOT NULL, came_to TEXT NOT NULL)"


class Ledger:
    """What guarded responses came to since a certificate was made.

    Args:
        path: the file; made where it is missing (its folder is not).
        threshold: the certificate.
        error: probability of ever revoking it falsely.
        patience_s: seconds to wait for another writer.

    Raises:
        BadInput: the folder is missing, or the path is no file.
        ArtifactError: the file is no ledger. CouldNotRun: it cannot be opened.
    """

    def __init__(self, path: str | Path, threshold: Threshold, *, error: float = 0.01, patience_s: float = 5.0):
        self.path = Path(path).absolute()
        self.threshold = threshold
        self.streams = self.unscored = 0
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._last = 0
        self._certificate = hashlib.sha256(json.dumps(threshold.to_dict(), sort_keys=True).encode()).hexdigest()
        limits = threshold.limits
        self._drifts: dict[str, Drift] = {
            name: watch_drift(
                [min(value, limits[name]) for of in kinds.values() for value in of], error=error / len(limits)
            )
            for name, kinds in threshold.maxima.items()
        }
        if not self.path.parent.is_dir() or (self.path.exists() and not self.path.is_file()):
            raise BadInput(f"{self.path} is no place for a ledger; give the path of a file in a folder that is there")
        with self._lock, self._opened() as connection:
            self._catch_up(connection)

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r}, {self.sentence})"

    @property
    def drifts(self) -> Mapping[str, Drift]:
        """The evidence by statistic."""
        return dict(self._drifts)

    @property
    def revoked(self) -> bool:
        """Whether the traffic is no longer what the certificate was made on."""
        return any(drift.revoked for drift in self._drifts.values())

    @property
    def sentence(self) -> str:
        """How many streams there were, and what they say of the certificate."""
        count = f"{self.streams} streams since the certificate"
        count += f", {self.unscored} of them without a score" if self.unscored else ""
        ended = {name: drift.revoked_at for name, drift in self._drifts.items() if drift.revoked}
        if ended:
            name = min(ended, key=lambda name: ended[name] or 0)
            return f"{count}; revoked at stream {ended[name]}: by {name} they score higher than those it was made on"
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
            CouldNotRun: the file cannot be written. What was not written is not counted.
            ArtifactError: the file is no longer the one that was read.
        """
        rows = [(self._certificate, json.dumps(None if one is None else self._came_to(one))) for one in streams]
        with self._lock, self._opened() as connection:
            connection.executemany("INSERT INTO streams (certificate, came_to) VALUES (?, ?)", rows)
            connection.execute("COMMIT")
            self._catch_up(connection)

    def _came_to(self, stream: Stream) -> dict[str, float] | None:
        """Return the largest value of each statistic within the horizon; None where one has none that is finite."""
        scores = stream.scores[: self.threshold.horizon]
        held = {one.name: float(one.largest(scores)) for one in self.threshold.statistics}
        return held if all(map(isfinite, held.values())) else None

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Count what the file has for this certificate and this ledger has not seen yet."""
        query = "SELECT seq, came_to FROM streams WHERE certificate = ? AND seq > ? ORDER BY seq"
        found = connection.execute(query, (self._certificate, self._last)).fetchall()
        held = [json.loads(text) for _, text in found]
        values = [one for one in held if one is not None]
        limits = self.threshold.limits
        self._drifts = {
            name: drift.after(*(min(one[name], limits[name]) for one in values)) for name, drift in self._drifts.items()
        }
        self.streams += len(held)
        self.unscored += len(held) - len(values)
        self._last = found[-1][0] if found else self._last

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file for a moment, with the write lock, and with errors of our own kind."""
        try:
            with closing(sqlite3.connect(self.path, timeout=self._patience_s, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    connection.execute(TABLE)
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
                    raise ArtifactError(f"{self.path} is a SQLite file but no ledger; give another path")
                if (connection.execute("SELECT max(seq) FROM streams").fetchone()[0] or 0) < self._last:
                    raise ArtifactError(f"{self.path} was replaced, or lost rows, while it was open; start a new one")
                yield connection
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
                raise ArtifactError(f"{self.path} is no ledger, or it is damaged ({error})") from error
            raise CouldNotRun(
                f"the ledger {self.path} cannot be used ({error}); check disk space, permissions and other writers"
            ) from error
