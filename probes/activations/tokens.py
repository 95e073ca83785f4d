"""Which tokens of a text are read.

1. `within` says which tokens count: all of the text, the prompt of a chat, the response to it, or ordinary tokens (no
   special ones such as `<|im_start|>`); several of these leave what is in all of them.
2. `tokens` picks among those: the last, an index, all, all for their mean, or those of an entity: the tokens that hold
   a letter of the first place where a given string stands.

A chat that ends with the assistant's message is read whole, and that message with what closes it is the response. Any
other chat is read up to where the answer would start.

Limits: an entity needs a tokenizer that knows its offsets (the fast ones). A response is told apart by rendering the
chat without it, so a template that writes earlier messages differently once an answer follows is refused.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from probes.errors import BadInput, nearest
from probes.model.language_model import LanguageModel

__all__ = ["Selection", "TokenRule", "select_tokens"]

RULES = ("last", "mean", "all", "entity")
WITHIN = ("text", "prompt", "response", "ordinary")


@dataclass(frozen=True)
class TokenRule:
    """Which tokens are read of every text.

    Raises:
        BadInput: a rule that is none.
    """

    tokens: str | int = "last"
    """One of `RULES`, or an index; negative counts from the end."""
    within: tuple[str, ...] = ("text",)
    """Which tokens count, of `WITHIN`."""

    def __post_init__(self) -> None:
        if (
            isinstance(self.tokens, str) and self.tokens.removeprefix("-").isdecimal()
        ):  # from a command line, a manifest
            object.__setattr__(self, "tokens", int(self.tokens))
        if isinstance(self.tokens, bool) or not (isinstance(self.tokens, int) or self.tokens in RULES):
            raise BadInput(
                f"tokens={self.tokens!r} is no token rule; give {', '.join(map(repr, RULES))} or an index such as -1"
            )
        names = (self.within,) if isinstance(self.within, str) else tuple(self.within)
        for name in names:
            if name not in WITHIN:
                raise BadInput(f"within={name!r} names no part of a text; {nearest(str(name), WITHIN)}")
        object.__setattr__(self, "within", names or ("text",))

    def __str__(self) -> str:
        parts = [name for name in self.within if name != "text"]
        return f"{self.tokens} of {' and '.join(parts)}" if parts else str(self.tokens)

    @property
    def mean(self) -> bool:
        """Whether the tokens picked become one row."""
        return self.tokens == "mean"


@dataclass(frozen=True)
class Selection:
    """A text as token ids, and which of them are read."""

    ids: list[int]
    """The whole text."""
    positions: Sequence[int]
    """0-based, ascending, at least one."""


def select_tokens(
    model: LanguageModel, texts: Sequence[Any], rule: TokenRule, entities: Sequence[str] | None = None, start: int = 0
) -> list[Selection]:
    """Encode texts and pick the tokens of each.

    Args:
        model: whose tokenizer and chat template are used.
        texts: strings or chats.
        rule: what is picked.
        entities: the string to look for in each text, for the rule "entity".
        start: the number of the first text, for messages.

    Raises:
        BadInput: naming the text: nothing to read, too long, no such token, no response, an entity that is not there.
    """
    if rule.tokens == "entity" and entities is None:
        raise BadInput("tokens='entity' needs to know it: give entities=, a string for each text")
    found = []
    for i, text in enumerate(texts):
        try:
            ids = model.encode(text)
            counted = _within(model, text, ids, rule.within)
            entity = entities[i] if rule.tokens == "entity" else ""
            found.append(Selection(ids, _pick(model, text, ids, counted, rule.tokens, entity)))
        except BadInput as error:
            raise BadInput(f"text {start + i}: {error}") from error
    return found


def _within(model: LanguageModel, text: Any, ids: list[int], within: Collection[str]) -> Sequence[int]:
    counted: Sequence[int] = range(len(ids))
    if "prompt" in within or "response" in within:
        edge = _prompt_length(model, text, ids)
        if "prompt" in within:
            counted = [i for i in counted if i < edge]
        if "response" in within:
            counted = [i for i in counted if i >= edge]
    if "ordinary" in within:
        added = getattr(model.tokenizer, "added_tokens_decoder", {})
        special = {*model.tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
        counted = [i for i in counted if ids[i] not in special]
    if not counted:
        raise BadInput(f"none of its {len(ids)} tokens is {' and '.join(within)}; read other tokens")
    return counted


def _prompt_length(model: LanguageModel, text: Any, ids: list[int]) -> int:
    if isinstance(text, str):
        raise BadInput("plain text has no prompt and response; give a chat that ends with the assistant's message")
    if text[-1].get("role") != "assistant":
        return len(ids)
    if len(text) == 1:
        raise BadInput("the chat is an answer to nothing; put the user's message before it")
    prompt = model.encode(text[:-1])
    if ids[: len(prompt)] != prompt:
        raise BadInput(
            f"the chat template of {model.name} renders the prompt differently once an answer follows, so the two "
            "cannot be told apart; read all tokens, or encode prompt and answer yourself"
        )
    return len(prompt)


def _pick(
    model: LanguageModel, text: Any, ids: list[int], counted: Sequence[int], tokens: str | int, entity: str
) -> Sequence[int]:
    if tokens in ("all", "mean"):
        return counted
    if tokens == "entity":
        return _entity(model, text, ids, counted, entity)
    index = -1 if tokens == "last" else tokens
    if not -len(counted) <= index < len(counted):
        raise BadInput(f"it has {len(counted)} tokens to read, so no token {index}")
    return (counted[index],)


def _entity(model: LanguageModel, text: Any, ids: list[int], counted: Sequence[int], entity: str) -> list[int]:
    """Return the tokens of the first place where the entity stands, as given or with its first letter a capital."""
    if not getattr(model.tokenizer, "is_fast", False):
        raise BadInput("this tokenizer does not say which letters a token holds; use a fast one, or an index")
    if not isinstance(entity, str) or not entity:
        raise BadInput(f"{entity!r} is no entity; give the string to look for")
    rendered, plain = text, isinstance(text, str)
    if not plain:
        rendered = model.tokenizer.apply_chat_template(
            list(text), tokenize=False, add_generation_prompt=model.awaits_answer(text)
        )
    encoded = model.tokenizer(rendered, add_special_tokens=plain, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != ids:
        raise BadInput("the rendered chat is split into other tokens than the chat, so its letters cannot be placed")
    allowed, starts = set(counted), _places(rendered, entity)
    for start in starts:
        span = [
            i for i, (low, high) in enumerate(encoded["offset_mapping"]) if low < start + len(entity) and high > start
        ]
        if span and allowed.issuperset(span):
            return span
    where = "in it" if not starts else "among the tokens to read"
    raise BadInput(f"{entity!r} is not {where}; give a string that stands in {str(rendered)[:80]!r}")


def _places(text: str, entity: str) -> list[int]:
    found = []
    for form in dict.fromkeys((entity, entity[:1].upper() + entity[1:])):
        at = text.find(form)
        while at >= 0:
            found.append(at)
            at = text.find(form, at + 1)
    return sorted(found)
