"""The bytes of an artifact: its two files, made and checked without a disk.

`tensors.safetensors` has the numbers. `manifest.json` is canonical JSON: `format`, `format_version`, `kind`,
`made_by`, `tensors` (name -> dtype, shape, sha256), `body` (the kind's own fields), and `sha256` of all of that.
Nothing is believed before it is checked:

1. the manifest is strict JSON of known fields, of a known format and version, and has its own sha256;
2. the header of the safetensors file names the tensors of the manifest, in spans that cover the file once, no gap, no
   overlap;
3. every tensor has its sha256, and every floating number is finite.

The library `safetensors` alone lets by `../` names, NaN weights, repeated keys, unknown fields and 100,000 empty
tensors.
Limits: the sums tell damage, not a forger, who can compute them anew. Numbers are little-endian, as safetensors
defines.
"""

import hashlib
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from probes.errors import ArtifactError, BadInput
from probes.strict_json import MAX_INTEGER, canonical, check_keys, fail, parse, short

__all__ = ["Artifact", "Encoded", "decode", "decode_stream", "encode"]

FORMAT, FORMAT_VERSION = "belief-probes", 1
MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"
FIELDS = ("format", "format_version", "kind", "made_by", "tensors", "body", "sha256")
MANIFEST_BYTES = HEADER_BYTES = 1 << 20
TENSORS_BYTES = 2 << 30
MAX_TENSORS, MAX_DIMENSIONS = 1024, 8
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "BOOL": torch.bool,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
TENSOR_NAME = re.compile(r"(?!.*\.\.)[a-z0-9_.-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a folder held, all of it checked except the fields of the body, which belong to the kind."""

    kind: str
    """`"probe"`, `"monitor"`, ..."""
    manifest: Mapping[str, Any]
    """The body: the kind's own fields, as JSON has them. Read it with `require`."""
    tensors: Mapping[str, Tensor]
    """By name, on the CPU; the floating ones are finite."""
    made_by: str
    """The version that wrote it."""

    def __repr__(self) -> str:
        return f"Artifact({self.kind!r}, {len(self.tensors)} tensors, {self.made_by!r})"


@dataclass(frozen=True, eq=False)
class Encoded:
    """The content of the two files."""

    manifest: bytes
    """All of `manifest.json`."""
    tensors: tuple[bytes | memoryview, ...]
    """`tensors.safetensors` in pieces: its header, and the memory of each tensor, uncopied."""


def encode(kind: str, body: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Encoded:
    """Return the files of an artifact, after the checks that reading them will make.

    Raises:
        BadInput: something cannot be kept in this format.
    """
    try:
        dense = {name: _dense(name, tensor) for name, tensor in tensors.items()}
        # The widest numbers first, as safetensors has it: then every tensor is aligned.
        order = sorted(dense, key=lambda name: (-dense[name].element_size(), name))
        pieces = {name: _bytes(dense[name]) for name in order}
        header, listed, end = {}, {}, 0
        for name in order:
            entry = {"dtype": CODES[dense[name].dtype], "shape": list(dense[name].shape)}
            start, end = end, end + len(pieces[name])
            header[name] = {**entry, "data_offsets": [start, end]}
            listed[name] = {**entry, "sha256": _digest(pieces[name])}
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "made_by": _version()}
        content |= {"body": body, "tensors": listed}
        manifest = canonical({**content, "sha256": _digest(canonical(content, MANIFEST))}, MANIFEST)
        raw = canonical(header, TENSORS)
        raw += b" " * (-len(raw) % 8)
        _read_header(raw, 8 + len(raw) + end, _read_manifest(manifest, None)["tensors"])
    except ArtifactError as error:
        raise BadInput(f"this cannot be saved: {error}") from None
    return Encoded(manifest, (len(raw).to_bytes(8, "little") + raw, *pieces.values()))


def decode(manifest: bytes, tensors: bytes, kind: str | None = None) -> Artifact:
    """Read an artifact from the bytes of its two files, exactly as `read_artifact` does from a folder.

    Raises:
        ArtifactError: something about them is wrong.
    """
    return decode_stream(manifest, io.BytesIO(tensors), len(tensors), kind)


def decode_stream(manifest: bytes, file: BinaryIO, size: int, kind: str | None = None) -> Artifact:
    """As `decode`, with the file of tensors open for reading; each tensor is read once, into its own memory."""
    whole = _read_manifest(manifest, kind)
    if size > TENSORS_BYTES:
        fail(TENSORS, f"has {size} bytes; at most {TENSORS_BYTES} are read")
    length = int.from_bytes(_take(file, 8), "little")
    if length > min(HEADER_BYTES, size - 8):
        fail(TENSORS, f"claims a header of {length} bytes; at most {min(HEADER_BYTES, size - 8)} are possible here")
    tensors = {}
    for name, span in _read_header(bytes(_take(file, length)), size, whole["tensors"]).items():
        entry = whole["tensors"][name]
        data = _take(file, span)
        if _digest(data) != entry["sha256"]:
            fail(TENSORS, f"is damaged: tensor {name!r} does not have the sha256 that the manifest gives")
        if entry["dtype"] == "BOOL" and data.strip(b"\0\1"):
            fail(TENSORS, f"has bytes other than 0 and 1 in tensor {name!r}, which is BOOL")
        tensors[name] = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
        _check_finite(name, tensors[name])
    return Artifact(whole["kind"], whole["body"], MappingProxyType(tensors), whole["made_by"])


def _dense(name: str, tensor: Tensor) -> Tensor:
    if not isinstance(name, str):
        fail(TENSORS, f"would have a tensor named {short(name)}; a name is a text")
    if not isinstance(tensor, Tensor):
        fail(TENSORS, f"would have {short(name)} = {short(tensor)}; a torch tensor is wanted")
    if tensor.is_meta or tensor.layout != torch.strided or tensor.dtype not in CODES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in CODES)
        fail(
            TENSORS,
            f"cannot hold {short(name)} ({tensor.dtype}, {tensor.device}); dense tensors of {known} are taken",
        )
    _check_finite(name, tensor)
    return tensor.detach().to("cpu").contiguous()


