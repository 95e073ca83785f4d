"""Writing a store: activations of any number of texts, in flat memory, and safe from a kill at any point.

1. The configuration (model, sites, tokens, texts with what is known of them, size of the shards) names the folder by
   its digest: the same call finds its own work again, any other call another folder.
2. Texts are cut into shards by number and by bytes; each is read at once, written under a temporary name, flushed, and
   renamed. The rename is the commit: what is there is whole.
3. Going on after a kill, shards that are there are checked (header, length, digest of their texts) and passed over.
4. At the end two Arrow tables, `index.arrow` (shard, row, example, position) and `examples.arrow` (text, label, group,
   polarity), one batch a shard, then `manifest.json`: a store with a manifest is complete.

Values are kept in the model's own dtype where that holds them exactly, and read back as float32: nothing is rounded.

Limits: texts are gone through twice. `batch_size` and `share_prefixes` are no part of the digest: they change values by
rounding alone (1e-5), so that a run that ran out of memory can go on with smaller batches. Shards share no prefixes
with each other. A text that cannot be read stops the store; without it the texts have another digest, and the store
begins anew. The lock against a second writer is one of the operating system: gone with its process, and as good as the
file system's locks (some network file systems have none). A chat is given back as its JSON.
"""

import errno
import hashlib
import io
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from probes.activations.capture import read_rows
from probes.activations.corpus import Ahead, Corpus, Record
from probes.activations.shards import Layout, Shard, shard_name
from probes.activations.stored import CONFIGURATION, EXAMPLES, INDEX, MANIFEST, SCHEMAS, Plan, Store, marked
from probes.activations.tokens import TokenRule, select_tokens
from probes.artifact import flush_folder, write_file
from probes.errors import ArtifactError, BadInput, CouldNotRun
from probes.model.language_model import LanguageModel
from probes.strict_json import canonical, short

__all__ = ["Store", "store"]

LOCK = "lock"
BUFFER = 1 << 16
"""Bytes of a table that are written at once."""


