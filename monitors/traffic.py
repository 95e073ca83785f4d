"""Traffic: prompts as they are served, and a certificate for a model that answers them.

A file of prompts is plain text (.txt), one prompt a line, or JSON lines (.jsonl):

    {"prompt": "The capital of Spain is", "kind": "ordinary", "group": "author 7"}
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How do I boil potatoes?"}]}

`kind` parts what must keep the promise each by itself; `group` names what prompts share (an author, a template), so
that they count once. Both may be left out: all are of one kind then, and a prompt is a group of its own, however often
it comes.

Limits: prompts are answered here, under the settings given; responses that were recorded elsewhere have no scores.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monitors.calibration import calibrate_streams
from monitors.live.recorder import record
from monitors.monitor import Monitor
from monitors.threshold import Threshold
from probes.errors import BadInput, nearest
from probes.facts.rows import Row, jsonl_rows, read_text
from probes.model.language_model import Chat, LanguageModel, system_of
from probes.reading.probe import LinearProbe
from probes.reading.statistics import Statistic, parse_statistic
from probes.reading.streams import Stream

__all__ = [
    "BENIGN",
    "SEEN",
    "Prompt",
    "as_certified",
    "certify",
    "certify_again",
    "check_groups",
    "digest",
    "label",
    "mix_of",
    "read_traffic",
]

BENIGN = "benign"
"""The kind of prompts that name none."""
SEEN = "seen"
"""Where a monitor's prompt mix keeps digests of the groups that its probes were fitted and chosen on, if it does."""
FIELDS = ("prompt", "messages", "kind", "group")
MESSAGE = ("role", "content")
ABOUT = ("horizon", "statistics", "rate", "promise", "confidence", "seed", "valid_until", "prompt_mix", "progress")
"""Arguments of `certify` that are no options of `generate`."""
EXAMPLE = '{"prompt": "How do I boil potatoes?"}'


@dataclass(frozen=True)
class Prompt:
    """One prompt as it is served."""

    prompt: str | Chat
    """A text, or chat messages."""
    kind: str = BENIGN
    """What must keep the promise by itself."""
    group: str = ""
    """What it shares with others, so that they count once; empty: its own text."""

    @property
    def counts_as(self) -> str:
        """The group it counts in."""
        asked = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        return self.group.strip() or json.dumps(asked, sort_keys=True)


def read_traffic(path: str | Path) -> tuple[Prompt, ...]:
    """Read a file of prompts: `.jsonl`, or `.txt` with one prompt a line.

    Raises:
        NotFound: there is no such file.
        BadInput: another ending, no prompts, not UTF-8, or a line that is not what it should be, with its number.
    """
    path = Path(path)
    if path.suffix.lower() not in (".jsonl", ".txt"):
        raise BadInput(f"{path} is neither .txt, one prompt a line, nor .jsonl, with lines such as {EXAMPLE}")
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        found = tuple(_prompt(row) for row in jsonl_rows(path, text, example=EXAMPLE))
    else:
        found = tuple(Prompt(line.strip()) for line in text.split("\n") if line.strip())
    if not found:
        raise BadInput(f"{path} has no prompts in it; write one a line, or JSON lines such as {EXAMPLE}")
    return found


