"""Toy: twelve texts, three a shard, make four shards; the same call again finds them, another call another folder.

Kills: a child forked from this process writes a store and is killed, at every call of the operating system in turn and
at random moments. What is visible then must be whole, and the next call must end in the very bytes of an uninterrupted
run: no row missing, none doubled.
"""

import errno
import faulthandler
import hashlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from probes import ArtifactError, BadInput, CouldNotRun, Site, Store, capture, concatenate
from probes.activations.shards import shard_name
from probes.activations.store import store
from probes.activations.stored import Plan
from probes.facts.facts import Fact, Statement

POST = Site("resid_post", 1)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def content(folder):
    """What a store's folder holds, by name; the words in the lock are of no account."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    found.pop("lock", None)
    return found


class Anew:
    """Texts that are made when they are looked at, and a count of how often."""

    def __init__(self, make):
        self.make, self.looks = make, 0

    def __iter__(self):
        self.looks += 1
        return iter(self.make(self.looks))


# ------------------------------------------------------------------------------------------------------ what is written


def test_the_bits_are_those_of_capture_shard_by_shard(llama, written, twelve):
    parts = [capture(llama, twelve[i : i + 3], tokens="all") for i in range(0, 12, 3)]
    found, whole = written.read(), concatenate(*parts)
    assert torch.equal(found.example, whole.example)
    assert torch.equal(found.position, whole.position)
    for site, values in whole.values.items():
        assert torch.equal(found.values[site], values)


@pytest.mark.parametrize("tokens", ["last", "mean", "all", "entity", 0])
def test_every_token_rule_reads_as_capture_does(tiny, tmp_path, tokens):
    texts, entities = ["the city of Rome", "Rome is not the capital of France", "say Rome"] * 3, ["Rome"] * 9
    options = {"tokens": tokens, "within": "ordinary", "entities": entities}
    found = store(tiny, texts, tmp_path, ["resid_pre.1", "resid_post.2"], **options, shard_texts=2).read()
    whole = capture(tiny, texts, ["resid_pre.1", "resid_post.2"], **options)
    assert found.tokens == whole.tokens
    assert torch.equal(found.position, whole.position)
    for site, values in whole.values.items():
        torch.testing.assert_close(found.values[site], values, rtol=1e-5, atol=2e-5)


def test_a_rough_model_is_kept_in_its_own_dtype_and_a_mean_in_float32(build, twelve, tmp_path):
    model = build("llama")
    model.module.bfloat16()
    for tokens, dtype in (("last", "BF16"), ("mean", "F32")):
        found = store(model, twelve, tmp_path, tokens=tokens, batch_size=4)
        assert found._layout.open(found.folder / shard_name(0), 0).dtype == dtype
        assert torch.equal(found.read().values[POST], capture(model, twelve, tokens=tokens, batch_size=4).values[POST])


def test_statements_keep_what_is_known_of_them(llama, tmp_path):
    fact = Fact("France", "capital", "Paris")
    pair = [
        Statement("the capital of France is Paris", True, True, "France", "affirmed", fact),
        Statement("the capital of France is not Rome", True, False, "France", "negated", fact),
    ]
    found = store(llama, pair, tmp_path, tokens="entity").read()
    whole = capture(llama, pair, tokens="entity")
    assert found.labels.tolist() == whole.labels.tolist() == [True, True]
    assert found.polarities.tolist() == whole.polarities.tolist() == [True, False]
    assert (found.groups, found.texts) == (whole.groups, whole.texts)
    assert found.position.tolist() == whole.position.tolist() == [3, 3]


def test_shards_are_cut_by_texts_and_by_bytes(llama, twelve, tmp_path):
    row = 3 * 32 * 4
    for options, shards in (
        ({"shard_texts": 5}, [5, 5, 2]),
        ({"shard_bytes": 4 * row}, [4, 4, 4]),
        ({"shard_bytes": 4 * row, "shard_texts": 3}, [3, 3, 3, 3]),
        ({"shard_bytes": 1}, [1] * 12),
        ({"shard_bytes": 9 * row, "tokens": "all"}, [3, 1, 2, 1, 2, 1, 1, 1]),
        ({}, [12]),
    ):
        found = store(llama, twelve, tmp_path, **options)
        assert (found._stops - [0, *found._stops[:-1]]).tolist() == shards, options
        assert (found.read().example.unique() == torch.arange(12)).all()


# ------------------------------------------------------------------------------------------------------ the same, again


def test_the_same_call_returns_at_once_and_another_call_writes_elsewhere(llama, call, written, build, monkeypatch):
    monkeypatch.setattr("probes.activations.store._write", lambda job: pytest.fail("written again"))
    again = call(llama, written.folder.parent)
    assert again.folder == written.folder
    assert call(llama, written.folder.parent, batch_size=2, share_prefixes=False).folder == written.folder
    seen = []
    monkeypatch.setattr("probes.activations.store._write", lambda job: seen.append(job.folder))
    labels = [True] * 12
    for model, changed in [
        (build("llama", seed=1), {}),
        (llama, {"tokens": "last"}),
        (llama, {"within": "ordinary"}),
        (llama, {"sites": "resid_pre.*"}),
        (llama, {"labels": labels}),
        (llama, {"groups": None}),
        (llama, {"entities": ["the"] * 12}),
        (llama, {"texts": ["cheese"]}),
        (llama, {"shard_texts": 4}),
        (llama, {"shard_bytes": 1 << 20}),
    ]:
        with pytest.raises(ArtifactError, match="no folder"):
            call(model, written.folder.parent, **changed)
    assert len({*seen, written.folder}) == 11


def test_texts_are_gone_through_twice_and_not_held(llama, tmp_path):
    texts = Anew(lambda _: (f"word{i % 30} river" for i in range(40)))
    found = store(llama, texts, tmp_path, shard_texts=8)
    assert (found.n_texts, texts.looks) == (40, 2)
    store(llama, texts, tmp_path, shard_texts=8)
    assert texts.looks == 3


def test_texts_that_differ_the_second_time_are_refused(llama, tmp_path):
    for name, made in {
        "other": lambda look: ["the river", "cheese" if look == 1 else "now"],
        "fewer": lambda look: ["the river", "cheese"][: 3 - look],
    }.items():
        with pytest.raises(BadInput, match="were others when they were gone through again.*delete"):
            store(llama, Anew(made), tmp_path / name)


def test_a_lost_shard_is_written_again_and_a_damaged_one_is_named(llama, call, small):
    before = content(small.folder)
    (small.folder / shard_name(1)).unlink()
    assert call(llama, small.folder.parent).folder == small.folder
    assert content(small.folder) == before
    (small.folder / "manifest.json").unlink()
    (small.folder / "configuration.json").write_text("{}")
    raw = (small.folder / shard_name(2)).read_bytes()
    (small.folder / shard_name(2)).write_bytes(raw[:-1])
    with pytest.raises(ArtifactError, match=r"shard-000002.safetensors has .*; delete this file, and it is written"):
        call(llama, small.folder.parent)
    (small.folder / shard_name(2)).unlink()
    call(llama, small.folder.parent).verify()
    assert content(small.folder) == before


def test_what_is_there_is_not_read_from_the_model_again(llama, call, small, monkeypatch):
    (small.folder / "manifest.json").unlink()
    (small.folder / shard_name(3)).unlink()
    starts = []
    from probes.activations import store as module

    real = module.read_rows
    monkeypatch.setattr(module, "read_rows", lambda *args, **kw: starts.append(kw["start"]) or real(*args, **kw))
    call(llama, small.folder.parent)
    assert starts == [9]


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"texts": iter(["the"])}, "only once"),
        ({"texts": []}, "is empty"),
        ({"texts": ["the"], "shard_texts": 0}, "shard_texts=0"),
        ({"texts": ["the"], "shard_bytes": 0.5}, "shard_bytes=0.5"),
        ({"texts": ["the"], "batch_size": True}, "batch_size=True"),
        ({"texts": ["the"], "tokens": "first"}, "no token rule"),
        ({"texts": ["the"], "tokens": "entity"}, "give entities="),
        ({"texts": ["the", "a", "a", "word1 " * 200], "shard_texts": 2}, "text 3: .*200 tokens"),
        ({"texts": ["the a", "the a", "a"], "tokens": 1, "shard_texts": 1}, "text 2: it has 1 tokens"),
        ({"texts": ["the", "a"], "tokens": "entity", "entities": ["the", "b"]}, "text 1: 'b' is not in it"),
    ],
)
def test_bad_input_is_one_clear_error(llama, tmp_path, arguments, says):
    with pytest.raises(BadInput, match=says):
        store(llama, **arguments, folder=tmp_path)


def test_an_activation_that_is_not_finite_names_its_text_and_keeps_what_was_written(llama, tmp_path):
    with torch.no_grad():
        llama.module.get_input_embeddings().weight[llama.encode("cheese")[0]] = float("nan")
    texts = ["the river", "which", "a", "the city", "cheese", "now"]
    with pytest.raises(BadInput, match=r"text 4: the activation at resid_post\.0 is not finite"):
        store(llama, texts, tmp_path, shard_texts=2)
    (folder,) = tmp_path.iterdir()
    assert sorted(content(folder)) == ["configuration.json", shard_name(0), shard_name(1)]
    with pytest.raises(ArtifactError, match="4 of 6 texts"):
        Store.open(folder)
    assert store(llama, [text for text in texts if text != "cheese"], tmp_path, shard_texts=2).n_texts == 5


@pytest.mark.parametrize("failing", ["write", "fsync", "replace", "open"])
def test_a_full_disk_leaves_nothing_half_written_and_the_next_call_goes_on(
    llama, call, written, tmp_path, monkeypatch, failing
):
    real, left = getattr(os, failing), []

    def full(*args, **options):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        return real(*args, **options)

    for most in (0, 3, 4):
        left[:] = [None] * most
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, full)
            with pytest.raises(CouldNotRun, match="No space left on device.*make the same call to go on"):
                call(llama, tmp_path)
        whole(tmp_path / written.folder.name)
        assert not list(tmp_path.glob("*/.*.partial"))
    call(llama, tmp_path)
    assert content(tmp_path / written.folder.name) == content(written.folder)


def test_a_folder_that_cannot_be_made_is_an_error(llama, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CouldNotRun, match="could not be written"):
        store(llama, ["the"], tmp_path / "file")


def test_every_file_is_flushed_before_it_is_renamed_and_its_folder_after(llama, call, tmp_path, monkeypatch):
    said = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (said.append(name), real(*a))[1])
    call(llama, tmp_path)
    assert said == ["fsync", *["fsync", "replace", "fsync"] * 8]  # the root; then each of eight files


def test_a_second_writer_is_refused_by_name(llama, call, tmp_path, monkeypatch):
    """The lock is of the open file, so that a second one in this very process is refused as another process is."""
    from probes.activations import store as module

    real, said = module._next_shard, []

    def meanwhile(*args):
        if not said:
            said.append("tried")
            with pytest.raises(CouldNotRun, match=f"is being written by 'process {os.getpid()} on .*; wait for it"):
                call(llama, tmp_path)
        return real(*args)

    monkeypatch.setattr(module, "_next_shard", meanwhile)
    call(llama, tmp_path).verify()
    assert said


# ---------------------------------------------------------------------------------------------------------------- kills


def whole(folder):
    """Whatever is visible under its own name is complete; returns how many shards there are."""
    if not (folder / "configuration.json").exists():
        assert not [path for path in folder.glob("*") if path.name != "lock" and not path.name.endswith(".partial")]
        return 0
    layout, numbers = Plan.read(folder).layout, range(len(list(folder.glob("shard-*"))))
    for number in numbers:
        layout.verify(folder / shard_name(number), number)
    if (folder / "manifest.json").exists():
        Store.open(folder).verify()
    return len(numbers)


def child(run, seconds=None):
    """Run something in a fork, killed after some seconds; returns whether it came to its end."""
    reads, writes = os.pipe()
    number = os.fork()
    if not number:
        code = 1
        faulthandler.dump_traceback_later(15, exit=True)  # a child that hangs says where
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    os.close(writes)
    if seconds is not None:
        select.select([reads], [], [], seconds)  # ends early where the child does
        os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    os.close(reads)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


@pytest.fixture
def warm(llama, monkeypatch):
    """One thread, and the fingerprint known: a pool of threads does not outlive a fork.

    tqdm's own lock is one that processes share, so a child that is killed while it holds it would hold it for ever.
    """
    known, threads, lock = llama.fingerprint, torch.get_num_threads(), tqdm.get_lock()
    monkeypatch.setattr(type(llama), "fingerprint", known)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())
    yield
    tqdm.set_lock(lock)
    torch.set_num_threads(threads)


@pytest.fixture
def quick(warm, monkeypatch):
    """What a process handed to the kernel outlives it without a flush, so these tests need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def count_calls(patch, at=None):
    """Count what a store asks of the operating system; die at one of these calls, a write being half done."""
    calls = []

    def counted(name):
        real = getattr(os, name)

        def call(*args, **options):
            calls.append(name)
            if len(calls) == at:
                if name == "write":
                    real(args[0], memoryview(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in ("mkdir", "open", "write", "fsync", "replace", "ftruncate", "unlink"):
        patch.setattr(os, name, counted(name))
    return calls


@forks
def test_a_kill_at_every_single_call_loses_and_doubles_nothing(llama, tmp_path, quick, monkeypatch):
    texts = ["the capital of France", "cheese", "which river"]
    run = lambda folder: store(llama, texts, tmp_path / folder, POST, tokens="all", shard_texts=2)  # noqa: E731
    with monkeypatch.context() as patch:
        calls = count_calls(patch)
        reference = run("reference").folder
    expected, shards = content(reference), []
    assert len(calls) > 50, calls

    def die(at):
        count_calls(monkeypatch, at)
        run(str(at))

    for at in range(1, len(calls) + 1):
        assert not child(lambda at=at: die(at)), calls[at - 1]
        folder = tmp_path / str(at) / reference.name
        shards.append(whole(folder))
        assert run(str(at)).folder == folder
        assert content(folder) == expected, (at, calls[at - 1])
    assert shards == sorted(shards)
    assert set(shards) == {0, 1, 2}


def bombard(run, root, name, expected, kills, longest, seed):
    """Kill writers at random moments until so many kills landed; returns how many shards each kill found."""
    chance, found, folder = random.Random(seed), [], 0
    while len(found) < kills:
        done = child(lambda at=root / str(folder): run(at), seconds=chance.uniform(0, longest))
        here = root / str(folder) / name
        shards = whole(here)
        if not done:
            found.append((shards, (here / "manifest.json").exists()))
        if (here / "manifest.json").exists():
            assert content(here) == expected
            folder += 1
    run(root / str(folder))
    assert content(root / str(folder) / name) == expected
    return found


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.fixture
def sixty(llama):
    """A call that writes sixty texts in eight shards."""
    texts = [" ".join(f"word{(7 * i + j) % 30}" for j in range(1 + i % 5)) for i in range(60)]
    return lambda folder: store(llama, texts, folder, ["resid_post.0", POST], tokens="all", shard_texts=8)


@forks
def test_fifty_random_kills_lose_and_double_nothing(sixty, tmp_path, quick):
    reference = sixty(tmp_path / "reference").folder
    took = timed(lambda: child(lambda: sixty(tmp_path / "timed")))
    found = bombard(sixty, tmp_path, reference.name, content(reference), 50, took, seed=0)
    within = [shards for shards, complete in found if not complete and shards]
    assert len(within) > 10  # most die while shards are written, not before or after
    assert len(set(within)) > 3


@forks
@pytest.mark.slow
def test_a_thousand_random_kills_lose_and_double_nothing(sixty, tmp_path, warm):
    reference = sixty(tmp_path / "reference").folder
    took = timed(lambda: child(lambda: sixty(tmp_path / "timed")))
    found = bombard(sixty, tmp_path, reference.name, content(reference), 1000, took, seed=1)
    within = [shards for shards, complete in found if not complete and shards]
    assert len(within) > 300
    assert set(within) >= set(range(1, 8))


@forks
def test_a_killed_writer_leaves_no_lock(llama, call, written, tmp_path, quick, monkeypatch):
    def die():
        monkeypatch.setattr("probes.activations.store._next_shard", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        call(llama, tmp_path)

    assert not child(die)
    assert (tmp_path / written.folder.name / "lock").read_text().startswith("process ")
    call(llama, tmp_path)
    assert content(tmp_path / written.folder.name) == content(written.folder)


# --------------------------------------------------------------------------------------------------------------- memory


GROWTH = """
import sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from probes import capture, load_model, store

core = Tokenizer(models.WordLevel({f"word{i}": i for i in range(30)}, unk_token="word0"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
shape = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
model = load_model(LlamaForCausalLM(LlamaConfig(vocab_size=30, **shape)), tokenizer=PreTrainedTokenizerFast(
    tokenizer_object=core, pad_token="word0", unk_token="word0"))
torch.set_num_threads(1)

class Texts:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        return (" ".join(f"word{(i * j) % 30}" for j in range(1, 9)) for i in range(self.n))

def high_water():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

options = {"tokens": "all", "share_prefixes": False}
for run in (lambda n: store(model, Texts(n), sys.argv[1], shard_bytes=1 << 19, **options),
            lambda n: capture(model, list(Texts(n)), **options)):
    run(60)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = high_water()
    run(1200)
    print(high_water() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a process forget its peak")
def test_memory_stays_flat_over_twenty_times_as_many_texts(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True
    )
    stored, held = map(float, done.stdout.split()[-2:])
    assert stored < 6, "MiB"
    assert held > 10, "a capture of the same texts does grow: 9,600 rows of 3 x 128 numbers are 14 MiB"


def test_no_thread_is_left_behind(llama, call, tmp_path):
    before = threading.active_count()
    call(llama, tmp_path)
    assert threading.active_count() == before
