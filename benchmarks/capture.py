"""How fast is capture: against the bare forward pass, and against everybody else's way to the same numbers.

    python benchmarks/capture.py                       # the embedded model, statements of the project's own
    python benchmarks/capture.py --statements DIR      # also texts of DIR/larger_than.csv and facts.csv

Peers are called as their users do (texts in their own order, batches of 32, padding and mask by the tokenizer), and at
their best (cut after the layer that is asked for). Each contender's numbers are compared with `capture` of one text at
a time before anything is timed: what reads something else does not compete.
"""

import argparse
import csv
import warnings
from collections.abc import Callable, Sequence
from copy import copy
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from harness import Bar, finish, interleave, missing_bar, peak_mib, ratio
from torch import Tensor, nn

import probes
from probes.activations.packing import length_batches
from probes.reading.metrics import quantile

MODEL = "smollm2-135m"
LAYER = 15
BATCH = 32
SHARING = {"default": None, "plain": False}
Contender = Callable[[Sequence[str]], Tensor | None]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--statements", type=Path, help="a folder with larger_than.csv and facts.csv")
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--only", choices=["peers", "prefixes", "memory"], action="append")
    given = options.parse_args()
    warnings.simplefilter("ignore")  # peers warn about their own insides
    chosen = given.only or ["peers", "prefixes", "memory"]
    model = probes.load_model(MODEL)
    texts = [statement.text for statement in probes.load_topic("cities").statements()]
    bars: list[Bar] = []
    if "peers" in chosen:
        bars += against_peers(model, texts[:400], given.rounds)
    if "prefixes" in chosen:
        bars += past_the_limit(model, texts[:400], given.statements, given.rounds)
    if "memory" in chosen:
        bars += memory()
    finish(bars, ["torch", "transformers", "transformer-lens", "nnsight", "pyvene"])


# ------------------------------------------------------------------------------------------------------ against peers


def against_peers(model: probes.LanguageModel, texts: list[str], rounds: int) -> list[Bar]:
    """Time all layers and one layer, 100 statements a round."""
    work = [texts[start : start + 100] for start in range(0, len(texts), 100)]
    bars: list[Bar] = []
    for what, layers in (("all_layers", range(model.n_layers)), ("one_layer", [LAYER])):
        truth = _truth(model, texts[:8], layers)
        contenders = {"limit": _limit(model, max(layers)), **_ours(model, layers)}
        for name, make in PEERS.items():
            for best in (False, True):
                label = f"{name}_best" if best else name
                try:
                    contender = make(model, layers, best)
                except ImportError:
                    continue  # its bars say that it is missing
                if contender is not None:
                    contenders[label] = _checked(label, contender, texts[:8], truth)
        seconds = _timed(contenders, work, rounds)
        bars += _peer_bars(what, seconds)
    return bars


