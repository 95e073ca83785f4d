"""`belief trips`: what the breaker did. This file parses and prints; the work is in `breaker/`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from probes.cli import AsJson, console
from probes.errors import CouldNotRun, NotFound, nearest

__all__ = ["app", "existing"]

app = typer.Typer(name="trips", help="What the breaker did: list, verify, reset.", no_args_is_help=True)

JournalFile = Annotated[Path, typer.Option("--journal", envvar="BELIEF_JOURNAL", help="The journal's file.")]


@app.command("list")
def trips_list(journal: JournalFile, as_json: AsJson = False) -> None:
    """List every change of state."""
    from monitors.breaker.journal import Journal

    with Journal(existing(journal)) as opened:
        moves = [(row.seq, row.entry.breaker, row.entry.transition) for row in opened.rows() if row.entry.transition]
    rows = [
        {
            "row": seq,
            "breaker": name,
            "before": move.before,
            "after": move.after,
            "who": move.who,
            "reason": move.reason,
        }
        for seq, name, move in moves
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        console.print(
            f"{row['row']:>5}  {row['breaker']}: {row['before']} -> {row['after']} by {row['who']}: {row['reason']}"
        )
    console.print(f"{len(rows)} changes of state")


@app.command("verify")
def trips_verify(journal: JournalFile) -> None:
    """Check the journal's hash chain. Exit 1 where a row was edited, deleted or moved."""
    from monitors.breaker.journal import Journal

    with Journal(existing(journal)) as opened:
        audit = opened.verify()
    console.print(f"{audit.rows} rows are as they were written" if audit.holds else f"row {audit.bad}: {audit.why}")
    raise typer.Exit(0 if audit.holds else 1)


@app.command("reset")
def trips_reset(
    journal: JournalFile,
    by: Annotated[str, typer.Option(help="Who closes it.")],
    why: Annotated[str, typer.Option(help="Why it may close.")],
    name: Annotated[str, typer.Option(help="Which breaker.")] = "default",
) -> None:
    """Close a breaker; name and reason are kept."""
    from monitors.breaker.breaker import Breaker
    from monitors.breaker.journal import Journal

    with Journal(existing(journal)) as opened:
        policies = {row.entry.breaker: row.entry.policy for row in opened.rows()}
        if name not in policies:
            raise NotFound(f"no breaker {name!r} in {journal}; {nearest(name, policies)}")
        move = Breaker(policies[name], journal=opened, name=name).reset(by=by, why=why)
    console.print(f"{name}: {move.before} -> {move.after}, {move.reason}")


def existing(file: Path, what: str = "journal") -> Path:
    """Return a file that is there, or refuse."""
    if not file.is_file():
        raise CouldNotRun(f"there is no {what} at {file}; give its file with --{what}")
    return file
