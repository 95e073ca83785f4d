"""The truth table: what `know` says of planted facts, against what is so of them by construction.

    python benchmarks/truth.py --folder DIR [--models NAME ...] [--seeds 0 1 2] [--size small] [--facts 80] [--jobs 2]

Models are built into the folder, a subfolder each, and are read from there the next time, if they were made by the same
recipe. Each is examined by a process of its own on one thread (`probes.examine`); the counts of the seeds of one model
are put together. A bar for every model, class of facts and aspect of which the table says something: .95 of the facts
decided rightly. Undecided is not right.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import probes
from benchmarks.harness import Bar, finish
from probes.reading.metrics import proportion
from probes.zoo.models import NAMES
from probes.zoo.workshop import RECIPE

RIGHT = 0.95


def examine(name: str, seed: int, size: str, facts: int, folder: Path) -> probes.Confusion:
    """Build a model, unless it is there already, and count."""
    torch.set_num_threads(1)
    at = folder / f"{name}-{size}-{seed}"
    planted = probes.load_planted(at) if (at / "zoo.json").is_file() else None
    if planted is None or planted.about.get("recipe") != RECIPE:
        shutil.rmtree(at, ignore_errors=True)  # half built by a run that was ended, or by an older version
        planted = probes.build_zoo(name, seed=seed, size=size, out=at)
    return probes.confusion((planted, found) for found in probes.examine(planted, facts=facts, seed=seed))


def bars(found: probes.Confusion) -> Iterable[Bar]:
    """Return a bar a cell."""
    for model, klass, aspect in found.counts:
        right = found.right(model, klass, aspect)
        yield Bar(f"truth.{model}.{klass}.{aspect}", right, RIGHT, "higher", "what was planted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where models are kept")
    parser.add_argument("--models", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", default="small")
    parser.add_argument("--facts", type=int, default=80, help="of each class and seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        how = (options.size, options.facts, options.folder)
        ran = {(n, s): pool.submit(examine, n, s, *how) for n in options.models for s in options.seeds}
        total, failed = None, {}
        for (name, seed), job in ran.items():
            try:
                found = job.result()
            except probes.BeliefError as error:  # a model that did not get there: said, and counted for nothing
                failed[f"{name}, seed {seed}"] = str(error)
                continue
            total = found if total is None else total + found
            print(f"{name}, seed {seed}: {sum(right for _, right, _, _ in found.counts.values())} right", flush=True)
    if total is None:
        raise SystemExit(f"no model was built: {failed}")
    print(total)
    for which, why in failed.items():
        print(f"NOT BUILT: {which}: {why}")
    built = proportion(len(ran) - len(failed), len(ran), how="models that reached what they are meant to have")
    every = [*bars(total), Bar("truth.built", built, 1.0, "higher", "what was asked for")]
    finish(every, ["torch", "transformers"], counts=total.to_dict(), not_built=failed)


if __name__ == "__main__":
    main()