def certify(
    model: LanguageModel,
    probes: Sequence[LinearProbe],
    traffic: Iterable[Prompt],
    *,
    concept: str,
    horizon: int,
    made: str,
    statistics: str | Statistic | Sequence[str | Statistic] = "max",
    rate: float = 0.05,
    promise: str = "confident",
    confidence: float = 0.95,
    seed: int = 0,
    valid_until: str | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> tuple[Monitor, tuple[Stream, ...]]:
    """Let the model answer benign prompts, and set the limits that their streams carry.

    Args:
        model: the model to be watched.
        probes: what scores.
        traffic: benign prompts, all in one form: what is certified is the form that is served.
        concept: what an alarm means.
        horizon: tokens of a response for which the promise will hold.
        made: ISO date of today.
        statistics, rate, promise, confidence, seed, valid_until: see `calibrate_streams`.
        prompt_mix: more about the prompts, to be kept beside their form and system prompt.
        progress: show a bar.
        options: those of transformers' `generate`; greedy unless `do_sample` is given.

    Returns:
        The monitor, and the streams it rests on, in the order of the prompts.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs, before anything is answered.
        BadInput: no prompts, or texts and chats together.
    """
    served = list(traffic)
    mix = {**mix_of(served), **(prompt_mix or {})}
    about = {"rate": rate, "promise": promise, "horizon": horizon, "made": made, "valid_until": valid_until}
    check_groups(served, statistics, confidence=confidence if promise == "confident" else None, **about)
    answers = record(
        model, probes, [one.prompt for one in served], max_new_tokens=horizon, progress=progress, **options
    )
    streams = label(answers, served)
    threshold = calibrate_streams(
        streams, statistics, confidence=confidence, seed=seed, generation=model.generation_settings(options),
        prompt_mix=mix, **about,
    )  # fmt: skip
    return Monitor(concept, tuple(probes), threshold), streams


def certify_again(
    model: LanguageModel, monitor: Monitor, traffic: Iterable[Prompt], *, made: str, **changes: Any
) -> tuple[Monitor, tuple[Stream, ...]]:
    """Certify a monitor anew on other traffic, without refitting its probes.

    Args:
        model: the model that the monitor was made for.
        monitor: its probes stay; what it promises does unless changed.
        traffic: benign prompts; a plain line is asked in the form that is certified (`as_certified`).
        made: ISO date of today.
        changes: other arguments of `certify`, such as `rate`, `horizon` or `statistics`; None leaves one as it was.

    Raises:
        Mismatch: the monitor was made for another model. TooFew, BadInput: see `certify`.
        BadInput: it was certified with generation settings that are not given here, or was fitted or chosen on some of
            the traffic.
    """
    monitor.match(model)
    old, traffic = monitor.threshold, list(traffic)
    options = {name: value for name, value in changes.items() if name not in ABOUT}
    if old.generation and (now := model.generation_settings(options)) != old.generation:
        raise BadInput(
            f"it was certified with the generation settings {dict(old.generation)}, and this would be with {now}; give "
            "the same as options of certify_again, or make another monitor with certify"
        )
    served = [replace(one, prompt=as_certified(one.prompt, old)) for one in traffic]
    seen = old.prompt_mix.get(SEEN, [])
    known = {digest(one) for one in served} & set(seen)
    if known:
        raise BadInput(
            f"its probes were fitted or chosen on {len(known)} of these {len({one.counts_as for one in served})} "
            "groups, and a certificate on them would mean nothing; give others"
        )
    kept = {"horizon": old.horizon, "statistics": list(old.limits), "rate": old.rate, "promise": old.promise}
    kept |= {} if old.confidence is None else {"confidence": old.confidence}
    kept |= {name: value for name, value in changes.items() if value is not None}
    kept["prompt_mix"] = {**({SEEN: seen} if seen else {}), **(changes.get("prompt_mix") or {})}
    return certify(model, monitor.probes, served, concept=monitor.concept, made=made, **kept)


def as_certified(prompt: str | Chat, threshold: Threshold) -> str | Chat:
    """Return a line of text as the prompt that the certificate speaks of; a chat as it is.

    Raises:
        BadInput: it speaks of chats with several system prompts, and does not say which.
    """
    if not isinstance(prompt, str) or threshold.prompt_mix.get("form") != "chat":
        return prompt
    if len(threshold.systems) > 1:
        raise BadInput(
            f"certified on {len(threshold.systems)} system prompts; give chats that say which, as JSON lines"
        )
    system = "".join(threshold.systems)
    return (*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt})


def check_groups(
    served: Sequence[Prompt], statistics: str | Statistic | Sequence[str | Statistic], **about: Any
) -> None:
    """Refuse what cannot be certified before anything is answered.

    Args:
        served: the benign prompts.
        statistics: of one monitor.
        about: the other fields of its `Threshold`.

    Raises:
        TooFew: a kind has too few groups. BadInput, NotFound: a statistic, a promise, a date.
    """
    given = [statistics] if isinstance(statistics, str | Statistic) else list(statistics)
    groups = {kind: len({one.counts_as for one in served if one.kind == kind}) for kind in {one.kind for one in served}}
    Threshold(
        {str(parse_statistic(str(one))): {kind: [0.0] * n for kind, n in groups.items()} for one in given}, **about
    )


def label(answers: Iterable[Stream], served: Iterable[Prompt]) -> tuple[Stream, ...]:
    """Return the streams with the kind and the group of their prompts."""
    return tuple(replace(s, kind=one.kind, group=one.counts_as) for one, s in zip(served, answers, strict=True))


def digest(prompt: Prompt) -> str:
    """Return 16 hexadecimal digits that stand for the group of a prompt."""
    return hashlib.sha256(prompt.counts_as.encode()).hexdigest()[:16]


def mix_of(served: Sequence[Prompt]) -> dict[str, Any]:
    """Say in what form prompts come, and with which system prompts."""
    if not served:
        raise BadInput("no benign prompts were given; give those of one kind at least")
    forms = {"completion" if isinstance(one.prompt, str) else "chat" for one in served}
    if len(forms) > 1:
        raise BadInput("some prompts are texts and some are chats; a certificate is for one form: certify each")
    systems = sorted({system_of(one.prompt) for one in served})
    return {"form": forms.pop(), "system": systems[0] if len(systems) == 1 else systems}


def _prompt(row: Row) -> Prompt:
    """Return the prompt of a line, or refuse the line."""
    for name in row.fields:
        if name not in FIELDS:
            raise BadInput(f"{row.where}: a prompt has no field {name!r}; {nearest(name, FIELDS)}")
    for name in ("prompt", "kind", "group"):
        value = row.fields.get(name, "-")
        if not isinstance(value, str) or not value.strip():
            raise BadInput(f"{row.where}: {name!r} is {value!r}; give a text")
    if ("prompt" in row.fields) == ("messages" in row.fields):
        raise BadInput(f"{row.where}: give either 'prompt' or 'messages', such as {EXAMPLE}")
    asked = row.fields["prompt"] if "prompt" in row.fields else _chat(row)
    return Prompt(asked, row.fields.get("kind", BENIGN).strip(), row.fields.get("group", "").strip())


def _chat(row: Row) -> Chat:
    messages = row.fields["messages"]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise BadInput(f"{row.where}: 'messages' is a list of objects with the texts 'role' and 'content', no others")
    return tuple(messages)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and set(message) == set(MESSAGE)
        and all(isinstance(text, str) for text in message.values())
    )
