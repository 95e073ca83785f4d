"""Betting: does a stream of right and wrong answers come from someone who knows, decided as soon as the answers allow.

Two bets, each a fair game or worse for whoever holds it under the hypothesis that it is placed against:

1. Against "right no more often than chance + margin": wealth 1 is multiplied by goal / p after a right answer and by
   (1 - goal) / (1 - p) after a wrong one, p = chance + margin of that question. Under that hypothesis the expected
   factor is at most 1 whatever went before, and wealth ever reaches 1 / alpha with probability alpha at most (Ville).
2. Against "right at least as often as goal": the reciprocal factors, for the same reason.

So a stream may be looked at after each answer and stopped for any cause. Reaching 1 / alpha in the first bet is
"knows", in the second "does not know"; neither is "undecided". The chance may differ from one answer to the next.

Several streams of one fact, one a form of question, are put together in asking.py.

Sources: Ville 1939; Wald, Annals of Mathematical Statistics 16 (1945) 117, for the expected numbers; Waudby-Smith &
Ramdas 2020 (2010.09686), betting; Robbins, ibid. 41 (1970) 1397, for the interval.
Limits: a stream that is right at a rate between the two, such as .75, may stay undecided for ever or go either way: at
that rate neither word is an error. The interval supposes that all answers are right at one rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, log

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaln

from probes.errors import BadInput
from probes.reading.metrics import Estimate

__all__ = ["DECISIONS", "IGNORANT", "KNOWS", "UNDECIDED", "Betting", "Odds", "Rule", "bet", "odds", "right_rate"]

KNOWS, IGNORANT, UNDECIDED = DECISIONS = ("knows", "does not know", "undecided")
SLACK = 1e-9
"""Of a logarithm: a wealth of exactly 1 / alpha counts as having reached it."""


@dataclass(frozen=True)
class Rule:
    """When a stream is decided.

    Raises:
        BadInput: a number outside its range.
    """

    goal: float = 0.9
    """Whoever knows is right at least this often, in (0, 1)."""
    margin: float = 0.1
    """How far above chance an answer may be without knowledge, in [0, 1)."""
    alpha: float = 0.01
    """Probability of each of the two errors, at most; in (0, 1)."""

    def __post_init__(self) -> None:
        if not 0 < self.goal < 1 or not 0 <= self.margin < 1 or not 0 < self.alpha < 1:
            raise BadInput(
                f"goal {self.goal}, margin {self.margin}, alpha {self.alpha}; goal and alpha lie between 0 and 1, "
                "margin is at least 0"
            )

    def logs(self, chance: float) -> tuple[float, float]:
        """Return the logarithms of what wealth is multiplied by after a right and after a wrong answer.

        Raises:
            BadInput: chance is no probability, or with the margin it reaches the goal: no answer tells them apart.
        """
        if not 0 < chance < 1 or chance + self.margin >= self.goal:
            raise BadInput(
                f"chance {chance} with margin {self.margin} against a goal of {self.goal}; chance must be above 0 and, "
                "with the margin, below the goal: make questions that are harder to guess"
            )
        p = chance + self.margin
        return log(self.goal / p), log((1 - self.goal) / (1 - p))

    @property
    def bound(self) -> float:
        """The logarithm of wealth at which a stream is decided."""
        return -log(self.alpha) - SLACK

    def decide(self, knows: float, ignorant: float) -> str:
        """Return one of `DECISIONS` for the logarithms of two wealths."""
        return KNOWS if knows >= self.bound else IGNORANT if ignorant >= self.bound else UNDECIDED

    def expected(self, rate: float, chance: float = 0.5) -> float:
        """Return about how many answers a stream right at some rate takes, by Wald's equation (without overshoot).

        .5 against .9 with both errors 1 % takes 12.5 for who is right .9 of the time.
        """
        right, wrong = self.logs(chance)
        drift = rate * right + (1 - rate) * wrong
        return inf if drift == 0 else -log(self.alpha) / abs(drift)

    def fewest(self, chance: float = 0.5) -> tuple[int, int]:
        """Return after how many answers, all right or all wrong, a stream is decided."""
        right, wrong = self.logs(chance)
        return ceil(self.bound / right), ceil(self.bound / -wrong)


@dataclass(frozen=True)
class Betting:
    """What became of one stream, up to where it was decided."""

    decision: str
    """One of `DECISIONS`."""
    asked: int
    """Answers looked at."""
    won: int
    """How many of them were right."""
    path: tuple[float, ...]
    """Wealth of the bet against chance after each answer; the other bet's is its reciprocal."""
    rule: Rule
    """When it counts as decided."""

    def __str__(self) -> str:
        return f"{self.won} of {self.asked}, {self.decision}"


