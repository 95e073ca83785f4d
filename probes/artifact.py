"""Artifact: the strict folder in which a probe or a monitor is kept (later a vector, an eraser, a sparse autoencoder).

A folder with exactly `manifest.json` and `tensors.safetensors` (their bytes: artifact_format.py; the format:
docs/artifact.md). Writing is whole or not at all: a temporary folder beside the target, flushed to the disk, then
renamed. Reading opens regular files only, follows no link inside the folder, and looks at sizes before it reads.
Loading needs no model; whether an artifact fits one is asked apart (`fingerprint.match`).

Limits: replacing takes two renames. Whatever raises between them puts the old folder back; a machine that dies there
leaves it beside the target as `.<name>.<random>.old`.
"""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from torch import Tensor

from probes.artifact_format import (
    MANIFEST,
    MANIFEST_BYTES,
    TENSORS,
    TENSORS_BYTES,
    Artifact,
    decode,
    decode_stream,
    encode,
)
from probes.errors import ArtifactError, BadInput, CouldNotRun
from probes.strict_json import fail, require, short

__all__ = [
    "Artifact",
    "decode",
    "flush_folder",
    "open_regular",
    "read_artifact",
    "require",
    "write_artifact",
    "write_file",
]

NOT_REGULAR = "is no regular file; links, pipes and folders are refused"


def write_artifact(
    folder: str | os.PathLike,
    kind: str,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    overwrite: bool = False,
) -> None:
    """Write an artifact whole or not at all.

    Args:
        folder: where to; folders above it are made. It may be there already if it is empty.
        kind: a short word: lower-case letters, digits, `_`, `-`.
        manifest: the kind's fields: JSON values, numbers finite, at most 1 MiB.
        tensors: by name (`[a-z0-9_.-]`, at most 64), not empty, floating ones finite; on any device.
        overwrite: replace an artifact that is there. A folder that holds anything else is never replaced.

    Raises:
        BadInput: something cannot be kept in this format, or the folder is taken.
        CouldNotRun: no space, no permission, a broken disk; nothing is left behind.
    """
    target = Path(os.path.abspath(os.path.expanduser(folder)))
    files = encode(kind, manifest, tensors)
    staged, old = (target.with_name(f".{target.name}.{secrets.token_hex(4)}.{end}") for end in ("partial", "old"))
    try:
        _check_free(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.mkdir()
        write_file(staged / MANIFEST, [files.manifest])
        write_file(staged / TENSORS, files.tensors)
        flush_folder(staged)
        _swap(staged, target, old, overwrite)
        flush_folder(target.parent)
    except OSError as error:
        _could_not_write(target, error)
    finally:  # KeyboardInterrupt included
        shutil.rmtree(staged, ignore_errors=True)
        if os.path.lexists(target):  # else the old one is all there is
            shutil.rmtree(old, ignore_errors=True)


def read_artifact(folder: str | os.PathLike, kind: str | None = None, *, max_bytes: int = TENSORS_BYTES) -> Artifact:
    """Read an artifact, believing nothing.

    Args:
        folder: an artifact's folder.
        kind: refuse any other kind.
        max_bytes: refuse a larger file of tensors, before reading it.

    Raises:
        ArtifactError: there is no artifact, or something about it is wrong; the message names the file and what.
    """
    folder = Path(os.path.expanduser(folder))
    shown = str(folder) if str(folder).isprintable() else short(str(folder), 300)
    try:
        _check_folder(folder)
        with open_regular(folder / MANIFEST, MANIFEST_BYTES) as file:
            manifest = file.read(MANIFEST_BYTES + 1)
        with open_regular(folder / TENSORS, max_bytes) as file:
            return decode_stream(manifest, file, os.fstat(file.fileno()).st_size, kind)
    except ArtifactError as error:
        raise ArtifactError(f"{shown}: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ArtifactError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _check_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise BadInput(f"{target} is there and is no folder; give another name")
    held = set(os.listdir(target))
    if held and not overwrite:
        raise BadInput(f"{target} is there already; give another name, or overwrite=True")
    if held and held != {MANIFEST, TENSORS}:
        raise BadInput(f"{target} holds other things than an artifact, and is not replaced; give another name")


def write_file(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file that is not there yet, and flush it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest[: 1 << 28]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk: only then does a rename outlast a power cut."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _swap(staged: Path, target: Path, old: Path, overwrite: bool) -> None:
    """Rename the new folder into place; where one may be replaced it goes aside first, and comes back if that fails.

    Without `overwrite` the rename itself refuses a folder that somebody filled since we looked.
    """
    try:
        if overwrite and target.is_dir():
            os.rename(target, old)
        os.rename(staged, target)
    except BaseException:
        if old.is_dir() and not os.path.lexists(target):
            os.rename(old, target)
        raise


def _could_not_write(target: Path, error: OSError) -> NoReturn:
    why = error.strerror or type(error).__name__
    raise CouldNotRun(f"{target} could not be written: {why}; make room, or give another folder") from error


def _check_folder(folder: Path) -> None:
    if not os.path.lexists(folder):
        fail("there", "is no such folder; give the folder of a saved probe or monitor")
    if not folder.is_dir():
        fail("this", f"is no folder; an artifact is a folder with {MANIFEST} and {TENSORS}")
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in (MANIFEST, TENSORS):
                fail("this", f"is no artifact: it holds {short(entry.name)}; one holds {MANIFEST} and {TENSORS}")
            found.add(entry.name)
    for name in (MANIFEST, TENSORS):
        if name not in found:
            fail("this", f"is no artifact: {name} is missing")


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file that is not too large, following no link and never waiting at a pipe."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        fail(path.name, NOT_REGULAR)
    flags = [getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")]
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    try:
        status = os.fstat(descriptor)  # of what was opened: the name may point elsewhere by now
        if not stat.S_ISREG(status.st_mode):
            fail(path.name, NOT_REGULAR)
        if status.st_size > limit:
            fail(path.name, f"has {status.st_size} bytes; at most {limit} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
