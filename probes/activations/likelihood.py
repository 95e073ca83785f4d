"""Likelihood: what a model gives to the tokens of a text, and to each of several ways to go on after a prompt.

    log p(option | prompt) = sum over the option's tokens of log p(token | everything before it)

Texts are read in the passes of packing.py, so that what they share at their beginning is computed once, and the
vocabulary matrix is multiplied only with the tokens before those that count.

Limits: sums favour short options (`Likelihoods.per_token` favours long ones); an option must begin where a token does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from probes.activations.packing import Pass, plan_passes
from probes.errors import BadInput
from probes.model.hooks import read_logits
from probes.model.language_model import Chat, LanguageModel

__all__ = ["Likelihoods", "continue_ids", "log_likelihoods", "token_likelihoods"]

ROWS = 256
"""Rows of logits that are turned to float32 at once."""


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What a model gives to some texts, or to the options of one prompt."""

    total: Float[Tensor, "option"]
    """Log-probability in nats, float64, summed over the tokens that count."""
    tokens: Int[Tensor, "option"]
    """How many those are."""
    greedy: Bool[Tensor, "option"]
    """Whether each of them is the likeliest token where it stands: what greedy decoding would say."""

    @property
    def per_token(self) -> Float[Tensor, "option"]:
        """Nats a token."""
        return self.total / self.tokens

    def __getitem__(self, chosen: slice) -> "Likelihoods":
        return Likelihoods(self.total[chosen], self.tokens[chosen], self.greedy[chosen])


def log_likelihoods(
    model: LanguageModel,
    prompts: Sequence[str | Chat],
    options: Sequence[str] | Sequence[Sequence[str]],
    *,
    batch_size: int = 32,
    share_prefixes: bool | None = None,
    progress: bool = False,
) -> tuple[Likelihoods, ...]:
    """Return the log-likelihood of each option after its prompt.

    Args:
        model: the model; under open edits it is read as they leave it.
        prompts: texts, which an option follows after one space; or chats, whose answer an option begins.
        options: texts for all prompts alike, or a list of texts for each prompt.
        batch_size: texts a forward pass; where beginnings are shared, as many tokens as that many texts of 16.
        share_prefixes: as for `capture`.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        One for each prompt, in their order, with one number for each of its options.

    Raises:
        BadInput: no prompts, no options, an empty option, one that does not begin where a token begins, or a logit
            that is not finite.
    """
    if isinstance(prompts, str) or isinstance(options, str):
        raise BadInput("prompts and options are lists; give [prompt] and [option, option]")
    prompts = list(prompts)
    if not prompts:
        raise BadInput("the list of prompts is empty; give at least one")
    each = [options] * len(prompts) if all(isinstance(option, str) for option in options) else list(options)
    if len(each) != len(prompts):
        raise BadInput(f"{len(each)} lists of options for {len(prompts)} prompts; give one for each, or one for all")
    encoded, starts = [], []
    for prompt, choices in zip(prompts, each, strict=True):
        if isinstance(choices, str) or not choices:
            raise BadInput(f"the options of {prompt!r} are {choices!r}; give a list of one or more texts")
        begin = model.encode(prompt)
        encoded += [continue_ids(model, prompt, begin, option) for option in choices]
        starts += [len(begin)] * len(choices)
    found = token_likelihoods(
        model, encoded, starts, batch_size=batch_size, share_prefixes=share_prefixes, progress=progress
    )
    ends = torch.tensor([0, *map(len, each)]).cumsum(0).tolist()
    return tuple(found[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True))


