"""Do scores survive batching, padding, cache and dtype; and which fault made somebody's numbers.

Toy: a tiny random model with a random probe. Its reference is Hugging Face's `output_hidden_states` of each text alone,
and each planted reader is written with Hugging Face's own calls, not with ours.
"""

import copy
import inspect
import json
from dataclasses import replace

import pytest
import torch

import probes
from probes import BadInput, CouldNotRun, LinearProbe, Mismatch, NotFound, TooFew
from probes.parity import doctor as room
from probes.parity.faults import explain
from probes.parity.passes import alone, clone, places

TEXTS = [
    "the capital of France is Paris",
    "a city",
    "Rome is not the capital of Spain now please say me",
    "what river is in Italy",
    "cheese",
    "Madrid is a city of Spain in which the river is",
    "say me please the capital",
    "is Paris in Italy or in France now",
    "Rome Rome Madrid",
    "the cheese of Spain is not in a city of Italy what is now in France",
]
LAYER = 1
WAYS = ("batched", "left_padding", "kv_cache", "chunked_prefill", "attention", "bfloat16", "float16")


def probe_of(model, seed=0, **fields):
    weight = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    fields.setdefault("fingerprint", model.fingerprint)
    return LinearProbe.from_weights(weight, 0.3, f"resid_post.{LAYER}", **fields)


def hidden(model, batch, layer=None):
    with torch.no_grad():
        return model.module(**batch, output_hidden_states=True).hidden_states[(LAYER if layer is None else layer) + 1]


def batch_of(model, texts, side="right"):
    model.tokenizer.padding_side = side
    return dict(model.tokenizer(list(texts), return_tensors="pt", padding=True))


def at_end(batch):
    return batch["attention_mask"].sum(1) - 1


def right_reader(model):
    def read(texts):
        batch = batch_of(model, texts)
        return hidden(model, batch)[torch.arange(len(texts)), at_end(batch)].numpy()

    return read


def wrong_side(model):
    return lambda texts: hidden(model, batch_of(model, texts))[:, -1]


def wrong_side_of_left(model):
    def read(texts):
        batch = batch_of(model, texts, "left")
        return hidden(model, batch)[torch.arange(len(texts)), at_end(batch)]

    return read


def no_mask(model):
    return lambda texts: hidden(model, {"input_ids": batch_of(model, texts, "left")["input_ids"]})[:, -1]


def one_early(model):
    def read(texts):
        batch = batch_of(model, texts)
        return hidden(model, batch)[torch.arange(len(texts)), (at_end(batch) - 1).clamp(min=0)]

    return read


def post_norm(model):
    def read(texts):
        return torch.stack([hidden(model, batch_of(model, [text]), model.n_layers - 1)[0, -1] for text in texts])

    return read


def in_bfloat16(model):
    second = clone(model, dtype=torch.bfloat16)
    return lambda texts: right_reader_of_tensors(second, texts).float()


def rounded(model):
    return lambda texts: torch.as_tensor(right_reader(model)(texts)).bfloat16().float()


def two_as_one(model):
    return lambda texts: torch.as_tensor(right_reader(model)(texts)).bfloat16().view(torch.float32)


def right_reader_of_tensors(model, texts):
    batch = batch_of(model, texts)
    return hidden(model, batch)[torch.arange(len(texts)), at_end(batch)]


def swapped(model):
    def read(texts):
        rows = right_reader(model)(texts)
        rows[[2, 3]] = rows[[3, 2]]
        return rows

    return read


def unsorted(model):
    """Batches by length, and the rows never put back."""
    return lambda texts: right_reader(model)(sorted(texts, key=lambda text: len(model.encode(text))))


def of_layer_before(model):
    def read(texts):
        batch = batch_of(model, texts)
        return hidden(model, batch, LAYER - 1)[torch.arange(len(texts)), at_end(batch)]

    return read


