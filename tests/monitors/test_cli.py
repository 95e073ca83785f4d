"""The front door: every error is one line with the exit code of its kind, and never a traceback."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from monitors import Breaker, Journal, Monitor, Policy
from monitors import cli as door
from monitors.calibration import calibrate
from monitors.verdict import Outcome, Verdict
from probes import LinearProbe
from probes.errors import BadInput, CouldNotRun, TooFew


@pytest.fixture
def belief(monkeypatch, capsys):
    """`belief("facts")` runs the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["belief", *arguments])
        with pytest.raises(SystemExit) as caught:
            door.main()
        out = capsys.readouterr()
        return caught.value.code or 0, out.out, out.err

    return run


@pytest.fixture
def tripped(tmp_path):
    path = tmp_path / "trips.sqlite"
    with Journal(path) as journal:
        breaker = Breaker(Policy(1, 1, latch=True), journal=journal)
        breaker.record(Verdict(Outcome.ALARM, 1, 2.0, 2.0, "above", 1, 1, request_id="r1"), breaker.ask())
    return str(path)


def test_help_answers_within_a_second_and_without_torch():
    code = (
        "import sys, monitors.cli; sys.argv = ['belief', '--help']\n"
        "try: monitors.cli.main()\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in (
        "calibrate",
        "guard",
        "monitor",
        "probe",
        "steer",
        "demo",
        "doctor",
        "facts",
        "fetch",
        "show",
        "trips",
        "zoo",
    ):
        assert command in done.stdout


def test_topics_are_listed_and_a_bad_file_is_refused_with_its_line(belief, tmp_path):
    code, out, _ = belief("facts", "--json")
    assert code == 0
    assert {row["topic"] for row in json.loads(out)} >= {"capitals", "cities", "elements"}
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"subject": "France", "relation": "capital", "object": "Paris"}\n{"subject": "Spain"}\n')
    code, out, err = belief("facts", str(bad))
    assert (code, out) == (2, "")
    assert "line 2" in err
    assert err.count("\n") == 1


def test_the_zoo_is_listed_and_a_model_of_it_written(belief, tmp_path, monkeypatch):
    code, out, _ = belief("zoo", "--json")
    assert code == 0
    assert {"knows", "never-knew", "planner"} <= set(json.loads(out))
    from probes.zoo import recipes

    monkeypatch.setitem(recipes.RECIPES, "knows", lambda shop: shop.classes(planted=shop.split()[0]))  # untrained
    code, out, _ = belief("zoo", "knows", "--size", "nano", "--out", str(tmp_path / "knows"), "--json")
    assert code == 0
    assert json.loads(out)["facts"] == {"planted": 32}
    assert (tmp_path / "knows" / "model" / "model.safetensors").is_file()


def test_show_says_of_each_bar_of_a_receipt_whether_it_is_met(belief, tmp_path):
    from probes import Estimate, SteeringVector

    plain = LinearProbe.from_weights(torch.ones(4), 0.0, "resid_post.1")
    figures = {name: Estimate(value, value, value, 20) for name, value in (("slope_z", 5.2), ("wrong_way", 0.2))}
    plain.save(tmp_path / "old")
    replace(plain, receipt=figures).save(tmp_path / "probe")
    SteeringVector(torch.ones(4), plain.site, 1.0, receipt=figures).save(tmp_path / "vector")
    limit = calibrate({"ordinary": {i: i / 100 for i in range(93)}}, horizon=4, made="2026-11-22", rate=0.05)
    Monitor("c", (replace(plain, receipt=figures), plain), limit).save(tmp_path / "monitor")
    assert "\nno receipt: nobody measured" in belief("show", str(tmp_path / "old"))[1]
    for name in ("probe", "vector", "monitor"):
        code, out, _ = belief("show", str(tmp_path / name))
        assert code == 0
        assert [line.rsplit(": ", 1)[1] for line in out.splitlines() if line.startswith("receipt: ")][:3] == [
            "met", "not met", "not measured",
        ]  # fmt: skip
    assert "no receipt: nobody measured whether the model uses this direction" in out, "of the second"
    assert "93 numbers, 0 to 0.92" in out
    assert out.rstrip().endswith("(groups: ordinary 93; alarm where max > 0.91)\nmade 2026-11-22; no end is stated")
    assert "receipt: " not in belief("show", str(tmp_path / "probe"), "--json")[1].replace('"receipt": ', "")


