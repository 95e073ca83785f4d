"""Statements of one's own: texts with labels and groups, read from a file or from what a program holds.

1. Rows come from a CSV, JSONL or Parquet file, a Hugging Face dataset, a data frame, or any iterable of mappings.
2. A text is a string, stripped of space at its ends, its accents spelled in one way. A label is true or false: True,
   1, "1", "true", "yes" and their opposites, in capitals or not; anything else is refused, naming the row.
3. A group is what train and test must not share (the entity). Without one each text is a group of its own, which is
   right only where no two texts are about the same thing; `notes` says so.
4. A text that repeats with the same label and group counts once; with another label or group it is refused.
5. A limit takes whole groups, drawn by a seed in the proportions of the file: groups of both labels, of true ones
   alone and of false ones alone in turn. Nothing is taken because it stands first.

Limits: everything is held in memory.
"""

import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from probes.errors import BadInput, CouldNotRun, NotFound, nearest
from probes.facts.rows import Row, csv_rows, jsonl_rows, read_text

__all__ = ["LabelledText", "LabelledTexts", "load_statements"]

TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")
FILES = ".csv, .jsonl or .parquet"
ALONE = "each text is a group of its own: name a group column if several texts are about one thing"

Pick = Callable[[Mapping[str, Any]], Any]
"""Makes a group of a row, where no column holds it: `lambda row: row["text"].split()[1]`."""


@dataclass(frozen=True)
class LabelledText:
    """A text that is true or false, of nobody's fact."""

    text: str
    """As the model will read it."""
    label: bool
    """Whether it is true, or has what the probe is to find."""
    group: str
    """What splits keep whole."""
    polarity: bool | None = None
    """True where it affirms, False where it denies, None where nobody said."""


