"""The folder of an artifact: written whole or not at all, read with nothing believed."""

import errno
import os
import socket
import stat
import time

import pytest
import torch

from probes import artifact
from probes.artifact import read_artifact, write_artifact
from probes.artifact_format import encode
from probes.errors import ArtifactError, BadInput, CouldNotRun

BODY = {"bias": 0.5}
OLD, NEW = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([3.0]), "v": torch.tensor([True])}


@pytest.fixture
def folder(tmp_path):
    """A saved artifact, alone in its parent."""
    write_artifact(tmp_path / "mine", "probe", BODY, OLD)
    return tmp_path / "mine"


def contents(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_saved_artifact_is_two_files_and_comes_back(folder):
    """One weight vector of two numbers and a bias."""
    assert sorted(contents(folder)) == ["manifest.json", "tensors.safetensors"]
    found = read_artifact(folder, "probe")
    assert (found.kind, found.manifest) == ("probe", BODY)
    assert found.tensors["w"].tolist() == [1.0, -2.0]
    assert found.made_by.startswith("belief-probes")
    assert repr(found).startswith("Artifact('probe', 1 tensors")
    assert read_artifact(str(folder)).kind == "probe"


def test_folders_above_are_made_and_permissions_are_the_usual_ones(tmp_path):
    write_artifact(tmp_path / "a" / "b" / "mine", "probe", BODY, OLD)
    usual = tmp_path / "usual"
    usual.mkdir()
    assert stat.S_IMODE((tmp_path / "a/b/mine").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert os.listdir(tmp_path / "a" / "b") == ["mine"]


def test_an_existing_folder_is_refused_unless_overwriting_and_an_empty_one_is_filled(folder):
    before = contents(folder)
    with pytest.raises(BadInput, match="is there already; give another name, or overwrite=True"):
        write_artifact(folder, "probe", BODY, NEW)
    assert contents(folder) == before
    write_artifact(folder, "monitor", BODY, NEW, overwrite=True)
    assert read_artifact(folder, "monitor").tensors.keys() == {"w", "v"}
    empty = folder.with_name("empty")
    empty.mkdir()
    write_artifact(empty, "probe", BODY, NEW)
    assert read_artifact(empty)
    assert sorted(os.listdir(folder.parent)) == ["empty", "mine"]


def test_a_folder_that_holds_anything_else_is_never_replaced(folder):
    (folder / "thesis.tex").write_text("ten years")
    with pytest.raises(BadInput, match="holds other things"):
        write_artifact(folder, "probe", BODY, NEW, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "ten years"
    file = folder.parent / "file"
    file.write_text("x")
    link = folder.parent / "link"
    link.symlink_to(folder)
    for taken in (file, link):
        with pytest.raises(BadInput, match="is no folder"):
            write_artifact(taken, "probe", BODY, NEW, overwrite=True)
    assert file.read_text() == "x"


def test_a_folder_filled_by_somebody_else_meanwhile_is_left_alone(tmp_path, monkeypatch):
    target = tmp_path / "mine"
    flush = artifact.flush_folder

    def meanwhile(folder):
        if not target.exists():
            target.mkdir()
            (target / "theirs").write_text("x")
        flush(folder)

    monkeypatch.setattr(artifact, "flush_folder", meanwhile)
    with pytest.raises(CouldNotRun, match="could not be written"):
        write_artifact(target, "probe", BODY, NEW)
    assert (target / "theirs").read_text() == "x"
    assert os.listdir(tmp_path) == ["mine"]


CALLS = {"write": 2, "fsync": 4, "rename": 2, "open": 4}
"""How often a call is made while one artifact replaces another; a new one is renamed once."""
FAILURES = [
    (name, at, overwrite)
    for name, most in CALLS.items()
    for at in range(1, most + 1)
    for overwrite in (False, True)
    if overwrite or (name, at) != ("rename", 2)
]


def failing(real, calls: list, at: int, error: BaseException):
    """Return a function that raises at its nth call, and works as usual before and after."""

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise error
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, KeyboardInterrupt], ids=str)
@pytest.mark.parametrize(("name", "at", "overwrite"), FAILURES)
def test_a_write_that_fails_at_any_call_leaves_the_old_or_the_new_whole(
    tmp_path, monkeypatch, name, at, error, overwrite
):
    """No space, no permission, a broken disk, Ctrl-C: at the first to the last call of each kind."""
    target = tmp_path / "mine"
    if overwrite:
        write_artifact(target, "probe", BODY, OLD)
    calls: list = []
    interrupted = error is KeyboardInterrupt
    raised = KeyboardInterrupt() if interrupted else OSError(error, os.strerror(error))
    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, name, failing(getattr(os, name), calls, at, raised))
        with pytest.raises(KeyboardInterrupt if interrupted else CouldNotRun) as caught:
            write_artifact(target, "probe", BODY, NEW, overwrite=overwrite)
    if not interrupted:
        assert str(caught.value).startswith(f"{target} could not be written: {os.strerror(error)}; ")
    assert os.listdir(tmp_path) in ([], ["mine"])
    if target.exists() or overwrite:
        kept = set(read_artifact(target).tensors)
        flushing_the_parent = (name, at) in {("fsync", 4), ("open", 4)}  # all is in place by then
        assert kept == ({"w", "v"} if flushing_the_parent else {"w"})
        assert overwrite or flushing_the_parent