def _bytes(tensor: Tensor) -> memoryview:
    # One number out of a longer row counts as contiguous, and keeps the row's stride.
    return memoryview(tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy())


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        return
    for i, piece in enumerate(tensor.detach().reshape(-1).split(1 << 20)):  # in pieces, since isfinite makes copies
        if not torch.isfinite(piece).all():
            at = (i << 20) + int((~torch.isfinite(piece)).nonzero()[0])
            fail(TENSORS, f"has a value that is not finite in tensor {short(name)}, at flat index {at}")


def _take(file: BinaryIO, count: int) -> bytearray:
    data = bytearray(count)
    if file.readinto(data) != count:
        fail(TENSORS, "is cut short")
    return data


def _digest(raw: bytes | memoryview | bytearray) -> str:
    return hashlib.sha256(raw).hexdigest()


def _version() -> str:
    try:
        return f"belief-probes {metadata.version('belief-probes')}"
    except metadata.PackageNotFoundError:  # run from a folder of sources
        return "belief-probes"


def _read_manifest(raw: bytes, kind: str | None) -> dict[str, Any]:
    if len(raw) > MANIFEST_BYTES:
        fail(MANIFEST, f"has more than {MANIFEST_BYTES} bytes")
    whole = parse(raw, MANIFEST)
    if whole.get("format") != FORMAT:
        fail(MANIFEST, f'says "format" {short(whole.get("format"))}; an artifact of this project says "{FORMAT}"')
    version = whole.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        fail(MANIFEST, f"has format {version}, and this version reads format {FORMAT_VERSION}; upgrade belief-probes")
    if type(version) is not int or version < 1:
        fail(MANIFEST, f'says "format_version" {short(version)}; this version reads {FORMAT_VERSION}')
    check_keys(whole, FIELDS, "the manifest", MANIFEST)
    if not isinstance(whole["kind"], str) or not KIND.fullmatch(whole["kind"]):
        fail(MANIFEST, f'says "kind" {short(whole["kind"])}; a kind is a short lower-case word')
    if not isinstance(whole["made_by"], str) or len(whole["made_by"]) > 100:
        fail(MANIFEST, f'says "made_by" {short(whole["made_by"])}; a short text is wanted')
    if not isinstance(whole["body"], dict) or not isinstance(whole["tensors"], dict):
        fail(MANIFEST, 'has a "body" or "tensors" that is no object')
    _check_listed(whole["tensors"])
    # The canonical form is asked for byte by byte: there is one manifest for one content.
    members = {key: canonical({key: whole[key]}, MANIFEST, plain=True)[1:-1] for key in sorted(whole)}  # written once
    content = b",".join(member for key, member in members.items() if key != "sha256")
    if b"{" + b",".join(members.values()) + b"}" != raw or whole["sha256"] != _digest(b"{" + content + b"}"):
        fail(MANIFEST, "is damaged or was edited: it does not have its own sha256")
    if kind is not None and whole["kind"] != kind:
        fail(MANIFEST, f"is of kind {whole['kind']!r}, and {kind!r} is wanted")
    return whole