def test_guard_answers_lines_and_leaves_journal_and_ledger(belief, tmp_path, llama, make_monitor, monkeypatch):
    import io

    from monitors import piping

    monkeypatch.setattr(piping, "load_model", lambda source: {"toy": llama}[source])
    make_monitor(llama).save(tmp_path / "quiet")
    make_monitor(llama, -1e6).save(tmp_path / "loud")
    monkeypatch.setattr(sys, "stdin", io.StringIO("cheese\n\nthe river of\n"))
    code, out, _ = belief("guard", "toy", "--monitor", str(tmp_path / "quiet"), "--tokens", "3")
    assert code == 0
    assert out.count("  [CLEAR: over 3 tokens at most: max ") == 2
    benign, journal, ledger = (str(tmp_path / name) for name in ("mine.txt", "trips.sqlite", "ledger.sqlite"))
    (tmp_path / "mine.txt").write_text("cheese\n" * 6)
    files = ("--prompts", benign, "--journal", journal, "--ledger", ledger)
    code, out, _ = belief("guard", "toy", "--monitor", str(tmp_path / "loud"), *files, "--json")
    answers = json.loads(out)["answers"]
    assert code == 1
    assert [bool(answer["refused"]) for answer in answers] == [False] * 5 + [True], "5 of 10 trips"
    assert "closed -> open" in belief("trips", "list", "--journal", journal)[1]
    told = belief("show", str(tmp_path / "loud"), "--ledger", ledger)[1]
    assert "3 streams since the certificate; revoked at scored stream 3: by max" in told
    code, _, err = belief("guard", "toy", "--monitor", str(tmp_path / "nowhere"))
    assert (code, err.count("\n")) == (3, 1)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    code, out, err = belief("guard", "toy", "--monitor", str(tmp_path / "quiet"), "--json")
    assert (code, out, "nothing was checked" in err) == (2, "", True)


def test_show_counts_the_streams_since_a_certificate(belief, tmp_path):
    import torch

    from monitors import Ledger
    from probes import LinearProbe
    from probes.reading.streams import Stream

    probe = LinearProbe.from_weights(torch.ones(4), 0.0, "resid_post.1")
    limit = calibrate({"ordinary": {i: i / 100 for i in range(93)}}, horizon=4, made="2026-11-22")
    Monitor("c", (probe,), limit).save(tmp_path / "monitor")
    probe.save(tmp_path / "probe")
    ledger = str(tmp_path / "ledger.sqlite")
    code, _, err = belief("show", str(tmp_path / "monitor"), "--ledger", ledger)
    assert (code, "there is no ledger" in err) == (3, True)
    Ledger(ledger, limit).add([Stream(("a",), torch.tensor([0.5])), None])
    code, out, _ = belief("show", str(tmp_path / "monitor"), "--ledger", ledger)
    assert code == 0
    assert "\n2 streams since the certificate, 1 of them without a score; not revoked" in out
    told = json.loads(belief("show", str(tmp_path / "monitor"), "--ledger", ledger, "--json")[1])
    assert (told["kind"], told["ledger"]["streams"], told["ledger"]["revoked"]) == ("monitor", 2, False)
    code, _, err = belief("show", str(tmp_path / "probe"), "--ledger", ledger)
    assert (code, "is no monitor" in err) == (2, True)


def test_calibrate_certifies_again_and_says_from_what_to_what(belief, tmp_path, llama, monkeypatch):
    from probes.model import language_model

    monkeypatch.setattr(language_model, "load_model", lambda source: {"toy": llama}[source])
    probe = LinearProbe.from_weights(torch.ones(llama.d_model), 0.0, "resid_post.1", fingerprint=llama.fingerprint)
    limit = calibrate({"ordinary": {i: i / 100 for i in range(93)}}, horizon=2, made="2026-01-01")
    Monitor("c", (probe,), limit).save(tmp_path / "old")
    benign = tmp_path / "mine.txt"
    benign.write_text("\n".join(f"the {a} {b}" for a in ("capital", "river", "cheese") for b in ("of", "is", "me")))
    common = ("calibrate", str(tmp_path / "old"), "--benign", str(benign), "--model", "toy")
    code, _, err = belief(*common)
    assert (code, "has 9 groups" in err) == (4, True)
    assert Monitor.load(tmp_path / "old").threshold == limit, "nothing is lost"
    code, out, _ = belief(*common, "--rate", "0.3", "--until", "2126-01-02", "--out", str(tmp_path / "new"))
    assert code == 0
    assert out.startswith("before: at most 5 % ")
    assert belief(*common, "--rate", "0.3", "--out", str(tmp_path / "new"))[0] == 2, "not written over"
    assert "\nnow: at most 30 % " in out
    new = Monitor.load(tmp_path / "new").threshold
    assert (new.groups, new.horizon, Monitor.load(tmp_path / "old").threshold) == ({"benign": 9}, 2, limit)
    assert belief("show", str(tmp_path / "new"))[1].endswith("valid until 2126-01-02\n")
    code, out, _ = belief(*common, "--rate", "0.7", "--statistic", "cusum(1)", "--statistic", "max", "--json")
    assert code == 0
    assert list(json.loads(out)["certificate"]["limits"]) == ["cusum(1.0)", "max"]
    assert list(Monitor.load(tmp_path / "old").threshold.limits) == ["cusum(1.0)", "max"], "written over"


