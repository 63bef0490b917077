"""Where the ledger lies."""

from __future__ import annotations

from errno import EACCES, EDQUOT, ENOSPC
from pathlib import Path

import pytest

from corral.ledger import LedgerError, find_folder, has_ledger
from corral.ledger.errors import explain_os
from corral.ledger.place import is_network, read_mounts


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CORRAL_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"CORRAL_STATE_DIR": "", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/corral"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/corral"),
        ({"HOME": "/h"}, "/h/.local/state/corral"),
    ],
)
def test_first_place_named_counts(environ: dict[str, str], folder: str) -> None:
    """CORRAL_STATE_DIR goes before XDG_STATE_HOME, and that before the usual place in the home."""
    assert folder == find_folder(environ)


def test_full_disk_has_a_cure_of_its_own() -> None:
    """A disk or quota that is full asks for room; any other failure for a folder that can be written."""
    full, quota, denied = (explain_os("/s", OSError(number, "no")) for number in (ENOSPC, EDQUOT, EACCES))

    assert full.hint == quota.hint and "Make room" in full.hint
    assert "Make room" not in denied.hint


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "not/absolute"}])
def test_no_home(environ: dict[str, str]) -> None:
    """Without a home there is no place, and the error names the variable that gives one."""
    with pytest.raises(LedgerError, match="HOME is not set") as caught:
        find_folder(environ)
    assert "CORRAL_STATE_DIR" in caught.value.hint


def test_relative_place_counts_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative CORRAL_STATE_DIR is one place for the whole command."""
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "s") == find_folder({"CORRAL_STATE_DIR": "s"})


_MOUNTS = "\n".join(
    (
        "/dev/sda1 / ext4 rw 0 0",
        "server:/home /home nfs4 rw 0 0",
        "/dev/sdb1 /home/local ext4 rw 0 0",
        "//nas/x /mnt/my\\040files cifs rw 0 0",
        "odd",
        "me@host: /home/local/far fuse.sshfs rw 0 0",
        "/dev/sdc1 /over nfs rw 0 0",
        "/dev/sdc1 /over ext4 rw 0 0",
    )
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/x", False),
        ("/home/ann/ledger.db", True),
        ("/homework/ledger.db", False),
        ("/home/local/ledger.db", False),
        ("/home/local/far/ledger.db", True),
        ("/mnt/my files/ledger.db", True),
        ("/over/ledger.db", False),
    ],
)
def test_network_file_systems_are_known(path: str, expected: bool) -> None:
    """The innermost, last mount over a path says whether other machines write there too."""
    assert expected is is_network(path, _MOUNTS)


def test_mounts_of_this_system(tmp_path: Path) -> None:
    """A system without /proc has nothing to say; one with it names the root."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mounts").write_text(_MOUNTS)

    assert _MOUNTS == read_mounts(str(tmp_path))
    assert "" == read_mounts(str(tmp_path / "nowhere"))


def test_ledger_that_may_be_there(tmp_path: Path) -> None:
    """Nothing is promised by a file that is missing or empty."""
    assert not has_ledger(str(tmp_path))
    (tmp_path / "ledger.db").touch()
    assert not has_ledger(str(tmp_path))
    assert not has_ledger(str(tmp_path / "ledger.db"))
    (tmp_path / "ledger.db").write_bytes(b"x")
    assert has_ledger(str(tmp_path))
    assert has_ledger("/" + "x" * 5000)
