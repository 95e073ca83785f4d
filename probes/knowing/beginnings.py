"""Beginnings: how likely each answer of a topic begins after a prompt, from one look at the prompt.

An answer is told by its first token, or where an article stands first by the two of them:

    log p(begins as o | prompt) = log p(first token of o | prompt)  [+ log p(next | prompt, article)]

One pass over a prompt tells that of all answers, where scoring them whole costs a pass each: on the embedded model that
is what a thousand facts within minutes take. Prompts are read in the passes of packing.py and each is read once.

Limits: two answers with one beginning ("San Marino", "San Salvador") cannot be told apart; whoever compares leaves one
out, as `heads` lets them see. An answer's beginning is taken as it is after one of the prompts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.likelihood import continue_ids
from probes.activations.packing import plan_passes
from probes.errors import BadInput
from probes.facts.facts import Topic
from probes.model.hooks import read_logits
from probes.model.language_model import LanguageModel

__all__ = ["Beginnings", "behind", "head_of", "read_last"]

ARTICLES = ("the", "a", "an")
ROWS = 256
"""Rows of logits that are held in float32 at once."""


def behind(context: str, prompt: str) -> str:
    """Return a prompt with a text in front of it, if there is one."""
    return f"{context} {prompt}" if context else prompt


def head_of(model: LanguageModel, prompt: str, text: str) -> tuple[int, ...]:
    """Return the tokens that a text is told by after a prompt: its first, and the next where that is an article.

    Raises:
        BadInput: the text does not begin where a token begins.
    """
    begin = model.encode(prompt)
    ids = continue_ids(model, prompt, begin, text)[len(begin) :]
    article = model.tokenizer.decode(ids[:1]).strip().lower() in ARTICLES
    return tuple(ids[: 2 if article and len(ids) > 1 else 1])


class Beginnings:
    """Log-probabilities of answers' beginnings, a row a prompt, read when they are first asked for.

    Args:
        model: the model to ask.
        answers: every text that can be asked about.
        prompt: one of the prompts they will follow.
    """

    def __init__(self, model: LanguageModel, answers: Iterable[str], prompt: str):
        self.model = model
        self.heads: Mapping[str, tuple[int, ...]] = {text: head_of(model, prompt, text) for text in answers}
        if not self.heads:
            raise BadInput("there is no answer to look for; give at least one text")
        self._column = {text: i for i, text in enumerate(self.heads)}
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[str, Float[Tensor, "answer"]] = {}
        self._tops: dict[str, tuple[int, dict[int, int]]] = {}
        self._table, self._at = np.zeros((0, len(self.heads)), np.float32), dict[str, int]()

    @classmethod
    def of(cls, model: LanguageModel, topic: Topic) -> "Beginnings":
        """Look for every object and distractor of a topic."""
        texts = dict.fromkeys(text for fact in topic.facts for text in (fact.object, *fact.distractors))
        return cls(model, texts, topic.cloze(topic.facts[0]))

    def blank(self) -> "Beginnings":
        """Return a reader of the same answers that has read nothing, for when the model does something else."""
        new = copy(self)
        new._forget()
        return new

    def read(self, prompts: Iterable[str], *, progress: bool = False) -> None:
        """Look at the prompts that were not looked at before."""
        fresh = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._rows]
        if not fresh:
            return
        heads = list(self.heads.values())
        articles = sorted({head[0] for head in heads if len(head) == 2})
        encoded = [self.model.encode(prompt) for prompt in fresh]
        texts = [ids + [article] for article in articles for ids in encoded]
        columns = torch.tensor([head[-1] for head in heads])
        first = torch.tensor([head[0] for head in heads])

        def take(logs: Tensor) -> Tensor:
            top = logs.argmax(-1, keepdim=True)  # as exact as a float: a vocabulary has far fewer than 2^24 tokens
            return torch.cat([logs[:, columns], logs[:, first], top.float()], 1)

        both = read_last(self.model, [*encoded, *texts], take)
        tops, both = both[:, -1].long(), both[:, :-1].unflatten(1, (2, len(heads)))
        found = both[: len(encoded), 0].clone()
        for number, article in enumerate(articles, start=1):
            mine = torch.tensor([len(head) == 2 and head[0] == article for head in heads])
            behind = both[number * len(encoded) : (number + 1) * len(encoded), 0]
            found[:, mine] = both[: len(encoded), 1][:, mine] + behind[:, mine]
        self._rows.update(zip(fresh, found, strict=True))
        for i, prompt in enumerate(fresh):
            behind = {a: int(tops[k * len(fresh) + i]) for k, a in enumerate(articles, start=1)}
            self._tops[prompt] = int(tops[i]), behind

    def row(self, prompt: str) -> Float[Tensor, "answer"]:
        """Return the log-probability in nats of each answer's beginning, in the order of `heads`; read before."""
        return self._rows[prompt]

    def column(self, text: str) -> int:
        """Return the place of an answer in `heads`."""
        return self._column[text]

    def greedy(self, prompt: str) -> tuple[int, ...]:
        """Return the likeliest token after a prompt, and behind an article the next one."""
        top, behind = self._tops[prompt]
        return (top, behind[top]) if top in behind else (top,)

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, "prompt text"]:
        """Return log-probabilities in nats of texts' beginnings after prompts that were read before."""
        if len(self._table) < len(self._rows):
            fresh = list(self._rows.values())[len(self._table) :]
            self._table = np.concatenate([self._table, torch.stack(fresh).numpy()])
            self._at = {prompt: i for i, prompt in enumerate(self._rows)}
        return self._table[np.ix_([self._at[prompt] for prompt in prompts], [self._column[text] for text in texts])]


@torch.no_grad()
def read_last(
    model: LanguageModel, encoded: Sequence[Sequence[int]], take: Callable[[Tensor], Tensor], *, batch_size: int = 32
) -> Float[Tensor, "text ..."]:
    """Return what `take` makes of the log-probabilities of the next token after each text.

    Args:
        model: the model; under open edits it is read as they leave it.
        encoded: token ids of each text.
        take: from `Float["text d_vocab"]`, on the host, to a row a text.
        batch_size: texts a forward pass, as for `capture`.

    Raises:
        BadInput: a logit is not finite.
    """
    found: dict[int, Tensor] = {}
    for one in plan_passes(model, encoded, batch_size):
        row = torch.tensor([path.row for path in one.paths])
        slot = torch.tensor([path.slots[-1] for path in one.paths])
        logits = read_logits(model, one.inputs(model), row, slot)
        for at in range(0, len(one.paths), ROWS):
            logs = logits[at : at + ROWS].float().log_softmax(-1).cpu()
            if not torch.isfinite(logs).all():
                raise BadInput(f"{model.name} gave a logit that is not finite; it is broken, or overflows in its dtype")
            taken = take(logs)
            found.update((path.text, taken[i]) for i, path in enumerate(one.paths[at : at + ROWS]))
    return torch.stack([found[i] for i in range(len(encoded))])
