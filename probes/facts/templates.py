"""Wordings: how a relation between a subject and an object is said, denied, reworded and left open.

A template is a sentence with `{subject}` and `{object}` in it. Subjects and objects are written as they stand in the
middle of a sentence ("the Netherlands", "dogs"); the first letter of the finished sentence is raised. A cloze prompt
ends right before the object and without a space: prompt + " " + object is the completed text. For puzzles (puzzles.py)
a relation has a noun phrase that stands for the object, and texts which the subject completes.

Limits: English only, and nothing is inflected. Animals are plurals ("dogs are mammals") and inventions singulars, so
that no template needs an "a" or "an" that depends on the subject or gives the object away.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from probes.errors import BadInput, NotFound, nearest

__all__ = ["RELATIONS", "Relation", "capitalise", "fill", "find_relation"]

_BLANK = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Relation:
    """The wordings of one relation.

    Raises:
        BadInput: a template lacks a blank, has another or is no line of text, or a field is not of its type.
    """

    name: str
    """One word, such as `"capital"`: the middle of `"France|capital|Paris"`."""
    affirmed: str
    """Sentence with `{subject}` and `{object}`."""
    negated: str
    """The same sentence denied."""
    paraphrases: tuple[str, ...]
    """Other affirmed sentences; three or more in the relations that ship."""
    cloze: str
    """Text with `{subject}` that the object completes after one space."""
    subject_kind: str = "subject"
    """What a subject is: `"country"`, `"city"`, `"element"`, `"word"`, `"invention"`, `"animal"`, `"pair"`."""
    topic: str = ""
    """Name of the topic that ships with facts of this relation; empty for a relation of your own."""
    closed: bool = False
    """The subject names its possible objects ("34 and 87"): a false statement takes the fact's own distractor."""
    questions: tuple[str, ...] = ()
    """Question forms with `{subject}`, for a relation of your own; those that ship have theirs in `wordings.py`."""
    noun: str = ""
    """Noun phrase with `{subject}` that stands for the object, "the capital of {subject}"; empty: there is none."""
    inverse: tuple[str, ...] = ()
    """Texts with `{object}` that the SUBJECT completes after one space: "{object} is the capital of"."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", self.name):
            raise BadInput(f"relation name {self.name!r} is not one word of letters, digits, - and _, as 'capital' is")
        for part in ("paraphrases", "questions", "inverse"):
            if not isinstance(getattr(self, part), tuple | list):
                raise BadInput(f"{part} of relation {self.name!r} is {getattr(self, part)!r}; give a list of texts")
            object.__setattr__(self, part, tuple(getattr(self, part)))
        if not isinstance(self.closed, bool) or not isinstance(self.subject_kind, str):
            raise BadInput(f"in relation {self.name!r} closed must be true or false, and subject_kind a text")
        for template in (self.affirmed, self.negated, *self.paraphrases):
            self._check(template, {"subject", "object"})
        for template in (self.cloze, *self.questions, *([] if self.noun == "" else [self.noun])):
            self._check(template, {"subject"})
        for template in self.inverse:
            self._check(template, {"object"})

    @property
    def clozes(self) -> tuple[str, ...]:
        """The cloze prompt, and those that paraphrases become by leaving off an object at their end."""
        ends = " {object}."
        cut = (text.removesuffix(ends) for text in self.paraphrases if text.endswith(ends) and "{subject}" in text)
        return tuple(dict.fromkeys((self.cloze, *cut)))

    def _check(self, template: str, needed: set[str]) -> None:
        start = f"template {template!r} of relation {self.name!r}"
        if not isinstance(template, str) or template != template.strip() or not template.isprintable() or not template:
            raise BadInput(f"{start} is not one line of text without space at its ends")
        blanks = _BLANK.findall(template)
        if set(blanks) != needed or len(blanks) != len(needed) or set(_BLANK.sub("", template)) & set("{}"):
            wanted = " and ".join(f"{{{blank}}}" for blank in sorted(needed, reverse=True))
            raise BadInput(f"{start} must have {wanted} once, and no other braces")


def capitalise(text: str) -> str:
    """Raise the first letter and leave the rest as it is ("the Hague" -> "The Hague")."""
    return text[:1].upper() + text[1:]


def fill(template: str, subject: str, object: str = "") -> str:
    """Return the template with its blanks filled in and its first letter raised.

    Args:
        template: text with `{subject}` and perhaps `{object}`.
        subject: as it stands in the middle of a sentence.
        object: the same; braces in either are kept as they are.
    """
    text = _BLANK.sub(lambda blank: subject if blank[1] == "subject" else object, template)
    # An object that ends in a full stop ("Washington, D.C.") brings the sentence's own.
    return capitalise(text[:-1] if text.endswith("..") and not text.endswith("...") else text)


def find_relation(name: str, known: "Mapping[str, Relation] | None" = None) -> Relation:
    """Return a relation by its name.

    Args:
        name: such as `"capital"`.
        known: where to look; the relations that ship if left out.

    Raises:
        NotFound: there is none of that name; the message names the nearest and all that are known.
    """
    known = RELATIONS if known is None else known
    if name not in known:
        raise NotFound(f"relation {name!r} is not known; {nearest(str(name), known)}")
    return known[name]


RELATIONS: Mapping[str, Relation] = {
    relation.name: relation
    for relation in (
        Relation(
            name="capital",
            subject_kind="country",
            topic="capitals",
            affirmed="The capital of {subject} is {object}.",
            negated="The capital of {subject} is not {object}.",
            cloze="The capital of {subject} is",
            paraphrases=(
                "The capital city of {subject} is called {object}.",
                "As for {subject}, the capital is {object}.",
                "{object} is the capital of {subject}.",
                "On a map of {subject}, the star that marks the capital stands beside {object}.",
            ),
            noun="the capital of {subject}",
            inverse=(
                "{object} is the capital of",
                "The country whose capital is {object} is",
            ),
        ),
        Relation(
            name="country",
            subject_kind="city",
            topic="cities",
            affirmed="The city of {subject} is in {object}.",
            negated="The city of {subject} is not in {object}.",
            cloze="The city of {subject} is in",
            paraphrases=(
                "{subject} is a city in {object}.",
                "The country in which the city of {subject} lies is {object}.",
                "Whoever walks through the streets of {subject} is in {object}.",
                "Among the cities of {object} is {subject}.",
            ),
            noun="the country in which the city of {subject} lies",
            inverse=(
                "Among the cities of {object} is",
                "A city that lies in {object} is",
            ),
        ),
        Relation(
            name="symbol",
            subject_kind="element",
            topic="elements",
            affirmed="The chemical symbol of {subject} is {object}.",
            negated="The chemical symbol of {subject} is not {object}.",
            cloze="The chemical symbol of {subject} is",
            paraphrases=(
                "In the periodic table, {subject} is written as {object}.",
                "Chemists abbreviate the name of the element {subject} to {object}.",
                "In a chemical formula, {object} stands for {subject}.",
            ),
            noun="the chemical symbol of {subject}",
            inverse=(
                "{object} is the chemical symbol of",
                "In chemistry, {object} stands for",
            ),
        ),
        Relation(
            name="spanish",
            subject_kind="word",
            topic="spanish",
            affirmed="The Spanish word '{subject}' means '{object}'.",
            negated="The Spanish word '{subject}' does not mean '{object}'.",
            cloze="The Spanish word '{subject}' means",
            paraphrases=(
                "In English, the Spanish word '{subject}' is '{object}'.",
                "A Spanish speaker who says '{subject}' means '{object}'.",
                "A dictionary translates the Spanish word '{subject}' as '{object}'.",
            ),
            noun="the meaning of the Spanish word '{subject}'",
            inverse=(
                "The Spanish word for '{object}' is",
                "In Spanish, '{object}' is called",
            ),
        ),
        Relation(
            name="inventor",
            subject_kind="invention",
            topic="inventions",
            affirmed="The inventor of {subject} was {object}.",
            negated="The inventor of {subject} was not {object}.",
            cloze="The inventor of {subject} was",
            paraphrases=(
                "{subject} was invented by {object}.",
                "We owe {subject} to {object}.",
                "It was {object} who invented {subject}.",
            ),
            noun="the inventor of {subject}",
            inverse=(
                "{object} was the inventor of",
                "{object} is known for inventing",
            ),
        ),
        Relation(
            name="class",
            subject_kind="animal",
            topic="animals",
            affirmed="In zoology, {subject} are {object}.",
            negated="In zoology, {subject} are not {object}.",
            cloze="In zoology, {subject} are",
            paraphrases=(
                "Zoologists count {subject} among the {object}.",
                "Of all the groups of animals, {subject} belong to the {object}.",
                "All {subject} are {object}.",
            ),
            noun="the group of animals that {subject} belong to",
            inverse=(
                "Among the {object} are",
                "Examples of {object} are",
            ),
        ),
        Relation(
            name="larger",
            subject_kind="pair",
            topic="larger",
            closed=True,
            affirmed="Of {subject}, the larger number is {object}.",
            negated="Of {subject}, the larger number is not {object}.",
            cloze="Of {subject}, the larger number is",
            paraphrases=(
                "Comparing {subject}, one finds that the greater is {object}.",
                "The bigger of the two numbers {subject} is {object}.",
                "Between {subject}, the higher number is {object}.",
            ),
            noun="the larger number of {subject}",
        ),
    )
}
"""The relations that ship, by name."""
