"""Fitting every layer x C x fold in one call, against the scikit-learn loop that a user would write.

    python benchmarks/sweep.py [--quick] [--real] [--samples N]

Both sides standardise on the rows of each fold, get the same float32 activations, and go to the same solution:
scikit-learn at the loosest tolerance whose decision function is within 1e-4 of a far tighter fit (its AUROC within
1e-3), looked for on the middle layer and the first fold. There are two bars each: against the loop as it is usually
written, with the default solver (lbfgs), and, under the same figure, against the fastest of the other solvers
(`..._over_fastest`), which one has to know of. A grid is measured on one layer a turn, another one each turn, since a
loop over all thirty takes many minutes.

Activations: 30 layers x 2,000 x 576, either drawn (spectrum falling as rank^-.7, offsets, one massive feature, labels
that the later layers know better), or with --real the embedded model's on the project's own statements.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import probes
from benchmarks.harness import Bar, finish, interleave, ratio
from probes.reading.metrics import auroc_values

LAYERS, ROWS, WIDTH = 30, 2000, 576
ONE_C = {"usual C (.01)": (0.01,)}
ANOTHER_C = {"scikit-learn's C (1)": (1.0,)}
GRID_C = (0.0001, 0.001, 0.01, 0.1, 1.0)
FOLDS = 5
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
SOLVERS = (
    ("lbfgs", np.float32),
    ("lbfgs", np.float64),
    ("newton-cg", np.float32),
    ("newton-cholesky", np.float64),
)
AGREE, AGREE_AUROC = 1e-4, 1e-3


@dataclass(frozen=True, eq=False)
class Task:
    """What both sides fit."""

    features: torch.Tensor
    labels: torch.Tensor
    C: Sequence[float]
    folds: torch.Tensor | None


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw activations with the spectrum of a residual stream."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ROWS) % 2 == 0
    spectrum = (1 + np.arange(WIDTH)) ** -0.7
    layers = np.empty((LAYERS, ROWS, WIDTH), dtype=np.float32)
    for layer in range(LAYERS):
        inner = rng.standard_normal((ROWS, WIDTH)) * spectrum
        inner[:, 3:12] += 0.25 * layer / LAYERS * spectrum[3:12] * (2 * labels[:, None] - 1)
        basis = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
        layers[layer] = 10 * inner @ basis + rng.normal(0, 3, WIDTH)
        layers[layer, :, 7] = 400 + 30 * layers[layer, :, 7]
    return torch.from_numpy(layers), torch.from_numpy(labels)


def read() -> tuple[torch.Tensor, torch.Tensor]:
    """Read the embedded model's activations of the project's own statements."""
    model = probes.load_model("smollm2-135m", device="cpu")
    names = ("cities", "spanish", "capitals", "animals")
    texts = [statement for name in names for statement in probes.load_topic(name).statements()][:ROWS]
    acts = probes.capture(model, texts, "resid_post.*")
    return torch.stack(list(acts.values.values())), acts.labels


def ours(task: Task) -> np.ndarray:
    """Return decision functions, layer x fold x C x row, of one public call."""
    found = probes.fit_grid(task.features, task.labels, C=task.C, folds=task.folds)
    scores = [found.scores(site, x) for site, x in zip(found.sites, task.features, strict=True)]
    return torch.stack(scores).permute(0, 2, 3, 1).numpy()


def theirs(task: Task, solver: str, dtype: type, tolerance: float, score: bool = True) -> np.ndarray:
    """Return the same of the loop that a user would write."""
    labels, out = task.labels.numpy(), []
    folds = [np.ones(len(labels), dtype=bool)] if task.folds is None else task.folds.numpy()
    for layer in task.features.numpy():
        x = layer.astype(dtype, copy=False)
        for rows in folds:
            for C in task.C:
                fit = make_pipeline(
                    StandardScaler(), LogisticRegression(C=C, solver=solver, tol=tolerance, max_iter=20000)
                )
                fit.fit(x[rows], labels[rows])
                out.append(fit.decision_function(x) if score else None)
    return np.reshape(out, (len(task.features), len(folds), len(task.C), -1)) if score else np.empty(0)


def gaps(task: Task, found: np.ndarray, best: np.ndarray) -> tuple[float, float]:
    """Return the largest differences of decision function and of AUROC over all fits, each on all rows."""
    flat, reference = (a.reshape(-1, a.shape[-1]).T.astype(np.float64) for a in (found, best))
    areas = [auroc_values(scores, task.labels.numpy()) for scores in (flat, reference)]
    return float(np.abs(flat - reference).max()), float(np.abs(areas[0] - areas[1]).max())


def agreeing(task: Task) -> dict[str, tuple[str, type, float]]:
    """Return scikit-learn's solvers at their loosest tolerance that reaches the solution, and print all gaps."""
    best = theirs(task, "newton-cholesky", np.float64, 1e-12)
    print(f"  largest gap of fit_grid: decision function {gaps(task, ours(task), best)[0]:.1e}")
    found = {}
    for solver, dtype in SOLVERS:
        if any(name.startswith(f"{solver} ") for name in found):
            continue  # float32 gets there, and float64 takes longer
        name = f"{solver} {np.dtype(dtype).name}"
        for tolerance in TOLERANCES:
            decision, area = gaps(task, theirs(task, solver, dtype, tolerance), best)
            if decision <= AGREE and area <= AGREE_AUROC:
                found[f"{name} tol {tolerance:g}"] = solver, dtype, tolerance
                break
        else:
            print(f"  {name}: {decision:.1e} off at tolerance {tolerance:g}, does not reach the solution")
    return found


