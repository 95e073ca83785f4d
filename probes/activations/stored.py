"""Store: activations on disk, of which single rows are read.

A folder with `configuration.json` (what decides the content; its digest is the store's name), shards (shards.py), two
Arrow tables of one batch a shard, and `manifest.json`, which is written last. `index.arrow` has shard, row, example and
position of each row; `examples.arrow` text, label, group and polarity of each text. Opening reads the two JSON files
and the ends of the tables; a row is read by looking up its shard and copying it out of a memory map.

Values are kept in the model's own dtype where that holds them exactly, and read as float32: nothing is rounded.

Limits: sums over the numbers are checked by `verify` alone, lengths and headers always. A chat comes back as its JSON.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from probes.activations.capture import Activations
from probes.activations.shards import Layout, shard_name
from probes.activations.tokens import TokenRule
from probes.artifact import open_regular
from probes.errors import ArtifactError, BadInput, NotFound, nearest
from probes.model.matching import match
from probes.model.sites import Site, select_sites
from probes.strict_json import canonical, fail, parse, require, short

__all__ = ["CONFIGURATION", "EXAMPLES", "INDEX", "MANIFEST", "SCHEMAS", "Plan", "Store", "marked"]

FORMAT, FORMAT_VERSION = "belief-probes store", 1
CONFIGURATION, MANIFEST = "configuration.json", "manifest.json"
INDEX, EXAMPLES = "index.arrow", "examples.arrow"
JSON_BYTES = 1 << 20
SCHEMAS = {
    INDEX: pa.schema([("shard", pa.int32()), ("row", pa.int64()), ("example", pa.int64()), ("position", pa.int64())]),
    EXAMPLES: pa.schema(
        [("text", pa.large_string()), ("chat", pa.bool_()), ("label", pa.bool_())]
        + [("group", pa.large_string()), ("polarity", pa.bool_())]
    ),
}


def marked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a JSON file together with what says that a store wrote it."""
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **fields}


@dataclass(frozen=True)
class Plan:
    """All that decides what a store will hold."""

    fingerprint: Mapping[str, str]
    sites: tuple[Site, ...]
    tokens: str
    within: tuple[str, ...]
    d_model: int
    shard_texts: int
    shard_bytes: int
    texts: int
    texts_sha256: str

    @cached_property
    def body(self) -> bytes:
        fields = asdict(self) | {"sites": list(map(str, self.sites)), "within": list(self.within)}
        return canonical(marked(fields), CONFIGURATION)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:32]

    @property
    def layout(self) -> Layout:
        return Layout(self.digest, self.sites, self.d_model)

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        types = {"fingerprint": dict[str, str], "sites": list[str], "tokens": str, "within": list[str]}
        types |= {"d_model": int, "shard_texts": int, "shard_bytes": int, "texts": int, "texts_sha256": str}
        said = _read_json(folder, CONFIGURATION, types)
        try:
            sites = tuple(map(Site.parse, said["sites"]))
        except (BadInput, NotFound) as error:
            raise ArtifactError(f"{folder / CONFIGURATION}: {error}") from None
        plan = cls(**said | {"sites": sites, "within": tuple(said["within"])})
        if min(plan.d_model, plan.texts, len(sites)) < 1 or len(set(sites)) < len(sites):
            raise ArtifactError(f"{folder / CONFIGURATION} has no texts, no width, or no sites, or a site twice")
        return plan