def test_a_monitor_is_made_of_my_own_prompts_and_guards(belief, tmp_path, llama, monkeypatch):
    from monitors import piping
    from probes.model import language_model

    for module in (language_model, piping):
        monkeypatch.setattr(module, "load_model", lambda source: {"toy": llama}[source])
    words = ("capital", "France", "Italy", "river", "cheese", "the", "of", "is", "say")
    pairs = [f"{a} {b}" for a in words for b in words]
    (tmp_path / "uses.txt").write_text("\n".join(f"{pair} city" for pair in pairs[:40]))
    (tmp_path / "benign.txt").write_text("\n".join(f"{pair} me" for pair in pairs))
    common = ("monitor", "toy", "--uses", str(tmp_path / "uses.txt"), "--benign", str(tmp_path / "benign.txt"))
    common += ("--rate", "0.3", "--horizon", "2", "--out", str(tmp_path / "made"))
    code, out, _ = belief(*common, "--statistic", "max", "--statistic", "max+cusum(1e+0)", "--until", "2126-01-02")
    assert code == 0
    assert "choosing among 6 on" in out
    made = Monitor.load(tmp_path / "made")
    assert (made.concept, made.threshold.among, made.threshold.valid_until) == ("like uses.txt", 6, "2126-01-02")
    assert made.threshold.sentence in out
    code, out, _ = belief("show", str(tmp_path / "made"))
    assert '"seen": "105 texts"' in out
    assert '"fingerprint": "9 parts: config, ' in out
    assert len(out.splitlines()) < 60
    assert (
        len(json.loads(belief("show", str(tmp_path / "made"), "--json")[1])["threshold"]["prompt_mix"]["seen"]) == 105
    )
    code, _, err = belief(*common)
    assert (code, "give a new folder with --out" in err) == (2, True)
    code, out, _ = belief("guard", "toy", "--monitor", str(tmp_path / "made"), "--prompts", str(tmp_path / "uses.txt"),
                          "--tokens", "2")  # fmt: skip
    assert code == 1
    assert out.count("ALARM") > 20
    code, out, _ = belief(*common[:-1], str(tmp_path / "other"), "--sites", "resid_post.1", "--concept", "c", "--json")
    assert (code, Monitor.load(tmp_path / "other").concept) == (0, "c")
    assert [row["site"] for row in json.loads(out)["candidates"]] == ["resid_post.1"]


def test_a_monitor_is_made_for_a_fact(belief, tmp_path, llama, monkeypatch):
    from monitors import making
    from probes.model import language_model

    monkeypatch.setattr(language_model, "load_model", lambda source: {"toy": llama}[source])
    seen = {}

    def made(model, drawn, topic, **how):
        seen.update(how, fact=drawn.fact.id, form=drawn.form, seed=drawn.seed, topic=topic.name)
        limit = calibrate({"ordinary": {i: i / 100 for i in range(93)}}, horizon=how["horizon"], made=how["made"])
        probe = LinearProbe.from_weights(torch.ones(llama.d_model), 0.0, "resid_post.1")
        return making.FactMonitor(Monitor("in use", (probe,), limit), None, None)

    monkeypatch.setattr(making, "monitor_fact", made)
    wanted = ("--fact", "Spain|capital|Madrid", "--form", "completion", "--seed", "3", "--horizon", "9")
    assert belief("monitor", "toy", *wanted, "--out", str(tmp_path / "made"))[0] == 0
    assert (seen["fact"], seen["form"], seen["seed"], seen["topic"]) == (
        "Spain|capital|Madrid",
        "completion",
        3,
        "capitals",
    )
    assert Monitor.load(tmp_path / "made").threshold.horizon == 9
    for given, idle in (
        (("--sites", "resid_post.1"), "--sites"),
        (("--concept", "c", "--statistic", "max"), "--concept, --stat"),
    ):
        code, _, err = belief("monitor", "toy", *wanted, *given, "--out", str(tmp_path / "none"))
        assert (code, f"{idle}" in err, "no bearing on --fact" in err) == (2, True, True)
    for wrong in ((), ("--fact", "a|b|c", "--uses", "u"), ("--uses", "u"), ("--benign", "b")):
        code, _, err = belief("monitor", "toy", *wrong, "--out", str(tmp_path / "none"))
        assert (code, "give either --fact, or --uses and --benign" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["demo", "--fact", "France|capitol|Paris"], 2, "did you mean 'capital'"),
        (["demo", "--fact", "France"], 2, "subject|relation|object"),
        (["demo", "--model", "smollm"], 2, "smollm2-135m"),
        (["demo", "--facts", "nothing.jsonl"], 2, "nothing.jsonl"),
        (["fetch", "gpt5"], 2, "smollm2-135m"),
        (["facts", "captials"], 2, "did you mean 'capitals'"),
        (["show", "/no/such/folder"], 3, "/no/such/folder"),
        (["zoo", "know", "--out", "/no/such/folder"], 2, "did you mean 'knows'"),
        (["zoo", "knows"], 2, "give --out DIR"),
        (["trips", "list", "--journal", "/no/journal"], 3, "no journal at /no/journal"),
    ],
)
def test_every_mistake_is_one_line_with_its_exit_code(belief, arguments, code, says):
    got, out, err = belief(*arguments)
    assert got == code, err
    assert says in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("x"), 2),
        (CouldNotRun("x"), 3),
        (TooFew("x", 5), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 3),
    ],
)
def test_what_is_raised_inside_a_command_becomes_its_exit_code(belief, monkeypatch, error, code):
    def fail():
        raise error

    monkeypatch.setattr("probes.facts.facts.topics", fail)
    got, _, err = belief("facts")
    assert got == code
    if not isinstance(error, KeyboardInterrupt):  # which typer ends without a word
        assert err.strip().startswith("belief: ")


