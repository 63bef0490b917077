"""What the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine without processes."""
    return Tree(tmp_path)
