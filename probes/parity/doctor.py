"""Doctor: do a probe's scores survive batching, padding, cache, dtype and backend; which pass, and what is wrong.

1. The reference is each text alone: no padding, no cache, plain hooks, the dtype that the probe was fitted in.
2. Every other way of running the same texts is compared with it, at the tokens that the probe reads: the figure is the
   largest absolute difference of a score.
3. A way passes where its figure is within the margin. What fails is explained (faults.py), and a way that could not be
   run never passes.

Without a margin, it is a tenth of the standard deviation of the reference scores over the texts. A disturbance of that
size, independent of the scores, divides the distance of two classes in standard deviations by sqrt(1.01) at most: an
AUROC of .93 loses less than .001. It is a thousand times what float32 rounding does.

Without a probe, one is fitted on the spot: LDA of true and false statements of "capitals" at the last token, at two
thirds of the depth.

Limits: what holds of these texts need not hold of much longer ones. Each dtype needs memory for a second set of
weights, in that dtype; the bridge, for one in the model's own.
"""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from probes.activations.capture import capture
from probes.errors import BadInput, CouldNotRun, NotFound, TooFew, nearest
from probes.facts.facts import Statement, load_topic
from probes.model.language_model import DTYPES, LanguageModel, load_model
from probes.model.matching import match
from probes.model.sites import Site
from probes.parity.checks import Check, Report
from probes.parity.faults import distance, explain
from probes.parity.passes import Rows, Rule, alone, cached, clone, in_batches, left_padded, pick, places, run
from probes.reading.fitting import fit_lda
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe

__all__ = ["Reader", "doctor", "examine", "read_texts"]

Reader = Callable[[list[Any]], Any]
"""Somebody's own extraction: texts in, `Float["text d_model"]` out, at the probe's site and the last token."""
TOPIC = "capitals"
TEXTS = 24
STEPS = 6
"""Tokens of each text that are decoded one by one: a pass for each, over all of the weights."""
SHARE = 0.1
"""Of the standard deviation of the scores: the margin where none is given."""
UNLIKE = 1e-3
"""Relative distance of a reader's rows from which a cause is looked for, also where the scores pass."""


