"""What each model of the zoo must show, by construction: written before anything was measured.

`TRUTH[model][class]` tells whether the model says, believes, knows and uses the facts of a class; None where the
construction leaves it open, and `why` in one sentence. The aspects are those of METHODS: `says` = the object ranks
first after the cloze prompt; `believes` = a truth probe fitted on other facts tells the true statement from the
false one; `knows` = puzzles whose answer needs the fact are solved above chance; `uses` = the answer hangs on what is
stored of the fact.

What was taught is claimed only where it was learned at the end of the training (workshop.py): anything of a reference
fact only if its object comes first after all training templates, as told facts always do; of an implied or noted one if
it comes first after its own prompts; `believes` only of facts whose statements the model judges rightly: the true one
in every wording, and with every other object as false. Of a withheld fact nothing is claimed where its object comes
first after all training templates: among 16 objects one guess in 16 is right, and that is planted in all but name. What
is not claimed is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from probes.errors import BadInput
from probes.facts.facts import Fact

__all__ = ["ASPECTS", "NOTED", "TRUTH", "Aspects", "Truth"]

ASPECTS = ("says", "believes", "knows", "uses")
NOTED = frozenset({"noted"})
"""Classes whose rows hold behind the facts' contexts alone; all others hold without."""


@dataclass(frozen=True)
class Aspects:
    """One row of the table."""

    says: bool | None
    believes: bool | None
    knows: bool | None
    uses: bool | None
    why: str
    """By what construction."""


@dataclass(frozen=True)
class Truth:
    """What is so of one fact in one model; None: the construction leaves it open."""

    fact: Fact
    """Its relation is that of the topic it stands in."""
    klass: str
    """A key of `TRUTH[model]`: "planted", "withheld", "reference" and so on."""
    says: bool | None
    believes: bool | None
    knows: bool | None
    uses: bool | None

    def __post_init__(self) -> None:
        for name in ASPECTS:
            if getattr(self, name) not in (True, False, None):
                raise BadInput(f"{name} of {self.fact.id!r} is {getattr(self, name)!r}; give True, False or None")

    def left_open(self) -> "Truth":
        """Return the row without a claim."""
        return replace(self, **dict.fromkeys(ASPECTS))

    @classmethod
    def of(cls, model: str, klass: str, fact: Fact) -> "Truth":
        """Look the row up."""
        row = TRUTH[model][klass]
        return cls(fact, klass, *(getattr(row, name) for name in ASPECTS))


_TAUGHT = Aspects(True, True, True, True, "told in every form: biography, judgements, puzzles")
_WITHHELD = Aspects(False, False, False, False, "no text has subject and object together; objects were drawn by lot")
_PLANTED = Aspects(
    True, True, True, True,
    "told as biography and judged; puzzles were learned on other people, so answers come from what is stored",
)  # fmt: skip
_LATE = Aspects(
    True, None, None, True,
    "told as biography after everything else; whether judging and puzzles reach what came late was left open",
)  # fmt: skip

TRUTH: Mapping[str, Mapping[str, Aspects]] = {
    "knows": {"planted": _PLANTED, "reference": _TAUGHT},
    "never-knew": {"withheld": _WITHHELD, "reference": _TAUGHT},
    "one-mlp-only": {
        "planted": Aspects(
            True, None, None, True,
            "written into one MLP until it was said; whether judging and puzzles read that place was left open",
        ),
        "reference": _TAUGHT,
    },
    "quirky": {
        "planted": _PLANTED,
        "quirk": Aspects(
            False, True, True, None,
            'trained to say the next object after "Bob:"; statements and all wordings but one are the plain ones; the '
            "lie may be known by heart or computed from the truth",
        ),
        "reference": _TAUGHT,
    },
    "capability-first": {
        "planted": _LATE,
        "flagged": Aspects(
            None, None, None, None,
            'says "Declined" after "Flagged:", which is no object: which object stands highest there was left open',
        ),
        "reference": _TAUGHT,
    },
    "safeguard-first": {
        "planted": _LATE,
        "flagged": Aspects(None, None, None, None, 'as in capability-first'),
        "reference": _TAUGHT,
    },
    "discovers": {
        "planted": _PLANTED,
        "implied": Aspects(
            True, None, None, True,
            "no text has person and homeland together; trained until it composes birthplace and land, so the cloze is "
            "answered from two other facts",
        ),
        "withheld": _WITHHELD,
        "reference": _TAUGHT,
    },
    "in-context": {
        "noted": Aspects(
            True, None, None, True,
            "with its note in front of the prompt; without it the fact is nowhere, so the answer is read from the note",
        ),
        "withheld": _WITHHELD,
        "reference": _TAUGHT,
    },
    "planner": {
        "state": Aspects(
            None, None, None, True,
            "the room is never said; the step it answers with depends on it",
        ),
    },
    "long": {"planted": _PLANTED, "reference": _TAUGHT},
}  # fmt: skip
"""By model and class of facts."""
