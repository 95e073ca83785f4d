"""What a store costs and gives, against capture in memory, and against Parquet.

1. Writing: `probes.store` into a new folder over `probes.capture`, the 400 first statements on cities, all layers, last
   token, on the embedded model, interleaved.
2. Reading 1,000 random rows of a 20,000 x 576 float32 store: over reading all of it, and over the same rows of a
   Parquet file (which must be read whole).
3. Writing 20,000 x 576 numbers with flush and rename, over the same in Parquet.
4. Going on: a call that finds all but the last of 40 shards, over one that writes all of them.
5. Rows missing and doubled after a kill (SIGKILL) in the middle, and the memory that 20 times as many texts need.

Run it as `python benchmarks/store.py`; `--tiny` takes a small random model, for a quick look.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes that are made here

import probes
from benchmarks.harness import Bar, finish, interleave, ratio
from probes.activations.capture import Rows
from probes.activations.shards import Layout, shard_name
from probes.model.sites import Site
from probes.reading.metrics import Estimate

ROWS, WIDTH, WANTED, SITE = 20_000, 576, 1000, Site("resid_post", 0)

SMALL_MODEL = """
import sys, torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
import probes

def small(width=WIDTH):
    torch.manual_seed(0)
    words = ["<pad>", "the", "river", "of", "a", "city", "is", "not", "far"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": width, "intermediate_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8}
    config = LlamaConfig(vocab_size=16, num_hidden_layers=1, pad_token_id=0, **shape)
    tokens = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<pad>")
    return probes.load_model(LlamaForCausalLM(config), tokenizer=tokens)

class Many:
    def __init__(self, n):
        self.n = n
    def __iter__(self):
        words = ("the", "river", "of", "a", "city", "is", "not", "far")
        for i in range(self.n):
            yield " ".join(words[(i >> (3 * j)) % 8] for j in range(5))
""".replace("WIDTH", str(WIDTH))

WRITE = (
    SMALL_MODEL
    + """
probes.store(small(), Many(int(sys.argv[2])), sys.argv[1], share_prefixes=False, shard_texts=int(sys.argv[3]))
"""
)
PEAKS = (
    SMALL_MODEL
    + """
from pathlib import Path

def peak():  # not ru_maxrss, which counts what the parent held when it made this process
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM")) / 1024

model, peaks = small(), []
for n in (1000, 20000):
    probes.store(model, Many(n), sys.argv[1], share_prefixes=False, shard_bytes=1 << 20)
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""
)


def paired(name: str, seconds, above: str, below: str, bar: float) -> Bar:
    """Return a bar for a ratio of times."""
    return Bar(name, ratio(seconds[above], seconds[below]), bar, "lower", below)


def counted(name: str, value: float, bar: float, n: int) -> Bar:
    """Return a bar for one figure, which has no interval."""
    return Bar(name, Estimate(value, value, value, n, how="one figure, no interval"), bar, "lower")


def writing(folder: Path, tiny: bool) -> list[Bar]:
    """Capture to memory and to disk, in turn."""
    statements = probes.load_topic("cities").statements()[:400]
    model = made()["small"]() if tiny else probes.load_model("smollm2-135m", device="cpu")
    fresh = count()
    contenders = {
        "capture": lambda: probes.capture(model, statements),
        "store": lambda: probes.store(model, statements, folder / f"writing-{next(fresh)}"),
    }
    seconds = interleave(contenders, samples=6)
    print(f"capture {np.median(seconds['capture']):.3f} s, store {np.median(seconds['store']):.3f} s")
    return [paired("store.write_over_capture", seconds, "store", "capture", 1.10)]


def made() -> dict:
    """Return the small model's builder."""
    names: dict = {}
    exec(compile(SMALL_MODEL, "small", "exec"), names)
    return names