PLANTED = [
    (wrong_side, "wrong padding side"),
    (wrong_side_of_left, "wrong padding side: padded on the left"),
    (no_mask, "missing mask"),
    (one_early, "off-by-one position"),
    (post_norm, "post-norm taken for resid_post"),
    (in_bfloat16, "bfloat16 read as float32"),
    (rounded, "bfloat16 read as float32: rounded"),
    (two_as_one, "two numbers of bfloat16"),
    (swapped, "rows swapped in a batch"),
    (unsorted, "rows swapped in a batch"),
    (of_layer_before, "wrong layer: resid_post.0"),
]


@pytest.fixture
def read_by(monkeypatch):
    """`read_by(model, reader)` is the doctor's check of the reader, without the other checks before it."""
    monkeypatch.setattr(room, "_ways", lambda *_: ())

    def examine(model, reader, **options):
        return probes.doctor(model, probe_of(model), TEXTS, reader=reader, **options).checks[-1]

    return examine


def figure(report, name):
    return next(check for check in report.checks if check.name == name)


def test_the_toy_by_hand_a_shift_of_the_activation_along_the_probe_is_the_figure(llama, read_by):
    """A reader that adds d to every row moves every score by weight . d: here by |w|^2 / 100."""
    probe = probe_of(llama)
    shift = probe.weight / 100
    check = read_by(llama, lambda texts: torch.as_tensor(right_reader(llama)(texts)) + shift)
    assert check.difference == pytest.approx(float(probe.weight @ shift), abs=1e-4)
    assert check.cause == "no known fault reproduces it"


def test_every_way_of_running_a_sound_model_keeps_the_scores(tiny):
    report = probes.doctor(tiny, probe_of(tiny), TEXTS)
    assert tuple(check.name for check in report.checks) == WAYS
    assert report.passed is True
    for check in report.checks:
        exact = check.name not in ("bfloat16", "float16")
        assert (check.difference < 1e-4) == exact, check
        assert check.difference > 0, f"{check.name} repeats the reference instead of running another way"
        assert not check.cause
    assert figure(report, "bfloat16").difference > figure(report, "float16").difference


def test_the_reference_is_what_hugging_face_gives_for_each_text_alone(tiny):
    encoded = [tiny.encode(text) for text in TEXTS]
    rows = alone(tiny, encoded, probes.Site("resid_post", LAYER), "all")
    for text, values in zip(TEXTS, rows, strict=True):
        theirs = hidden(tiny, batch_of(tiny, [text]))[0]
        assert torch.allclose(values, theirs, atol=1e-5)


