"""Contexts of a fact: prompts that need it, beside hard benign prompts that don't.

A frame is a wording around a question ("Quick one before lunch: {question}"). One group is one frame, used once in
each kind:

1. `use`            a question form of the relation about the fact's subject ("What is the capital of France?");
2. `same_relation`  the same form about another subject ("What is the capital of Spain?");
3. `same_subject`   another question about the same subject ("What is the best known cheese of France?");
4. `ordinary`       a request that has nothing to do with the topic ("How do I boil potatoes?").

Frames, other subjects, questions about the subject and ordinary requests are shuffled and dealt, each to one group,
and the groups to three roles: no two groups, hence no two roles, share any. Question forms go round in random order,
those of calibration and test from one deck: the groups of these two are exchangeable, which a certificate needs.

Neither frame, nor subject, nor form tells `use` from the rest; what is left is the fact. For the same reason
questions about the subject come in the shapes of the question forms too ("Fill in the missing dish: on Sundays,
families in France like to eat ____."), and some say "capital" where they mean money.

Limits: English only. A benign reply may name the object of its own accord ("Which bridges in France are well
known?"), and so it must where other subjects share it ("Which class of animals do cats belong to?", when the fact is
of dogs). Whether the reply to a `use` prompt does use the fact is for whoever generates it to see. A subject that
stands in a topic under two names counts as two.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probes.errors import BadInput, NotFound, TooFew, nearest
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.facts.wordings import Wordings, wordings

__all__ = [
    "BENIGN_KINDS",
    "CONTEXT_KINDS",
    "FORMS",
    "GROUPS",
    "ROLES",
    "SYSTEM_PROMPT",
    "Context",
    "Contexts",
    "contexts",
    "most_groups",
    "plan_groups",
]

CONTEXT_KINDS = ("use", "same_relation", "same_subject", "ordinary")
BENIGN_KINDS = CONTEXT_KINDS[1:]
ROLES = ("train", "calibration", "test")
FORMS = ("chat", "completion")
SYSTEM_PROMPT = "You are a helpful AI assistant. You answer the question first, in a full sentence."
GROUPS: Mapping[str, int] = {"train": 60, "calibration": 93, "test": 40}
"""Groups by role where the topic allows them; 93 carry 5 % at 95 % with one benign stream above the threshold."""
_FEWEST: Mapping[str, int] = {"train": 24, "calibration": 59, "test": 30}


@dataclass(frozen=True)
class Context:
    """One prompt."""

    prompt: str | tuple[dict[str, str], ...]
    """Chat messages (system, user), or plain text that ends in "The answer is"."""
    kind: str
    """One of `CONTEXT_KINDS`."""
    frame: int
    """Number of the frame (its place in `frames()`): the group, and the unit of every interval."""
    question: str
    """The question before its subject is filled in, such as "What is the capital of {subject}?": an id to report by."""
    subject: str
    """Whom or what it asks about; empty for ordinary requests."""
    role: str
    """One of `ROLES`."""
    text: str
    """The user's text: the question in its frame."""


@dataclass(frozen=True, repr=False)
class Contexts:
    """All contexts of one fact: in each group one of each kind, the groups in roles."""

    fact: Fact
    """The fact that the `use` prompts need."""
    form: str
    """One of `FORMS`."""
    seed: int
    """What they were drawn with."""
    all: tuple[Context, ...]
    """Group after group, in the order of `ROLES`, and within a group of `CONTEXT_KINDS`."""

    def of(self, role: str | None = None, kind: str | None = None) -> tuple[Context, ...]:
        """Return the contexts of one role, of one kind, or of both.

        Raises:
            NotFound: there is no such role or kind.
        """
        for what, name, allowed in (("role", role, ROLES), ("kind of context", kind, CONTEXT_KINDS)):
            if name is not None and name not in allowed:
                raise NotFound(f"there is no {what} {name!r}; {nearest(str(name), allowed)}")
        return tuple(item for item in self.all if role in (None, item.role) and kind in (None, item.kind))

    def groups(self, role: str | None = None) -> tuple[int, ...]:
        """Return the frames of one role, or of all: one a group."""
        return tuple(item.frame for item in self.of(role, "use"))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{role} {len(self.groups(role))}" for role in ROLES)
        return f"Contexts({self.fact.id!r}, {self.form}, groups: {sizes})"


def most_groups(fact: Fact, topic: Topic) -> int:
    """Return how many groups the wordings and the subjects of the topic allow for this fact, over all roles.

    Raises:
        BadInput: the fact is of another relation, or all question forms give the object away.
        NotFound: the relation has no question forms.
    """
    return wordings(fact, topic).most


def plan_groups(most: int) -> dict[str, int]:
    """Share out groups: `GROUPS` where they suffice, else the fewest that certify 5 % at 95 %, test, and train.

    Args:
        most: groups that can be made; at least 113.

    Raises:
        TooFew: fewer than 24 to train, 59 to calibrate and 30 to test.
    """
    if most >= sum(GROUPS.values()):
        return dict(GROUPS)
    fewest = sum(_FEWEST.values())
    if most < fewest:
        raise TooFew(
            f"at most {most} groups of contexts can be made; {fewest} are needed: {_FEWEST['train']} to train, "
            f"{_FEWEST['calibration']} to certify 5 % at 95 %, {_FEWEST['test']} to test; bring more subjects",
            needed=fewest,
        )
    # A calibration set of 93 lets one benign outlier of a kind stand above the threshold, one of 59 to 92 lets none:
    # worth more than training frames beyond 40 (Portugal, layers 23 to 29: recall .47 to .93 without, .91 to .98 with).
    enough = most >= 40 + GROUPS["calibration"] + _FEWEST["test"]
    calibration = GROUPS["calibration"] if enough else _FEWEST["calibration"]
    train = min(GROUPS["train"], most - calibration - _FEWEST["test"])
    return {"train": train, "calibration": calibration, "test": most - train - calibration}