def continue_ids(model: LanguageModel, prompt: str | Chat, begin: Sequence[int], option: str) -> list[int]:
    """Return the token ids of a prompt with an option behind it.

    Args:
        model: whose tokens.
        prompt: text or chat.
        begin: `model.encode(prompt)`.
        option: text without white space at its ends.

    Raises:
        BadInput: the option is empty, the prompt ends in white space, or the two share a token.
    """
    if not isinstance(option, str) or not option or option != option.strip():
        raise BadInput(f"option {option!r} is empty or has white space at an end; give bare text")
    if not isinstance(prompt, str):
        return [*begin, *model.tokenizer(option, add_special_tokens=False)["input_ids"]]
    if prompt != prompt.rstrip():
        raise BadInput(f"prompt {prompt!r} ends in white space, which belongs to the option; take it away")
    whole = model.encode(f"{prompt} {option}")
    if whole[: len(begin)] != list(begin) or len(whole) == len(begin):
        first, second = ("|".join(model.tokenizer.convert_ids_to_tokens(ids)) for ids in (begin, whole))
        raise BadInput(
            f"{option!r} after {prompt!r} is [{second}], which does not continue [{first}]; "
            "give a prompt that ends where the option's first token begins"
        )
    return whole


@torch.no_grad()
def token_likelihoods(
    model: LanguageModel,
    encoded: Sequence[Sequence[int]],
    starts: Sequence[int],
    *,
    batch_size: int = 32,
    share_prefixes: bool | None = None,
    progress: bool = False,
) -> Likelihoods:
    """Return what the model gives to the tokens of each text from `start` on, each after all before it.

    Args:
        model: the model.
        encoded: token ids of each text.
        starts: the first token of each text that counts, 1 at least: nothing stands before token 0.
        batch_size: as for `log_likelihoods`.
        share_prefixes: likewise.
        progress: likewise.

    Raises:
        BadInput: a logit is not finite, naming the text.
    """
    if min(starts) < 1:
        raise BadInput("a start below 1; the first token of a text has nothing before it that could make it likely")
    total = torch.zeros(len(encoded), dtype=torch.float64)
    greedy = torch.ones(len(encoded), dtype=torch.bool)
    passes = plan_passes(model, encoded, batch_size, share=share_prefixes)
    with tqdm(
        total=len(encoded), desc="likelihood", unit="text", disable=None if progress else True, leave=False
    ) as bar:
        for one in passes:
            text, logs, best = _read(model, one, encoded, starts)
            if not torch.isfinite(logs).all():
                if one.packed:  # what is not finite spreads over a packed row: read plainly to name its text
                    plainly = {"batch_size": batch_size, "share_prefixes": False, "progress": progress}
                    return token_likelihoods(model, encoded, starts, **plainly)
                at = int(text[~torch.isfinite(logs)].min())
                raise BadInput(f"text {at}: a logit is not finite; the model is broken, or overflows in {model.dtype}")
            total.index_add_(0, text, logs)
            greedy[text[~best]] = False
            bar.update(len(one.paths))
    counts = [len(ids) - start for ids, start in zip(encoded, starts, strict=True)]
    return Likelihoods(total, torch.tensor(counts), greedy)


def _read(
    model: LanguageModel, one: Pass, encoded: Sequence[Sequence[int]], starts: Sequence[int]
) -> tuple[Int[Tensor, "token"], Float[Tensor, "token"], Bool[Tensor, "token"]]:
    """Return for each token that counts: its text, its log-probability, and whether it is the likeliest."""
    slots: dict[tuple[int, int], int] = {}  # what is decided there is asked for once, whoever shares it
    at, target, text = [], [], []
    for path in one.paths:
        ids = encoded[path.text]
        for position in range(starts[path.text], len(ids)):
            at.append(slots.setdefault((path.row, path.slots[position - 1]), len(slots)))
            target.append(ids[position])
            text.append(path.text)
    if not at:
        return torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.float64), torch.tensor([]).bool()
    row, slot = torch.tensor(list(slots)).T
    logits = read_logits(model, one.inputs(model), row, slot)
    whole, top = (torch.cat(parts) for parts in zip(*map(_sums, logits.split(ROWS)), strict=True))
    here, wanted = torch.tensor(at, device=logits.device), torch.tensor(target, device=logits.device)
    logs = logits[here, wanted].float() - whole[here]
    return torch.tensor(text), logs.double().cpu(), (top[here] == wanted).cpu()


def _sums(logits: Float[Tensor, "slot d_vocab"]) -> tuple[Float[Tensor, "slot"], Int[Tensor, "slot"]]:
    return logits.float().logsumexp(-1), logits.argmax(-1)
