"""Fit and certify a monitor for one fact: from prompts to a Monitor, in four steps.

1. Let the model answer the training prompts and keep what it held where it decided each token. Positive is the decision
   on the first token of an answer that needs the fact; negative is every decision of an answer that does not, so
   that the probe has met the tokens it will see when a whole response is watched.
2. Choose the layer by cross-validation over frames: the one whose worst benign kind is furthest, in pooled standard
   deviations (d'), from the uses, each response by its largest score. Then `sweep` all layers on the decisions on
   first tokens, where uses and benign prompts are read at the same place: split by frame, beside controls, reported
   on frames that neither fit nor choice has seen.
3. Refit at the chosen site on all training frames: logistic regression on standardised features.
4. Record benign responses to the calibration prompts, and set the threshold that each benign kind keeps
   (`monitors.traffic`). Calibration frames were not seen in steps 1 to 3.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from monitors import traffic
from monitors.monitor import Monitor
from monitors.traffic import Prompt
from probes.activations.capture import Activations, concatenate
from probes.activations.responses import capture_responses
from probes.facts.contexts import BENIGN_KINDS, Context, Contexts
from probes.judging.splits import row_labels, select, split_groups
from probes.judging.sweep import Sweep, sweep
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.fitting import fit_logistic
from probes.reading.probe import LinearProbe
from probes.reading.streams import Stream

__all__ = ["STREAM_C", "USE", "as_prompts", "capture_prompts", "certify_fact", "choose_site", "fit_probe", "fit_stream"]

STREAM_C = 1.0
"""Inverse penalty of the refit. Chosen on France (seed 0) among .01, 1, 10 and 100: weaker penalties overfit 60
frames, and
.01 leaves benign tokens of the same subject too close."""

USE = "use"
"""The kind of prompts whose answers need the fact."""
FOLDS = 4
EVERY = 3
"""Of a benign training response, every third decision is kept: neighbours say nearly the same."""


def capture_prompts(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    sites: Any = "resid_post.*",
    horizon: int,
    progress: bool = False,
    **options: Any,
) -> tuple[Activations, tuple[str, ...]]:
    """Return what the model held where it decided its answers: of `use` the first decision, of the rest all along.

    Args:
        model: the model that answers.
        prompts: training prompts of all kinds.
        sites: where to read.
        horizon: tokens of a benign answer.
        progress: show bars on standard error, if that is a terminal.
        options: those of transformers' `generate`; greedy unless `do_sample` is given.

    Returns:
        Activations with label (use or not) and group of each prompt; and the kind of each prompt, by example.
    """
    parts, kinds = [], []
    for positive, tokens in ((True, 1), (False, horizon)):
        chosen = [item for item in prompts if (item.kind == USE) is positive]
        kinds += [item.kind for item in chosen]
        parts.append(
            capture_responses(
                model,
                [item.prompt for item in chosen],
                sites,
                max_new_tokens=tokens,
                every=EVERY,
                labels=[positive] * len(chosen),
                groups=[item.counts_as for item in chosen],
                progress=progress,
                **options,
            )
        )
    return concatenate(*parts), tuple(kinds)


def fit_probe(
    acts: Activations,
    kinds: Sequence[str],
    *,
    concept: str,
    estimators: Sequence[str] = ("logistic", "lda"),
    seed: int = 0,
    progress: bool = False,
) -> tuple[Sweep, LinearProbe]:
    """Choose a layer, sweep them all, and refit at the chosen one on all of the frames.

    Args:
        acts: from `capture_prompts`.
        kinds: of each prompt, from `capture_prompts`.
        concept: what an alarm will mean.
        estimators: what the sweep compares.
        seed: of splits and controls.
        progress: show a bar.

    Returns:
        The sweep, with the figures of each layer on frames that fit and choice have not seen; and the probe.
    """
    first = _first(acts)
    split = split_groups(first.labels, first.groups, seed=seed)
    site = choose_site(acts, kinds, (*split.train, *split.calibration), seed=seed)
    found = sweep(first, estimators=estimators, seed=seed, split=split, site=site, concept=concept, progress=progress)
    return found, fit_stream(acts, site, concept)


def choose_site(acts: Activations, kinds: Sequence[str], groups: Sequence[str], *, seed: int = 0) -> Site:
    """Return the site whose worst benign kind is furthest from the uses, by cross-validation over frames.

    Each response counts by its largest score, as it will when it is watched; the distance is (mean of uses - mean of
    the kind) / pooled standard deviation.

    Args:
        acts: from `capture_prompts`.
        kinds: of each prompt.
        groups: the frames to use; others are not looked at.
        seed: of the folds.
    """
    inside = sorted(set(groups))
    np.random.default_rng(seed).shuffle(inside)
    folds = []
    for i in range(FOLDS):
        held = set(inside[i::FOLDS])
        those = [kind for kind, group in zip(kinds, acts.groups, strict=True) if group in held]
        folds.append((select(acts, set(inside) - held), select(acts, held), those))

    def distance(site: Site) -> float:
        maxima: dict[str, list[float]] = {}
        for rest, held, those in folds:
            scores = fit_stream(rest, site, "").scores(held.values[site])
            for example, kind in enumerate(those):
                maxima.setdefault(kind, []).append(float(scores[held.example == example].max()))
        uses = np.array(maxima.pop("use"))
        return min((uses.mean() - np.mean(x)) / np.sqrt((uses.var() + np.var(x)) / 2) for x in maxima.values())

    return max(acts.sites, key=distance)


def fit_stream(acts: Activations, site: Site, concept: str) -> LinearProbe:
    """Fit a probe for streams at one site, on all rows."""
    about = {"tokens": acts.tokens, "concept": concept, "fingerprint": acts.fingerprint}
    return fit_logistic(acts.values[site], row_labels(acts), site=site, C=STREAM_C, **about)


def _first(acts: Activations) -> Activations:
    first = acts.position == 0
    return replace(
        acts,
        values={site: values[first] for site, values in acts.values.items()},
        example=acts.example[first],
        position=acts.position[first],
    )


def as_prompts(contexts: Sequence[Context]) -> list[Prompt]:
    """Return contexts as prompts, each of its kind, in the group of its frame."""
    return [Prompt(item.prompt, item.kind, str(item.frame)) for item in contexts]


def certify_fact(
    model: LanguageModel,
    probe: LinearProbe,
    contexts: Contexts,
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    confidence: float = 0.95,
    valid_until: str | None = None,
    progress: bool = False,
) -> tuple[Monitor, dict[str, list[Stream]]]:
    """Set the threshold on the benign calibration contexts and return the monitor, with the streams it rests on.

    Args:
        model: the model to be watched.
        probe: from `fit_probe`.
        contexts: their role "calibration" is used.
        horizon: tokens of a response for which the promise will hold.
        made: ISO date of today.
        rate: false alarms per benign response that are allowed.
        confidence: that the rate holds, over calibrations.
        valid_until: ISO date of its end.
        progress: show a bar.

    Raises:
        TooFew: a kind has too few frames; says how many are needed.
    """
    served = [one for one in as_prompts(contexts.of("calibration")) if one.kind in BENIGN_KINDS]
    monitor, streams = traffic.certify(
        model, [probe], served, concept=probe.concept, horizon=horizon, made=made, rate=rate, confidence=confidence,
        valid_until=valid_until, prompt_mix={"seed": contexts.seed}, progress=progress,
    )  # fmt: skip
    return monitor, {kind: [stream for stream in streams if stream.kind == kind] for kind in BENIGN_KINDS}
