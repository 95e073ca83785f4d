"""What journal and ledger share: SQLite's errors as ours, and whether a file is still the one that was opened."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.errors import ArtifactError, CouldNotRun

__all__ = ["SMALLEST", "clear_errors", "identity"]

SMALLEST = 512
"""Bytes of the smallest SQLite file there is; SQLite takes a smaller one for empty and writes over it."""
DAMAGE = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_FORMAT", "SQLITE_MISMATCH", "SQLITE_SCHEMA")
"""SQLite's names of errors that lie in the file and not in the machine."""


@contextmanager
def clear_errors(path: Path, what: str, *, damaged: str, lost: str) -> Iterator[None]:
    """Turn errors of SQLite and of the machine into ours.

    Args:
        path: of the file.
        what: it is: "journal".
        damaged: what to do where it is none, or damaged.
        lost: what to look for where the machine fails.

    Raises:
        ArtifactError: the file is at fault. CouldNotRun: the machine is.
    """
    try:
        yield
    except sqlite3.Error as error:
        if str(getattr(error, "sqlite_errorname", "")).startswith(DAMAGE):
            raise ArtifactError(f"{path} is no {what}, or it is damaged ({error}); {damaged}") from error
        raise CouldNotRun(
            f"the {what} {path} cannot be used ({error}); check disk space, permissions and other writers"
        ) from error
    except OSError as error:
        raise CouldNotRun(f"the {what} {path} cannot be used ({error}); {lost}") from error


def identity(path: Path) -> tuple[int, int]:
    """Return what differs once a file was replaced by another of its name.

    Raises:
        OSError: there is none.
    """
    found = os.stat(path)
    return found.st_dev, found.st_ino