def store(
    model: LanguageModel,
    texts: Iterable[Any],
    folder: str | os.PathLike,
    sites: Any = "resid_post.*",
    *,
    tokens: str | int = "last",
    within: str | Sequence[str] = "text",
    entities: Iterable[str] | None = None,
    labels: Iterable[bool] | None = None,
    groups: Iterable[str] | None = None,
    batch_size: int = 32,
    share_prefixes: bool | None = None,
    shard_texts: int = 2048,
    shard_bytes: int = 64 << 20,
    progress: bool = False,
) -> Store:
    """Read activations of any number of texts onto the disk; go on where an earlier call of the same kind ended.

    Args:
        model: the model to read.
        texts: as `capture` takes them, in anything that can be gone through twice: a list, a column of a data set.
        folder: where stores are kept; this one is in the folder named by its digest.
        sites, tokens, within, entities, labels, groups, batch_size, share_prefixes: see `capture`.
        shard_texts: the most texts of a shard.
        shard_bytes: the most bytes of a shard, and of memory for activations; a text that has more is a shard alone.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The complete store, at once where it is complete already.

    Raises:
        BadInput: as `capture`; texts that can be gone through only once, or that differ the second time.
        CouldNotRun: no space, no permission, another process writes this store; what was written stays.
        ArtifactError: a file of an earlier call is damaged.
    """
    for name, number in (("batch_size", batch_size), ("shard_texts", shard_texts), ("shard_bytes", shard_bytes)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise BadInput(f"{name}={number!r}; it must be a whole number of at least 1")
    corpus, rule, wanted = Corpus(texts, labels, groups, entities), TokenRule(tokens, within), model.sites(sites)
    count, digest = corpus.measure()
    plan = Plan(
        fingerprint=model.fingerprint,
        sites=wanted,
        tokens=str(rule.tokens),
        within=rule.within,
        d_model=model.d_model,
        shard_texts=shard_texts,
        shard_bytes=shard_bytes,
        texts=count,
        texts_sha256=digest,
    )
    job = _Job(
        model=model,
        corpus=corpus,
        rule=rule,
        plan=plan,
        layout=plan.layout,
        folder=Path(os.path.abspath(os.path.expanduser(folder))) / plan.digest,
        options={"batch_size": batch_size, "share_prefixes": share_prefixes},
        progress=progress,
    )
    if not _complete(job.folder):
        _write(job)
    return Store.open(job.folder)


@dataclass(frozen=True, eq=False)
class _Job:
    """What a call of `store` works with."""

    model: LanguageModel
    corpus: Corpus
    rule: TokenRule
    plan: Plan
    layout: Layout
    folder: Path
    options: Mapping[str, Any]
    progress: bool


def _complete(folder: Path) -> bool:
    if not os.path.lexists(folder / MANIFEST):
        return False
    shards = Store.open(folder).n_shards
    return all(os.path.lexists(folder / shard_name(number)) for number in range(shards))


def _write(job: _Job) -> None:
    with _disk(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        flush_folder(job.folder.parent)
    with _locked(job.folder), ExitStack() as stack:
        with _disk(job.folder):
            for left in job.folder.glob(".*.partial"):
                left.unlink()
            described = job.folder / CONFIGURATION
            if not described.is_file() or described.read_bytes() != job.plan.body:
                _commit(described, [job.plan.body])
            tables = {name: stack.enter_context(_Table(job.folder / name, SCHEMAS[name])) for name in SCHEMAS}
        bar = stack.enter_context(
            tqdm(total=job.plan.texts, desc="storing", unit="text", disable=None if job.progress else True, leave=False)
        )
        shards = rows = 0
        ahead = Ahead(job.corpus)
        while ahead.peek() is not None:
            shard, records = _next_shard(job, shards, ahead)
            _tabulate(job, tables, shard, records)
            shards, rows = shards + 1, rows + shard.rows
            bar.update(len(records))
        if ahead.digest != job.plan.texts_sha256:
            raise BadInput(
                "the texts were others when they were gone through again; give what begins anew alike, and delete "
                f"{job.folder}, whose shards hold the others"
            )
        _finish(job, tables, {"shards": shards, "rows": rows})


def _finish(job: _Job, tables: Mapping[str, "_Table"], counts: Mapping[str, int]) -> None:
    with _disk(job.folder):
        listed = {name: table.commit() for name, table in tables.items()}
        manifest = marked({"store": job.plan.digest, **counts, "tables": listed})
        _commit(job.folder / MANIFEST, [canonical(manifest, MANIFEST)])


def _next_shard(job: _Job, number: int, ahead: Ahead) -> tuple[Shard, list[Record]]:
    """Return the next shard and its records: the one that is there, or a new one."""
    first, path = ahead.taken, job.folder / shard_name(number)
    if os.path.lexists(path):
        return _found_shard(job, number, ahead)
    records = _cut(job, ahead)
    entities = [record.entity for record in records]
    rows = read_rows(
        job.model,
        [record.text for record in records],
        job.plan.sites,
        job.rule,
        None if entities[0] is None else entities,
        start=first,
        **job.options,
    )
    place = {"number": number, "first": first, "texts": len(records), "upto": ahead.digest}
    shard, pieces = job.layout.encode(rows, torch.float32 if job.rule.mean else _dtype(job), **place)
    with _disk(job.folder):
        _commit(path, pieces)
    return shard, records


def _found_shard(job: _Job, number: int, ahead: Ahead) -> tuple[Shard, list[Record]]:
    path, first = job.folder / shard_name(number), ahead.taken
    try:
        shard = job.layout.open(path, number)
        if shard.first != first or shard.stop > job.plan.texts:
            raise ArtifactError(f"{path} holds texts {shard.first} to {shard.stop - 1}, and {first} comes next")
        records = [ahead.take() for _ in range(shard.texts) if ahead.peek() is not None]
        if ahead.digest != shard.upto:
            raise ArtifactError(f"{path} holds other texts than were given")
    except ArtifactError as error:
        raise ArtifactError(f"{error}; delete this file, and it is written anew") from None
    return shard, records


def _cut(job: _Job, ahead: Ahead) -> list[Record]:
    """Take the texts of a shard."""
    width = 4 if job.rule.mean else _dtype(job).itemsize
    most = job.plan.shard_bytes // (len(job.plan.sites) * job.plan.d_model * width)
    records: list[Record] = []
    rows = 0
    while (record := ahead.peek()) is not None and len(records) < job.plan.shard_texts:
        rows += _rows_of(job, record, ahead.taken)
        if records and rows > most:
            break
        records.append(ahead.take())
    return records


def _rows_of(job: _Job, record: Record, number: int) -> int:
    if job.rule.tokens not in ("all", "entity"):
        return 1
    entities = None if record.entity is None else [record.entity]
    return len(select_tokens(job.model, [record.text], job.rule, entities, number)[0].positions)


def _dtype(job: _Job) -> torch.dtype:
    return job.model.dtype if job.model.dtype in (torch.bfloat16, torch.float16) else torch.float32


def _tabulate(job: _Job, tables: Mapping[str, "_Table"], shard: Shard, records: Sequence[Record]) -> None:
    chats = [not isinstance(record.text, str) for record in records]
    texts = [
        canonical(record.text, EXAMPLES).decode() if chat else record.text
        for record, chat in zip(records, chats, strict=True)
    ]
    about = {name: [getattr(record, name) for record in records] for name in ("label", "group", "polarity")}
    with _disk(job.folder):
        example, position = job.layout.index(job.folder / shard.name, shard)
        where = {"shard": np.full(shard.rows, shard.number, np.int32), "row": np.arange(shard.rows)}
        tables[INDEX].add({**where, "example": example, "position": position})
        tables[EXAMPLES].add({"text": texts, "chat": chats, **about})


class _Sink(io.RawIOBase):
    """A new file that sums what is written to it."""

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        self.hasher, self.bytes = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.bytes

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("this file was left unfinished")
        rest = memoryview(data).cast("B")
        self.hasher.update(rest)
        self.bytes += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(data)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Table:
    """An Arrow file that grows under a temporary name until it is committed."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._path, self._partial, self._schema = path, _partial(path), schema
        self._sink = _Sink(self._partial)
        self._stream = pa.BufferedOutputStream(pa.PythonFile(self._sink, mode="w"), BUFFER)
        self._writer = pa.ipc.new_file(self._stream, schema)

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk has been told of already
            self._stream.close()
        self._sink.close()
        with suppress(OSError):  # committed, or removed by the next call
            self._partial.unlink()

    def add(self, columns: Mapping[str, Any]) -> None:
        arrays = [pa.array(columns[entry.name], entry.type) for entry in self._schema]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def commit(self) -> dict[str, Any]:
        """Put the file into its place, and return its length and sum for the manifest."""
        self._writer.close()
        self._stream.flush()
        self._sink.sync()
        self._sink.close()
        os.replace(self._partial, self._path)
        flush_folder(self._path.parent)
        return {"bytes": self._sink.bytes, "sha256": self._sink.hasher.hexdigest()}


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _commit(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file whole or not at all."""
    partial = _partial(path)
    try:
        write_file(partial, pieces)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    flush_folder(path.parent)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Say what a failing disk means for a store."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise CouldNotRun(
            f"{folder} could not be written: {why}; what is there stays: make room, and make the same call to go on"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes a store; the operating system takes the lock away with the process."""
    with _disk(folder):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with _disk(folder):
            if not _lock(descriptor):
                other = os.read(descriptor, 200).decode(errors="replace")
                raise CouldNotRun(f"{folder} is being written by {short(other, 220)}; wait for it, or end it first")
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # behind the words, which another process must still read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.lseek(descriptor, 0, os.SEEK_SET)
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True
