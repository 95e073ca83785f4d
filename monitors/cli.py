"""The front door: `belief`, with the commands of every floor. This file parses and prints; the work is in the library.

Exit codes: 0 passed, 1 a check failed, 2 bad usage, 3 could not run, 4 inconclusive, 130 interrupted. An uncaught
exception is 3, with one line; set BELIEF_DEBUG=1 for its traceback.
"""

import json
import os
import re
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from monitors import trips
from monitors.trips import existing
from probes import cli as reading
from probes.cli import AsJson, console
from probes.errors import BadInput, BeliefError

__all__ = ["app", "main"]

app = typer.Typer(
    name="belief", help="Find out whether a language model knows a fact, and stop it when that matters.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
READ = ("fetch", "facts", "probe", "steer", "doctor", "know", "zoo")
for command in (getattr(reading, name) for name in READ):
    app.command()(command)
app.add_typer(trips.app)


@app.callback(invoke_without_command=True)
def front(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show_version:
        console.print(version("belief-probes"))
        raise typer.Exit


@app.command()
def demo(
    fact: Annotated[str, typer.Option(help="subject|relation|object")] = "France|capital|Paris",
    model: Annotated[str, typer.Option(help="Folder, hub id or embedded model.")] = "smollm2-135m",
    out: Annotated[Path, typer.Option(help="Folder for page, monitor and journal.")] = Path("demo-out"),
    form: Annotated[str, typer.Option(help="chat or completion: what is served is what is certified.")] = "chat",
    facts: Annotated[str | None, typer.Option(help="Topic or file with the other facts of the relation.")] = None,
    as_json: AsJson = False,
) -> None:
    """The whole chain on one fact: probe, certify, watch, trip, page. Exit 0 passed, 1 not, 4 too little to tell."""
    from monitors.demo import run_demo
    from probes.facts.facts import Fact, load_topic
    from probes.facts.templates import find_relation
    from probes.model.language_model import load_model

    target = Fact.parse(fact)
    topic = load_topic(facts or find_relation(target.relation).topic)
    say = (lambda line: None) if as_json else console.print
    result = run_demo(load_model(model), target, topic, out=out, form=form, say=say, progress=not as_json)
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        console.print(f"{'PASS' if result.passed else 'FAIL'}. Page: {result.page}  ({result.seconds:.0f} s)")
    raise typer.Exit(0 if result.passed else 1)


@app.command()
def monitor(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    fact: Annotated[str | None, typer.Option(help="subject|relation|object: watch for its use. Or:")] = None,
    uses: Annotated[Path | None, typer.Option(help="Prompts whose answers should alarm, with --benign.")] = None,
    benign: Annotated[Path | None, typer.Option(help="Prompts whose answers should not, in the same form.")] = None,
    out: Annotated[Path, typer.Option(help="A new folder.")] = Path("monitor"),
    concept: Annotated[str | None, typer.Option(help="With --uses: what an alarm means.")] = None,
    sites: Annotated[str | None, typer.Option(help="With --uses: where probes are fitted (resid_post.*).")] = None,
    statistic: Annotated[list[str] | None, typer.Option(help="With --uses: to choose among; a+b runs both.")] = None,
    form: Annotated[str | None, typer.Option(help="With --fact: chat or completion, as is served (chat).")] = None,
    facts: Annotated[str | None, typer.Option(help="With --fact: topic or file of its relation.")] = None,
    rate: Annotated[float, typer.Option(help="False alarms per benign response.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="That the rate holds.")] = 0.95,
    horizon: Annotated[int, typer.Option(help="Tokens of a response it holds for.")] = 24,
    until: Annotated[str | None, typer.Option(help="ISO date of its end.")] = None,
    seed: Annotated[int, typer.Option(help="Of roles, frames and draws.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Fit and certify a monitor: for the use of a fact, or for what sets my own prompts apart."""
    if out.exists():
        raise BadInput(f"{out} exists; give a new folder with --out")
    if (fact is None) == (uses is None) or (uses is None) != (benign is None):
        raise BadInput("give either --fact, or --uses and --benign")
    other = (
        {"form": form, "facts": facts} if fact is None else {"concept": concept, "sites": sites, "statistic": statistic}
    )
    if idle := [f"--{name}" for name, value in other.items() if value]:
        raise BadInput(f"{', '.join(idle)} has no bearing on {'--uses' if fact is None else '--fact'}; leave it away")
    say = (lambda line: None) if as_json else console.print
    how = {"rate": rate, "confidence": confidence, "horizon": horizon, "valid_until": until, "progress": not as_json}
    how |= {"made": date.today().isoformat(), "say": say}
    if fact is not None:
        found, rows = _fact_monitor(model, fact, facts, form or "chat", seed, how), []
    else:
        ways = [tuple(re.split(r"\+(?![^(]*\))", one)) for one in statistic or ["max"]]  # not the + of cusum(1e+3)
        more = {"concept": concept or f"like {uses.name}", "sites": sites or "resid_post.*", "statistics": ways}
        more |= {"seed": seed}
        found, rows = _uses_monitor(model, uses, benign, how | more)
    found.save(out)
    if as_json:
        typer.echo(json.dumps({"monitor": str(out), "certificate": found.threshold.to_dict(), "candidates": rows}))
    else:
        console.print(f"{found.threshold.sentence}\nin {out}")


def _fact_monitor(model: str, fact: str, facts: str | None, form: str, seed: int, how: dict[str, Any]) -> Any:
    """Return a monitor for a fact."""
    from monitors.making import monitor_fact
    from probes.facts.contexts import contexts
    from probes.facts.facts import Fact, load_topic
    from probes.facts.templates import find_relation
    from probes.model.language_model import load_model

    target = Fact.parse(fact)
    topic = load_topic(facts or find_relation(target.relation).topic)
    drawn = contexts(target, topic, form=form, seed=seed)
    return monitor_fact(load_model(model), drawn, topic, **how).monitor


def _uses_monitor(model: str, uses: Path, benign: Path, how: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Return a monitor for one's own prompts, and what it was chosen among."""
    from monitors.making import monitor_uses
    from monitors.traffic import read_traffic
    from probes.model.language_model import load_model

    asked, quiet = read_traffic(uses), read_traffic(benign)
    found = monitor_uses(load_model(model), asked, quiet, **how)
    for one in found.ranked[:5]:
        how["say"](f"  {one}")
    return found.monitor, [one.to_dict() for one in found.ranked]


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A saved artifact.")],
    ledger: Annotated[Path | None, typer.Option(help="Of a monitor: what was counted since its certificate.")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe any saved artifact: what it is, what it was fitted on, what its certificate says and until when."""
    from probes.artifact import read_artifact

    watched = read_artifact(folder).kind == "monitor"
    if ledger and not watched:
        raise BadInput(f"{folder} is no monitor, and only a monitor has a certificate to count streams for")
    lines, more = _certificate(folder, ledger) if watched else ([], {})
    reading.show(folder, as_json, more)
    for line in lines if not as_json else ():
        console.print(line)


def _certificate(folder: Path, ledger: Path | None) -> tuple[list[str], dict[str, Any]]:
    """Return what there is to say of a monitor's certificate, as lines and for JSON."""
    from monitors.ledger import Ledger
    from monitors.monitor import Monitor
    from monitors.summary import certificate_lines

    threshold = Monitor.load(folder).threshold
    lines = list(certificate_lines(threshold, date.today()))
    if ledger is None:
        return lines, {}
    counted = Ledger(existing(ledger, "ledger"), threshold)
    return [*lines, counted.sentence], {"ledger": counted.to_dict()}


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="A saved monitor.")],
    benign: Annotated[Path, typer.Option(help="Benign prompts: one a line, or JSON lines with kind and group.")],
    model: Annotated[str, typer.Option(help="The model it watches: folder, hub id or embedded.")] = "smollm2-135m",
    out: Annotated[Path | None, typer.Option(help="A new folder; else the monitor's own is written over.")] = None,
    rate: Annotated[float | None, typer.Option(help="False alarms per benign response.")] = None,
    promise: Annotated[str | None, typer.Option(help="confident or marginal.")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of a confident promise.")] = None,
    statistic: Annotated[list[str] | None, typer.Option(help="Such as max or cusum(0.5); may be repeated.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Tokens of a response it holds for.")] = None,
    until: Annotated[str | None, typer.Option(help="ISO date of its end.")] = None,
    as_json: AsJson = False,
) -> None:
    """Certify a monitor again, on my own traffic, without refitting. What is left out stays as it was."""
    from monitors.monitor import Monitor
    from monitors.traffic import certify_again, read_traffic
    from probes.model.language_model import load_model

    before, prompts = Monitor.load(folder), read_traffic(benign)
    if out is not None and out.exists():
        raise BadInput(f"{out} exists; give a new folder, or leave --out away to write over {folder}")
    how = {"rate": rate, "promise": promise, "confidence": confidence, "statistics": statistic, "horizon": horizon}
    how |= {"made": date.today().isoformat(), "valid_until": until, "progress": not as_json}
    after, _ = certify_again(load_model(model), before, prompts, **how)
    after.save(out or folder, overwrite=out is None)
    if as_json:
        typer.echo(json.dumps({"monitor": str(out or folder), "certificate": after.threshold.to_dict()}))
    else:
        console.print(f"before: {before.threshold.sentence}\nnow: {after.threshold.sentence}\nin {out or folder}")


@app.command()
def guard(
    model: Annotated[str, typer.Argument(help="Folder, hub id or embedded model.")],
    monitor: Annotated[Path, typer.Option(help="A saved monitor.")],
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts; else standard input, one a line.")] = None,
    journal: Annotated[Path | None, typer.Option(envvar="BELIEF_JOURNAL", help="Keep trips; blocks.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Count streams; revokes the certificate on drift.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Of an answer at most; the certificate's horizon.")] = None,
    as_json: AsJson = False,
) -> None:
    """Answer prompts under a monitor: each line a request. Exit 1 where one alarmed or was not answered."""
    from monitors.piping import guarded_pipe
    from monitors.traffic import read_traffic

    asked = [one.prompt for one in read_traffic(prompts)] if prompts else filter(None, map(str.strip, sys.stdin))
    answers = []
    for answer in guarded_pipe(model, monitor, asked, journal=journal, ledger=ledger, max_new_tokens=tokens):
        answers.append(answer)
        if not as_json:
            console.print(f"{answer.text}\n  [{answer.sentence}]")
    if as_json:
        typer.echo(json.dumps({"answers": [answer.to_dict() for answer in answers]}))
    raise typer.Exit(0 if all(answer.passed for answer in answers) else 1)


def main() -> None:
    """Run the command line; turn every error into one line and the exit code of its kind."""
    if not sys.stderr.isatty():  # transformers draws bars of its own
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = app(standalone_mode=False)  # else an interruption would end as 1, "a check failed"
    except TyperException as error:  # an unknown option, a missing argument
        error.show()
        code = error.exit_code
    except BeliefError as error:
        code = _say(str(error), error.exit_code, error)
    except (KeyboardInterrupt, typer.Abort) as error:
        code = _say("interrupted", 130, error)
    except Exception as error:  # noqa: BLE001 - the front door: Python's own exit code would be 1, too
        code = _say(f"{type(error).__name__}: {error}", 3, error)
    sys.exit(code)


def _say(line: str, code: int, error: BaseException) -> int:
    if os.environ.get("BELIEF_DEBUG"):
        raise error
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"belief: {' '.join(line.split())}", markup=False)
    return code
