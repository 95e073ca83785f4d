"""Controls: what the score would be without knowledge.

Here, from the data alone (`data_controls`, part of every sweep):

1. Shuffled labels. Each shuffle swaps labels inside a group that holds both (twins: with probability 1/2), and deals
   the labels of pure groups out among the pure groups: a random label for each entity, the control task of Hewitt &
   Liang (2019). The chosen estimator is refitted on shuffled training labels and tested on equally shuffled test
   labels, which is how the real score came about if labels meant nothing; p = (1 + shuffles that score at least as
   high) / (1 + shuffles), and selectivity = the probe's AUROC - their mean.
2. Noise fits. The same refits against the TRUE test labels. A harder bar: where true and false differ along a large
   direction of the activations, probes fitted to noise lean on it by chance.
3. Random directions, N(0, I) in raw space, |AUROC - .5| + .5, since a direction has no sign.
4. Bag of words: counts of words, logistic regression, the same split; and the probe's paired lead over it.
5. Length: characters of the text, more or fewer being truer as the training texts have it; and the lead over it.

With the model, in model_controls.py: log-probability, layer 0, random weights.

Where several results are corrected together, p must be able to reach .05 / checks with room to spare: 40 shuffles a
check, 200 at least.

Sources: Hewitt & Liang 2019 (1909.03368); Ojala & Garriga, JMLR 11 (2010) 1833;
Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39, for p; Zou & Donner, Statistics in Medicine 27 (2008) 1693,
for the interval of selectivity.
Limits: shuffles are at the chosen site, without choosing a site anew each time: the test entities had no part in that
choice.
"""

from collections.abc import Callable, Mapping, Sequence
from math import hypot
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from probes.activations.capture import Activations
from probes.errors import BadInput, TooFew
from probes.judging.splits import row_groups, row_labels
from probes.reading.fitting import SOLVERS, Solution, check_method, takes_polarity
from probes.reading.metrics import Estimate, auroc, auroc_difference, auroc_values, mean, permutation_p, quantile
from probes.reading.probe import LinearProbe

__all__ = [
    "LEAST_DRAWS",
    "MEANINGS",
    "NEEDS_MODEL",
    "bag_of_words",
    "check_draws",
    "data_controls",
    "fit_bag_of_words",
    "lead",
    "length",
    "plain_text",
    "shuffle_labels",
    "solve",
]

LEAST_DRAWS = 200
DRAWS_A_CHECK = 40

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "auroc": "AUROC on unseen entities",
        "shuffled": "labels shuffled by entity, mean",
        "shuffled_95": "labels shuffled by entity, 95th percentile",
        "shuffled_p": "share of shuffles at least as high (p)",
        "selectivity": "probe - labels shuffled by entity",
        "noise_fits_95": "fitted on shuffled labels, true test labels, 95th percentile",
        "random": "random directions, mean",
        "random_95": "random directions, 95th percentile",
        "bag_of_words": "bag of words",
        "over_bag_of_words": "probe - bag of words, paired",
        "length": "length of the text",
        "over_length": "probe - length, paired",
        "log_probability": "log-probability of the statement",
        "over_log_probability": "probe - log-probability, paired",
        "layer_0": "layer 0, before any block",
        "over_layer_0": "probe - layer 0, paired",
        "random_weights": "random weights, same architecture",
        "over_random_weights": "probe - random weights, paired",
    }
)
"""The controls of a probe in the order of the table, in words."""

NEEDS_MODEL = tuple(name for name in MEANINGS if name.endswith(("log_probability", "layer_0", "random_weights")))
"""Those that only `probes.controls(found, model)` can add."""


def check_draws(draws: int, checks: int = 1) -> None:
    """Refuse too few shuffles for a number of results that are corrected together.

    Raises:
        TooFew: naming how many would do. BadInput: fewer than one check.
    """
    if checks < 1:
        raise BadInput(f"checks = {checks}; give the number of p-values corrected together, 1 or more")
    needed = max(LEAST_DRAWS, DRAWS_A_CHECK * checks)
    if draws < needed:
        raise TooFew(
            f"{draws} shuffles and random directions; a 95th percentile and p < .05 over {checks} "
            f"check{'s' if checks != 1 else ''} take at least {needed}: give draws={needed}",
            needed,
        )


def data_controls(
    probe: LinearProbe,
    train: Activations,
    test: Activations,
    *,
    seed: int = 0,
    draws: int = LEAST_DRAWS,
    checks: int = 1,
) -> dict[str, Estimate]:
    """Return the AUROC of a probe on test entities, beside every control that needs no model.

    Args:
        probe: fitted on `train` by a method of `SOLVERS`.
        train: activations of the training entities, at the probe's site.
        test: activations of the test entities.
        seed: of shuffles and directions.
        draws: how many of each, at least 200 and at least 40 a check.
        checks: how many results such as this one are corrected together.

    Raises:
        TooFew: fewer draws. NotFound: the probe's method cannot be refitted.
    """
    check_draws(draws, checks)
    check_method(probe.method)
    labels, groups = row_labels(test), row_groups(test)
    scores = probe.scores(test.values[probe.site])
    found = {"auroc": auroc(scores, labels, groups=groups)}
    found |= _shuffled(probe, train, test, found["auroc"], np.random.default_rng([seed, 1]), draws)
    found |= _random(test.values[probe.site], labels, np.random.default_rng([seed, 2]), draws)
    for name, control in (("bag_of_words", bag_of_words(train, test)), ("length", length(train, test))):
        found[name] = auroc(control, labels, groups=groups)
        found[f"over_{name}"] = auroc_difference(scores, control, labels, groups=groups)
    return found


