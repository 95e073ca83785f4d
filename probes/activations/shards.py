"""Shard: the activations of some consecutive texts as one safetensors file, of which single rows can be read.

Tensors: `example` (number of the text) and `position` (of the token), int64; then one a site, `[row, d_model]`, in the
order of the sites, in the model's own dtype. The header's `__metadata__` says which store the shard is of, and where in
it. Header and length follow from that metadata alone, so a file is checked by making its header anew: any other byte
in it, and any other length, is an error.

Rows are read through a memory map: only pages that hold them come from the disk.

Limits: the sum over the numbers is looked at by `verify` alone. A file that shrinks while it is being read ends the
process, as with every memory map. Little-endian machines.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from probes.activations.capture import Rows
from probes.artifact import open_regular
from probes.errors import ArtifactError
from probes.model.sites import Site
from probes.strict_json import fail, parse, require

__all__ = ["Layout", "Shard", "shard_name"]

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
CODES = {dtype: code for code, dtype in DTYPES.items()}
WORDS = {2: (np.int16, torch.int16), 4: (np.int32, torch.int32)}
"""By width: the whole numbers as which values pass through numpy, which knows no bfloat16."""
PIECE = 1 << 24
FILE_BYTES = 1 << 62


def shard_name(number: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{number:06d}.safetensors"


@dataclass(frozen=True)
class Shard:
    """What a shard says of itself."""

    number: int
    """Which shard, from 0."""
    first: int
    """Number of its first text."""
    texts: int
    """How many it covers."""
    rows: int
    """How many rows they gave."""
    dtype: str
    """Of its values: "F32", "BF16" or "F16"."""
    upto: str
    """Digest of all texts up to its last."""
    sha256: str
    """Of its numbers, as they stand in the file."""

    @property
    def name(self) -> str:
        return shard_name(self.number)

    @property
    def stop(self) -> int:
        """Number of the first text behind it."""
        return self.first + self.texts


@dataclass(frozen=True)
class Layout:
    """What all shards of a store have in common, and how to read and write one."""

    store: str
    """The digest of the store's configuration."""
    sites: tuple[Site, ...]
    """In forward order."""
    d_model: int
    """Width of a row."""

    def encode(
        self, rows: Rows, dtype: torch.dtype, *, number: int, first: int, texts: int, upto: str
    ) -> tuple[Shard, list[bytes | memoryview]]:
        """Return a shard and the pieces of its file.

        Args:
            rows: of its texts, `example` counting from its first.
            dtype: of the values, where it holds each of them exactly; else float32 is taken.
            number, first, texts, upto: see `Shard`.
        """
        narrow = {site: rows.values[site].to(dtype) for site in self.sites}
        if any(not torch.equal(narrow[site].to(rows.values[site].dtype), rows.values[site]) for site in self.sites):
            narrow, dtype = dict(rows.values), torch.float32
        tensors = [rows.example + first, rows.position, *(narrow[site] for site in self.sites)]
        pieces = [memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) for tensor in tensors]
        hasher = hashlib.sha256()
        for piece in pieces:
            hasher.update(piece)
        shard = Shard(number, first, texts, len(rows.example), CODES[dtype], upto, hasher.hexdigest())
        return shard, [self._header(shard), *pieces]

    def open(self, path: Path, number: int) -> Shard:
        """Read what a shard says of itself, and check it against its own header, its length, and this store.

        Raises:
            ArtifactError: naming the file.
        """
        try:
            with open_regular(path, FILE_BYTES) as file:
                return self._check(path.name, number, file)
        except ArtifactError as error:
            raise ArtifactError(f"{path.parent}: {error}") from None
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error

    def index(self, path: Path, shard: Shard) -> tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]:
        """Return text and position of each row, without touching the values."""
        with open_regular(path, FILE_BYTES) as file:
            file.seek(len(self._header(shard)))
            raw = file.read(16 * shard.rows)
        both = np.frombuffer(raw, dtype=np.int64)
        return both[: shard.rows], both[shard.rows :]

    def read(
        self, path: Path, number: int, rows: Int[np.ndarray, "wanted"], into: Mapping[Site, tuple[Tensor, Tensor]]
    ) -> None:
        """Copy some rows of a shard.

        Args:
            path, number: the file.
            rows: which, ascending.
            into: for each site wanted, where the rows go: a float32 tensor, and the row of it for each of `rows`.
        """
        shard = self.open(path, number)
        with open_regular(path, FILE_BYTES) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        dtype = DTYPES[shard.dtype]
        word, through = WORDS[dtype.itemsize]
        size = shard.rows * self.d_model
        base = len(mapped) - len(self.sites) * size * dtype.itemsize
        run = len(rows) > 0 and int(rows[-1]) - int(rows[0]) + 1 == len(rows) == len(np.unique(rows))
        for site, (target, places) in into.items():
            start = base + self.sites.index(site) * size * dtype.itemsize
            values = np.frombuffer(mapped, word, size, start).reshape(shard.rows, self.d_model)
            found = values[rows[0] : rows[-1] + 1].copy() if run else values.take(rows, axis=0)
            target[places] = torch.from_numpy(found).view(through).view(dtype).float()

    def verify(self, path: Path, number: int) -> Shard:
        """Read the whole shard, and check the sum over its numbers.

        Raises:
            ArtifactError: they are not what was written.
        """
        shard, hasher = self.open(path, number), hashlib.sha256()
        with open_regular(path, FILE_BYTES) as file:
            file.seek(len(self._header(shard)))
            while piece := file.read(PIECE):
                hasher.update(piece)
        if hasher.hexdigest() != shard.sha256:
            raise ArtifactError(f"{path}: is damaged: its numbers do not have the sha256 that its header gives")
        return shard

    def size(self, shard: Shard) -> int:
        """Return the length of its file in bytes."""
        width = DTYPES[shard.dtype].itemsize
        return len(self._header(shard)) + shard.rows * (16 + len(self.sites) * self.d_model * width)

    def _check(self, name: str, number: int, file: BinaryIO) -> Shard:
        size, start = os.fstat(file.fileno()).st_size, file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, self._longest):
            fail(name, f"is cut short, or no shard of this store: its header would have {length} bytes")
        raw = file.read(length)
        said = parse(raw.rstrip(b" "), name).get("__metadata__")
        if not isinstance(said, dict):
            fail(name, "is no shard of a store: it has no metadata")
        said = require(said, {"store": str} | {field.name: str for field in fields(Shard)}, "metadata", name)
        if said.pop("store") != self.store:
            fail(name, "belongs to another store; move it away")
        shard = _shard(said, name)
        if shard.number != number:
            fail(name, f"is shard {shard.number}, and {number} belongs here; put it back under its own name")
        if start + raw != self._header(shard):
            fail(name, "has a header that does not fit its own metadata")
        if size != self.size(shard):
            fail(name, f"has {size} bytes, and its header accounts for {self.size(shard)}")
        return shard

    @property
    def _longest(self) -> int:
        """A bound on the bytes of a header."""
        return 2048 + 256 * (2 + len(self.sites))

    def _header(self, shard: Shard) -> bytes:
        width, end = DTYPES[shard.dtype].itemsize, 0
        metadata = {name: str(value) for name, value in asdict(shard).items()} | {"store": self.store}
        shapes = [("example", "I64", [shard.rows], 8), ("position", "I64", [shard.rows], 8)]
        shapes += [(str(site), shard.dtype, [shard.rows, self.d_model], width) for site in self.sites]
        # Not canonical, but in the order of the file, as the library that defines the format writes it.
        header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        for name, code, shape, bytes_each in shapes:
            start, end = end, end + int(np.prod(shape, dtype=object)) * bytes_each
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        return len(raw).to_bytes(8, "little") + raw


def _shard(said: Mapping[str, str], file: str) -> Shard:
    numbers = {}
    for name in ("number", "first", "texts", "rows"):
        if not (said[name].isascii() and said[name].isdecimal() and len(said[name]) < 16):
            fail(file, f"gives no number for {name}")
        numbers[name] = int(said[name])
    if said["dtype"] not in DTYPES or numbers["texts"] < 1 or numbers["rows"] < 1:
        fail(file, "gives a dtype, or a number of texts or rows, that no shard has")
    return Shard(**numbers, **{name: said[name] for name in ("dtype", "upto", "sha256")})