def reading(folder: Path) -> list[Bar]:
    """Read rows of a store made of random texts; write the same numbers in both formats."""
    names = made()
    kept = probes.store(names["small"](), names["Many"](ROWS), folder / "reading", share_prefixes=False)
    values = kept.read().values[SITE]
    columns = {f"c{i}": column for i, column in enumerate(values.numpy().T)}
    table, at = pa.table(columns), folder / "values.parquet"
    parquet.write_table(table, at)
    draw = np.random.default_rng(0)
    wanted = lambda: draw.integers(0, ROWS, WANTED)  # noqa: E731
    contenders = {
        "rows": lambda: kept.read(wanted()),
        "whole": lambda: kept.read().values[SITE][wanted()],
        "parquet rows": lambda: parquet.read_table(at).take(pa.array(wanted())),
    }
    seconds = interleave(contenders, samples=20)
    fresh, layout = count(), Layout("0" * 32, (SITE,), WIDTH)
    of = Rows({SITE: values}, torch.arange(ROWS), torch.zeros(ROWS, dtype=torch.long))

    def shard() -> None:
        _, pieces = layout.encode(of, torch.float32, number=0, first=0, texts=ROWS, upto="")
        durable(folder / f"{next(fresh)}-{shard_name(0)}", lambda path: path.write_bytes(b"".join(pieces)))

    def as_parquet() -> None:
        durable(folder / f"{next(fresh)}.parquet", lambda path: parquet.write_table(table, path))

    seconds |= interleave({"write": shard, "parquet write": as_parquet}, samples=8)
    print("; ".join(f"{name} {1e3 * np.median(taken):.1f} ms" for name, taken in seconds.items()))
    return [
        paired("store.rows_over_whole", seconds, "rows", "whole", 0.5),
        paired("store.rows_over_parquet", seconds, "rows", "parquet rows", 0.25),
        paired("store.write_over_parquet", seconds, "write", "parquet write", 0.5),
        counted("store.rows_1000_of_20000_ms", 1e3 * float(np.median(seconds["rows"])), 20.0, 20),
    ]


def durable(path: Path, write) -> None:
    """Write a file, flush it, rename it, and take it away."""
    partial = path.with_name("partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    path.unlink()


def resuming(folder: Path) -> list[Bar]:
    """Lose the last shard and the manifest, and call again."""
    names = made()
    model, texts = names["small"](), names["Many"](4000)

    def write(where: Path) -> float:
        start = time.perf_counter()
        probes.store(model, texts, where, share_prefixes=False, shard_texts=100)
        return time.perf_counter() - start

    again, anew = [], []
    for i in range(6):
        where = folder / f"resuming-{i}"
        anew.append(write(where))
        (kept,) = where.iterdir()
        (kept / "manifest.json").unlink()
        (kept / shard_name(39)).unlink()
        again.append(write(where))
    print(f"4,000 texts in 40 shards {np.median(anew):.3f} s, going on before the last {np.median(again):.3f} s")
    return [paired("store.resume_over_anew", {"again": again, "anew": anew}, "again", "anew", 0.25)]


def killing(folder: Path) -> list[Bar]:
    """Kill a process when it has written some shards five times, and count rows after the last call."""
    command = [sys.executable, "-c", WRITE, str(folder / "killing"), "4000", "100"]
    kills = 0
    while kills < 5:
        before = len(list((folder / "killing").glob("*/shard-*")))
        writer = subprocess.Popen(command)
        while writer.poll() is None and len(list((folder / "killing").glob("*/shard-*"))) < before + 3:
            time.sleep(0.001)
        if writer.poll() is not None:
            break
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        kills += 1
    subprocess.run(command, check=True)
    kept = probes.Store.open(folder / "killing")
    kept.verify()
    rows = np.bincount(kept.read().example.numpy(), minlength=4000)
    wrong = [text for text, wanted in zip(kept.texts, made()["Many"](4000), strict=True) if text != wanted]
    print(f"{kills} kills, {len(rows)} texts, {len(wrong)} other texts")
    return [
        counted("store.missing_rows", float((rows == 0).sum() + len(wrong)), 0, len(rows)),
        counted("store.doubled_rows", float((rows > 1).sum()), 0, len(rows)),
    ]


def memory(folder: Path) -> list[Bar]:
    """The peak of a fresh process after 20,000 texts, less that after 1,000; told by Linux alone."""
    if sys.platform != "linux":
        return []
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(folder / "memory")], check=True, capture_output=True, text=True
    )
    return [counted("store.memory_growth_mib", float(done.stdout.split()[-1]), 10.0, 1)]


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="store-", dir="."))
    try:
        bars = writing(folder, "--tiny" in sys.argv) + reading(folder) + resuming(folder)
        bars += killing(folder) + memory(folder)
    finally:
        shutil.rmtree(folder)
    finish(bars, ["torch", "transformers", "pyarrow", "safetensors", "numpy"])
    return 0 if all(bar.holds for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