@torch.no_grad()
def doctor(
    model: LanguageModel,
    probe: LinearProbe | None = None,
    texts: Sequence[Any] | None = None,
    *,
    margin: float | None = None,
    reader: Reader | None = None,
    bridge: bool = False,
    dtypes: Iterable[str] = ("bfloat16", "float16"),
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Measure how far a probe's scores move with the way in which texts are run.

    Args:
        model: in the dtype that the probe was fitted in.
        probe: fitted on this model; without one, see above.
        texts: strings, chats or Statements, better of different lengths; else 24 drawn from a shipped topic.
        margin: the largest difference that passes, in score units, such as what would move a verdict.
        reader: also compare an extraction of your own, and name its fault. It is asked twice, with the texts in
            another order.
        bridge: also compare the TransformerLens bridge, which takes seconds to boot and a second copy of the weights.
        dtypes: also compare the model in these.
        seed: draws the texts, and the order in which the reader gets them.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Report; `report.probe` is the probe with the figures on it.

    Raises:
        Mismatch: the probe is of another model. TooFew: the scores are all the same, so there is no margin.
        BadInput: no texts, a text too long, a margin that is not positive, or an activation of the reference that is
            not finite. CouldNotRun: the model is inside a bridge.
    """
    words = _checked_dtypes(dtypes)
    if margin is not None and not (isfinite(margin) and margin > 0):
        raise BadInput(f"margin={margin} is no margin; give a positive number in the probe's score units")
    if model.bridge is not None:
        raise CouldNotRun("the doctor starts from plain modules; load the checkpoint plainly, and ask for the bridge")
    bench = _Bench(model, _fitting(model, probe, seed), *_prepared(model, texts, seed))
    limit = _margin(bench, margin)
    ways = list(_ways(bench, words, bridge))
    checks = []
    for name, compared, way in tqdm(ways, desc="comparing", disable=None if progress else True, leave=False):
        checks.append(_check(bench, name, compared, way, limit.value))
    if reader is not None:
        checks.append(_check_reader(bench, reader, limit.value, seed))
    about = f"{model.name}, {str(model.dtype).removeprefix('torch.')}, {model.device}"
    return Report(tuple(checks), limit, bench.probe, tuple(bench.given), about)


def examine(
    source: str,
    folder: str | os.PathLike | None = None,
    texts: Sequence[Any] | None = None,
    *,
    write: bool = False,
    **options: Any,
) -> tuple[Report, str]:
    """Load a model, and the probe in a folder, and call `doctor`; the model is opened in the probe's dtype.

    Returns:
        The report, and a sentence about what was written into the folder; empty where nothing was.

    Raises:
        BadInput: `write` without a folder. Else as `doctor`, `load_model` and `LinearProbe.load`.
    """
    if write and folder is None:
        raise BadInput("there is no probe to write the figures into; give its folder with --probe")
    probe = None if folder is None else LinearProbe.load(folder)
    dtype = None if probe is None else probe.fingerprint.get("dtype")
    report = doctor(load_model(source, dtype=dtype if dtype in DTYPES else None), probe, texts, **options)
    return report, report.write(folder) if write else ""


def read_texts(path: str | os.PathLike) -> list[str]:
    """Read one text a line, leaving out empty lines.

    Raises:
        NotFound: there is no such file. BadInput: it is not UTF-8, or holds no text.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; save it as UTF-8, one text a line") from error
    if not any(lines):
        raise BadInput(f"{path} holds no text; write one text a line")
    return [line for line in lines if line]


# -------------------------------------------------------------------------------------------------------- the reference


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every check shares. Texts are in an order of their own, so that figures do not hang on the caller's."""

    model: LanguageModel
    probe: LinearProbe
    given: list[Any]
    texts: list[Any]
    encoded: list[list[int]]
    origin: list[int]

    @property
    def site(self) -> Site:
        return self.probe.site

    @property
    def rule(self) -> Rule:
        """Where the probe reads; every token, for a rule that a text alone does not settle."""
        tokens = self.probe.tokens
        if tokens in ("last", "mean", "all"):
            return tokens
        shortest = min(map(len, self.encoded))
        fits = tokens.removeprefix("-").isdecimal() and -shortest <= int(tokens) < shortest
        return int(tokens) if fits else "all"

    @cached_property
    def right(self) -> Rows:
        rows = alone(self.model, self.encoded, self.site, self.rule)
        for i, values in enumerate(rows):
            if not torch.isfinite(values).all():
                raise BadInput(
                    f"text {self.origin[i]}: the activation at {_first_bad(self.model, self.encoded[i], self.site)} is "
                    "not finite; the model is broken, or overflows in its dtype"
                )
        return rows


def _prepared(
    model: LanguageModel, texts: Sequence[Any] | None, seed: int
) -> tuple[list[Any], list[Any], list[list[int]], list[int]]:
    if isinstance(texts, str):
        raise BadInput("texts is one string; give a list of texts")
    given = _drawn(seed) if texts is None else [t.text if isinstance(t, Statement) else t for t in texts]
    if not given:
        raise BadInput("the list of texts is empty; give at least one text, or leave texts out")
    encoded = []
    for i, text in enumerate(given):
        try:
            encoded.append(model.encode(text))
        except BadInput as error:
            raise BadInput(f"text {i}: {error}") from error
    order = sorted(range(len(given)), key=lambda i: (len(encoded[i]), encoded[i]))
    return given, [given[i] for i in order], [encoded[i] for i in order], order


def _drawn(seed: int) -> list[str]:
    """Draw texts of one to three statements: without different lengths nothing would be padded."""
    statements = [statement.text for statement in load_topic(TOPIC).statements(seed=seed)]
    chosen = iter(np.random.default_rng(seed).permutation(len(statements)))
    return [" ".join(statements[next(chosen)] for _ in range(1 + i % 3)) for i in range(TEXTS)]


def _fitting(model: LanguageModel, probe: LinearProbe | None, seed: int) -> LinearProbe:
    if probe is None:
        site = Site("resid_post", min(2 * model.n_layers // 3, model.n_layers - 1))
        acts = capture(model, load_topic(TOPIC).statements(seed=seed), site)
        about = {"tokens": "last", "concept": f"true {TOPIC}", "fingerprint": acts.fingerprint}
        return fit_lda(acts.values[site], acts.labels, site=site, **about)
    model.sites(probe.site)
    model.check(probe.site)
    if probe.d_model != model.d_model:
        raise BadInput(f"the probe reads width {probe.d_model}; {model.name} has {model.d_model}: give its own model")
    if probe.fingerprint:
        actual = model.fingerprint
        if "dtype" in match(probe.fingerprint, actual, allow={"dtype"}):
            raise BadInput(
                f"the probe was fitted in {probe.fingerprint.get('dtype')} and this model is in {actual['dtype']}; "
                "load it in the probe's dtype, the doctor makes the others from it"
            )
    return probe


def _margin(bench: _Bench, margin: float | None) -> Estimate:
    n = len(bench.texts)
    how = "given"
    if margin is None:
        scores = torch.cat([bench.probe.scores(rows) for rows in bench.right]).double()
        spread = float(scores.std()) if len(scores) > 1 else 0.0
        # Below this, what differs between texts is what float32 rounds, and no ruler.
        if spread <= 1e-5 * max(1.0, float(scores.abs().max())):
            raise TooFew(f"the scores of {n} texts hardly differ ({spread:.2g}), so no margin follows; give one", 2)
        margin, how = SHARE * spread, f"{SHARE:g} x the standard deviation of the scores of {n} texts, {spread:.3g}"
    return Estimate(margin, margin, margin, n, how=how)


def _checked_dtypes(dtypes: Iterable[str]) -> list[str]:
    words = list(dict.fromkeys([dtypes] if isinstance(dtypes, str) else dtypes))
    for word in words:
        if word not in DTYPES:
            raise BadInput(f"{word!r} is no dtype; {nearest(str(word), DTYPES)}")
    return words


# --------------------------------------------------------------------------------------------------- ways to run a text

Way = Callable[[], Rows]


def _ways(bench: _Bench, dtypes: Iterable[str], bridge: bool) -> Iterator[tuple[str, str, Way]]:
    model, texts, site, rule = bench.model, bench.texts, bench.site, bench.rule
    yield "batched", "capture: padded on the right, with a mask", lambda: in_batches(model, texts, site, rule)
    yield "left_padding", "padded on the left, as generate does", lambda: _left_padded(bench)
    yield "kv_cache", "the last tokens one by one over a cache", lambda: _cached(bench, _by_token)
    yield "chunked_prefill", "in three pieces over a cache", lambda: _cached(bench, _in_three)
    yield "attention", f"{_other_attention(model)} attention", lambda: _attention(bench)
    for word in dtypes:
        if DTYPES[word] != model.dtype:
            yield word, f"{word} weights, alone and batched", lambda word=word: _in_dtype(bench, word)
    if bridge:
        yield "bridge", "TransformerLens bridge", lambda: _on_bridge(bench)


def _left_padded(bench: _Bench) -> Rows:
    if len(set(map(len, bench.encoded))) == 1:
        raise CouldNotRun("all texts have the same length, so nothing is padded; give texts of different lengths")
    return left_padded(bench.model, bench.encoded, bench.site, bench.rule)


def _cached(bench: _Bench, cut: Callable[[int], list[int]]) -> Rows:
    if max(map(len, bench.encoded)) == 1:
        raise CouldNotRun("every text is a single token, so nothing is cached; give longer texts")
    return cached(bench.model, bench.encoded, bench.site, bench.rule, cut)


def _by_token(length: int) -> list[int]:
    return list(range(max(1, length - STEPS), length))


def _in_three(length: int) -> list[int]:
    return sorted({at for at in (length // 3, 2 * length // 3) if 0 < at < length})


def _other_attention(model: LanguageModel) -> str:
    return "sdpa" if getattr(model.config, "_attn_implementation", None) == "eager" else "eager"


def _attention(bench: _Bench) -> Rows:
    return alone(clone(bench.model, attention=_other_attention(bench.model)), bench.encoded, bench.site, bench.rule)


def _in_dtype(bench: _Bench, word: str) -> Rows:
    """The texts in another dtype, alone and batched: of each row, the one whose score moved further."""
    second = clone(bench.model, dtype=DTYPES[word])
    single = alone(second, bench.encoded, bench.site, bench.rule)
    for i, rows in enumerate(single):
        if not torch.isfinite(rows).all():
            where = _first_bad(second, bench.encoded[i], bench.site)
            raise _NotFinite(i, f"{word} overflows at {where}: text {bench.origin[i]} is not finite from there on")
    batched = in_batches(second, bench.texts, bench.site, bench.rule)
    return [_further(bench.probe, *rows) for rows in zip(bench.right, single, batched, strict=True)]


def _further(probe: LinearProbe, right: Tensor, a: Tensor, b: Tensor) -> Tensor:
    moved = [(probe.scores(rows) - probe.scores(right)).abs() for rows in (a, b)]
    return torch.where((moved[0] >= moved[1]).unsqueeze(-1), a, b)


def _on_bridge(bench: _Bench) -> Rows:
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError as error:
        raise CouldNotRun("TransformerLens is not installed; pip install transformer-lens") from error
    second = clone(bench.model, own=True)  # booting replaces modules
    options = {"tokenizer": copy.deepcopy(second.tokenizer), "dtype": second.dtype, "device": str(second.device)}
    with torch.random.fork_rng(devices=[]):  # booting draws numbers
        booted = TransformerBridge.boot_transformers("given", hf_model=second.module, **options)
    name = f"blocks.{bench.site.layer}.hook_{bench.site.name}"
    rows = []
    for ids in bench.encoded:
        _, cache = booted.run_with_cache(second.collate([ids])["input_ids"])
        rows.append(pick(bench.rule, cache[name][0].detach().to("cpu", torch.float32)))
    return rows


class _NotFinite(Exception):
    """A row of the text with this index is not finite; never leaves this file."""

    def __init__(self, index: int, cause: str):
        super().__init__(cause)
        self.index = index


def _first_bad(model: LanguageModel, ids: list[int], site: Site) -> Site:
    sites = [*(Site("resid_post", layer) for layer in range(site.layer)), site]
    seen, _ = run(model, sites, model.collate([ids]))
    return next((at for at in sites if not torch.isfinite(seen[at]).all()), site)


# ------------------------------------------------------------------------------------------------------------- verdicts


def _check(bench: _Bench, name: str, compared: str, way: Way, margin: float) -> Check:
    n = len(bench.texts)
    try:
        return _judge(bench, Check(name, compared, None, None, None, None, margin, None, n), way())
    except _NotFinite as error:
        where = bench.origin[error.index]
        return Check(name, compared, None, None, where, None, margin, False, n, str(error))
    except Exception as error:  # noqa: BLE001 - whatever stops one way is its finding, and the others go on
        broken = isinstance(error, BadInput) and "not finite" in str(error)
        return Check(name, compared, None, None, None, None, margin, False if broken else None, n, _said(error))


def _judge(bench: _Bench, check: Check, rows: Rows) -> Check:
    check = _measured(bench, check, rows)
    if check.passed:
        return check
    return replace(check, cause=_found(lambda: _cause(bench, check, torch.cat(rows), torch.cat(bench.right))))


def _measured(bench: _Bench, check: Check, rows: Rows) -> Check:
    """Return the check with how far scores moved, and where most; a score that is not finite moved farthest."""
    found, right = torch.cat(rows), torch.cat(bench.right)
    where = [(i, at) for i, ids in enumerate(bench.encoded) for at in places(bench.rule, len(ids))]
    moved = (bench.probe.scores(found) - bench.probe.scores(right)).abs()
    text, position = where[int(torch.where(torch.isfinite(moved), moved, torch.inf).argmax())]
    finite = bool(torch.isfinite(moved).all())
    return replace(
        check,
        difference=float(moved.max()) if finite else None,
        relative=distance(found, right) if finite else None,
        text=bench.origin[text],
        position=position,
        passed=finite and float(moved.max()) <= check.margin,
    )


def _found(search: Callable[[], str]) -> str:
    """Return the cause; a search that stops must not turn a failure into something that was not run."""
    try:
        return search() or "no known fault reproduces it"
    except Exception as error:  # noqa: BLE001
        return f"unknown: the search for it stopped, {_said(error)}"


def _cause(bench: _Bench, check: Check, found: Tensor, right: Tensor) -> str:
    if check.difference is None:
        return f"text {check.text}: the score at token {check.position} is not finite"
    if check.name in DTYPES:
        # The weights rounded and the arithmetic left as it was: what is left is the arithmetic's.
        exact = clone(clone(bench.model, dtype=DTYPES[check.name]), dtype=bench.model.dtype)
        rows = torch.cat(alone(exact, bench.encoded, bench.site, bench.rule))
        part = float((bench.probe.scores(rows) - bench.probe.scores(right)).abs().max())
        digits = {"bfloat16": 8, "float16": 11, "float32": 24}[check.name]
        return (
            f"rounding to {digits} bits: activations move by {check.relative:.1g} of their norm; "
            f"rounded weights alone move a score by up to {part:.2g}"
        )
    if bench.rule != "last":
        return "no known fault was looked for: that needs a probe of the last token"
    return explain(bench.model, bench.texts, bench.site, found, right)


def _check_reader(bench: _Bench, reader: Reader, margin: float, seed: int) -> Check:
    """Compare somebody's rows, asked for in another order: sorting by length must not go unnoticed."""
    bench = replace(bench, probe=replace(bench.probe, tokens="last"))
    check = Check("reader", "your own reader", None, None, None, None, margin, None, len(bench.texts))
    order = np.random.default_rng(seed).permutation(len(bench.texts)).tolist()
    right = torch.cat(bench.right)[order]
    try:
        given = _rows_of(reader, [bench.texts[i] for i in order])
    except Exception as error:  # noqa: BLE001 - the reader is not ours: whatever it raises is its finding
        return replace(check, passed=None, cause=_said(error))
    if given.shape != right.shape or not torch.isfinite(given).all():
        texts = [bench.texts[i] for i in order]
        return replace(check, passed=False, cause=_found(lambda: explain(bench.model, texts, bench.site, given, right)))
    rows = dict(zip(order, given, strict=True))
    check = _measured(bench, check, [rows[i][None] for i in range(len(order))])
    if check.relative <= UNLIKE and check.passed:
        return check
    return replace(check, cause=_found(lambda: _cause_of_reader(bench, reader, given, right, order)))


def _cause_of_reader(bench: _Bench, reader: Reader, given: Tensor, right: Tensor, order: list[int]) -> str:
    # Few texts make a batch of them likely to be one batch of the reader's, whose make-up is then known.
    texts, few = [bench.texts[i] for i in order], min(8, len(order))
    again = _rows_of(reader, texts[:few])
    if again.shape == right[:few].shape and distance(again, right[:few]) > 0.1 * distance(given, right):
        texts, given, right = texts[:few], again, right[:few]
    return explain(bench.model, texts, bench.site, given, right)


def _rows_of(reader: Reader, texts: list[Any]) -> Float[Tensor, "text width"]:
    given = reader(texts)
    rows = given.detach() if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=np.float32))
    if rows.ndim != 2 or len(rows) != len(texts):
        raise BadInput(f"the reader returned {tuple(rows.shape)} for {len(texts)} texts; it must return a row a text")
    return rows.to("cpu", torch.float32)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, BadInput | CouldNotRun) else f"{type(error).__name__}: {text}"
