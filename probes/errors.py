"""The few exceptions of this project, each with the exit code of the command line.

A message has three parts: what was given, what is allowed, what to do. Exit codes: 0 passed, 1 a check failed, 2 bad
usage, 3 could not run, 4 inconclusive, 5 nothing was checked.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "BadInput",
    "BeliefError",
    "CouldNotRun",
    "Inconclusive",
    "Mismatch",
    "NotFound",
    "TooFew",
    "nearest",
]


class BeliefError(Exception):
    """Root of every error that this project raises on purpose."""

    exit_code = 3


class BadInput(BeliefError, ValueError):
    """The caller gave something that cannot be used: a value, a file, a shape."""

    exit_code = 2


class NotFound(BeliefError, LookupError):
    """The caller named something that does not exist: a topic, a model, a layer, a relation."""

    exit_code = 2


class CouldNotRun(BeliefError, RuntimeError):
    """The request was sound, but this machine or this model could not carry it out."""

    exit_code = 3


class ArtifactError(BeliefError, ValueError):
    """A folder is not one of our artifacts, or it is damaged."""

    exit_code = 3


class Mismatch(BeliefError, ValueError):
    """An artifact was made on another model.

    Args:
        message: the whole sentence.
        parts: names of the fingerprint's parts that differ.
    """

    exit_code = 3

    def __init__(self, message: str, parts: Iterable[str] = ()):
        super().__init__(message)
        self.parts = tuple(parts)


class Inconclusive(BeliefError):
    """The question was sound and everything ran, but it cannot be answered here."""

    exit_code = 4


class TooFew(Inconclusive, ValueError):
    """There is too little data to support the claim that was asked for.

    Args:
        message: the whole sentence.
        needed: how many would do.
    """

    def __init__(self, message: str, needed: int):
        super().__init__(message)
        self.needed = needed

    def __reduce__(self) -> tuple:  # else it could not come back from another process
        return type(self), (str(self), self.needed)


def nearest(name: str, allowed: Iterable[str], most: int = 12) -> str:
    """Return the end of a sentence that helps after a wrong name: the closest name, and what there is.

    >>> nearest("captials", ["capitals", "cities"])
    "did you mean 'capitals'? There are: capitals, cities"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return (f"did you mean {close[0]!r}? " if close else "") + f"There are: {listed or 'none'}"