def _check_listed(listed: Mapping[str, Any]) -> None:
    if len(listed) > MAX_TENSORS:
        fail(MANIFEST, f"lists {len(listed)} tensors; at most {MAX_TENSORS} are read")
    for name, entry in listed.items():
        _check_entry(name, entry, ("dtype", "shape", "sha256"), MANIFEST)
        if not isinstance(entry["sha256"], str) or not DIGEST.fullmatch(entry["sha256"]):
            fail(MANIFEST, f"has no digest for the sha256 of tensor {name!r}")


def _read_header(raw: bytes, size: int, listed: Mapping[str, Any]) -> dict[str, int]:
    """Return the length of each tensor in the order of the file, after checking all that the header says."""
    text = raw.rstrip(b" ")
    if not text.startswith(b"{") or len(raw) - len(text) > 7 or len(raw) % 8:
        fail(TENSORS, "has a header that does not begin with { or is not padded to 8 bytes by spaces")
    header = parse(text, TENSORS)
    for name in header:
        if name not in listed:
            fail(TENSORS, f"has tensor {short(name)}, which the manifest does not list")
    for name in listed:
        if name not in header:
            fail(TENSORS, f"lacks tensor {name!r}, which the manifest lists")
    end, lengths = 0, {}
    for name, (start, stop) in sorted(((n, _span(n, header[n], size)) for n in header), key=lambda item: item[1]):
        if any(header[name][field] != listed[name][field] for field in ("dtype", "shape")):
            fail(TENSORS, f"disagrees with the manifest about dtype or shape of tensor {name!r}")
        if start != end:
            fail(TENSORS, f"has a gap or an overlap: tensor {name!r} begins at {start}, the one before ends at {end}")
        end, lengths[name] = stop, stop - start
    if 8 + len(raw) + end != size:
        fail(TENSORS, f"has {size} bytes, and its header accounts for {8 + len(raw) + end}")
    return lengths


def _span(name: str, entry: Any, size: int) -> tuple[int, int]:
    _check_entry(name, entry, ("dtype", "shape", "data_offsets"), TENSORS)
    offsets = entry["data_offsets"]
    numbers = isinstance(offsets, list) and all(type(n) is int and 0 <= n <= size for n in offsets)
    if not numbers or len(offsets) != 2:
        fail(TENSORS, f"has data_offsets {short(offsets)} for tensor {name!r}; two numbers within the file are wanted")
    needed = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize  # Python's whole numbers do not overflow
    if offsets[1] - offsets[0] != needed:
        fail(TENSORS, f"has {offsets[1] - offsets[0]} bytes for tensor {name!r}, which needs {needed}")
    return offsets[0], offsets[1]


def _check_entry(name: str, entry: Any, fields: tuple[str, ...], file: str) -> None:
    if not TENSOR_NAME.fullmatch(name):
        fail(file, f"has a tensor named {short(name)}; names are 1 to 64 of a-z, 0-9, _, - and single dots")
    if not isinstance(entry, dict):
        fail(file, f"describes tensor {name!r} by {short(entry)}; an object is wanted")
    check_keys(entry, fields, f"tensor {name!r}", file)
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        fail(file, f"gives tensor {name!r} the dtype {short(entry['dtype'])}; known are {', '.join(DTYPES)}")
    shape = entry["shape"]
    sizes = isinstance(shape, list) and all(type(n) is int and 0 < n < MAX_INTEGER for n in shape)
    if not sizes or len(shape) > MAX_DIMENSIONS:
        fail(file, f"gives tensor {name!r} the shape {short(shape)}; at most {MAX_DIMENSIONS} sizes above 0 are wanted")