def bet(outcomes: Sequence[bool], chances: float | Sequence[float] = 0.5, *, rule: Rule | None = None) -> Betting:
    """Bet on a stream of answers until it is decided.

    Args:
        outcomes: right or wrong, in the order in which they were asked.
        chances: P(right) without knowledge, one for all or one an answer; must not depend on that answer.
        rule: margin, goal and error; by default .10, .90 and 1 %.

    Raises:
        BadInput: an outcome that is neither right nor wrong, another number of chances, or a chance out of range.
    """
    rule = rule or Rule()
    outcomes = list(outcomes)
    chances = [float(chances)] * len(outcomes) if isinstance(chances, int | float) else list(chances)
    if len(chances) != len(outcomes):
        raise BadInput(f"{len(chances)} chances for {len(outcomes)} answers; give one for all, or one an answer")
    if any(answer not in (0, 1) for answer in outcomes):
        raise BadInput("an answer is right or wrong: True or False (or 1 or 0); give nothing else")
    wealth, path, won = 0.0, [], 0
    for answer, chance in zip(outcomes, chances, strict=True):
        wealth += rule.logs(chance)[0 if answer else 1]
        won += bool(answer)
        path.append(exp(min(wealth, 700.0)))
        if rule.decide(wealth, -wealth) != UNDECIDED:
            break
    return Betting(rule.decide(wealth, -wealth), len(path), won, tuple(path), rule)


@dataclass(frozen=True)
class Odds:
    """What a stream that is right at some rate comes to, exactly."""

    knows: float
    """P("knows")."""
    ignorant: float
    """P("does not know")."""
    undecided: float
    """P(neither) after the last answer."""
    asked: float
    """Expected number of answers."""


def odds(rate: float, most: int, chances: float | Sequence[float] = 0.5, *, rule: Rule | None = None) -> Odds:
    """Return what becomes of a stream of independent answers, by adding up all of its courses.

    Args:
        rate: P(right), in [0, 1].
        most: answers after which it ends.
        chances: what the bets take for chance, one for all or one an answer.
        rule: as for `bet`.

    Raises:
        BadInput: a rate that is none, or chances as for `bet`.
    """
    rule = rule or Rule()
    if not 0 <= rate <= 1 or most < 1:
        raise BadInput(f"rate {rate} over {most} answers; a rate lies between 0 and 1, and one answer is the least")
    chances = [float(chances)] * most if isinstance(chances, int | float) else list(chances)
    ended, asked, open_ = {KNOWS: 0.0, IGNORANT: 0.0}, 0.0, {0.0: 1.0}
    for chance in chances[:most]:
        asked += sum(open_.values())
        fresh: dict[float, float] = {}
        for factor, weight in zip(rule.logs(chance), (rate, 1 - rate), strict=True):
            for wealth, mass in open_.items():
                reached = round(wealth + factor, 9)  # courses with the same answers in another order meet again
                decision = rule.decide(reached, -reached)
                if decision == UNDECIDED:
                    fresh[reached] = fresh.get(reached, 0.0) + mass * weight
                else:
                    ended[decision] += mass * weight
        open_ = fresh
    return Odds(ended[KNOWS], ended[IGNORANT], sum(open_.values()), asked)


def right_rate(won: int, asked: int, *, confidence: float = 0.95, how: str = "") -> Estimate:
    """Return the share of right answers with an interval that holds whenever the asking stopped.

    It is made of all rates p at which a bet spread evenly over all rates has not reached 1 / (1 - confidence):
    Beta(won + 1, asked - won + 1) / (p^won (1 - p)^(asked - won)) (Robbins 1970). Wider than Clopper and Pearson's,
    which early stopping would break.

    Raises:
        BadInput: no answers, or more right ones than answers.
    """
    if asked < 1 or not 0 <= won <= asked:
        raise BadInput(f"{won} of {asked} is no share of answers; give at least one answer, and right ones among them")
    level = float(betaln(won + 1, asked - won + 1)) + log(1 - confidence)  # log-likelihoods above it are in

    def inside(p: float) -> float:
        return (won * np.log(p) if won else 0.0) + ((asked - won) * np.log1p(-p) if won < asked else 0.0) - level

    value, edge = won / asked, 1e-12
    lower = 0.0 if won == 0 else brentq(inside, edge, min(value, 1 - edge))
    upper = 1.0 if won == asked else brentq(inside, max(value, edge), 1 - edge)
    how = how or f"{won} of {asked} right; interval good at any time of stopping (Robbins 1970)"
    return Estimate(value, lower, upper, asked, confidence, how)
