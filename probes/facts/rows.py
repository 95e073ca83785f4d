"""Rows of a topic file, each with its line number: read and checked for form before anybody asks what they mean.

JSONL: one object a line, with the texts `subject`, `relation`, `object` and perhaps a list of texts `distractors`;
empty lines are passed over. The first line may be a header: an object with neither `subject` nor `object`.
CSV: a line of column names, then one fact a line; distractors are parted by semicolons; there is no header.
Files are UTF-8, with or without a byte order mark. The first fault ends the reading: a file is taken whole or not.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.errors import BadInput, NotFound, nearest

__all__ = ["HEADER_FIELDS", "ROW_FIELDS", "Row", "csv_rows", "jsonl_rows", "read_rows", "read_text"]

HEADER_FIELDS = ("name", "licence", "source", "relation")
"""`relation` is the name of a known relation, or an object with the wordings of a new one. All may be left out."""
ROW_FIELDS = ("subject", "relation", "object", "distractors")
"""`relation` may be left out where the header has it, `distractors` always."""
_EXAMPLE = '{"subject": "France", "relation": "capital", "object": "Paris"}'


@dataclass(frozen=True)
class Row:
    """One line of a topic file."""

    where: str
    """File and line for messages: `"my.jsonl, line 3"`."""
    fields: dict[str, Any]
    """By name: stripped texts; `distractors` a list of them; a header's `relation` perhaps a dictionary."""


def read_rows(path: Path) -> tuple[Row | None, list[Row]]:
    """Read a topic file.

    Args:
        path: a `.jsonl` or `.csv` file.

    Returns:
        The header if there is one, and one or more rows in the order of the file.

    Raises:
        NotFound: there is no such file.
        BadInput: the file cannot be read, or a line is not what it should be; the message has its number.
    """
    readers = {".jsonl": jsonl_rows, ".csv": _facts}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{str(path)!r} is no topic file; its name must end in .jsonl or .csv")
    lines = list(reader(path, read_text(path)))
    header = None
    if lines and not {"subject", "object"} & set(lines[0].fields):
        header = _checked(lines.pop(0), "header", HEADER_FIELDS, ())
    if not lines:
        raise BadInput(f"{path} has no facts in it; give one or more, such as {_EXAMPLE}")
    return header, [_checked(line, "fact", ROW_FIELDS, ("subject", "object")) for line in lines]


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark, its accents spelled in one way.

    Raises:
        NotFound: there is no such file. BadInput: it cannot be read, or is not UTF-8; the message has the line.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}; give a .jsonl or .csv file, or the name of a topic") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; give a .jsonl or .csv file") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}, line {line}: not UTF-8; save the file in the encoding UTF-8") from None
    # One letter, one spelling: an accent typed in two ways must not make two entities.
    return unicodedata.normalize("NFC", text)


def jsonl_rows(path: Path, text: str, *, example: str = _EXAMPLE) -> Iterator[Row]:
    """Read one JSON object a line; empty lines are passed over.

    Args:
        path: for messages.
        text: of the file.
        example: of a line, for messages.

    Raises:
        BadInput: a line is no object, or names something twice.
    """
    # Not splitlines(): that also splits at U+2028 and its kin, which JSON allows within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            fields = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: broken JSON: {error}") from None
        if not isinstance(fields, dict):
            raise BadInput(f"{where}: not an object in braces; a row is such as {example}")
        yield Row(where, fields)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"a name is given twice in {', '.join(name for name, _ in pairs)}")
    return fields


def csv_rows(path: Path, text: str, *, needed: Sequence[str] = (), form: str = "give each a name") -> Iterator[Row]:
    """Read a line of column names, then a row a line; empty lines are passed over.

    Args:
        path: for messages.
        text: of the file.
        needed: columns that must be there.
        form: what the first line should be, for messages.

    Raises:
        BadInput: a column that is missing or named twice, a row with another number of cells, or broken quotes.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] | None = None
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = [cell.strip() for cell in cells]
                for name in needed:
                    if name not in columns:
                        raise BadInput(f"{where}: no column {name!r}; {form}")
                if len(set(columns)) < len(columns):
                    raise BadInput(f"{where}: a column is named twice; {form}")
                continue
            if len(cells) != len(columns):
                raise BadInput(
                    f"{where}: {len(cells)} cells for {len(columns)} columns; quote a cell with a comma in it"
                )
            yield Row(where, dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: broken CSV: {error}") from None


def _facts(path: Path, text: str) -> Iterator[Row]:
    form = "the first line is subject,relation,object[,distractors]"
    for row in csv_rows(path, text, needed=ROW_FIELDS[:3], form=form):
        if "distractors" in row.fields:
            row.fields["distractors"] = [part for part in row.fields["distractors"].split(";") if part.strip()]
        yield row


def _checked(row: Row, what: str, allowed: tuple[str, ...], needed: tuple[str, ...]) -> Row:
    """The row with its texts stripped, if it has the fields it needs, no others, and all of their types."""
    for name in needed:
        if name not in row.fields:
            raise BadInput(f"{row.where}: the field {name!r} is missing; a row is such as {_EXAMPLE}")
    fields: dict[str, Any] = {}
    for name, value in row.fields.items():
        if name not in allowed:
            # Refused, not passed over: "distractor" for "distractors" would otherwise be lost without a word.
            raise BadInput(f"{row.where}: a {what} has no field {name!r}; {nearest(name, allowed)}")
        if name == "distractors":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BadInput(f"{row.where}: 'distractors' is {value!r}; give a list of texts")
            fields[name] = [item.strip() for item in value]
        elif what == "header" and name == "relation" and isinstance(value, dict):
            fields[name] = value
        elif isinstance(value, str):
            fields[name] = value.strip()
        else:
            raise BadInput(f"{row.where}: {name!r} is {value!r}; give a text")
    return Row(row.where, fields)