@pytest.mark.parametrize(("plant", "says"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_found_and_named(tiny, plant, says, read_by):
    check = read_by(tiny, plant(tiny))
    assert says in check.cause
    if "bfloat16" not in says:
        assert check.passed is False


def test_a_right_reader_passes_and_nothing_is_named(tiny, read_by):
    check = read_by(tiny, right_reader(tiny))
    assert (check.passed, check.cause) == (True, "")
    assert check.difference < 1e-4


def test_bfloat16_passes_a_wide_margin_and_is_named_all_the_same(llama, read_by):
    check = read_by(llama, in_bfloat16(llama), margin=1e6)
    assert check.passed is True
    assert "bfloat16" in check.cause
    assert read_by(llama, in_bfloat16(llama), margin=1e-3).passed is False


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_a_fault_is_found_whatever_the_batch_size_of_the_reader(llama, size, read_by):
    def in_batches(texts):
        read = wrong_side(llama)
        return torch.cat([read(texts[at : at + size]) for at in range(0, len(texts), size)])

    check = read_by(llama, in_batches)
    if size == 1:
        assert check.passed, "alone, nothing is padded"
    elif size == 3:
        assert not check.passed, "a size that is not tried is no reason to pass"
    else:
        assert "wrong padding side" in check.cause


def test_left_padding_without_positions_is_harmless_with_rotary_ones_and_named_with_absolute_ones(build, read_by):
    def reader(model):
        return lambda texts: hidden(model, batch_of(model, texts, "left"))[:, -1]

    llama, gpt2 = build("llama"), build("gpt2")
    assert read_by(llama, reader(llama)).passed
    assert "positions count the padding" in read_by(gpt2, reader(gpt2)).cause


def test_a_fault_under_rounding_is_named_with_both(llama, read_by):
    check = read_by(llama, lambda texts: torch.as_tensor(one_early(llama)(texts)).bfloat16())
    assert "off-by-one position" in check.cause


def test_noise_is_given_no_name(llama, read_by):
    noise = torch.randn(len(TEXTS), llama.d_model, generator=torch.Generator().manual_seed(5))

    def noisy(texts):
        return torch.as_tensor(right_reader(llama)(texts)) + noise[: len(texts)]

    assert read_by(llama, noisy).cause == "no known fault reproduces it"


def test_an_error_of_the_size_of_rounding_that_points_elsewhere_is_not_called_rounding(llama):
    site = probes.Site("resid_post", LAYER)
    right = torch.cat(alone(llama, [llama.encode(text) for text in TEXTS], site, "last"))
    half = torch.as_tensor(in_bfloat16(llama)(TEXTS))
    assert "bfloat16" in explain(llama, TEXTS, site, half + 1e-7, right)
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(1))
    like = (half - right).norm(dim=-1, keepdim=True) * noise / noise.norm(dim=-1, keepdim=True)
    assert explain(llama, TEXTS, site, right + like, right) == ""


def test_a_reader_that_raises_is_not_run_and_never_a_pass(llama):
    def broken(texts):
        raise KeyError("no such layer")

    report = probes.doctor(llama, probe_of(llama), TEXTS, reader=broken, dtypes=())
    assert report.checks[-1].passed is None
    assert "no such layer" in report.checks[-1].cause
    assert report.passed is None
    assert "not run: reader" in report.sentence


def test_a_failure_stays_one_where_the_search_for_its_cause_stops(llama, read_by, monkeypatch):
    def stop(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(room, "explain", stop)
    check = read_by(llama, wrong_side(llama))
    assert check.passed is False
    assert "the search for it stopped, RuntimeError: out of memory" in check.cause


def test_a_reader_of_another_shape_or_of_nan_fails(llama, read_by):
    assert read_by(llama, lambda texts: torch.zeros(len(texts), 3, 4)).passed is None
    narrow = read_by(llama, lambda texts: torch.zeros(len(texts), 5))
    assert (narrow.passed, narrow.cause[:13]) == (False, "rows of shape")
    holes = read_by(llama, lambda texts: torch.full((len(texts), 32), float("nan")))
    assert holes.passed is False
    assert "not finite" in holes.cause


# ---------------------------------------------------------------------------------------------------------- properties


def test_figures_do_not_depend_on_the_order_of_the_texts_and_name_the_same_text(llama):
    probe = probe_of(llama)
    forth, back = (probes.doctor(llama, probe, texts) for texts in (TEXTS, TEXTS[::-1]))
    assert {k: v.value for k, v in forth.figures.items()} == {k: v.value for k, v in back.figures.items()}
    for a, b in zip(forth.checks, back.checks, strict=True):
        assert TEXTS[a.text] == TEXTS[::-1][b.text]
        assert a.position == len(llama.encode(TEXTS[a.text])) - 1


def test_the_worst_text_is_named(llama, read_by):
    def read(texts):
        rows = torch.as_tensor(right_reader(llama)(texts)).clone()
        for i, text in enumerate(texts):
            rows[i] += (3.0 if text == TEXTS[6] else 0.01) * torch.ones(llama.d_model)
        return rows

    check = read_by(llama, read)
    assert check.text == 6
    assert check.position == len(llama.encode(TEXTS[6])) - 1


@pytest.mark.parametrize("tokens", ["mean", "all", "0", "-1"])
def test_scores_are_compared_where_the_probe_reads(llama, tokens):
    report = probes.doctor(llama, probe_of(llama, tokens=tokens), TEXTS, dtypes=("bfloat16",))
    assert report.passed
    check = figure(report, "bfloat16")
    length = len(llama.encode(TEXTS[check.text]))
    assert check.position in {"mean": [-1], "all": range(length), "0": [0]}.get(tokens, [length - 1])


def test_a_rule_that_a_text_alone_does_not_settle_is_read_at_every_token(llama):
    reports = [probes.doctor(llama, probe_of(llama, tokens=tokens), TEXTS, dtypes=()) for tokens in ("response", "all")]
    assert [check.position for check in reports[0].checks] == [check.position for check in reports[1].checks]
    assert any(check.position + 1 < len(llama.encode(TEXTS[check.text])) for check in reports[0].checks)
    assert places("all", 3) == [0, 1, 2]
    assert places("last", 3) == places(-1, 3) == [2]


def test_a_probe_in_other_units_gets_the_same_verdicts(llama):
    probe = probe_of(llama)
    larger = replace(probe, weight=8 * probe.weight, bias=8 * probe.bias)
    one, eight = (probes.doctor(llama, p, TEXTS, dtypes=["bfloat16"]) for p in (probe, larger))
    assert figure(eight, "bfloat16").difference == pytest.approx(8 * figure(one, "bfloat16").difference, rel=1e-3)
    assert eight.margin.value == pytest.approx(8 * one.margin.value, rel=1e-5)


def test_the_margin_is_a_tenth_of_the_spread_unless_given(llama):
    probe = probe_of(llama)
    right = [probe.scores(rows) for rows in alone(llama, [llama.encode(t) for t in TEXTS], probe.site, "last")]
    report = probes.doctor(llama, probe, TEXTS, dtypes=())
    assert report.margin.value == pytest.approx(0.1 * float(torch.cat(right).std()), rel=1e-4)
    assert probes.doctor(llama, probe, TEXTS, dtypes=(), margin=0.25).figures["margin"].value == 0.25


# ------------------------------------------------------------------------------------------ models with something wrong


def test_a_model_whose_cache_is_broken_fails_the_cache_alone(build):
    model = build("llama")
    attention = model.blocks[0].module.self_attn

    def forget(module, args, kwargs, output):  # over a cache, attention adds nothing
        grown = kwargs["past_key_values"] is not None and output[0].shape[1] == 1
        return (output[0] * 0, *output[1:]) if grown else None

    handle = attention.register_forward_hook(forget, with_kwargs=True)
    try:
        report = probes.doctor(model, probe_of(model), TEXTS, dtypes=())
    finally:
        handle.remove()
    assert {check.name for check in report.checks if not check.passed} == {"kv_cache", "chunked_prefill"}
    assert report.passed is False


def test_a_model_that_ignores_its_mask_fails_left_padding_by_name(build):
    model = build("llama")

    def unmask(module, args, kwargs):
        return args, {**kwargs, "attention_mask": None, "position_ids": None}

    handle = model.body.register_forward_pre_hook(unmask, with_kwargs=True)
    try:
        report = probes.doctor(model, probe_of(model), TEXTS, dtypes=())
    finally:
        handle.remove()
    assert figure(report, "batched").passed, "padding on the right is never seen by what stands before it"
    assert figure(report, "left_padding").passed is False
    assert "mask" in figure(report, "left_padding").cause


def test_a_dtype_that_overflows_fails_with_layer_and_text(build):
    model = build("llama")
    with torch.no_grad():
        model.module.model.layers[1].mlp.down_proj.weight.mul_(1e6)
    probe = probe_of(model)
    report = probes.doctor(model, probe, TEXTS)
    check = figure(report, "float16")
    assert (check.passed, check.difference) == (False, None)
    assert "float16 overflows at resid_post.1: text" in check.cause
    assert "float16" not in report.figures, "so no model in float16 is accepted"
    assert figure(report, "bfloat16").difference is not None


def test_a_dtype_beyond_the_margin_says_that_it_is_rounding(llama):
    check = figure(probes.doctor(llama, probe_of(llama), TEXTS, margin=1e-4), "bfloat16")
    assert check.passed is False
    assert "rounding to 8 bits" in check.cause


def test_a_reference_that_is_not_finite_is_refused_by_text_and_layer(build):
    model = build("llama")
    probe = probe_of(model, fingerprint={})
    with torch.no_grad():
        model.module.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"text \d+: the activation at resid_post.0 is not finite"):
        probes.doctor(model, probe, TEXTS)


def test_what_could_not_be_compared_is_no_pass(llama):
    same = ["Paris is", "Rome is", "cheese is"]
    report = probes.doctor(llama, probe_of(llama), same, dtypes=())
    assert figure(report, "left_padding").passed is None
    assert "same length" in figure(report, "left_padding").cause
    assert report.passed is None
    short = probes.doctor(llama, probe_of(llama), ["Paris", "Rome"], dtypes=())
    assert figure(short, "kv_cache").passed is None


def test_the_bridge_is_compared_when_asked(llama):
    report = probes.doctor(llama, probe_of(llama), TEXTS, dtypes=(), bridge=True)
    assert [check.name for check in report.checks] == [*WAYS[:5], "bridge"]
    assert figure(report, "bridge").passed
    assert 0 < report.figures["bridge"].value < 1e-4


def test_the_model_is_left_as_it_was(llama, hooks_of):
    wrong_side(llama)(TEXTS)  # at the first look at hidden states transformers hangs hooks of its own; those stay
    before = hooks_of(llama.module), llama.fingerprint, llama.config._attn_implementation
    state = torch.get_rng_state()
    probes.doctor(llama, probe_of(llama), TEXTS, bridge=True, reader=wrong_side(llama))
    assert (hooks_of(llama.module), llama.fingerprint, llama.config._attn_implementation) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_clone_in_a_dtype_is_what_loading_in_that_dtype_gives(tiny, tmp_path):
    """An outside reference: `from_pretrained(dtype=...)`; casting a whole module would round rotary frequencies too."""
    tiny.module.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    loaded = probes.load_model(str(tmp_path), dtype="bfloat16")
    batch = batch_of(tiny, TEXTS[:1])
    assert torch.equal(hidden(clone(tiny, dtype=torch.bfloat16), batch), hidden(loaded, batch))
    shared = clone(tiny)
    assert shared.module is not tiny.module
    assert next(shared.module.parameters()) is next(tiny.module.parameters())


# ------------------------------------------------------------------------------------------------------------ bad input


def test_mistakes_are_refused(build):
    llama = build("llama")
    probe = probe_of(llama)
    for margin in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="positive number"):
            probes.doctor(llama, probe, TEXTS, margin=margin)
    with pytest.raises(BadInput, match="empty"):
        probes.doctor(llama, probe, [])
    with pytest.raises(BadInput, match="one string"):
        probes.doctor(llama, probe, "Paris")
    with pytest.raises(BadInput, match=r"text 1: the text has 200 tokens.*at most 128"):
        probes.doctor(llama, probe, ["Paris", "Paris " * 200])
    with pytest.raises(BadInput, match="did you mean 'bfloat16'"):
        probes.doctor(llama, probe, TEXTS, dtypes=["bfloat6"])
    with pytest.raises(TooFew, match="give one"):
        probes.doctor(llama, probe, TEXTS[:1])
    with pytest.raises(NotFound, match=r"resid_post.9"):
        probes.doctor(llama, LinearProbe.from_weights(torch.ones(32), 0.0, "resid_post.9"), TEXTS)
    with pytest.raises(BadInput, match="width 5"):
        probes.doctor(llama, LinearProbe.from_weights(torch.ones(5), 0.0, "resid_post.0"), TEXTS)
    with pytest.raises(Mismatch):
        probes.doctor(build("llama", seed=1), probe, TEXTS)
    with pytest.raises(BadInput, match="fitted in float32 and this model is in bfloat16"):
        probes.doctor(clone(llama, dtype=torch.bfloat16), probe, TEXTS)
    with pytest.raises(CouldNotRun, match="plain modules"):
        probes.doctor(replace(llama, bridge=object()), probe, TEXTS)


