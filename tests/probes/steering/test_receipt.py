"""Toy: a direction that IS the answer's row of the vocabulary matrix less the wrong one's moves every readout its way.

The model has one block whose weights are zero and no norm to speak of, so the readout at dose c is
readout + c * scale * |w_answer - w_wrong| up to the final norm, whose sign and order are the same.
"""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch

import probes
from probes import BadInput, Contrast, SteeringVector, TooFew, fact_contrasts, fact_uses, fact_vector, receipt
from probes.facts.facts import Fact, Topic
from probes.facts.templates import find_relation
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.steering.contrasts import encoded, truth_contrasts
from probes.steering.cost import Cost
from probes.steering.randomness import inside_components
from probes.steering.receipt import _over_groups, _read_slots, bar_lines, bar_words, shortfalls

PAIRS = [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome"), ("word1", "word2"), ("word3", "word4"),
         ("word5", "word6"), ("word7", "word8"), ("word9", "word10"), ("word11", "word12")]  # fmt: skip
TOPIC = Topic("toy", find_relation("capital"), tuple(Fact(s, "capital", o) for s, o in PAIRS))
FRANCE = TOPIC.facts[0]
ASKED = fact_contrasts(TOPIC, FRANCE)


def toward(model, answer, wrong, site="resid_post.2"):
    """The vector of which a larger dose can only favour one word over another."""
    rows = model.module.get_output_embeddings().weight.detach()
    first, second = (model.tokenizer(word)["input_ids"][0] for word in (answer, wrong))
    return SteeringVector(rows[first] - rows[second], Site.parse(site), 1.0)


@pytest.fixture(scope="module")
def model(build):
    return build("llama")


@pytest.fixture(scope="module")
def asked():
    prompts = ["the capital of France is", "the river is", "a cheese of Italy", "which city", "say now", "Rome is"]
    return [Contrast(prompt, "Paris", "Madrid", prompt) for prompt in prompts]


def test_the_toy_by_hand(model, asked):
    figures = receipt(model, toward(model, "Paris", "Madrid"), asked, coefficient=2.0, directions=40, ablations=0)
    assert figures["slope"].lower > 0
    assert figures["wrong_way"].value == 0
    doses = [figures[f"dose_{c:g}"].value for c in (-2, -1, 1, 2)]
    assert doses == sorted(doses)
    assert doses[1] < 0 < doses[2]
    assert figures["slope"].value == pytest.approx((doses[-1] - doses[0]) / 4)
    assert figures["slope_z"].value > 2
    assert "no direction inside them exceeds" in figures["slope_z"].how
    back = receipt(model, toward(model, "Madrid", "Paris"), asked, coefficient=2.0, directions=40, ablations=0)
    assert back["slope"].value == pytest.approx(-figures["slope"].value, rel=1e-4)
    assert back["wrong_way"].value == 1
    assert back["slope_p"].value > 0.9


@pytest.mark.parametrize("site", ["resid_post.0", "resid_post.2", "attn_out.1"])
def test_every_figure_equals_that_of_one_prompt_at_a_time(model, asked, site):
    vector = toward(model, "Rome", "now", site)
    figures = receipt(model, vector, asked, coefficient=1.5, directions=20, ablations=0)

    def readout(prompt, dose):
        with probes.steer(model, vector, dose, tokens="last"), torch.no_grad():
            logits = model.module(**model.collate([model.encode(prompt)])).logits[0, -1]
        paris, madrid = (model.tokenizer(word)["input_ids"][0] for word in ("Paris", "Madrid"))
        return float(logits[paris] - logits[madrid])

    plain = [readout(one.prompt, 0.0) for one in asked]
    assert figures["readout"].value == pytest.approx(np.mean(plain), abs=1e-4)
    for dose in (-1.5, -0.75, 0.75, 1.5):
        alone = [readout(one.prompt, dose) - before for one, before in zip(asked, plain, strict=True)]
        assert figures[f"dose_{dose:g}"].value == pytest.approx(np.mean(alone), abs=1e-4)
    assert figures["random_-1.5"].lower < figures["random_-1.5"].value < figures["random_-1.5"].upper
    slopes = [(readout(one.prompt, 1.5) - readout(one.prompt, -1.5)) / 3 for one in asked]
    assert figures["slope"].value == pytest.approx(np.mean(slopes), abs=1e-4)
    assert figures["wrong_way"].value == np.mean(np.array(slopes) < 0)