def measure(id: str, tasks: Sequence[Task], bar: float, samples: int) -> tuple[list[Bar], dict]:
    """Time the public call against every solver that reaches the solution, a task a turn."""
    print(f"{id}:")
    middle = tasks[len(tasks) // 2]
    few = middle.features[len(middle.features) // 2 :][:1]
    peers = agreeing(replace(middle, features=few, folds=None if middle.folds is None else middle.folds[:1]))
    turn = {"at": 0}

    def current() -> Task:
        return tasks[turn["at"] // (len(peers) + 1) % len(tasks)]

    def contender(call: Callable[[Task], object]) -> Callable[[], None]:
        def timed() -> None:
            call(current())
            turn["at"] += 1

        return timed

    def fit(task: Task) -> None:
        probes.fit_grid(task.features, task.labels, C=task.C, folds=task.folds)

    calls = {"fit_grid": contender(fit)}
    for name, arguments in peers.items():
        calls[name] = contender(lambda task, arguments=arguments: theirs(task, *arguments, score=False))
    seconds = interleave(calls, samples=samples)
    ratios = {name: ratio(seconds[name], seconds["fit_grid"]) for name in peers}
    for name, each in seconds.items():
        print(f"  {name:<34} {np.median(each):8.3f} s" + (f"   x {ratios[name]}" if name in ratios else ""))
    also = {name: estimate.to_dict() for name, estimate in ratios.items()}
    bars = []
    for suffix, usual in (("", True), ("_over_fastest", False)):
        names = [name for name in ratios if name.startswith("lbfgs") == usual]
        fastest = min(names, key=lambda name: ratios[name].value)
        bars.append(Bar(id + suffix, ratios[fastest], bar, "higher", f"scikit-learn, {fastest}"))
    return bars, also


def whole(features: torch.Tensor, labels: torch.Tensor) -> None:
    """Print how long `sweep` takes with its intervals and 200 shuffles, next to which the fits are one part."""
    rows = torch.arange(len(labels))
    acts = probes.Activations(
        values={probes.Site("resid_post", layer): values for layer, values in enumerate(features)},
        example=rows,
        position=torch.zeros_like(rows),
        tokens="last",
        texts=tuple(f"text {row}" for row in rows.tolist()),
        labels=labels,
        groups=tuple(f"entity {row // 2}" for row in rows.tolist()),
        fingerprint={},
    )
    for options in ({}, {"C": GRID_C, "folds": FOLDS}):
        (seconds,) = interleave(
            {"sweep": lambda options=options: probes.sweep(acts, estimators="logistic", **options)},
            samples=1,
            warmups=0,
        )["sweep"]
        print(f"the whole of sweep(acts, estimators='logistic', {options}): {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three layers, three turns")
    parser.add_argument("--real", action="store_true", help="activations of the embedded model")
    parser.add_argument("--samples", type=int, default=0, help="turns; 6 where nothing is said")
    parser.add_argument("--only", choices=["one", "grid"], help="one half of it")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    warnings.simplefilter("ignore")  # scikit-learn warns of a tolerance that float32 cannot reach
    features, labels = read() if options.real else drawn()
    if options.quick:
        features = features[:: LAYERS // 3]
    bars, also = [], {"activations": "embedded model" if options.real else "drawn"}
    if options.only != "grid":
        for words, C in {**ONE_C, **(ANOTHER_C if options.only is None and not options.quick else {})}.items():
            id = "sweep.one_c" if C == (0.01,) else "sweep.one_c_of_scikit_learn"
            print(words)
            samples = options.samples or (3 if options.quick else 6)
            found, also[id] = measure(id, [Task(features, labels, C, None)], 3.5, samples)
            bars += found
    if options.only != "one":
        folds = torch.arange(len(labels)) // 2 % FOLDS != torch.arange(FOLDS)[:, None]
        turns = features[:: max(1, len(features) // 6)]
        tasks = [Task(layer[None], labels, GRID_C, folds) for layer in turns]
        found, also["sweep.grid"] = measure("sweep.grid", tasks, 8.0, options.samples or (2 if options.quick else 6))
        bars += found
    if options.only is None:
        whole(features, labels)
    finish(bars, ["torch", "scikit-learn", "numpy", "scipy"], also=also)


if __name__ == "__main__":
    main()
