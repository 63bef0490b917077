"""What a process may have open, and what that means for how many come in."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from corral.gateway.connection import limit_connections


def test_usual_limit_holds() -> None:
    """Where files are plenty the setting counts."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    assert 10 == limit_connections(10)
    assert limit_connections(1 << 30) <= max(1, soft)


@pytest.mark.parametrize(("files", "most"), [(256, 96), (64, 1)])
def test_few_files_mean_few_clients(files: int, most: int) -> None:
    """Each client takes two files, and some are kept for everything else."""
    code = (
        "import resource; from corral.gateway.connection import limit_connections;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}));"
        "print(limit_connections(4096))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"], capture_output=True, text=True
    )

    assert str(most) == done.stdout.strip(), done.stderr