def test_models_that_cannot_share_a_pass_give_the_same(model, asked, monkeypatch):
    vector = toward(model, "Rome", "now", "resid_post.0")
    packed = receipt(model, vector, asked, coefficient=1.0, directions=20, ablations=4)
    slow = dataclasses.replace(model)
    monkeypatch.setitem(slow.__dict__, "packs", False)
    plain = receipt(slow, vector, asked, coefficient=1.0, directions=20, ablations=4)
    assert list(packed) == list(plain)
    for name in packed:
        assert packed[name].value == pytest.approx(plain[name].value, abs=2e-3), name


def test_ablating_is_what_ablate_does(model, asked):
    vector = toward(model, "Paris", "Madrid", "resid_post.1")
    figures = receipt(model, vector, asked, coefficient=1.0, directions=20, ablations=5)
    paris, madrid = (model.tokenizer(word)["input_ids"][0] for word in ("Paris", "Madrid"))
    reads = {}
    for name in ("plain", "ablated"):
        with torch.no_grad():
            logits = [model.module(**model.collate([model.encode(one.prompt)])).logits[0, -1] for one in asked]
            reads[name] = np.mean([float(row[paris] - row[madrid]) for row in logits])
            if name == "plain":
                opened = probes.ablate(model, vector)
                opened.__enter__()
    opened.__exit__(None, None, None)
    assert figures["use"].value == pytest.approx(reads["plain"], abs=1e-4)
    assert figures["ablation"].value == pytest.approx(reads["ablated"] - reads["plain"], abs=1e-4)
    assert figures["ablation_cross_entropy"].value != 0


def test_false_statements_count_the_other_way_round_in_use_and_not_in_the_slope(model, asked):
    vector = toward(model, "Paris", "Madrid", "resid_post.1")
    options = {"coefficient": 1.0, "directions": 20, "ablations": 2}
    labelled = [dataclasses.replace(one, label=i % 2 == 0) for i, one in enumerate(asked)]
    flipped = [dataclasses.replace(one, label=not one.label) for one in labelled]
    plain, first, second = (receipt(model, vector, items, **options) for items in (asked, labelled, flipped))
    assert first["use"].value == pytest.approx(-second["use"].value)
    assert first["ablation"].value == pytest.approx(-second["ablation"].value)
    assert abs(first["use"].value) != pytest.approx(abs(plain["use"].value))
    assert first["slope"] == second["slope"] == plain["slope"]


def test_the_cost_is_the_rise_of_cross_entropy_on_ordinary_text(model, asked):
    from probes.activations.likelihood import token_likelihoods
    from probes.facts.wordings import ordinary_texts

    vector = toward(model, "Paris", "Madrid")
    figures = receipt(model, vector, asked, coefficient=3.0, directions=20, ablations=0)
    encoded = [model.encode(text) for text in ordinary_texts()][:24]

    def loss():
        found = token_likelihoods(model, encoded, [1] * len(encoded))
        return -(found.total / found.tokens)

    plain = loss()
    with probes.steer(model, vector, 3.0):
        steered = loss()
    assert figures["cross_entropy"].value == pytest.approx(float((steered - plain).mean()), abs=1e-4)
    assert figures["kl"].value > 0


def test_the_coefficient_is_the_largest_that_ordinary_text_can_bear(model, asked):
    vector = dataclasses.replace(toward(model, "Paris", "Madrid", "resid_post.0"), scale=100.0)
    figures = receipt(model, vector, asked, directions=20, ablations=0)
    c = max(float(name.removeprefix("dose_")) for name in figures if name.startswith("dose_"))
    assert c in [2.0**-i for i in range(7)]
    assert figures["cross_entropy"].value <= 0.02 or c == 2.0**-6
    destroyed = receipt(model, vector, asked, coefficient=50.0, directions=20, ablations=0)
    assert destroyed["cross_entropy"].value > 0.5
    assert "destroys the model" in shortfalls(destroyed)[0]


def test_the_largest_dose_is_found_in_three_looks_wherever_it_stands(model, monkeypatch):
    for bearable in (2.0**-i for i in range(8)):
        looks = []

        def price(self, dose, bearable=bearable, looks=looks):
            looks.append(dose)
            return (Estimate(*[0.0 if dose <= bearable else 1.0] * 3, 24),) * 2

        monkeypatch.setattr("probes.steering.cost.steer", lambda model, vector, dose: dose)
        monkeypatch.setattr(Cost, "price", price)
        found, _ = Cost(model, (), (), ()).affordable(None)
        assert found == max(bearable, 2.0**-6), "the last where none can be borne"
        assert len(looks) <= 3


