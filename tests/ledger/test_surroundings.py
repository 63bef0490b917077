"""The clocks and names of this system."""

from __future__ import annotations

import os
from pathlib import Path

from corral.ledger import read_moment, read_owner


def test_boot_is_named(tmp_path: Path) -> None:
    """Where the system names its boot, a moment has the boot clock too; elsewhere the wall clock alone."""
    folder = tmp_path / "proc" / "sys" / "kernel" / "random"
    folder.mkdir(parents=True)
    (folder / "boot_id").write_text("0000-1111\n")
    here, nowhere = read_moment(str(tmp_path)), read_moment(str(tmp_path / "none"))

    assert "0000-1111" == here.boot_id and here.boot_s is not None and here.boot_s > 0
    assert ("", None) == (nowhere.boot_id, nowhere.boot_s)
    assert 0 <= nowhere.wall - here.wall < 60
    assert os.uname().nodename == here.host


def test_owner_is_named() -> None:
    """The environment names the user; without it the system does."""
    assert ("ann", os.uname().nodename) == (read_owner({"USER": "ann"}).user, read_owner({}).host)
    assert "bob" == read_owner({"LOGNAME": "bob"}).user
    assert read_owner({}).user
    assert "a?" == read_owner({"USER": "a\udcff"}).user