@dataclass(frozen=True, eq=False)
class Store:
    """Activations on disk; a row is one text, or one token of it. Made by `store`, opened by `Store.open`."""

    folder: Path
    """Where it is; its files are not to be changed."""
    sites: tuple[Site, ...]
    """In forward order."""
    tokens: str
    """The rule that picked the tokens, as in `Activations`."""
    fingerprint: Mapping[str, str]
    """The model that was read."""
    n_texts: int
    """How many texts; `len(store)` is the number of rows."""
    _layout: Layout = field(repr=False)
    _tables: Mapping[str, Any] = field(repr=False)
    _listed: Mapping[str, Any] = field(repr=False)
    _ends: Int[np.ndarray, "shard"] = field(repr=False)
    """The row behind the last of each shard."""
    _stops: Int[np.ndarray, "shard"] = field(repr=False)
    """The text behind the last of each shard."""

    def __repr__(self) -> str:
        return (
            f"Store({str(self.folder)!r}, {self.n_texts} texts, {len(self)} rows, {len(self.sites)} sites, "
            f"tokens={self.tokens!r})"
        )

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def n_shards(self) -> int:
        return len(self._ends)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Store":
        """Open a complete store, without reading its activations.

        Args:
            folder: the store's own, or one that holds exactly one store.

        Raises:
            ArtifactError: there is none, it is not complete (saying how far it is), or a file of it is damaged.
        """
        folder = _own_folder(Path(os.path.abspath(os.path.expanduser(folder))))
        plan = Plan.read(folder)
        if not os.path.lexists(folder / MANIFEST):
            raise ArtifactError(
                f"{folder} is not complete: {_progress(folder, plan)} of {plan.texts} texts are there; make the same "
                "call of probes.store again to go on"
            )
        table = {"bytes": int, "sha256": str}
        said = _read_json(
            folder, MANIFEST, {"store": str, "shards": int, "rows": int, "tables": {INDEX: table, EXAMPLES: table}}
        )
        if said["store"] != plan.digest:
            raise ArtifactError(f"{folder / MANIFEST} belongs to another store than {CONFIGURATION} beside it")
        tables = {name: _open_table(folder / name, said["tables"][name]["bytes"], said["shards"]) for name in SCHEMAS}
        counts = {name: [_batch(folder, tables, name, i).num_rows for i in range(said["shards"])] for name in SCHEMAS}
        ends, stops = (np.cumsum(counts[name], dtype=np.int64) for name in (INDEX, EXAMPLES))
        if not said["shards"] or ends[-1] != said["rows"] or stops[-1] != plan.texts:
            raise ArtifactError(f"{folder}: {INDEX} and {EXAMPLES} do not hold the rows and texts that are listed")
        tokens = plan.tokens if plan.tokens.isalpha() else int(plan.tokens)
        rule = str(TokenRule(tokens, plan.within))
        own = {"_layout": plan.layout, "_tables": tables, "_listed": said["tables"], "_ends": ends, "_stops": stops}
        return cls(folder, plan.sites, rule, plan.fingerprint, plan.texts, **own)

    def read(self, rows: Any = None, *, examples: Any = None, sites: Any = None) -> Activations:
        """Read some rows, and nothing else.

        Args:
            rows: a slice, a mask of all rows, row numbers in any order (negative count from the end), or None for all.
            examples: instead of `rows`: all rows of some texts, given likewise.
            sites: some of the store's, as `capture` takes them; None for all.

        Returns:
            Activations in the order asked for. Their texts are those that the rows come from, each once, in the order
            of the store, and `example` counts these.

        Raises:
            BadInput: rows or texts that are not there. NotFound: a site that is not. ArtifactError: a damaged file.
        """
        if rows is not None and examples is not None:
            raise BadInput("rows and examples are both given; give one of them")
        if examples is not None:
            rows = self._rows_of(_numbers(examples, self.n_texts, "examples"))
        else:
            rows = _numbers(rows, len(self), "rows")
        wanted = self.sites if sites is None else self._pick(sites)
        values = {site: torch.empty(len(rows), self._layout.d_model) for site in wanted}
        example, position = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        order = np.argsort(rows, kind="stable")
        for shard, at in _by_shard(rows[order], self._ends):
            places = order[at]
            local = rows[places] - self._start(shard)
            texts, tokens = self._index(shard)
            example[places], position[places] = texts[local], tokens[local]
            into = {site: (values[site], torch.from_numpy(places)) for site in wanted}
            self._layout.read(self.folder / shard_name(shard), shard, local, into)
        texts, inverse = np.unique(example, return_inverse=True)
        about = self._about(texts)
        return Activations(
            values=values,
            example=torch.from_numpy(inverse.reshape(-1)),
            position=torch.from_numpy(position),
            tokens=self.tokens,
            texts=tuple(about["text"]),
            labels=_bools(about["label"]),
            groups=None if None in about["group"] else tuple(about["group"]),
            fingerprint=self.fingerprint,
            polarities=_bools(about["polarity"]),
        )

    def batches(self, rows_per_batch: int = 4096, *, sites: Any = None) -> Iterator[Activations]:
        """Yield all rows in order, so many at a time; the rows of a text may be parted.

        Raises:
            BadInput: no rows a batch.
        """
        if rows_per_batch < 1:
            raise BadInput(f"rows_per_batch={rows_per_batch}; it must be at least 1")
        for start in range(0, len(self), rows_per_batch):
            yield self.read(slice(start, start + rows_per_batch), sites=sites)

    @property
    def texts(self) -> Sequence[Any]:
        """The texts and chats by number; only what is looked at is read."""
        return _Texts(self)

    @property
    def labels(self) -> Bool[Tensor, "example"] | None:
        """True or false by text, where the texts were labelled."""
        return _bools(self._about(np.arange(self.n_texts), ("label",))["label"])

    @property
    def groups(self) -> tuple[str, ...] | None:
        """What must not be split between train and test, by text, where it was said."""
        found = self._about(np.arange(self.n_texts), ("group",))["group"]
        return None if None in found else tuple(found)

    def match(self, model: Any, allow: Iterable[str] = ()) -> tuple[str, ...]:
        """Refuse another model than the one that was read; see `LinearProbe.match`."""
        return match(self.fingerprint, model.fingerprint, allow)

    def verify(self) -> None:
        """Read every file of the store, and check its sums.

        Raises:
            ArtifactError: naming the first file that is missing or damaged.
        """
        for shard in range(len(self._ends)):
            found = self._layout.verify(self.folder / shard_name(shard), shard)
            if found.rows != self._ends[shard] - self._start(shard) or found.stop != self._stops[shard]:
                raise ArtifactError(f"{self.folder / found.name} has other rows or texts than {INDEX} says")
        for name, listed in self._listed.items():
            with open_regular(self.folder / name, listed["bytes"]) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != listed["sha256"]:
                    raise ArtifactError(f"{self.folder / name} is damaged: it does not have the sha256 that is listed")

    def _start(self, shard: int) -> int:
        return int(self._ends[shard - 1]) if shard else 0

    def _first(self, shard: int) -> int:
        return int(self._stops[shard - 1]) if shard else 0

    def _index(self, shard: int) -> tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]:
        """Return text and position of each row of a shard."""
        batch = _batch(self.folder, self._tables, INDEX, shard)
        example, position = (batch.column(name).to_numpy(zero_copy_only=False) for name in ("example", "position"))
        if len(example) and not self._first(shard) <= example[0] <= example[-1] < self._stops[shard]:
            raise ArtifactError(f"{self.folder / INDEX} is damaged: shard {shard} does not hold text {example[0]}")
        return example, position

    def _pick(self, sites: Any) -> tuple[Site, ...]:
        given = [sites] if isinstance(sites, str | Site) else list(sites)
        for item in given:
            if "*" not in str(item) and Site.parse(item) not in self.sites:
                raise NotFound(f"{item} is not in this store; {nearest(str(item), map(str, self.sites))}")
        found = set(select_sites(given, self.sites[-1].layer + 1))
        wanted = tuple(site for site in self.sites if site in found)
        if not wanted:
            raise NotFound(f"{sites!r} names no site of this store; {nearest(str(sites), map(str, self.sites))}")
        return wanted

    def _rows_of(self, numbers: Int[np.ndarray, "text"]) -> Int[np.ndarray, "row"]:
        """Return the rows of some texts, text by text."""
        first, last = np.empty_like(numbers), np.empty_like(numbers)
        order = np.argsort(numbers, kind="stable")
        for shard, at in _by_shard(numbers[order], self._stops):
            places = order[at]
            example, _ = self._index(shard)
            for side, ends in (("left", first), ("right", last)):
                ends[places] = self._start(shard) + np.searchsorted(example, numbers[places], side=side)
        if not len(numbers):
            return numbers
        return np.concatenate([np.arange(start, stop) for start, stop in zip(first, last, strict=True)])

    def _about(
        self, numbers: Int[np.ndarray, "text"], columns: Sequence[str] = ("text", "label", "group", "polarity")
    ) -> dict[str, list[Any]]:
        """Return columns of the table of texts, for texts in ascending order."""
        found: dict[str, list[Any]] = {name: [] for name in columns}
        for shard, at in _by_shard(numbers, self._stops):
            batch = _batch(self.folder, self._tables, EXAMPLES, shard)
            local = pa.array(numbers[at] - self._first(shard))
            try:
                for name in columns:
                    found[name] += batch.column(name).take(local).to_pylist()
                if "text" in columns:
                    chats = batch.column("chat").take(local).to_pylist()
                    fresh = found["text"][-len(chats) :]
                    found["text"][-len(chats) :] = [
                        json.loads(text) if chat else text for text, chat in zip(fresh, chats, strict=True)
                    ]
            except (pa.ArrowException, ValueError) as error:
                raise ArtifactError(f"{self.folder / EXAMPLES} is damaged: {error}") from None
        return found