def solve(
    method: str, train: Activations, features: Float[Tensor, "row d_model"], labellings: Bool[Tensor, "row labelling"]
) -> Solution:
    """Refit a method on the rows of `train`: their features may be other ones, and each column of labels is a fit."""
    told = {}
    if train.polarities is not None and takes_polarity(method):
        told["polarity"] = train.polarities[train.example]
    return SOLVERS[method](features, labellings, **told)


def shuffle_labels(
    labels: Bool[np.ndarray, "example"], groups: Sequence[str], draws: int, rng: np.random.Generator
) -> Bool[np.ndarray, "example draw"]:
    """Return random labellings in which mixed groups keep their counts, and pure groups stay pure and as many of each.

    Args:
        labels: the true ones.
        groups: the entity of each example.
        draws: how many labellings.
        rng: the generator to draw from.
    """
    codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    share = np.bincount(codes, labels) / np.bincount(codes)
    pure = np.flatnonzero((share == 0) | (share == 1))
    by_group = np.argsort(codes, kind="stable")
    out = np.empty((len(labels), draws), dtype=bool)
    for draw in range(draws):
        # Sorting by group, then by a random number, permutes the examples of each group among themselves.
        out[by_group, draw] = labels[np.lexsort((rng.random(len(labels)), codes))]
        if pure.size:
            dealt = share.copy()
            dealt[pure] = share[rng.permutation(pure)]
            inside = np.isin(codes, pure)
            out[inside, draw] = dealt[codes[inside]] == 1
    return out


def _shuffled(
    probe: LinearProbe, train: Activations, test: Activations, observed: Estimate, rng: np.random.Generator, draws: int
) -> dict[str, Estimate]:
    on_train, on_test = (
        torch.from_numpy(shuffle_labels(part.labels.bool().numpy(), part.groups, draws, rng))[part.example]
        for part in (train, test)
    )
    weights, biases = solve(probe.method, train, train.values[probe.site], on_train)
    shuffled = test.values[probe.site].double() @ weights + biases
    nulls, noise = auroc_values(shuffled, on_test), auroc_values(shuffled, row_labels(test))
    of = f"{draws} shuffles of labels by entity, refitted"
    control = mean(nulls, how=f"mean AUROC over {of}; t interval")
    return {
        "shuffled": control,
        "shuffled_95": quantile(nulls, 0.95, how=f"95th percentile over {of}; order-statistic interval"),
        "shuffled_p": permutation_p(int((nulls >= observed.value - 1e-12).sum()), draws, of="shuffles"),
        # Given the scores, a random labelling is ranked at .5 on average whatever the test entities are: the mean of
        # the shuffles varies with the draws alone, so its errors are independent of the probe's.
        "selectivity": lead(observed, control, how=f"AUROC - mean AUROC over {of}; interval of Zou & Donner (2008)"),
        "noise_fits_95": quantile(
            noise, 0.95, how=f"95th percentile over {of}, against true test labels; order-statistic interval"
        ),
    }


def lead(a: Estimate, b: Estimate, *, how: str) -> Estimate:
    """Return a - b for two estimates whose errors are independent, each end from the ends of both (MOVER).

    Source: Zou & Donner, Statistics in Medicine 27 (2008) 1693, equation 3.
    """
    value = a.value - b.value
    down, up = hypot(a.value - a.lower, b.upper - b.value), hypot(a.upper - a.value, b.value - b.lower)
    return Estimate(value, max(-1.0, value - down), min(1.0, value + up), a.n, a.confidence, how)


def _random(
    values: Float[Tensor, "row d_model"], labels: Bool[Tensor, "row"], rng: np.random.Generator, draws: int
) -> dict[str, Estimate]:
    directions = torch.from_numpy(rng.standard_normal((values.shape[1], draws)))
    folded = np.abs(auroc_values(values.double() @ directions, labels) - 0.5) + 0.5
    of = f"|AUROC - .5| + .5 over {draws} random directions"
    return {
        "random": mean(folded, how=f"mean of {of}; t interval"),
        "random_95": quantile(folded, 0.95, how=f"95th percentile of {of}; order-statistic interval"),
    }


def length(train: Activations, test: Activations) -> Float[Tensor, "row"]:
    """Return the characters of each row's text, negative where the false texts of `train` are the longer ones."""
    on_train, on_test = (
        torch.tensor([float(len(plain_text(text))) for text in part.texts])[part.example] for part in (train, test)
    )
    rising = auroc_values(on_train[:, None], row_labels(train))[0] >= 0.5
    return on_test if rising else -on_test


def bag_of_words(train: Activations, test: Activations) -> Float[Tensor, "row"]:
    """Return how a logistic regression on word counts, fitted on the texts of `train`, scores each row of `test`."""
    score = fit_bag_of_words([plain_text(text) for text in train.texts], train.labels.tolist())
    return torch.from_numpy(score([plain_text(text) for text in test.texts]))[test.example]


def fit_bag_of_words(texts: Sequence[str], labels: Sequence[bool]) -> Callable[[Sequence[str]], np.ndarray]:
    """Fit a logistic regression on word counts and return the function that scores texts; higher = more of the label.

    Texts without a single word teach nothing: then every score is 0.
    """
    counter = CountVectorizer(token_pattern=r"(?u)\w+|[^\w\s]")  # one-letter words, digits and punctuation count too
    if not any(counter.build_analyzer()(text) for text in texts):
        return lambda others: np.zeros(len(others))
    classifier = LogisticRegression(max_iter=2000).fit(counter.fit_transform(texts), np.asarray(labels))
    return lambda others: classifier.decision_function(counter.transform(others))


def plain_text(text: Any) -> str:
    """Return a text as it is, and the messages of a chat line by line."""
    return text if isinstance(text, str) else "\n".join(str(message["content"]) for message in text)