def test_the_blocks_below_the_site_run_once_a_prompt(model, asked):
    """Two slots or two hundred: the work below the site is that of the prompt."""
    site, shifts, one = Site("resid_post", 2), torch.randn(100, 32), encoded(model, asked)[0]
    bottom, top = model.blocks[0].module.mlp, model.blocks[2].module.mlp
    seen = Counter()

    def tell(name, forward):
        def run(hidden, *rest, **named):
            seen[name] += hidden.shape[1]
            return forward(hidden, *rest, **named)

        return run

    for name, module in (("bottom", bottom), ("top", top)):
        module.forward = tell(name, module.forward)
    try:
        with torch.no_grad():
            _read_slots(model, site, one, shifts)
    finally:
        for module in (bottom, top):
            del module.forward
    n = len(one.ids)
    assert seen == {"bottom": n, "top": n - 1 + 100}


def test_every_bar_is_said_to_be_met_or_not():
    figures = {name: Estimate(value, value, value, 20) for name, value in (("slope_z", 5.2), ("wrong_way", 0.2))}
    assert bar_words(figures, "slope_z") == "at least 5: met"
    assert bar_words(figures, "wrong_way") == "at most 0.1: not met"
    assert bar_words(figures, "cross_entropy") == "at most 0.02: not measured"
    assert bar_words(figures, "slope") == ""
    assert [line.rsplit(": ", 1)[1] for line in bar_lines(figures)] == ["met", "not met", "not measured"]
    assert bar_lines({}) == ("no receipt: nobody measured whether the model uses this direction",)


def test_what_falls_short_is_said_and_nothing_else():
    def at(**values):
        return shortfalls({name: Estimate(value, value, value, 20) for name, value in values.items()})

    assert at(slope_z=5.0, wrong_way=0.1, cross_entropy=0.02) == ()
    assert len(at(slope_z=4.9, wrong_way=0.11, cross_entropy=0.021)) == 3
    assert "destroys the model" in at(slope_z=9.0, wrong_way=0.0, cross_entropy=0.6)[0]
    assert "ablating destroys" in at(slope_z=9.0, wrong_way=0.0, cross_entropy=0.0, ablation_cross_entropy=3.0)[0]
    assert "not measured" in at(slope_z=9.0, wrong_way=0.0)[0]


def test_random_directions_lie_inside_the_top_components():
    rng = np.random.default_rng(0)
    axes = torch.linalg.qr(torch.randn(30, 30, generator=torch.Generator().manual_seed(0)))[0]
    sizes = torch.tensor([10.0] * 12 + [0.1] * 18)
    rows = torch.randn(400, 30, generator=torch.Generator().manual_seed(1)) * sizes @ axes.T + 5.0
    drawn, count = inside_components(rows, 50, rng)
    assert count == 11, "11 of 12 equal axes carry 90 %"
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(50, dtype=torch.float64))
    inside = (drawn.float() @ axes[:, :12]).norm(dim=1)
    assert float(inside.min()) > 0.99
    assert torch.linalg.matrix_rank(drawn[:20], atol=0.01) == 11
    with pytest.raises(BadInput, match="all alike"):
        inside_components(torch.ones(5, 4), 3, rng)


def test_the_mean_counts_groups_not_contrasts():
    one = _over_groups(np.array([1.0, 1.0, 1.0, 3.0]), ["a", "a", "a", "b"], "toy")
    assert (one.value, one.n) == (2.0, 4)
    with pytest.raises(TooFew, match="one group"):
        _over_groups(np.array([1.0, 2.0]), ["a", "a"], "toy")


def test_truth_is_asked_behind_examples_of_other_groups():
    statements = probes.load_topic("capitals").statements()[:60]
    found = truth_contrasts(statements, seed=1)
    head = found[0].prompt.splitlines()[:-1]
    assert [line.rsplit(" ", 1)[1] for line in head] == ["True", "False", "False", "True"]
    truth = {s.text: s for s in statements}
    for line in head:
        text, said = line.rsplit(" ", 1)
        assert str(truth[text].label) == said
        assert truth[text].group not in {one.group for one in found}
    assert all(one.prompt.splitlines()[-1] in truth for one in found)
    assert [one.label for one in found] == [truth[one.prompt.splitlines()[-1]].label for one in found]
    assert truth_contrasts(statements, seed=2) != found
    with pytest.raises(TooFew, match="groups"):
        truth_contrasts(statements[:4])
    with pytest.raises(BadInput, match="labels"):
        truth_contrasts([])
    with pytest.raises(BadInput, match="labels"):
        truth_contrasts(["a text"])