class _Texts(Sequence):
    """The texts of a store, read where they are looked at."""

    def __init__(self, owner: Store):
        self._owner = owner

    def __len__(self) -> int:
        return self._owner.n_texts

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            numbers, inverse = np.unique(np.arange(len(self))[item], return_inverse=True)
            found = self._owner._about(numbers, ("text",))["text"]
            return [found[i] for i in inverse]
        if not -len(self) <= item < len(self):
            raise IndexError(f"text {item} of {len(self)}")
        return self._owner._about(np.array([item % len(self)]), ("text",))["text"][0]


def _by_shard(ascending: Int[np.ndarray, "number"], ends: Int[np.ndarray, "shard"]) -> Iterator[tuple[int, slice]]:
    """Yield each shard that holds some of these rows or texts, and which of them it holds."""
    shards = np.searchsorted(ends, ascending, side="right")
    edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
    for start, stop in zip(edges, edges[1:], strict=False):
        if stop > start:
            yield int(shards[start]), slice(start, stop)


def _numbers(given: Any, total: int, name: str) -> Int[np.ndarray, "wanted"]:
    """Return whole numbers within `range(total)`."""
    if given is None or isinstance(given, slice):
        return np.arange(*(given or slice(None)).indices(total))
    array = np.atleast_1d(given.cpu().numpy() if isinstance(given, Tensor) else np.asarray(given))
    if array.dtype == bool:
        if array.shape != (total,):
            raise BadInput(f"{name} is a mask of {array.shape}; this store has {total} {name}: give a mask of them all")
        return np.flatnonzero(array)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadInput(f"{name} is no slice, no mask and no list of whole numbers: {short(given)}")
    wrong = array[(array < -total) | (array >= total)]
    if len(wrong):
        raise BadInput(f"{name} {wrong[0]} is not there; this store has {total} {name}, from 0 to {total - 1}")
    return array.astype(np.int64) % total