@dataclass(frozen=True, repr=False)
class LabelledTexts(Sequence[LabelledText]):
    """Texts in the order of their source; a sequence, so it goes where a list of Statements goes."""

    rows: tuple[LabelledText, ...]
    """The texts."""
    source: str = ""
    """Where they came from."""
    notes: tuple[str, ...] = ()
    """What was done that the reader of a report should know, in sentences."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __repr__(self) -> str:
        true, groups = sum(self.labels), len(set(self.groups))
        counts = f"{len(self)} texts, {true} true, {groups} groups"
        return f"LabelledTexts({self.source!r}, {counts}{''.join(f'; {note}' for note in self.notes)})"

    @property
    def texts(self) -> tuple[str, ...]:
        """What the model reads."""
        return tuple(row.text for row in self.rows)

    @property
    def labels(self) -> tuple[bool, ...]:
        """One a text."""
        return tuple(row.label for row in self.rows)

    @property
    def groups(self) -> tuple[str, ...]:
        """One a text."""
        return tuple(row.group for row in self.rows)


def load_statements(
    source: Any,
    *,
    text: str = "text",
    label: str = "label",
    group: str | Pick | None = None,
    polarity: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> LabelledTexts:
    """Read statements of one's own.

    Args:
        source: a .csv, .jsonl or .parquet file, a Hugging Face dataset, a data frame, or mappings.
        text: name of the column that holds the texts.
        label: name of the column of labels.
        group: name of the column of entities, or a function that makes one of a row; None takes the column "group" if
            there is one, and else makes each text a group of its own.
        polarity: name of the column that is true where a text affirms; None takes "polarity" if there is one.
        limit: at most so many texts, of whole groups.
        seed: of the draw of groups, where there is a limit.

    Raises:
        NotFound: no such file or column; the message has the nearest name.
        BadInput: a row with a fault, by its number; a text with two labels or in two groups; labels of one class.
        CouldNotRun: a Parquet file, and pyarrow is not installed.
    """
    name, rows = _rows(source)
    if not rows:
        raise BadInput(f"{name} has no rows in it; give texts with their labels")
    columns = list(dict.fromkeys(column for row in rows for column in row.fields))
    for wanted in (text, label, group, polarity):
        if isinstance(wanted, str) and wanted not in columns:
            raise NotFound(f"{name} has no column {wanted!r}; {nearest(wanted, columns)}")
    if group is None and "group" in columns:
        group = "group"
    if polarity is None and "polarity" in columns:
        polarity = "polarity"
    read = [_labelled(row, text, label, group, polarity) for row in rows]
    kept = _once_each(rows, read)
    notes = [] if group is not None else [ALONE]
    if len(kept) < len(read):
        notes.append(f"{len(read) - len(kept)} rows repeat a text with its label and group, and count once")
    if limit is not None:
        drawn = _draw(kept, limit, seed)
        if len(drawn) < len(kept):
            counts = f"{len(drawn)} of {len(kept)} texts, of {len({row.group for row in drawn})} groups"
            notes.append(f"{counts}, drawn with seed {seed}")
        kept = drawn
    if len({row.label for row in kept}) < 2:
        raise BadInput(f"all {len(kept)} texts of {name} are {kept[0].label}; give texts of both labels")
    return LabelledTexts(tuple(kept), name, tuple(notes))


def _rows(source: Any) -> tuple[str, list[Row]]:
    """Return what to call a source, and its rows."""
    if isinstance(source, str | PathLike):
        path = Path(source)
        return str(path), list(_file(path))
    name = type(source).__name__
    if isinstance(source, Mapping):
        kept = ", ".join(map(str, source))
        raise BadInput(f"a {name} of {kept} is no list of rows; choose one of its parts, or give a list of mappings")
    if hasattr(source, "iterrows"):  # a data frame goes through its columns when it is iterated
        source = source.to_dict("records")
    if not isinstance(source, Iterable):
        raise BadInput(f"cannot read statements from a {name}; give a file, a dataset, or a list of mappings")
    rows = []
    for number, fields in enumerate(source):
        where = f"{name}, row {number}"
        if not isinstance(fields, Mapping):
            raise BadInput(f"{where}: a {type(fields).__name__} has no columns; give mappings from column to value")
        rows.append(Row(where, {key: _one_spelling(value) for key, value in fields.items()}))
    return name, rows


def _file(path: Path) -> Iterator[Row]:
    ending = path.suffix.lower()
    if ending == ".csv":
        return csv_rows(path, read_text(path), form="the first line names each column once")
    if ending == ".jsonl":
        return jsonl_rows(path, read_text(path))
    if ending == ".parquet":
        return _parquet(path)
    raise BadInput(f"{str(path)!r} is no file of statements; its name must end in {FILES}")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise CouldNotRun(f"{path} needs pyarrow, which is not installed: pip install pyarrow") from error
    try:
        with ParquetFile(path) as file:
            table = file.read().to_pylist()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}; give a {FILES} file") from None
    except (ArrowException, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {str(error)[:200]}") from None
    for number, fields in enumerate(table):
        yield Row(f"{path}, row {number}", {key: _one_spelling(value) for key, value in fields.items()})


def _one_spelling(value: Any) -> Any:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _labelled(row: Row, text: str, label: str, group: str | Pick | None, polarity: str | None) -> LabelledText:
    words = row.fields.get(text)
    if not isinstance(words, str) or not words.strip():
        raise BadInput(f"{row.where}: {text!r} is {words!r}; give a text that is not empty")
    words = words.strip()
    named = words if group is None else group(row.fields) if callable(group) else row.fields.get(group)
    # Not a number that is not one (nan != nan), nor something whose name would change from run to run.
    if not isinstance(named, str | int | float) or named != named or not str(named).strip():
        raise BadInput(f"{row.where}: the group is {named!r}; give a name or a number that is not empty")
    affirms = None if polarity is None else _truth(row, polarity)
    return LabelledText(words, _truth(row, label), str(named).strip(), affirms)


def _truth(row: Row, column: str) -> bool:
    given = row.fields.get(column)
    value = given.item() if hasattr(given, "item") else given
    if isinstance(value, str):
        word = value.strip().lower()
        if word in TRUE + FALSE:
            return word in TRUE
    elif isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise BadInput(
        f"{row.where}: {column!r} is {given!r}; it must be true or false, 1 or 0, yes or no: leave other rows out"
    )


def _once_each(rows: Sequence[Row], read: Sequence[LabelledText]) -> list[LabelledText]:
    """Return each text once, refusing one that comes back as something else."""
    first: dict[str, tuple[Row, LabelledText]] = {}
    for row, labelled in zip(rows, read, strict=True):
        before, known = first.setdefault(labelled.text, (row, labelled))
        if labelled == known:
            continue
        name = next(n for n in ("label", "group", "polarity") if getattr(labelled, n) != getattr(known, n))
        raise BadInput(
            f"{row.where}: {labelled.text[:80]!r} has the {name} {getattr(labelled, name)!r}, and in "
            f"{before.where.rpartition(', ')[2]} {getattr(known, name)!r}; give it one, or leave the text out"
        )
    return [known for _, known in first.values()]


def _draw(rows: Sequence[LabelledText], limit: int, seed: int) -> list[LabelledText]:
    """Return the rows of randomly drawn whole groups, at most `limit` of them, in their order."""
    members: dict[str, list[LabelledText]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    smallest = min(map(len, members.values()))
    if limit < smallest:
        raise BadInput(f"limit={limit}, and the smallest group has {smallest} texts; groups are taken whole")
    kinds: dict[frozenset[bool], list[str]] = {}
    for name in sorted(members):  # sorted: the draw does not depend on the order of the file
        kinds.setdefault(frozenset(row.label for row in members[name]), []).append(name)
    rng, places = random.Random(seed), {}
    for names in kinds.values():
        rng.shuffle(names)
        places |= {name: ((i + 0.5) / len(names), name) for i, name in enumerate(names)}
    taken, room = set(), limit
    for name in sorted(places, key=places.__getitem__):
        if len(members[name]) <= room:
            taken.add(name)
            room -= len(members[name])
    return [row for row in rows if row.group in taken]