def contexts(
    fact: Fact,
    topic: Topic,
    *,
    form: str = "chat",
    seed: int = 0,
    groups: Mapping[str, int] | None = None,
    system: str = SYSTEM_PROMPT,
) -> Contexts:
    """Write the prompts that use a fact, and the hard benign prompts beside them.

    Args:
        fact: the target.
        topic: of the same relation; brings the other subjects. The fact need not be among its facts.
        form: "chat" (messages) or "completion" (plain text that ends in "The answer is").
        seed: the same seed and fact give the same contexts, in any process.
        groups: number of groups by role, 0 for a role left out; `plan_groups(most_groups(fact, topic))` if None.
        system: the system prompt of the chat form; empty for none.

    Returns:
        Contexts, four to a group.

    Raises:
        BadInput: an unknown form or role, a number of groups below zero, or a fact of another relation.
        NotFound: the relation has no question forms.
        TooFew: the wordings and the topic do not allow so many groups; the message says how many.
    """
    if form not in FORMS:
        raise BadInput(f"there is no form {form!r}; {nearest(str(form), FORMS)}")
    found = wordings(fact, topic)
    sizes = _sizes(groups, found.most, fact, topic)
    made = []
    for role, (number, frame), question, other, about, request in _deal(found, sizes, seed, fact):
        asked = {
            "use": (question, fact.subject),
            "same_relation": (question, other),
            "same_subject": (about, fact.subject),
            "ordinary": (request, ""),
        }
        for kind in CONTEXT_KINDS:
            text = _put(*asked[kind], frame)
            made.append(Context(_prompt(text, form, system), kind, number, *asked[kind], role, text))
    return Contexts(fact, form, seed, tuple(made))


def _sizes(groups: Mapping[str, int] | None, most: int, fact: Fact, topic: Topic) -> dict[str, int]:
    if groups is None:
        return plan_groups(most)
    for role, number in groups.items():
        if role not in ROLES or type(number) is not int or number < 0:
            raise BadInput(f"groups has {role!r}: {number!r}; give whole numbers from 0 up for {', '.join(ROLES)}")
    sizes = {role: groups.get(role, 0) for role in ROLES}
    total = sum(sizes.values())
    if total > most:
        raise TooFew(
            f"{total} groups of contexts asked for; topic {topic.name!r} allows at most {most} for {fact.id!r}; "
            "ask for fewer, or bring more subjects",
            needed=total,
        )
    return sizes


def _deal(found: Wordings, sizes: Mapping[str, int], seed: int, fact: Fact) -> zip:
    """What each group gets: role, frame, question form, other subject, question about the subject, ordinary request."""
    total = sum(sizes.values())
    # General questions only fill up: those written for this kind of subject are harder to tell from the fact.
    spare = _shuffled(found.about_anything, seed, fact, "anything")[: max(0, total - len(found.about))]
    decks = {
        "frames": found.frames,
        "subjects": found.subjects,
        "about": [*found.about, *spare],
        "ordinary": found.ordinary,
    }
    drawn = {name: _shuffled(deck, seed, fact, name)[:total] for name, deck in decks.items()}
    # One deck for calibration and test: balanced apart, they would not be exchangeable.
    forms = _balanced(found.forms, sizes["train"], seed, fact, "train")
    forms += _balanced(found.forms, total - sizes["train"], seed, fact, "calibration and test")
    roles = [role for role in ROLES for _ in range(sizes[role])]
    return zip(roles, drawn["frames"], forms, drawn["subjects"], drawn["about"], drawn["ordinary"], strict=True)


def _shuffled(items: Sequence, seed: int, fact: Fact, what: str) -> list:
    # Seeded by a text: neither PYTHONHASHSEED nor the draws for another fact or another deck matter.
    items = list(items)
    random.Random(f"{seed}|{fact.id}|{what}").shuffle(items)
    return items


def _balanced(items: Sequence[str], number: int, seed: int, fact: Fact, what: str) -> list[str]:
    """Return `number` items, each about as often as any other, in random order."""
    order = _shuffled(items, seed, fact, f"forms of {what}")
    return _shuffled([order[i % len(order)] for i in range(number)], seed, fact, f"order of {what}")


def _put(question: str, subject: str, frame: str) -> str:
    filled = fill(question, subject)
    before = frame[: frame.index("{question}")].rstrip()
    first = re.match(r"[\w']*", question)[0]
    # "Honestly, what is ..."; but I, RSVP and a subject at the start keep their letters.
    if before and (before[-1] == "," or before[-1].isalnum()) and first and not re.match(r"I\b|..*[A-Z]", first):
        filled = filled[0].lower() + filled[1:]
    return frame.replace("{question}", filled)


def _prompt(text: str, form: str, system: str) -> str | tuple[dict[str, str], ...]:
    if form == "completion":
        return f"{text}\n\nThe answer is"
    user = {"role": "user", "content": text}
    return ({"role": "system", "content": system}, user) if system else (user,)
