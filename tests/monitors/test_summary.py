"""Toy: three detectors on 30 uses and 90 benign responses; who comes first in the sentence?"""

from monitors.breaker.rule import Policy
from monitors.measuring import Figures
from monitors.summary import lines, sentence
from probes import Fact
from probes.reading.metrics import proportion

FRANCE = Fact("France", "capital", "Paris")


def figures(caught, false):
    kinds = {kind: proportion(0, 30) for kind in ("same_relation", "same_subject", "ordinary")}
    forms = {
        "What is the capital of {subject}?": proportion(2, 3),
        "Name the capital city of {subject}.": proportion(1, 3),
    }
    return Figures(proportion(caught, 30), proportion(false, 90), kinds, forms, None, None)


def three(probe, keyword, words):
    return {"probe": figures(*probe), "keyword": figures(*keyword), "bag_of_words": figures(*words)}


def test_a_probe_that_wins_comes_first_with_everybodys_false_alarms():
    assert sentence(FRANCE, three((29, 2), (20, 0), (25, 1))) == (
        "The probe caught 29 of 30 uses of France|capital|Paris (2 false alarms on 90 benign responses); "
        "a bag of words on the prompt 25 (1), a keyword match on the response 20 (0)."
    )


def test_a_baseline_that_does_as_well_or_better_comes_first():
    assert sentence(FRANCE, three((28, 2), (20, 0), (28, 1))).startswith("A bag of words on the prompt does as well")
    better = sentence(FRANCE, three((27, 2), (29, 0), (28, 1)))
    assert better.startswith("A keyword match on the response does better than the probe here: it caught 29 of 30")
    assert better.endswith("(false alarms on 90 benign responses: 0 and 2).")


def test_of_two_equal_baselines_the_one_with_fewer_false_alarms_is_named():
    assert sentence(FRANCE, three((20, 2), (29, 3), (29, 1))).startswith("A bag of words")


def test_the_lines_name_the_worst_question_form_and_the_price_of_a_trip():
    printed = "\n".join(lines(three((28, 2), (20, 0), (28, 1)), Policy(5, 10), 0.05))
    assert "worst question form, 'Name the capital city of {subject}.' .33" in printed
    assert "tokens out before the alarm (median)       not measured" in printed
    assert "one false trip in 36,464 benign responses at 5%" in printed
    assert "uses in a row trip it" in printed
    assert "uses in a row" not in "\n".join(lines(three((0, 0), (0, 0), (0, 0)), Policy(5, 10), 0.05))
