"""A small store for the tests of this wing: 12 texts, every token, four shards of three texts."""

import shutil

import pytest

from probes import Store
from probes.activations.store import store

TEXTS = ["the capital of France is Paris", "cheese", "which river", "the city of Rome is not a river please"]


@pytest.fixture(scope="session")
def twelve():
    """Twelve texts of 1 to 9 tokens."""
    return [*TEXTS, *(f"{text} now" for text in TEXTS[:3]), *(f"say {text}" for text in TEXTS), "what"]


@pytest.fixture(scope="session")
def call(twelve):
    """Write the small store, or another that differs in what is given."""

    def run(model, folder, texts=None, **changed):
        labels = {"labels": [i % 2 == 0 for i in range(12)], "groups": [f"group {i // 2}" for i in range(12)]}
        options = {"tokens": "all", "shard_texts": 3} | (labels if texts is None else {}) | changed
        return store(model, twelve if texts is None else texts, folder, **options)

    return run


@pytest.fixture(scope="session")
def written(build, call, tmp_path_factory):
    """The small store of a tiny Llama, not to be changed."""
    return call(build("llama"), tmp_path_factory.mktemp("written"))


@pytest.fixture
def small(written, tmp_path):
    """A copy of the small store."""
    return Store.open(shutil.copytree(written.folder, tmp_path / written.folder.name))
