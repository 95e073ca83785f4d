"""Controls: what the score would be without knowledge.

From the data alone (`data_controls`, part of every sweep):

1. Shuffled labels. Each shuffle swaps labels inside a group that holds both (twins: with probability 1/2), and deals
   the labels of pure groups out among the pure groups: a random label for each entity, the control task of Hewitt &
   Liang (2019). The chosen estimator is refitted on shuffled training labels and tested on equally shuffled test
   labels, which is how the real score came about if labels meant nothing; p = (1 + shuffles that score at least as
   high) / (1 + shuffles).
2. Noise fits. The same refits against the TRUE test labels. A harder bar: where true and false differ along a large
   direction of the activations, probes fitted to noise lean on it by chance.
3. Random directions, N(0, I) in raw space, |AUROC - .5| + .5, since a direction has no sign.
4. Bag of words: counts of words, logistic regression, the same split; and the probe's paired lead over it.

With the model (`controls`): the statement's own log-probability, summed or per token, whichever ranks the test texts
better (a choice in favour of the control), and the probe's paired lead over it.

Sources: Hewitt & Liang 2019 (1909.03368); Ojala & Garriga, JMLR 11 (2010) 1833;
Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39, for p.
Limits: shuffles are at the chosen site, without choosing a site anew each time: the test entities had no part in that
choice.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm import tqdm

from probes.activations.capture import Activations
from probes.errors import TooFew
from probes.model.language_model import LanguageModel
from probes.reading.fitting import SOLVERS, check_method
from probes.reading.metrics import Estimate, auroc, auroc_difference, auroc_values, mean, proportion, quantile
from probes.reading.probe import LinearProbe
from probes.reading.splits import row_groups, row_labels

__all__ = [
    "MEANINGS",
    "bag_of_words",
    "controls",
    "data_controls",
    "fit_bag_of_words",
    "log_probability",
    "shuffle_labels",
]

LEAST_DRAWS = 200

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "auroc": "AUROC on unseen entities",
        "shuffled": "labels shuffled by entity, mean",
        "shuffled_95": "labels shuffled by entity, 95th percentile",
        "shuffled_p": "share of shuffles at least as high (p)",
        "noise_fits_95": "fitted on shuffled labels, true test labels, 95th percentile",
        "random": "random directions, mean",
        "random_95": "random directions, 95th percentile",
        "bag_of_words": "bag of words",
        "over_bag_of_words": "probe - bag of words, paired",
        "log_probability": "log-probability of the statement",
        "over_log_probability": "probe - log-probability, paired",
    }
)
"""The controls of a probe in the order of the table, in words."""


@runtime_checkable
class Found(Protocol):
    """What `controls` needs of a Sweep."""

    best: LinearProbe
    test: Activations


def data_controls(
    probe: LinearProbe, train: Activations, test: Activations, *, seed: int = 0, draws: int = LEAST_DRAWS
) -> dict[str, Estimate]:
    """Return the AUROC of a probe on test entities, beside every control that needs no model.

    Args:
        probe: fitted on `train` by a method of `SOLVERS`.
        train: activations of the training entities, at the probe's site.
        test: activations of the test entities.
        seed: of shuffles and directions.
        draws: how many of each, at least 200.

    Raises:
        TooFew: fewer draws. NotFound: the probe's method cannot be refitted.
    """
    if draws < LEAST_DRAWS:
        raise TooFew(
            f"{draws} shuffles and random directions; a 95th percentile and p < .05 take at least {LEAST_DRAWS}",
            LEAST_DRAWS,
        )
    check_method(probe.method)
    labels, groups = row_labels(test), row_groups(test)
    scores = probe.scores(test.values[probe.site])
    found = {"auroc": auroc(scores, labels, groups=groups)}
    found |= _shuffled(probe, train, test, found["auroc"].value, np.random.default_rng([seed, 1]), draws)
    found |= _random(test.values[probe.site], labels, np.random.default_rng([seed, 2]), draws)
    words = bag_of_words(train, test)
    found["bag_of_words"] = auroc(words, labels, groups=groups)
    found["over_bag_of_words"] = auroc_difference(scores, words, labels, groups=groups)
    return found


def controls(
    found: Found, model: LanguageModel, *, batch_size: int = 16, progress: bool = False
) -> Mapping[str, Estimate]:
    """Return the controls of a sweep's best probe with those that need the model, for `found.with_controls(...)`.

    Args:
        found: what `sweep` returned.
        model: the model whose activations were swept.
        batch_size: texts a forward pass; each computes logits of batch x position x d_vocab.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        Mismatch: the activations are another model's.
    """
    if found.best.fingerprint:
        found.best.match(model)
    test, labels, groups = found.test, row_labels(found.test), row_groups(found.test)
    total, tokens = log_probability(model, test.texts, batch_size=batch_size, progress=progress)
    ways = {"summed over tokens": total[test.example], "per token": (total / tokens)[test.example]}
    way = max(ways, key=lambda name: auroc(ways[name], labels).value)
    scores = found.best.scores(test.values[found.best.site])
    own = auroc(ways[way], labels, groups=groups)
    own = Estimate(own.value, own.lower, own.upper, own.n, own.confidence, f"log-probability {way}; {own.how}")
    lead = auroc_difference(scores, ways[way], labels, groups=groups)
    return MappingProxyType({**found.best.controls, "log_probability": own, "over_log_probability": lead})


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
    probe: LinearProbe, train: Activations, test: Activations, observed: float, rng: np.random.Generator, draws: int
) -> dict[str, Estimate]:
    on_train, on_test = (
        torch.from_numpy(shuffle_labels(part.labels.bool().numpy(), part.groups, draws, rng))[part.example]
        for part in (train, test)
    )
    weights, biases = SOLVERS[probe.method](train.values[probe.site], on_train)
    scores = test.values[probe.site].double() @ weights + biases
    nulls = auroc_values(scores, on_test)
    noise = auroc_values(scores, row_labels(test))
    of = f"{draws} shuffles of labels by entity, refitted"
    return {
        "shuffled": mean(nulls, how=f"mean AUROC over {of}; t interval"),
        "shuffled_95": quantile(nulls, 0.95, how=f"95th percentile over {of}; order-statistic interval"),
        "shuffled_p": _p(int((nulls >= observed - 1e-12).sum()), draws),
        "noise_fits_95": quantile(
            noise, 0.95, how=f"95th percentile over {of}, against true test labels; order-statistic interval"
        ),
    }


def _p(at_least: int, draws: int) -> Estimate:
    share = proportion(at_least, draws)
    p = (1 + at_least) / (1 + draws)
    how = f"(1 + {at_least}) / (1 + {draws} shuffles); Clopper-Pearson interval of the share"
    return Estimate(p, share.lower, max(share.upper, p), draws, share.confidence, how)


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


def bag_of_words(train: Activations, test: Activations) -> Float[Tensor, "row"]:
    """Return how a logistic regression on word counts, fitted on the texts of `train`, scores each row of `test`."""
    score = fit_bag_of_words([_plain(text) for text in train.texts], train.labels.tolist())
    return torch.from_numpy(score([_plain(text) for text in test.texts]))[test.example]


def fit_bag_of_words(texts: Sequence[str], labels: Sequence[bool]) -> Callable[[Sequence[str]], np.ndarray]:
    """Fit a logistic regression on word counts and return the function that scores texts; higher = more of the label.

    Texts without a single word teach nothing: then every score is 0.
    """
    counter = CountVectorizer(token_pattern=r"(?u)\w+|[^\w\s]")  # one-letter words, digits and punctuation count too
    if not any(counter.build_analyzer()(text) for text in texts):
        return lambda others: np.zeros(len(others))
    classifier = LogisticRegression(max_iter=2000).fit(counter.fit_transform(texts), np.asarray(labels))
    return lambda others: classifier.decision_function(counter.transform(others))


def _plain(text: Any) -> str:
    return text if isinstance(text, str) else "\n".join(str(message["content"]) for message in text)


@torch.no_grad()
def log_probability(
    model: LanguageModel, texts: Sequence[Any], *, batch_size: int = 16, progress: bool = False
) -> tuple[Float[Tensor, "example"], Int[Tensor, "example"]]:
    """Return the log-probability that the model gives each text after its first token, and how many tokens that counts.

    Args:
        model: the model.
        texts: strings or chats.
        batch_size: texts a forward pass; they are sorted by length and padded on the right, with a mask.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Sums in nats, float64; and the number of tokens in each sum, at least 1 (a text of one token has the sum 0).
    """
    encoded = [model.encode(text) for text in texts]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    total = torch.zeros(len(encoded), dtype=torch.float64)
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, desc="log-probability", unit="batch", disable=None if progress else True, leave=False):
        rows = order[start : start + batch_size]
        batch = model.collate([encoded[i] for i in rows])
        logits = model.module(**batch, use_cache=False).logits[:, :-1].float()
        targets, real = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:].bool()
        chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        total[rows] = chosen.masked_fill(~real, 0.0).sum(-1).double().cpu()
    return total, torch.tensor([max(1, len(ids) - 1) for ids in encoded])