def test_a_fact_is_asked_where_other_facts_are(model):
    assert all(one.answer == "Paris" and one.wrong != "Paris" for one in ASKED)
    assert {one.group for one in ASKED} == {subject for subject, _ in PAIRS[1:]}
    assert all(one.prompt == TOPIC.cloze(FRANCE) for one in fact_uses(TOPIC, FRANCE))
    vector = fact_vector(model, TOPIC, FRANCE, "resid_post.1")
    figures = receipt(
        model, vector, ASKED[:4], uses=fact_uses(TOPIC, FRANCE), directions=20, ablations=4, coefficient=1.0
    )
    assert figures["use"].n == 8
    rows = probes.capture(model, [TOPIC.cloze(FRANCE), *(one.prompt for one in ASKED[4:])], "resid_post.1")
    rows = rows.values[Site("resid_post", 1)]
    difference = rows[0] - rows[1:].mean(0)
    torch.testing.assert_close(vector.direction, difference / difference.norm(), rtol=1e-3, atol=1e-4)
    with pytest.raises(TooFew, match="other facts"):
        fact_contrasts(Topic("one", TOPIC.relation, TOPIC.facts[:2]), FRANCE)


def test_it_is_the_same_for_the_same_seed_and_stands_in_the_manifest(model, asked, tmp_path):
    probe = probes.LinearProbe.from_weights(toward(model, "Paris", "Madrid").direction, 0.0, "resid_post.1")
    first, second = (receipt(model, probe, asked, directions=20, ablations=3, coefficient=1.0) for _ in range(2))
    assert dict(first) == dict(second)
    assert dict(first) != dict(receipt(model, probe, asked, directions=20, ablations=3, coefficient=1.0, seed=1))
    dataclasses.replace(probe, receipt=first).save(tmp_path / "probe")
    assert dict(probes.LinearProbe.load(tmp_path / "probe").receipt) == dict(first)


def test_nothing_stays_on_the_model(model, asked, hooks_of):
    before = hooks_of(model.module)
    receipt(model, toward(model, "Paris", "Madrid"), asked, directions=20, ablations=2, coefficient=1.0)
    assert hooks_of(model.module) == before


def test_architectures_without_writes_to_ablate_have_a_receipt_without_ablation(architecture, asked, direction):
    model = architecture("opt with norms behind")
    vector = SteeringVector(direction, Site("resid_post", 1), 2.0)
    figures = receipt(model, vector, asked, directions=20, ablations=3, coefficient=1.0)
    assert "slope_z" in figures
    assert not {"use", "ablation", "ablation_z"} & set(figures)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"source": []}, BadInput, "nothing to ask"),
        ({"source": "capitals"}, BadInput, "nothing to ask"),
        ({"source": [Contrast("the", "Paris", "Paris", "a")] * 9}, TooFew, "first token"),
        ({"source": [Contrast("the city is", "Paris", "Rome", "a")] * 9}, BadInput, "all alike"),
        ({"coefficient": 0.0}, BadInput, "above 0"),
        ({"coefficient": math.nan}, BadInput, "above 0"),
        ({"coefficient": -1.0}, BadInput, "above 0"),
        ({"directions": 3}, TooFew, "the least"),
    ],
)
def test_bad_input_is_refused(model, asked, given, error, message):
    arguments = {"source": asked, "directions": 20, "ablations": 0, "coefficient": 1.0, **given}
    with pytest.raises(error, match=message):
        receipt(model, toward(model, "Paris", "Madrid"), **arguments)


def test_a_site_that_cannot_reach_the_readout_and_a_broken_model_are_told(build, asked):
    model = build("llama", seed=4)
    vector = toward(model, "Paris", "Madrid")
    with torch.no_grad():
        model.module.lm_head.weight.fill_(float("nan"))
    with pytest.raises(BadInput, match="not finite"):
        receipt(model, vector, asked, directions=20, ablations=0, coefficient=1.0)


@pytest.mark.slow
@pytest.mark.embedded
def test_the_embedded_model_uses_the_vector_of_a_fact_and_not_a_direction_of_truth(embedded_model):
    from probes.steered import prove

    topic = probes.load_topic("capitals")
    paris = prove(embedded_model, topic=topic, fact=Fact.parse("Germany|capital|Berlin")).receipt
    assert paris["slope_z"].value > 4
    assert paris["wrong_way"].value <= 0.1
    assert paris["cross_entropy"].value <= 0.02
    assert paris["ablation"].upper < 0
    truth = prove(embedded_model, topic=topic, ablations=0).receipt
    assert truth["slope_z"].value < 4, "a model of this size does not judge statements in context"
