"""Stream: the scores of one response, token by token; and the one function that makes scores from activations.

A response is scored where its tokens are *decided*: score t (1-based) is read at the position that produced token t,
so score 1 is read at the last token of the prompt, and the last token of the response is never read itself. That is
what lets a crossing be known before its token is released. `capture`, `read`, the live recorder and the gate all call
`score_tokens`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.errors import BadInput
from probes.model.hooks import taps
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site
from probes.reading.probe import LinearProbe
from probes.reading.statistics import STATISTICS

__all__ = ["Stream", "read", "score_tokens"]


@dataclass(frozen=True, eq=False)
class Stream:
    """The scores of one response (or of one text)."""

    tokens: tuple[str, ...]
    """The text of each token."""
    scores: Float[Tensor, "token"]
    """One for each token, float32 on the host; higher = more of the concept."""
    group: str = ""
    """What it shares with others, so that it is counted once: the frame, the author."""
    kind: str = ""
    """What it is an example of: "use", "same_subject", ..."""
    finished: bool = True
    """Whether the response came to its own end."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.scores):
            raise BadInput(f"{len(self.tokens)} tokens but {len(self.scores)} scores; a stream has one score a token")

    def __repr__(self) -> str:
        return f"Stream({len(self.tokens)} tokens, max {self.maximum:.3g}, group={self.group!r}, kind={self.kind!r})"

    @property
    def maximum(self) -> float:
        """The largest score; NaN where there is none, or one is not finite."""
        return float(STATISTICS["max"]().largest(self.scores))


def score_tokens(
    probes: Sequence[LinearProbe], values: Mapping[Site, Float[Tensor, "*token d_model"]]
) -> Float[Tensor, "*token"]:
    """Return the score of each token: the largest over the probes, in float32, on the device of the activations.

    Raises:
        BadInput: no probe, or a site without activations.
    """
    if not probes:
        raise BadInput("no probe was given; give at least one")
    missing = [str(probe.site) for probe in probes if probe.site not in values]
    if missing:
        raise BadInput(f"no activations at {', '.join(missing)}; capture these sites too")
    first, *rest = (probe.scores(values[probe.site]) for probe in probes)
    for scores in rest:
        first = torch.maximum(first, scores.to(first.device))  # keeps NaN, as a monitor must
    return first


@torch.no_grad()
def read(
    model: LanguageModel,
    probe: LinearProbe | Sequence[LinearProbe],
    text: str | Chat,
    response: str | Sequence[int] | None = None,
) -> Stream:
    """Score a text, or a response to it, in one forward pass.

    Args:
        model: the model that reads.
        probe: one probe or several (the largest score counts).
        text: the text; with `response`, the prompt.
        response: the answer to score, as text or token ids. Score t is then read where token t was decided.

    Returns:
        Without a response: a score for every token of the text, read at that token.
        With one: a score for every token of the response.

    Raises:
        BadInput: nothing to score, or too long for the model.
    """
    several = [probe] if isinstance(probe, LinearProbe) else list(probe)
    prompt = model.encode(text)
    answer: list[int] = []
    if response is not None:
        if isinstance(response, str):
            response = model.tokenizer(response, add_special_tokens=False)["input_ids"]
        answer = list(response)
        if not answer:
            raise BadInput("the response has no tokens; give at least one")
    ids = [*prompt, *answer]
    if model.context is not None and len(ids) > model.context:
        raise BadInput(f"prompt and response have {len(ids)} tokens; {model.name} reads at most {model.context}")
    values: dict[Site, Tensor] = {}
    with taps(model, {probe.site for probe in several}, values.__setitem__):
        model.body(**model.collate([ids]), use_cache=False)
    scores = score_tokens(several, {site: tensor[0] for site, tensor in values.items()}).cpu()
    if answer:
        scores = scores[len(prompt) - 1 : -1]
    return Stream(tokens=model.words(answer or prompt), scores=scores)