def test_files_of_texts(tmp_path):
    path = tmp_path / "texts"
    path.write_text("one\n\n  two \n")
    assert room.read_texts(path) == ["one", "two"]
    path.write_text("\n")
    with pytest.raises(BadInput, match="no text"):
        room.read_texts(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="UTF-8"):
        room.read_texts(path)
    with pytest.raises(NotFound, match="cannot read"):
        room.read_texts(tmp_path / "none")


# --------------------------------------------------------------------------------------------- manifest, match, reports


def test_a_dtype_is_accepted_at_match_only_where_the_doctor_has_seen_it(llama, tmp_path):
    probe, half = probe_of(llama), clone(llama, dtype=torch.bfloat16)
    with pytest.raises(Mismatch, match="belief doctor MODEL --probe DIR --dtype bfloat16") as caught:
        probe.match(half)
    assert caught.value.parts == ("dtype",)
    assert probe.match(half, allow={"dtype"}) == ("dtype",)

    seen = probes.doctor(llama, probe, TEXTS, dtypes=["bfloat16"]).probe
    seen.save(tmp_path / "probe")
    seen = LinearProbe.load(tmp_path / "probe")
    assert seen.match(half) == ("dtype",)
    assert seen.match(llama) == ()
    with pytest.raises(Mismatch, match="float16"):
        seen.match(clone(llama, dtype=torch.float16))

    strict = probes.doctor(llama, probe, TEXTS, dtypes=["bfloat16"], margin=1e-5).probe
    with pytest.raises(Mismatch, match="beyond its margin"):
        strict.match(half)