def _timed(contenders: dict[str, Contender], work: Sequence[list[str]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Time contenders in turns; in each turn all have the same piece of work."""

    def turns(contender: Contender) -> Callable[[], Any]:
        pieces = cycle(work)
        return lambda: contender(next(pieces))

    return interleave({name: turns(contender) for name, contender in contenders.items()}, samples=rounds)


def _peer_bars(what: str, seconds: dict[str, tuple[float, ...]]) -> list[Bar]:
    bar = 1.25 if what == "all_layers" else 2.3
    for name, times in seconds.items():
        found = ratio(times, seconds["limit"])
        print(f"{what:<11}{name:<28}{found.value:7.3f} of the limit's time [{found.lower:.3f}, {found.upper:.3f}]")
    bars = []
    at_best = {name: times for name, times in seconds.items() if name.endswith("_best")}
    for name in PEERS:
        if name in seconds:
            faster = ratio(seconds[name], seconds["capture"])
            bars.append(Bar(f"capture.{what}_faster_than_{name}", faster, bar, "higher"))
        else:
            bars.append(missing_bar(f"capture.{what}_faster_than_{name}", bar, "higher", name))
    if at_best:
        fastest = min(at_best, key=lambda name: sorted(at_best[name])[len(at_best[name]) // 2])
        over = ratio(seconds["capture"], at_best[fastest])
        bars.append(Bar(f"capture.{what}_over_{fastest}", over, 1.03, "lower"))
    return bars


def _truth(model: probes.LanguageModel, texts: list[str], layers: Sequence[int]) -> Tensor:
    acts = probes.capture(model, texts, [f"resid_post.{i}" for i in layers], batch_size=1, share_prefixes=False)
    return torch.stack(list(acts.values.values()))


def _checked(name: str, contender: Contender, texts: list[str], truth: Tensor) -> Contender:
    got = contender(texts)
    gap = float((got - truth).norm() / truth.norm())
    if not gap < 1e-4:
        raise SystemExit(f"{name} reads something else: relative difference {gap:.2g}")
    return contender


def _limit(model: probes.LanguageModel, deepest: int) -> Contender:
    """The bare decoder, cut after the deepest layer: no logits, nothing kept, batches by length, ids at hand."""
    body = copy(model.body)
    body._modules = {**model.body._modules, "layers": model.body.layers[: deepest + 1], "norm": nn.Identity()}
    ready: dict[tuple[str, ...], list[dict[str, Tensor]]] = {}

    def batches(texts: Sequence[str]) -> list[dict[str, Tensor]]:
        key = tuple(texts)
        if key not in ready:
            encoded = [model.encode(text) for text in texts]
            ready[key] = [model.collate([encoded[i] for i in batch]) for batch in length_batches(encoded, BATCH)]
        return ready[key]

    @torch.no_grad()
    def run(texts: Sequence[str]) -> None:
        for batch in batches(texts):
            body(**batch, use_cache=False)

    return run


def _ours(model: probes.LanguageModel, layers: Sequence[int]) -> dict[str, Contender]:
    sites = [f"resid_post.{i}" for i in layers]

    def run(share: bool | None) -> Contender:
        return lambda texts: torch.stack(
            list(probes.capture(model, texts, sites, share_prefixes=share).values.values())
        )

    return {"capture": run(None), "plain": run(False)}


def _in_batches(texts: Sequence[str], read: Callable[[list[str]], Tensor]) -> Tensor:
    return torch.cat([read(list(texts[start : start + BATCH])) for start in range(0, len(texts), BATCH)], dim=1)


def _hidden_states(model: probes.LanguageModel, layers: Sequence[int], best: bool) -> Contender | None:
    """transformers: output_hidden_states; its last entry is after the final norm, so a hook keeps what comes before."""
    if best:
        return None
    plain, tokenizer, final = _once("plain", _plain_model), model.tokenizer, {}
    plain.model.norm.register_forward_hook(lambda _, args, __: final.__setitem__("resid_post", args[0]))

    @torch.no_grad()
    def read(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        states = plain(**batch, output_hidden_states=True).hidden_states
        states = (*states[1:-1], final["resid_post"])
        rows, last = torch.arange(len(texts)), batch["attention_mask"].sum(1) - 1
        return torch.stack([states[layer][rows, last] for layer in layers])

    return lambda texts: _in_batches(texts, read)


def _transformer_lens(model: probes.LanguageModel, layers: Sequence[int], best: bool) -> Contender | None:
    stop = {"stop_at_layer": max(layers) + 1} if best else {}
    if best and max(layers) == model.n_layers - 1:
        return None  # nothing to stop before
    from transformer_lens.model_bridge import TransformerBridge

    bridge = _once("bridge", lambda: TransformerBridge.boot_transformers(_folder()))
    names = [f"blocks.{i}.hook_resid_post" for i in layers]

    @torch.no_grad()
    def read(texts: list[str]) -> Tensor:
        batch = model.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        _, cache = bridge.run_with_cache(ids, attention_mask=mask, names_filter=names, **stop)
        return torch.stack([cache[name][torch.arange(len(texts)), mask.sum(1) - 1] for name in names])

    return lambda texts: _in_batches(texts, read)


def _nnsight(model: probes.LanguageModel, layers: Sequence[int], best: bool) -> Contender:
    import nnsight

    wrapped = _once("nnsight", lambda: nnsight.LanguageModel(_plain_model(), tokenizer=_tokenizer("left")))

    def read(texts: list[str]) -> Tensor:
        with torch.no_grad(), wrapped.trace(texts) as tracer:
            found = nnsight.save([wrapped.model.layers[i].output[:, -1] for i in layers])
            if best:
                tracer.stop()
        return torch.stack(list(found))

    return lambda texts: _in_batches(texts, read)


def _pyvene(model: probes.LanguageModel, layers: Sequence[int], best: bool) -> Contender | None:
    if best:
        return None
    import pyvene

    config = [
        {"layer": i, "component": "block_output", "intervention_type": pyvene.CollectIntervention} for i in layers
    ]
    wrapped = pyvene.IntervenableModel(pyvene.IntervenableConfig(config), model=_plain_model())
    wrapped.disable_model_gradients()
    tokenizer = _tokenizer("left")

    @torch.no_grad()
    def read(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        (_, collected), _ = wrapped(batch, unit_locations={"base": batch["input_ids"].shape[1] - 1})
        return torch.stack([one.reshape(len(texts), -1) for one in collected])

    return lambda texts: _in_batches(texts, read)


PEERS = {
    "hidden_states": _hidden_states,
    "transformer_lens": _transformer_lens,
    "nnsight": _nnsight,
    "pyvene": _pyvene,
}
_made: dict[str, Any] = {}


def _once(name: str, make: Callable[[], Any]) -> Any:
    if name not in _made:
        _made[name] = make()
    return _made[name]


def _folder() -> str:
    from probes.model import embedded

    return str(embedded.folder(MODEL))


def _plain_model() -> nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(_folder(), dtype=torch.float32)


def _tokenizer(side: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_folder(), padding_side=side)


# ----------------------------------------------------------------------------------------------------- past the limit


def past_the_limit(model: probes.LanguageModel, cities: list[str], folder: Path | None, rounds: int) -> list[Bar]:
    """Time texts that share beginnings against the bare forward pass of the same texts."""
    works = {"own_cities": (cities, 1.8)}
    if folder is not None:
        for name, bar in (("larger_than", 3.0), ("facts", 1.0)):
            with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
                works[name] = ([row["statement"] for row in csv.DictReader(file)][:400], bar)
    bars = []
    for name, (texts, bar) in works.items():
        ours = _ours(model, range(model.n_layers))
        contenders = {"limit": _limit(model, model.n_layers - 1), "capture": ours["capture"]}
        if name == "own_cities":
            contenders["plain"] = ours["plain"]
        seconds = _timed(contenders, [texts], rounds)
        bars += _over_limit("all_layers", seconds)
        bars.append(Bar(f"capture.prefixes_{name}", ratio(seconds["limit"], seconds["capture"]), bar, "higher"))
        shared, alone = (
            torch.stack(list(probes.capture(model, texts, share_prefixes=share, batch_size=size).values.values()))
            for share, size in ((None, BATCH), (False, 1))
        )
        gap = float(((shared - alone).norm(dim=-1) / alone.norm(dim=-1)).max())
        bars.append(Bar(f"capture.prefixes_{name}_difference", _exactly(gap, len(texts)), 1e-5, "lower"))
    contenders = {"limit": _limit(model, LAYER), **_ours(model, [LAYER])}
    return bars + _over_limit("one_layer", _timed(contenders, [cities], rounds))


def _over_limit(what: str, seconds: dict[str, tuple[float, ...]]) -> list[Bar]:
    """Compare the call as it is, and with nothing shared, to the limit; nothing where the latter was not timed."""
    names = {"capture": "", "plain": "_without_sharing"} if "plain" in seconds else {}
    return [
        Bar(f"capture.{what}{words}_over_limit", ratio(seconds[name], seconds["limit"]), 1.03, "lower")
        for name, words in names.items()
    ]


# ------------------------------------------------------------------------------------------------------------- memory


SETUP = """
import sys, torch, probes
from probes.activations.packing import length_batches
model = probes.load_model("smollm2-135m", device="cpu")
texts = [s.text for s in probes.load_topic("cities").statements()][:400]
float(sum(p.detach().sum() for p in model.module.parameters()))  # safetensors maps weights lazily: have them all
"""
BARE = (
    SETUP
    + """
encoded = [model.encode(text) for text in texts]
with torch.no_grad():
    for batch in length_batches(encoded, 32):
        model.body(**model.collate([encoded[i] for i in batch]), use_cache=False)
"""
)
READ = SETUP + "acts = probes.capture(model, texts, share_prefixes={share})\n"


def memory(runs: int = 7) -> list[Bar]:
    """Compare peak memory with the bare forward pass and the result: 400 x 30 x 576 float32, 26 MiB.

    One run says little: which holes of the heap are found again differs from process to process.
    """
    result = 400 * 30 * 576 * 4 / 2**20
    codes = {"bare": BARE} | {name: READ.format(share=share) for name, share in SHARING.items()}
    peaks = [{name: peak_mib(code) for name, code in codes.items()} for _ in range(runs)]
    more = {name: [peak[name] - peak["bare"] - result for peak in peaks] for name in SHARING}
    how = f"median of {runs} paired differences; order-statistic interval"
    return [
        Bar(f"capture.memory_{name}_over_bare_mib", quantile(over, 0.5, how=how), 20, "lower")
        for name, over in more.items()
    ]


def _exactly(value: float, n: int) -> probes.Estimate:
    return probes.Estimate(value, value, value, n, how="the largest seen; no interval")


if __name__ == "__main__":
    main()