def test_the_calls_that_we_let_fail_are_all_that_there_are(folder, monkeypatch):
    """The sanity half: without a failure the same calls are counted, and the artifact is replaced."""
    counted = {name: [] for name in CALLS}
    with monkeypatch.context() as patch:
        for name, calls in counted.items():
            patch.setattr(artifact.os, name, failing(getattr(os, name), calls, 0, OSError()))
        write_artifact(folder, "probe", BODY, NEW, overwrite=True)
    assert {name: len(calls) >= CALLS[name] for name, calls in counted.items()} == dict.fromkeys(CALLS, True)
    assert read_artifact(folder).tensors.keys() == {"w", "v"}


def test_an_old_folder_that_cannot_be_put_back_is_kept_beside(folder, monkeypatch):
    before = contents(folder)
    calls: list = []
    real = os.rename

    def rename(*args):
        calls.append(args)
        if len(calls) > 1:
            raise OSError(errno.EIO, "broken")
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, "rename", rename)
        with pytest.raises(CouldNotRun):
            write_artifact(folder, "probe", BODY, NEW, overwrite=True)
    (kept,) = folder.parent.iterdir()
    assert kept.name.startswith(".mine.")
    assert contents(kept) == before


def test_writes_that_take_a_few_bytes_at_a_time_add_up(tmp_path, monkeypatch):
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, "write", lambda descriptor, piece: real(descriptor, bytes(piece)[:3]))
        write_artifact(tmp_path / "mine", "probe", BODY, NEW)
    assert read_artifact(tmp_path / "mine").tensors["w"].item() == 3.0


def test_a_body_that_cannot_be_kept_touches_no_disk(tmp_path):
    with pytest.raises(BadInput, match="cannot be saved"):
        write_artifact(tmp_path / "a" / "mine", "probe", {"x": float("nan")}, OLD)
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_cannot_flush_folders_will_do(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, "fsync", fsync)
        write_artifact(tmp_path / "mine", "probe", BODY, OLD)
    assert read_artifact(tmp_path / "mine")


# --- hostile folders -----------------------------------------------------------------------------------------------


def _swap(folder, name, make):
    """Move a file out of the folder, and put something else in its place."""
    away = folder.parent / f"real-{name}"
    (folder / name).rename(away)
    make(folder / name, away)


def _sparse(path, size):
    with open(path, "r+b") as file:
        file.truncate(size)


def _socket(path):
    path.unlink()
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is at most 108 bytes
    try:
        server.bind(path.name)
    finally:
        os.chdir(here)
        server.close()


MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"
HOSTILE = {
    "the tensors are a link": (lambda f: _swap(f, TENSORS, lambda p, away: p.symlink_to(away)), "no regular file"),
    "the manifest is a link": (lambda f: _swap(f, MANIFEST, lambda p, away: p.symlink_to(away)), "no regular file"),
    "a link to nowhere": (lambda f: _swap(f, TENSORS, lambda p, _: p.symlink_to("nowhere")), "no regular file"),
    "a link to itself": (lambda f: _swap(f, TENSORS, lambda p, _: p.symlink_to(p.name)), "no regular file"),
    "a link to zeros without end": (lambda f: _swap(f, TENSORS, lambda p, _: p.symlink_to("/dev/zero")), "no regular"),
    "the tensors are a pipe": (lambda f: _swap(f, TENSORS, lambda p, _: os.mkfifo(p)), "no regular file"),
    "the manifest is a pipe": (lambda f: _swap(f, MANIFEST, lambda p, _: os.mkfifo(p)), "no regular file"),
    "the tensors are a folder": (lambda f: _swap(f, TENSORS, lambda p, _: p.mkdir()), "no regular file"),
    "the manifest is a folder": (lambda f: _swap(f, MANIFEST, lambda p, _: p.mkdir()), "no regular file"),
    "the tensors are a socket": (lambda f: _socket(f / TENSORS), "no regular file"),
    "the tensors are missing": (lambda f: (f / TENSORS).unlink(), "tensors.safetensors is missing"),
    "the manifest is missing": (lambda f: (f / MANIFEST).unlink(), "manifest.json is missing"),
    "all is missing": (lambda f: [path.unlink() for path in f.iterdir()], "manifest.json is missing"),
    "a third file": (lambda f: (f / "model.pkl").write_bytes(b"x"), "it holds 'model.pkl'"),
    "a hidden file": (lambda f: (f / ".hidden").write_bytes(b"x"), "it holds '.hidden'"),
    "a file whose name breaks lines": (lambda f: (f / "a\nb").write_bytes(b"x"), r"it holds 'a\\nb'"),
    "a folder beside": (lambda f: (f / "more").mkdir(), "it holds 'more'"),
    "other capitals": (lambda f: (f / MANIFEST).rename(f / "Manifest.json"), "it holds 'Manifest.json'"),
    "tensors of 3 GiB": (lambda f: _sparse(f / TENSORS, 3 << 30), "at most 2147483648 are read"),
    "tensors of 2 GiB": (lambda f: _sparse(f / TENSORS, 2 << 30), "accounts for"),
    "a manifest of 3 GiB": (lambda f: _sparse(f / MANIFEST, 3 << 30), "at most 1048576 are read"),
    "an empty manifest": (lambda f: _sparse(f / MANIFEST, 0), "manifest.json is not strict JSON"),
    "tensors cut short": (lambda f: _sparse(f / TENSORS, 40), "tensors.safetensors claims a header"),
}


def traits(folder) -> list:
    """What can be told of files without opening them, some of which cannot be opened."""
    found = [(path.name, path.lstat()) for path in folder.iterdir()]
    return sorted((name, status.st_mode, status.st_size, status.st_mtime_ns) for name, status in found)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_one_clear_error_at_once_and_stays_as_it_is(folder, name):
    spoil, why = HOSTILE[name]
    spoil(folder)
    before = traits(folder)
    start = time.perf_counter()
    with pytest.raises(ArtifactError, match=why) as caught:
        read_artifact(folder)
    assert time.perf_counter() - start < 1
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)
    assert traits(folder) == before


def test_what_is_no_folder_of_ours_is_named_for_what_it_is(folder):
    with pytest.raises(ArtifactError, match="nothing-here: there is no such folder"):
        read_artifact(folder / "nothing-here")
    with pytest.raises(ArtifactError, match="this is no folder"):
        read_artifact(folder / MANIFEST)
    with pytest.raises(ArtifactError, match="this is no artifact: it holds 'mine'"):
        read_artifact(folder.parent)
    with pytest.raises(ArtifactError, match="is of kind 'probe', and 'monitor' is wanted"):
        read_artifact(folder, "monitor")
    for odd in ("a\0b", "x" * 5000, ""):
        with pytest.raises(ArtifactError):
            read_artifact(odd)


def test_a_file_of_tensors_larger_than_the_caller_takes_is_refused_unread(folder):
    assert read_artifact(folder, max_bytes=1000)
    with pytest.raises(ArtifactError, match="at most 50 are read"):
        read_artifact(folder, max_bytes=50)


def test_a_file_swapped_for_a_pipe_after_the_first_look_does_not_hang(folder, monkeypatch):
    """The look at the name and the opening are two steps: what was opened is looked at again."""
    honest = os.lstat(folder / MANIFEST)
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, "lstat", lambda path: honest)
        with pytest.raises(ArtifactError, match="no regular file"):
            read_artifact(folder)


def test_a_disk_that_cannot_be_read_is_an_artifact_error(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(artifact.os, "open", failing(os.open, [], 1, PermissionError(errno.EACCES, "Permission denied")))
        with pytest.raises(ArtifactError, match="cannot be read: Permission denied"):
            read_artifact(folder)


def test_no_file_stays_open_whatever_happens(folder):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to count open files in")
    before = len(os.listdir("/proc/self/fd"))
    read_artifact(folder)
    _sparse(folder / TENSORS, 40)
    with pytest.raises(ArtifactError):
        read_artifact(folder)
    (folder / TENSORS).write_bytes(b"".join(encode("probe", BODY, NEW).tensors))
    with pytest.raises(ArtifactError):
        read_artifact(folder)
    assert len(os.listdir("/proc/self/fd")) == before