def test_a_figure_for_a_dtype_excuses_nothing_else(llama):
    seen = probes.doctor(llama, probe_of(llama), TEXTS, dtypes=["bfloat16"]).probe
    half = clone(llama, dtype=torch.bfloat16)
    with torch.no_grad():
        next(half.blocks[2].module.mlp.parameters())[0, 0] += 1
    with pytest.raises(Mismatch) as caught:
        seen.match(half, allow={"weights"})
    assert caught.value.parts == ("dtype",)


def test_a_figure_without_its_margin_is_not_enough(llama):
    seen = probes.doctor(llama, probe_of(llama), TEXTS, dtypes=["bfloat16"]).probe
    bare = replace(seen, doctor={"bfloat16": seen.doctor["bfloat16"]})
    with pytest.raises(Mismatch, match="has not seen"):
        bare.match(clone(llama, dtype=torch.bfloat16))


def test_figures_are_written_into_the_folder_of_their_probe_and_into_no_other(llama, tmp_path):
    probe = probe_of(llama)
    probe.save(tmp_path / "mine")
    probe_of(llama, seed=1).save(tmp_path / "other")
    report = probes.doctor(llama, probe, TEXTS)
    assert report.write(tmp_path / "mine") == f"8 figures were written into {tmp_path / 'mine'}"
    assert dict(LinearProbe.load(tmp_path / "mine").doctor) == report.figures
    assert "in place of 8 earlier ones" in report.write(tmp_path / "mine")
    with pytest.raises(BadInput, match="another probe"):
        report.write(tmp_path / "other")


