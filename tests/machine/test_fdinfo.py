"""What a process holds on an AMD or Intel device, by the keys that the kernel's documentation describes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.machine.fdinfo import Client, merge_clients, parse_fdinfo

HEAD = "pos:\t0\nflags:\t02100002\ndrm-driver:\tX\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t42\n"


def regions(text: str) -> dict[str, int]:
    """The memory that a file tells of."""
    client = parse_fdinfo((HEAD + text).encode())
    return client.regions if client else {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("drm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t1 MiB\n", {"vram": 2 << 20, "gtt": 1 << 20}),
        ("drm-total-vram:\t9 MiB\ndrm-resident-vram:\t3 MiB\ndrm-memory-vram:\t2 MiB\n", {"vram": 3 << 20}),
        ("drm-total-local0:\t512\ndrm-shared-local0:\t0\ndrm-resident-local0:\t128\n", {"local0": 128}),
        ("drm-total-vram0:\t5 GiB\n", {"vram0": 5 << 30}),
        ("drm-resident-system0:\t0\n", {"system0": 0}),
        ("drm-memory-vram:\t-1 KiB\ndrm-memory-gtt:\tmany\ndrm-memory-cpu:\t1 parsec\n", {}),
        ("drm-engine-gfx:\t123 ns\namd-memory-visible-vram:\t7 KiB\n", {}),
    ],
    ids=["old names", "all names", "bare number is bytes", "nothing but total", "zero is told", "junk", "other keys"],
)
def test_regions(text: str, expected: dict[str, int]) -> None:
    """Each kind of driver's keys and units are read; what is resident comes before what was asked for."""
    assert expected == regions(text)


def test_file_without_device_or_client() -> None:
    """A file that does not tell which device and client it is of cannot be counted."""
    memory = b"drm-memory-vram: 1 KiB\n"

    assert parse_fdinfo(memory) is None
    assert parse_fdinfo(b"drm-pdev: 0000:03:00.0\n" + memory) is None
    assert parse_fdinfo(HEAD.encode()) is None


def test_client_that_is_open_twice_counts_once() -> None:
    """Of one client's several readings the larger amounts count; another client counts beside it."""
    first, again = Client("p", "1", {"vram": 5, "gtt": 1}), Client("p", "1", {"vram": 7})
    other = Client("p", "2", {"vram": 1})

    assert [Client("p", "1", {"vram": 7, "gtt": 1}), other] == merge_clients([first, other, again])


@given(st.binary(max_size=200))
def test_junk_never_raises(junk: bytes) -> None:
    """Whatever a file holds, reading it ends."""
    parse_fdinfo(junk)
    parse_fdinfo(HEAD.encode() + b"drm-memory-vram:" + junk)
