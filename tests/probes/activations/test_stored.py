"""Toy: twelve texts of 1 to 10 tokens in four shards of three texts; rows 0, 7 and the last are read back."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from probes import ArtifactError, BadInput, Mismatch, NotFound, Site, Store, capture
from probes.activations.shards import shard_name

POST = Site("resid_post", 1)


@pytest.fixture
def whole(build, twelve):
    """The same activations, held in memory."""
    labels, groups = [i % 2 == 0 for i in range(12)], [f"group {i // 2}" for i in range(12)]
    return capture(build("llama"), twelve, tokens="all", labels=labels, groups=groups)


def same(found, whole, rows):
    """Whether activations are these rows of others."""
    rows = torch.as_tensor(rows)
    texts = whole.example[rows].unique()
    assert found.texts == tuple(whole.texts[i] for i in texts)
    assert torch.equal(texts[found.example], whole.example[rows])
    assert torch.equal(found.position, whole.position[rows])
    assert torch.equal(found.labels, whole.labels[texts])
    assert found.groups == tuple(whole.groups[i] for i in texts)
    for site, values in found.values.items():
        torch.testing.assert_close(values, whole.values[site][rows], rtol=1e-5, atol=2e-5)
    return True


def test_all_of_it_is_what_capture_holds(small, whole):
    found = small.read()
    assert (len(small), small.n_texts, small.n_shards) == (len(whole.example), 12, 4)
    assert found.sites == small.sites == whole.sites
    assert same(found, whole, range(len(whole.example)))
    assert found.values[POST].dtype == torch.float32
    assert found.fingerprint == whole.fingerprint
    assert found.tokens == small.tokens == "all"
    assert repr(small).endswith(f"12 texts, {len(small)} rows, 3 sites, tokens='all')")


@pytest.mark.parametrize(
    "form", [list, np.array, torch.tensor, lambda rows: np.array(rows, np.uint8)], ids=["list", "numpy", "torch", "u8"]
)
def test_rows_come_in_the_order_asked_for(small, whole, form):
    for rows in ([0, 7, len(small) - 1], [20, 3, 3, 0, 41]):
        assert same(small.read(form(rows)), whole, rows)


def test_rows_are_also_slices_masks_one_number_and_numbers_from_the_end(small, whole):
    n = len(small)
    assert same(small.read(slice(5, 30)), whole, range(5, 30))
    assert same(small.read(slice(None, None, -7)), whole, list(range(n))[::-7])
    assert same(small.read(-1), whole, [n - 1])
    assert same(small.read([-n, -2]), whole, [0, n - 2])
    mask = whole.position == 0
    assert same(small.read(mask), whole, mask.nonzero().squeeze(1))
    assert same(small.read(mask.tolist()), whole, mask.nonzero().squeeze(1))
    assert len(small.read([]).example) == len(small.read(slice(3, 3)).values[POST]) == 0


def test_texts_are_read_with_all_their_rows(small, whole):
    for texts in ([0], [11, 2, 3], [-1], slice(2, 7), whole.labels):
        numbers = torch.arange(12)[texts].tolist()
        rows = torch.cat([(whole.example == i).nonzero().squeeze(1) for i in numbers])
        assert same(small.read(examples=texts), whole, rows)
    assert len(small.read(examples=[]).example) == 0


def test_some_sites_alone(small, whole):
    found = small.read([4, 1], sites=POST)
    assert found.sites == (POST,)
    assert torch.equal(found.values[POST], small.read([4, 1]).values[POST])
    assert small.read([0], sites="resid_post.*").sites == whole.sites
    assert small.read([0], sites=["resid_post.2", "*.0"]).sites == (Site("resid_post", 0), Site("resid_post", 2))


def test_batches_are_all_rows_in_order(small, whole):
    every = list(small.batches(7, sites=POST))
    assert [len(acts.example) for acts in every[:-1]] == [7] * (len(small) // 7)
    torch.testing.assert_close(
        torch.cat([acts.values[POST] for acts in every]), whole.values[POST], rtol=1e-5, atol=2e-5
    )
    assert len(list(small.batches())) == 1


def test_texts_labels_and_groups_without_activations(small, twelve):
    for number in range(4):
        (small.folder / shard_name(number)).unlink()
    small = Store.open(small.folder)
    assert len(small.texts) == 12
    assert small.texts[0] == twelve[0]
    assert small.texts[-1] == twelve[-1]
    assert small.texts[2:9] == twelve[2:9]
    assert small.texts[::-1] == twelve[::-1]
    assert list(small.texts) == twelve
    assert small.labels.tolist() == [True, False] * 6
    assert small.groups == tuple(f"group {i // 2}" for i in range(12))
    with pytest.raises(IndexError, match="text 12 of 12"):
        small.texts[12]


def test_other_shards_are_not_touched(small, whole):
    for number in (0, 2, 3):
        (small.folder / shard_name(number)).write_bytes(b"no shard")
    first, last = (int((whole.example == text).nonzero()[0]) for text in (3, 6))
    assert same(small.read(range(first, last)), whole, range(first, last))
    with pytest.raises(ArtifactError, match=r"shard-000000.safetensors is cut short"):
        small.read([first - 1])


def test_chats_and_unlabelled_texts_come_back(llama, call, tmp_path):
    chat = [{"role": "user", "content": "which river"}]
    found = call(llama, tmp_path, texts=["the capital", chat, "{}", "[1]"])
    acts = found.read()
    assert acts.texts == ("the capital", chat, "{}", "[1]")
    assert acts.labels is acts.groups is acts.polarities is found.labels is found.groups is None


def test_a_store_is_matched_with_its_model(small, build):
    assert small.match(build("llama")) == ()
    with pytest.raises(Mismatch, match="embedding weights"):
        small.match(build("llama", seed=1))
    assert small.match(build("llama", seed=1), allow="weights")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"rows": [0, 99]}, "rows 99 is not there; this store has 53 rows, from 0 to 52"),
        ({"rows": -54}, "rows -54 is not there"),
        ({"examples": 12}, "examples 12 is not there; this store has 12 examples"),
        ({"rows": [0.5]}, "no slice, no mask and no list"),
        ({"rows": [[0]]}, "no slice, no mask and no list"),
        ({"rows": "first"}, "no slice, no mask and no list"),
        ({"rows": [True, False]}, "mask of .*53 rows: give a mask of them all"),
        ({"rows": [0], "examples": [0]}, "both given"),
    ],
)
def test_rows_that_are_not_there_are_refused(small, arguments, says):
    with pytest.raises(BadInput, match=says):
        small.read(**arguments)


def test_sites_and_batches_that_are_not_there_are_refused(small):
    for sites in ("resid_pre.1", "attn_out.*", Site("resid_post", 3), "resid_post.7"):
        with pytest.raises(NotFound, match="There are: resid_post.0, resid_post.1, resid_post.2"):
            small.read([0], sites=sites)
    with pytest.raises(BadInput, match="rows_per_batch=0"):
        next(small.batches(0))


def test_a_root_with_one_store_is_that_store(small, build, call, tmp_path):
    assert Store.open(tmp_path).folder == small.folder == Store.open(str(small.folder)).folder
    call(build("llama"), tmp_path, tokens="last")
    with pytest.raises(ArtifactError, match=f"is no store, and holds 2 of them: .*{small.folder.name}"):
        Store.open(tmp_path)
    shutil.move(small.folder, tmp_path / "elsewhere" / "renamed")
    Store.open(tmp_path / "elsewhere").verify()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds 0 of them: none"):
        Store.open(tmp_path / "empty")
    with pytest.raises(ArtifactError, match="nowhere is no folder"):
        Store.open(tmp_path / "nowhere")


def test_an_incomplete_store_says_how_far_it_is(small):
    (small.folder / "manifest.json").unlink()
    (small.folder / shard_name(3)).unlink()
    with pytest.raises(ArtifactError, match=r"is not complete: 9 of 12 texts.*same call of probes.store again"):
        Store.open(small.folder)
    for number in range(3):
        (small.folder / shard_name(number)).unlink()
    with pytest.raises(ArtifactError, match="0 of 12 texts"):
        Store.open(small.folder)


def edit(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("manifest.json", lambda said: said.update(store="0" * 32), "belongs to another store"),
        ("manifest.json", lambda said: said.update(rows=52), "do not hold the rows and texts"),
        ("manifest.json", lambda said: said.update(shards=3), "other batches than the 3"),
        ("manifest.json", lambda said: said.update(shards=-1), "other batches than the -1"),
        ("manifest.json", lambda said: said.update(more=1), "unknown field 'more'"),
        ("manifest.json", lambda said: said.update(format_version=2), "is not of format"),
        ("manifest.json", lambda said: said["tables"]["index.arrow"].update(bytes=5), "at most 5 are read"),
        ("configuration.json", lambda said: said.update(texts=13), "belongs to another store"),
        ("configuration.json", lambda said: said.update(sites=["resid_post.x"]), "is not a site"),
        ("configuration.json", lambda said: said.update(sites=[]), "no sites"),
        ("configuration.json", lambda said: said.update(d_model=0), "no width"),
        ("configuration.json", lambda said: said.pop("tokens"), 'no field "tokens"'),
    ],
)
def test_an_edited_file_is_refused(small, file, change, says):
    edit(small.folder / file, change)
    with pytest.raises(ArtifactError, match=says):
        Store.open(small.folder)


@pytest.mark.parametrize("file", ["index.arrow", "examples.arrow", "manifest.json", "configuration.json"])
def test_a_file_that_is_cut_missing_or_something_else_is_refused(small, file):
    path = small.folder / file
    raw = path.read_bytes()
    for wrong in (raw[:-1], b"", b"\0" * len(raw), raw + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(ArtifactError, match=file):
            Store.open(small.folder)
    path.unlink()
    path.symlink_to(__file__)
    with pytest.raises(ArtifactError, match=f"{file} is no regular file"):
        Store.open(small.folder)
    path.unlink()
    with pytest.raises(ArtifactError, match="not complete" if file == "manifest.json" else "."):
        Store.open(small.folder)


def test_damage_anywhere_is_an_error_or_found_by_verify(small):
    """No single changed byte of a table crashes the reader: an error, or `verify` finds it."""
    for file in ("index.arrow", "examples.arrow"):
        path = small.folder / file
        raw = path.read_bytes()
        for at in range(0, len(raw), 37):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :])
            with pytest.raises(ArtifactError):
                Store.open(small.folder).verify()
        path.write_bytes(raw)
    small.verify()


def test_tables_are_plain_arrow(small, whole):
    with pa.memory_map(str(small.folder / "index.arrow")) as file:
        index = pa.ipc.open_file(file).read_all().to_pydict()
    assert index["example"] == whole.example.tolist()
    assert index["position"] == whole.position.tolist()
    assert sorted(set(index["shard"])) == [0, 1, 2, 3]
    with pa.memory_map(str(small.folder / "examples.arrow")) as file:
        assert pa.ipc.open_file(file).read_all()["text"].to_pylist() == list(whole.texts)