def _bools(found: list[bool | None]) -> Bool[Tensor, "example"] | None:
    return None if None in found else torch.tensor(found, dtype=torch.bool)


def _own_folder(folder: Path) -> Path:
    if os.path.lexists(folder / CONFIGURATION):
        return folder
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder; give the folder of a store")
    inside = sorted(entry for entry in folder.iterdir() if (entry / CONFIGURATION).exists())
    if len(inside) != 1:
        there = ", ".join(entry.name for entry in inside[:8]) or "none"
        raise ArtifactError(f"{folder} is no store, and holds {len(inside)} of them: {there}; give the folder of one")
    return inside[0]


def _progress(folder: Path, plan: Plan) -> int:
    """Return how many texts an incomplete store has."""
    number = 0
    while os.path.lexists(folder / shard_name(number)):
        number += 1
    return plan.layout.open(folder / shard_name(number - 1), number - 1).stop if number else 0


def _read_json(folder: Path, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read one of a store's two JSON files, believing nothing."""
    try:
        with open_regular(folder / name, JSON_BYTES) as file:
            raw = file.read(JSON_BYTES + 1)
        whole = parse(raw, name)
        if whole.get("format") != FORMAT or whole.get("format_version") != FORMAT_VERSION:
            fail(name, f"is not of format {FORMAT!r}, version {FORMAT_VERSION}; this version reads no other")
        if canonical(whole, name, plain=True) != raw:
            fail(name, "was edited: it is not written as a store writes it")
        said = require(whole, {"format": str, "format_version": int, **fields}, "it", name)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from None
    except OSError as error:
        raise ArtifactError(f"{folder / name}: cannot be read: {error.strerror or error}") from error
    return {key: said[key] for key in fields}


def _batch(folder: Path, tables: Mapping[str, Any], name: str, shard: int) -> pa.RecordBatch:
    """Return one batch of a table; its offsets are checked, so that no damaged file is read beyond its end."""
    try:
        batch = tables[name].get_batch(shard)
        batch.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{folder / name} is damaged: {error}") from None
    return batch


def _open_table(path: Path, size: int, batches: int) -> pa.ipc.RecordBatchFileReader:
    try:
        with open_regular(path, size) as file:
            found = os.fstat(file.fileno()).st_size
        if found != size:
            fail(path.name, f"has {found} bytes, and {size} are listed")
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != SCHEMAS[path.name] or reader.num_record_batches != batches:
            fail(path.name, f"has other columns than a store, or other batches than the {batches} that are listed")
    except ArtifactError as error:
        raise ArtifactError(f"{path.parent}: {error}") from None
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from error
    return reader
