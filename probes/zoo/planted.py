"""A model whose knowledge is known: the model, its facts, and what is true of each. Written to a folder and read back.

    model/               an ordinary Hugging Face folder; `probes.load_model` opens it
    checkpoint-<step>/   the same along the way, named as the Hugging Face Trainer does
    facts/<topic>.jsonl  topic files; `probes.load_topic` opens them
    truth.jsonl          one fact a line: class, says, believes, knows, uses (null: left open)
    zoo.json             name, seed, size, order of topics, contexts, tasks, figures reached; written last

Limits: a folder without zoo.json was not finished and is refused.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic, load_topic
from probes.knowing.acting import Task
from probes.model.language_model import LanguageModel, load_model
from probes.zoo.truth import ASPECTS, Truth

__all__ = ["Planted", "checkpoints_of", "load_planted", "save_model", "save_planted"]


@dataclass(frozen=True, eq=False, repr=False)
class Planted:
    """A model of the zoo."""

    model: LanguageModel
    """The model at the end of its training."""
    name: str
    """Its name in the zoo."""
    seed: int
    """Of world, texts and weights."""
    topics: tuple[Topic, ...]
    """All facts of its world, a topic a relation."""
    truth: tuple[Truth, ...]
    """What is true of each fact that the construction says something about."""
    checkpoints: tuple[Path, ...] = ()
    """Folders along the way, in order; none where nothing was written."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Size, steps, figures reached, when what was learned, where it was written."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    """By fact id: the text to put before a prompt about it, where the fact stands only in the prompt."""
    tasks: tuple[Task, ...] = ()
    """Prompts whose answer needs a state that they do not name; only the planner has some."""

    def __repr__(self) -> str:
        classes = ", ".join(f"{len(self.of(name))} {name}" for name in self.classes)
        return f"Planted({self.name!r}, seed {self.seed}: {classes})"

    def to_dict(self) -> dict[str, Any]:
        """Return name, seed, number of facts by class, checkpoints and figures, for JSON."""
        counts = {name: len(self.of(name)) for name in self.classes}
        head = {"name": self.name, "seed": self.seed, "facts": counts, "checkpoints": len(self.checkpoints)}
        return head | dict(self.about)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of facts, in order."""
        return tuple(dict.fromkeys(row.klass for row in self.truth))

    def of(self, klass: str) -> tuple[Fact, ...]:
        """Return the facts of one class.

        Raises:
            NotFound: there is no such class.
        """
        if klass not in self.classes:
            raise NotFound(f"{self.name} has no facts of class {klass!r}; {nearest(str(klass), self.classes)}")
        return tuple(row.fact for row in self.truth if row.klass == klass)

    def topic(self, name: str) -> Topic:
        """Return one topic.

        Raises:
            NotFound: there is no such topic.
        """
        found = {topic.name: topic for topic in self.topics}
        if name not in found:
            raise NotFound(f"{self.name} has no topic {name!r}; {nearest(str(name), found)}")
        return found[name]


def save_planted(planted: Planted, folder: Path) -> None:
    """Write all of it; the checkpoints are there already."""
    (folder / "facts").mkdir(parents=True, exist_ok=True)
    save_model(planted.model.module, planted.model.tokenizer, folder / "model")
    for topic in planted.topics:
        _write(folder / "facts" / f"{topic.name}.jsonl", [_header(topic), *map(_row, topic.facts)])
    rows = [
        {"topic": t.fact.relation, "class": t.klass} | _row(t.fact) | {a: getattr(t, a) for a in ASPECTS}
        for t in planted.truth
    ]
    _write(folder / "truth.jsonl", rows)
    head = {"format": 1, "name": planted.name, "seed": planted.seed, "topics": [topic.name for topic in planted.topics]}
    head |= {
        "about": dict(planted.about),
        "contexts": dict(planted.contexts),
        "tasks": [asdict(t) for t in planted.tasks],
    }
    (folder / "zoo.json").write_text(json.dumps(head, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_model(module: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary Hugging Face folder, without the bars that `save_pretrained` of a model draws."""
    folder.mkdir(parents=True)
    module.config.save_pretrained(folder)
    module.generation_config.save_pretrained(folder)
    # The vocabulary matrix is the embedding: one tensor under two names, which safetensors refuses.
    state = {name: tensor for name, tensor in module.state_dict().items() if name != "lm_head.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def load_planted(folder: str | Path) -> Planted:
    """Read a folder that `build_zoo` or `belief zoo` has written.

    Raises:
        NotFound: there is no finished model of the zoo.
        BadInput: it was written by another version, or a line is damaged.
    """
    folder = Path(folder)
    if not (folder / "zoo.json").is_file():
        raise NotFound(
            f"{folder} holds no model of the zoo: zoo.json is missing; make one with belief zoo NAME --out DIR"
        )
    try:
        head = json.loads((folder / "zoo.json").read_text(encoding="utf-8"))
        lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if head["format"] != 1:
            raise BadInput(f"{folder} has format {head['format']!r}; this version reads 1: build it again")
        topics = tuple(load_topic(folder / "facts" / f"{name}.jsonl") for name in head["topics"])
        facts = {fact.id: fact for topic in topics for fact in topic.facts}
        truth = tuple(
            Truth(facts[f"{row['subject']}|{row['topic']}|{row['object']}"], row["class"], *(row[a] for a in ASPECTS))
            for row in rows
        )
        name, seed, about, contexts = (head[key] for key in ("name", "seed", "about", "contexts"))
        tasks = tuple(Task(**task) for task in head["tasks"])
    except (KeyError, TypeError, json.JSONDecodeError, OSError) as error:
        raise BadInput(f"{folder} is damaged ({type(error).__name__}: {error}); build it again") from error
    model = load_model(folder / "model")
    return Planted(model, name, seed, topics, truth, checkpoints_of(folder), about, contexts, tasks)


def checkpoints_of(folder: Path | None) -> tuple[Path, ...]:
    """Return the checkpoints in a folder, by step."""
    if folder is None:
        return ()
    return tuple(sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])))


def _header(topic: Topic) -> dict[str, Any]:
    relation = {key: value for key, value in asdict(topic.relation).items() if key != "topic" and value not in ("", ())}
    return {"name": topic.name, "licence": topic.licence, "source": topic.source, "relation": relation}


def _row(fact: Fact) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": fact.subject, "object": fact.object}
    return row | ({"distractors": list(fact.distractors)} if fact.distractors else {})


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