def test_a_report_is_a_table_a_sentence_and_json(llama):
    report = probes.doctor(llama, probe_of(llama), TEXTS, margin=1e-4)
    assert report.passed is False
    text = str(report)
    assert "7 ways of running 10 texts" in text
    assert "failed: bfloat16, float16" in text
    assert "NO" in text
    assert "<table>" in report._repr_html_()
    row = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert row["passed"] is False
    assert [check["name"] for check in row["checks"]] == list(WAYS)
    assert "95 % confidence" in report.figures["bfloat16"].how


def test_without_a_probe_one_is_fitted_and_texts_are_drawn_alike_for_one_seed(llama, monkeypatch):
    monkeypatch.setattr(room, "_ways", lambda *_: ())
    a, b, c = (probes.doctor(llama, margin=1.0, seed=seed) for seed in (3, 3, 4))
    assert a.texts == b.texts != c.texts
    assert len(a.texts) == 24
    assert len({len(llama.encode(text)) for text in a.texts}) > 3, "or nothing would be padded"
    assert (str(a.examined.site), a.examined.method, a.examined.tokens) == ("resid_post.2", "lda", "last")
    assert torch.equal(a.examined.weight, b.examined.weight)
    assert a.passed is None, "nothing was run, so nothing passed"


def test_the_command_says_passed_failed_or_not_run_in_its_exit_code(llama, tmp_path, monkeypatch, capsys):
    from monitors import cli as door

    folder, where = tmp_path / "model", tmp_path / "probe"
    llama.module.save_pretrained(folder)
    llama.tokenizer.save_pretrained(folder)
    model = probes.load_model(str(folder))
    probe_of(model).save(where)
    (tmp_path / "texts").write_text("\n".join(TEXTS))
    (tmp_path / "even").write_text("Paris is\nRome is\ncheese is")

    def belief(*arguments):
        monkeypatch.setattr("sys.argv", ["belief", "doctor", str(folder), "--probe", str(where), *arguments])
        with pytest.raises(SystemExit) as caught:
            door.main()
        return caught.value.code or 0, capsys.readouterr()

    code, said = belief("--texts", str(tmp_path / "texts"), "--json")
    assert (code, json.loads(said.out)["passed"]) == (0, True)
    assert not LinearProbe.load(where).doctor, "nothing is written unless asked"
    code, said = belief("--texts", str(tmp_path / "texts"), "--dtype", "bfloat16", "--margin", "1e-5", "--write")
    assert code == 1
    assert "figures were written into" in said.out
    assert {"bfloat16", "margin"} <= set(LinearProbe.load(where).doctor)
    assert belief("--texts", str(tmp_path / "even"))[0] == 3
    assert belief("--margin", "0")[0] == 2


def test_no_command_function_is_longer_than_fifteen_lines():
    from probes import cli

    body = inspect.getsource(cli.doctor).split('"""')[-1]
    assert len(body.strip().splitlines()) <= 15


# ----------------------------------------------------------------------------------------------------- a model of today


@pytest.mark.slow
@pytest.mark.embedded
def test_six_planted_faults_are_found_on_the_embedded_model(embedded_model, read_by, monkeypatch):
    """Two thirds up, where neighbouring layers are alike; half of the texts are twice as long as the others."""
    statements = [statement.text for statement in probes.load_topic("capitals").statements()[:4]]
    longer = [f"{a} {b}" for a, b in zip(statements, statements[1:], strict=False)]
    monkeypatch.setitem(globals(), "LAYER", 20)
    monkeypatch.setitem(globals(), "TEXTS", [*statements, *longer])
    model = replace(embedded_model, tokenizer=copy.deepcopy(embedded_model.tokenizer))
    assert read_by(model, right_reader(model)).cause == ""
    for plant in (wrong_side, no_mask, one_early, post_norm, in_bfloat16, swapped):
        assert dict(PLANTED)[plant] in read_by(model, plant(model)).cause, plant.__name__
