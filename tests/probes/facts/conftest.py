"""Files of facts and statements."""

import pytest


@pytest.fixture
def file(tmp_path):
    """Write a file of that name and content, and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
