"""The Breaker: what it tells, when it tells it, and what it does when its journal fails."""

import sqlite3
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from monitors.breaker.breaker import Breaker, BreakerOpen, Permit
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy, State
from monitors.verdict import Outcome, Verdict
from probes.errors import ArtifactError, BadInput, BeliefError, CouldNotRun

CLEAR = Verdict(Outcome.CLEAR, None, 0.1, 0.1, "", 3, 3)


def alarm(name="r1"):
    return Verdict(Outcome.ALARM, 2, 3.0, 3.0, "the score of token 2 is 3, above 1", 2, 2, True, name)


class Clock:
    """A clock that tests move."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "trips.sqlite", patience_s=0.2) as journal:
        yield journal


def test_three_of_ten_by_hand():
    breaker = Breaker(Policy(k=3, n=10))
    for n, verdict in enumerate([alarm(), CLEAR, alarm(), CLEAR, alarm("r5")]):
        transition = breaker.record(verdict, breaker.ask())
        assert (transition is not None) == (n == 4)
    assert (breaker.state, transition.before, transition.after) == (State.OPEN, State.CLOSED, State.OPEN)
    with pytest.raises(
        BreakerOpen, match="3 of the last 10 responses alarmed, the last by alarm in request r5"
    ) as error:
        breaker.ask()
    assert isinstance(error.value, BeliefError)
    assert error.value.exit_code == 1
    assert error.value.reason == breaker.snapshot.reason
    assert "300 s after it opened" in str(error.value)


def test_a_latched_one_says_that_a_person_must_reset_it():
    breaker = Breaker(Policy(k=1, n=1, latch=True), clock=(clock := Clock()))
    breaker.record(alarm(), breaker.ask())
    clock.now += 10**9
    with pytest.raises(BreakerOpen, match="until a person resets it"):
        breaker.ask()
    assert breaker.reset(by="Ada", why="false alarm, seen").who == "Ada"
    assert breaker.ask() == Permit(generation=2)


def test_it_comes_back_through_trials():
    breaker = Breaker(Policy(k=1, n=1, cooldown_s=60, trials=2), clock=(clock := Clock()))
    breaker.record(alarm(), breaker.ask())
    clock.now += 60
    trial = breaker.ask()
    assert trial.trial == 1
    with pytest.raises(BreakerOpen, match="a trial is running"):
        breaker.ask()
    assert breaker.record(CLEAR, trial) is None
    assert breaker.record(CLEAR, breaker.ask()).after is State.CLOSED


def test_answers_of_an_older_generation_change_nothing_but_are_kept(journal):
    breaker = Breaker(Policy(k=1, n=1), journal=journal)
    early, late = breaker.ask(), breaker.ask()
    breaker.record(alarm("first"), early)
    breaker.reset(by="Ada", why="drill")
    before = breaker.snapshot
    assert breaker.record(alarm("second"), late) is None
    assert breaker.snapshot == before
    kept = [row.entry.verdict.request_id for row in journal.rows() if row.entry.verdict]
    assert kept == ["first", "second"]


def test_shadow_blocks_nothing_and_counts_everything(journal):
    breaker = Breaker(Policy(k=1, n=1, latch=True, enforce=False), journal=journal)
    breaker.record(alarm("a"), breaker.ask())
    assert breaker.state is State.OPEN
    permit = breaker.ask()
    assert permit.would_block
    breaker.record(alarm("b"), permit)
    assert len(journal.rows()) == 2


@pytest.mark.parametrize(("by", "why"), [("", "why"), ("Ada", " "), (None, "why"), ("Ada", 3)])
def test_a_reset_has_a_name_and_a_reason(by, why):
    breaker = Breaker(Policy(1, 1))
    with pytest.raises(BadInput, match="say who does it and why"):
        breaker.reset(by=by, why=why)
    with pytest.raises(BadInput, match="say who does it and why"):
        breaker.force_open(by=by, why=why)


def test_misuse_is_refused():
    breaker = Breaker(Policy(1, 1))
    with pytest.raises(BadInput, match="give a Verdict and the Permit"):
        breaker.record(alarm(), None)
    with pytest.raises(BadInput, match="rows=0"):
        breaker.ask(rows=0)


def test_a_transition_is_on_disk_before_the_listener_hears_of_it(journal, tmp_path):
    seen = []

    def listener(transition):
        with sqlite3.connect(f"file:{tmp_path / 'trips.sqlite'}?mode=ro", uri=True) as other:
            seen.append((transition.after, other.execute("SELECT count(*) FROM entries").fetchone()[0]))
        other.close()

    breaker = Breaker(Policy(2, 2), journal=journal, record=listener)
    for name in "ab":
        breaker.record(alarm(name), breaker.ask())
    assert seen == [(State.OPEN, 2)]


def test_a_listener_may_use_the_breaker_even_from_another_thread():
    heard = []

    def listener(transition):
        helper = threading.Thread(target=lambda: heard.append(breaker.state))
        helper.start()
        helper.join(timeout=5)
        if transition.after is State.OPEN:
            breaker.reset(by="listener", why="test")

    breaker = Breaker(Policy(1, 1), record=listener)
    breaker.record(alarm(), breaker.ask())
    assert heard == [State.OPEN, State.CLOSED]
    assert breaker.state is State.CLOSED


def test_a_listener_that_raises_does_not_undo_the_trip(capsys):
    def listener(transition):
        raise RuntimeError("webhook down")

    breaker = Breaker(Policy(1, 1), record=listener)
    assert breaker.record(alarm(), breaker.ask()).after is State.OPEN
    assert breaker.journal_degraded
    assert "webhook down" in capsys.readouterr().err


def test_eight_threads_lose_no_alarm_and_trip_once(journal):
    breaker = Breaker(Policy(k=40, n=40), journal=journal)
    trips = []

    def work(name):
        for i in range(5):
            permit = Permit(0)
            if transition := breaker.record(alarm(f"{name}/{i}"), permit):
                trips.append(transition)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trips) == 1
    assert breaker.state is State.OPEN
    names = [row.entry.verdict.request_id for row in journal.rows()]
    assert sorted(names) == sorted(f"{name}/{i}" for name in range(8) for i in range(5))
    assert journal.verify().holds
    assert journal.replay().holds


def test_breakers_of_one_name_agree_through_the_file(tmp_path):
    """Two connections stand for two processes; a third breaker of another name is on its own."""
    with Journal(tmp_path / "t.sqlite") as one, Journal(tmp_path / "t.sqlite") as two:
        a, b = Breaker(Policy(2, 5), journal=one), Breaker(Policy(2, 5), journal=two)
        other = Breaker(Policy(2, 5), journal=two, name="tenant")
        a.record(alarm("a"), a.ask())
        transition = b.record(alarm("b"), b.ask())
        assert transition.after is State.OPEN
        with pytest.raises(BreakerOpen):
            a.ask()
        assert other.ask() == Permit(0)
        a.reset(by="Ada", why="seen")
        assert b.state is State.CLOSED
        assert two.replay().holds


def test_two_breakers_on_one_journal_agree_too(journal):
    a, b = Breaker(Policy(1, 1), journal=journal), Breaker(Policy(1, 1), journal=journal)
    a.record(alarm(), a.ask())
    assert b.state is State.OPEN


def test_a_restart_finds_what_was_left(tmp_path):
    clock = Clock()
    policy = Policy(k=2, n=4, cooldown_s=60, trials=2)

    def restarted():
        with Journal(tmp_path / "t.sqlite") as journal:
            breaker = Breaker(policy, journal=journal, clock=clock)
            yield breaker
            left = breaker.snapshot
        with Journal(tmp_path / "t.sqlite") as journal:
            assert Breaker(policy, journal=journal, clock=clock).snapshot == left
        states.append(left.state)

    states: list[State] = []
    for breaker in restarted():
        breaker.record(alarm(), breaker.ask())
    for breaker in restarted():
        assert breaker.snapshot.window == (True,)
        breaker.record(alarm(), breaker.ask())
    clock.now += 60
    for breaker in restarted():
        breaker.ask()
    for breaker in restarted():
        breaker.record(CLEAR, Permit(breaker.snapshot.generation, 1))
        breaker.record(CLEAR, breaker.ask())
    assert states == [State.CLOSED, State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_quiet_service_writes_nothing(journal):
    breaker = Breaker(Policy(3, 10), journal=journal)
    for _ in range(50):
        breaker.record(CLEAR, breaker.ask())
    assert journal.rows() == ()


class Failing:
    """A journal whose commits fail from the nth on, until it is mended."""

    keep_prompts = False

    def __init__(self, journal, after=0, error=None):
        self.journal, self.left, self.error = journal, after, error or CouldNotRun("disk full")
        self.mended = False

    def __getattr__(self, name):
        return getattr(self.journal, name)

    @contextmanager
    def transaction(self):
        with self.journal.transaction():
            yield
            if not self.mended and self.left <= 0:
                raise self.error
            self.left -= 1


@pytest.mark.parametrize("error", [CouldNotRun("disk full"), OSError(28, "no space"), RuntimeError("odd")])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_trip_holds_when_the_nth_write_fails(journal, capsys, after, error):
    """Fault J2."""
    clock = Clock()
    failing = Failing(journal, after, error)
    breaker = Breaker(Policy(k=3, n=3, latch=True), journal=failing, clock=clock)
    transitions = [breaker.record(alarm(f"r{i}"), breaker.ask()) for i in range(3)]
    assert transitions[-1].after is State.OPEN
    assert breaker.journal_degraded
    with pytest.raises(BreakerOpen):
        breaker.ask()
    spilled = capsys.readouterr().err
    assert spilled.count("belief: journal degraded") == 3 - after
    assert all(f'"request_id": "r{i}"' in spilled for i in range(after, 3))
    assert len(journal.rows()) == after

    failing.mended = True
    clock.now += 2
    with pytest.raises(BreakerOpen):
        breaker.ask()
    assert not breaker.journal_degraded
    assert [row.entry.verdict.request_id for row in journal.rows()] == ["r0", "r1", "r2"]
    assert journal.verify().holds
    assert journal.replay().holds
    assert Breaker(Policy(k=3, n=3, latch=True), journal=journal).state is State.OPEN


def test_a_real_full_disk_is_survived(journal, capsys):
    breaker = Breaker(Policy(k=2, n=50, latch=True), journal=journal)
    breaker.record(alarm("a"), breaker.ask())
    connection = journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    permit = breaker.ask()
    for i in range(40):
        breaker.record(alarm(f"b{i}"), permit)
    assert breaker.state is State.OPEN
    assert breaker.journal_degraded
    assert "full" in capsys.readouterr().err


def test_a_reset_that_cannot_be_recorded_is_not_done(journal):
    failing = Failing(journal, after=1)
    breaker = Breaker(Policy(k=1, n=1, latch=True), journal=failing)
    breaker.record(alarm(), breaker.ask())
    with pytest.raises(CouldNotRun, match="so it is not done"):
        breaker.reset(by="Ada", why="seen")
    assert breaker.state is State.OPEN
    failing.mended = True
    breaker.reset(by="Ada", why="seen")
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_during_the_commit_does_not_lose_the_trip(journal, error):
    failing = Failing(journal, error=error())
    breaker = Breaker(Policy(k=1, n=1, latch=True), journal=failing, clock=(clock := Clock()))
    with pytest.raises(error):
        breaker.record(alarm("r1"), breaker.ask())
    failing.mended = True
    clock.now += 2
    assert breaker.state is State.OPEN
    assert [row.entry.verdict.request_id for row in journal.rows()] == ["r1"]


def test_an_interrupt_just_after_the_commit_does_not_write_twice(journal):
    class Late(Failing):
        @contextmanager
        def transaction(self):
            with self.journal.transaction():
                yield
            if not self.mended:
                raise KeyboardInterrupt

    late = Late(journal)
    breaker = Breaker(Policy(k=1, n=1, latch=True), journal=late, clock=(clock := Clock()))
    with pytest.raises(KeyboardInterrupt):
        breaker.record(alarm("r1"), breaker.ask())
    late.mended = True
    clock.now += 2
    assert breaker.state is State.OPEN
    assert [row.entry.verdict.request_id for row in journal.rows()] == ["r1"]
    assert not breaker.journal_degraded
    assert journal.replay().holds


def test_a_trip_that_could_not_be_written_is_not_undone_by_what_others_wrote(tmp_path):
    """A tripped in memory only; B, which never saw that alarm, wrote clears until the window was empty again."""
    clock = Clock()
    with Journal(tmp_path / "t.sqlite") as one, Journal(tmp_path / "t.sqlite") as two:
        failing = Failing(one, after=1)
        a = Breaker(Policy(2, 3), journal=failing, clock=clock)
        b = Breaker(Policy(2, 3), journal=two, clock=clock)
        for name in ("a1", "a2"):
            a.record(alarm(name), a.ask())
        assert (a.state, b.state) == (State.OPEN, State.CLOSED)
        for _ in range(4):
            b.record(CLEAR, b.ask())
        failing.mended = True
        clock.now += 2
        assert (a.state, b.state) == (State.OPEN, State.OPEN)
        assert "tripped while its journal could not be written" in b.snapshot.reason
        assert two.replay().holds


def test_a_journal_that_forgot_a_trip_is_not_believed(journal):
    class Forgetful(Failing):
        forgot = False

        def last(self, breaker):
            return None if self.forgot else self.journal.last(breaker)

        def version(self):
            return object()

    forgetful = Forgetful(journal)
    forgetful.mended = True
    breaker = Breaker(Policy(1, 1, latch=True), journal=forgetful)
    breaker.record(alarm(), breaker.ask())
    forgetful.forgot = True
    assert breaker.state is State.OPEN
    assert breaker.journal_degraded


def test_a_breaker_that_cannot_read_its_state_does_not_start(journal):
    class Unreadable(Failing):
        def last(self, breaker):
            raise ArtifactError("row 3 cannot be read")

    with pytest.raises(ArtifactError, match="row 3"):
        Breaker(Policy(1, 1), journal=Unreadable(journal))


class Machine(RuleBasedStateMachine):
    """Four invariants under any order of requests, verdicts, resets, clocks and restarts."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.permits = []
        self.alarms = []
        self.was_latched = False

    @initialize(latch=st.booleans(), enforce=st.booleans(), k=st.integers(1, 3), n=st.integers(3, 5))
    def start(self, latch, enforce, k, n):
        self.policy = Policy(k, n, latch=latch, cooldown_s=60, trials=2, trial_timeout_s=30, enforce=enforce)
        self.open()

    def open(self):
        self.journal = Journal(Path(self.folder.name, "trips.sqlite"))
        self.breaker = Breaker(self.policy, journal=self.journal, clock=self.clock)

    @rule(rows=st.integers(1, 2))
    def ask(self, rows):
        before = self.breaker.snapshot
        try:
            permit = self.breaker.ask(rows=rows)
        except BreakerOpen:
            assert self.policy.enforce
            assert self.breaker.state is not State.CLOSED
            return
        after = self.breaker.snapshot
        if self.policy.enforce:
            assert after.state is not State.OPEN, "no pass while open"
            assert not before.latched
        self.permits.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def record(self, data, outcome):
        permit = data.draw(st.sampled_from(self.permits))
        name = f"r{len(self.alarms)}"
        verdict = {Outcome.CLEAR: CLEAR, Outcome.ALARM: alarm(name)}.get(outcome) or Verdict.invalid(
            "x", request_id=name
        )
        self.breaker.record(verdict, permit)
        if verdict.alarmed:
            self.alarms.append(name)

    @rule(seconds=st.sampled_from([-100, 1, 30, 60, 1000]))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule()
    def reset(self):
        self.breaker.reset(by="Ada", why="seen")
        self.was_latched = False

    @rule()
    def force_open(self):
        self.breaker.force_open(by="Ada", why="drill")

    @rule()
    def restart(self):
        before = self.breaker.snapshot
        self.journal.close()
        self.open()
        assert self.breaker.snapshot == before

    @invariant()
    def a_latch_never_clears_without_a_reset(self):
        if hasattr(self, "breaker"):
            latched = self.breaker.snapshot.latched
            assert latched or not self.was_latched
            self.was_latched = latched

    @invariant()
    def each_alarm_has_exactly_one_row(self):
        if hasattr(self, "journal"):
            rows = self.journal.rows()
            assert [row.entry.verdict.request_id for row in rows if row.entry.verdict] == self.alarms

    def teardown(self):
        if hasattr(self, "journal"):
            assert self.journal.verify().holds
            assert self.journal.replay().holds
            self.journal.close()
        self.folder.cleanup()


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)
test_invariants_hold_under_any_order_of_events = Machine.TestCase
