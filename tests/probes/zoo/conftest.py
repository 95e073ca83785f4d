"""One nano model that knows, built once for all tests of the zoo."""

import pytest

import probes


@pytest.fixture(scope="session")
def knows(tmp_path_factory):
    """The nano model that knows, with its folder."""
    folder = tmp_path_factory.mktemp("zoo") / "knows"
    return probes.build_zoo("knows", size="nano", out=folder), folder