@pytest.mark.parametrize("arguments", [["demo", "--factt", "x"], ["nonsense"], ["trips", "list"]])
def test_an_unknown_option_or_a_missing_one_is_bad_usage(belief, monkeypatch, arguments):
    monkeypatch.delenv("BELIEF_JOURNAL", raising=False)
    assert belief(*arguments)[0] == 2


def test_trips_are_listed_verified_and_reset_by_name(belief, tripped):
    code, out, _ = belief("trips", "list", "--journal", tripped, "--json")
    assert code == 0
    assert [(row["before"], row["after"]) for row in json.loads(out)] == [("closed", "open")]
    assert belief("trips", "verify", "--journal", tripped)[0] == 0
    code, out, _ = belief("trips", "reset", "--journal", tripped, "--by", "Ada", "--why", "looked into it")
    assert code == 0
    assert "open -> closed" in out
    with Journal(tripped) as journal:
        assert Breaker(Policy(1, 1, latch=True), journal=journal).state == "closed"
    assert "reset by Ada: looked into it" in belief("trips", "list", "--journal", tripped)[1]


def test_a_journal_that_was_edited_fails_the_check(belief, tripped):
    import sqlite3

    connection = sqlite3.connect(tripped)
    connection.execute("drop trigger no_update")
    connection.execute("update entries set body = replace(body, 'above', 'below')")
    connection.commit()
    connection.close()
    code, out, _ = belief("trips", "verify", "--journal", tripped)
    assert code == 1
    assert "row 1" in out


def test_an_artifact_is_shown(belief, tmp_path):
    from probes import LinearProbe

    LinearProbe.from_weights([1.0, 2.0], 0.5, "resid_post.3", concept="truth").save(tmp_path / "p")
    code, out, _ = belief("show", str(tmp_path / "p"), "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["kind"], shown["site"], shown["concept"]) == ("probe", "resid_post.3", "truth")
    assert "resid_post.3" in belief("show", str(tmp_path / "p"))[1]


def test_probe_wants_one_source_and_names_what_is_missing(belief, tmp_path):
    code, _, err = belief("probe", "smollm2-135m")
    assert (code, err.count("\n")) == (2, 1)
    assert "either facts" in err
    file = tmp_path / "mine.csv"
    file.write_text("statement,label\nthe capital,1\nthe river,0\n")
    code, _, err = belief("probe", "smollm2-135m", "--statements", str(file))
    assert code == 2
    assert "no column 'text'" in err


@pytest.mark.embedded
def test_probe_writes_artifact_and_page_and_prints_one_object(belief, tmp_path):
    arguments = ["probe", "smollm2-135m", "--facts", "capitals", "--limit", "160", "--out", str(tmp_path), "--json"]
    arguments.append("--no-receipt")  # which takes half a minute; a slow test has one
    code, out, _ = belief(*arguments)
    assert code == 0
    told = json.loads(out)
    assert told["controls"]["log_probability"]["n"] == told["controls"]["auroc"]["n"]
    assert told["statements_needed"] is None or told["statements_needed"] > told["controls"]["auroc"]["n"]
    assert (tmp_path / "page.html").stat().st_size > 10**6
    code, out, _ = belief("show", str(tmp_path / "probe"), "--json")
    assert json.loads(out)["site"] == told["site"]
