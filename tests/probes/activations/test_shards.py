"""Toy: two texts of one and two tokens at one site of width 2 give three rows; rows 0 and 2 are read back."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from probes import ArtifactError, Site
from probes.activations.capture import Rows
from probes.activations.shards import Layout, shard_name

SITE, OTHER = Site("resid_post", 0), Site("resid_post", 1)
PLACE = {"number": 4, "first": 10, "texts": 2, "upto": "ab" * 32}


def rows(values, *sites):
    return Rows(dict.fromkeys(sites or (SITE,), values), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))


def write(folder, layout, of, dtype=torch.float32, **changed):
    shard, pieces = layout.encode(of, dtype, **PLACE | changed)
    path = folder / shard_name(shard.number)
    path.write_bytes(b"".join(pieces))
    return shard, path


def read(layout, path, wanted, *sites):
    found = {site: torch.full((len(wanted), layout.d_model), -1.0) for site in sites or (SITE,)}
    places = torch.arange(len(wanted))
    layout.read(path, 4, np.array(wanted, np.int64), {site: (values, places) for site, values in found.items()})
    return found


def test_three_rows_by_hand(tmp_path):
    layout = Layout("store", (SITE,), 2)
    shard, path = write(tmp_path, layout, rows(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])))
    assert path.name == "shard-000004.safetensors"
    assert (shard.first, shard.stop, shard.rows, shard.dtype) == (10, 12, 3, "F32")
    assert layout.open(path, 4) == layout.verify(path, 4) == shard
    assert path.stat().st_size == layout.size(shard)
    assert read(layout, path, [0, 2])[SITE].tolist() == [[0.0, 1.0], [4.0, 5.0]]
    example, position = layout.index(path, shard)
    assert example.tolist() == [10, 11, 11]
    assert position.tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_library_that_defines_the_format_reads_the_same_numbers(tmp_path, dtype):
    layout = Layout("store", (SITE, OTHER), 5)
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype).float()
    _, path = write(tmp_path, layout, rows(values, SITE, OTHER), dtype)
    theirs = load_file(path)
    assert list(theirs) == ["example", "position", "resid_post.0", "resid_post.1"]
    assert theirs["resid_post.1"].dtype == dtype
    assert theirs["example"].tolist() == [10, 11, 11]
    for wanted in ([0, 1, 2], [1, 2], [2], [0, 2], [1, 1, 2], []):
        ours = read(layout, path, wanted, SITE, OTHER)
        for site in (SITE, OTHER):
            assert torch.equal(ours[site], theirs[str(site)].float()[wanted]), wanted
    with safe_open(path, "pt") as file:
        assert file.metadata()["store"] == "store"


def test_values_that_the_models_dtype_cannot_hold_are_kept_in_float32(tmp_path):
    layout = Layout("store", (SITE,), 1)
    for values, dtype in (([1.0, 2.0, 3.5], "BF16"), ([1.0, 2.0, 1.0009765625], "F32"), ([1.0, 2.0, 3.4e38], "F32")):
        of = rows(torch.tensor(values).unsqueeze(1))
        shard, path = write(tmp_path, layout, of, torch.bfloat16)
        assert shard.dtype == dtype
        assert torch.equal(read(layout, path, [0, 1, 2])[SITE], of.values[SITE])


def damage(raw, what):
    length = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    if what == "empty":
        return b""
    if what == "seven bytes":
        return raw[:7]
    if what == "cut in the header":
        return raw[:50]
    if what == "cut at the end":
        return raw[:-1]
    if what == "longer":
        return raw + b"\0"
    if what == "a huge header":
        return (1 << 40).to_bytes(8, "little") + raw[8:]
    if what == "no metadata":
        del header["__metadata__"]
    elif what == "another store":
        header["__metadata__"]["store"] = "other"
    elif what == "another number":
        header["__metadata__"]["number"] = "5"
    elif what == "no number":
        header["__metadata__"]["rows"] = "-3"
    elif what == "another dtype":
        header["__metadata__"]["dtype"] = "I8"
    elif what == "other offsets":
        header["resid_post.0"]["data_offsets"][0] -= 4
    elif what == "a tensor more":
        header["more"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(body), len(body)]}
    else:
        assert what == "an unknown field"
        header["__metadata__"]["mine"] = "1"
    fresh = json.dumps(header, separators=(",", ":")).encode()
    fresh += b" " * (-len(fresh) % 8)
    return len(fresh).to_bytes(8, "little") + fresh + body


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("empty", "is cut short"),
        ("seven bytes", "is cut short"),
        ("cut in the header", "is cut short"),
        ("cut at the end", "bytes, and its header accounts for"),
        ("longer", "bytes, and its header accounts for"),
        ("a huge header", "header would have 1099511627776 bytes"),
        ("no metadata", "no metadata"),
        ("another store", "belongs to another store"),
        ("another number", "is shard 5, and 4 belongs here"),
        ("no number", "no number for rows"),
        ("another dtype", "gives a dtype"),
        ("other offsets", "does not fit its own metadata"),
        ("a tensor more", "does not fit its own metadata"),
        ("an unknown field", "unknown field 'mine'"),
    ],
)
def test_a_damaged_shard_is_refused_by_name(tmp_path, what, says):
    layout = Layout("store", (SITE,), 2)
    _, path = write(tmp_path, layout, rows(torch.ones(3, 2)))
    path.write_bytes(damage(path.read_bytes(), what))
    with pytest.raises(ArtifactError, match=f"shard-000004.safetensors.*{says}"):
        layout.open(path, 4)
    with pytest.raises(ArtifactError, match=says):
        read(layout, path, [0])


def test_a_changed_number_is_found_by_verify_alone(tmp_path):
    layout = Layout("store", (SITE,), 2)
    shard, path = write(tmp_path, layout, rows(torch.ones(3, 2)))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert layout.open(path, 4) == shard
    with pytest.raises(ArtifactError, match="shard-000004.safetensors: is damaged.*sha256"):
        layout.verify(path, 4)


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    layout = Layout("store", (SITE,), 2)
    path = tmp_path / shard_name(4)
    with pytest.raises(ArtifactError, match="shard-000004.safetensors: cannot be read: No such file"):
        layout.open(path, 4)
    save_file({"resid_post.0": torch.ones(3, 2)}, path)
    with pytest.raises(ArtifactError, match="no metadata"):
        layout.open(path, 4)
    path.unlink()
    path.symlink_to(__file__)
    with pytest.raises(ArtifactError, match="no regular file"):
        layout.open(path, 4)
