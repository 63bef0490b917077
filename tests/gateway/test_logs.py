"""What the gateway's log looks like."""

from __future__ import annotations

import logging

from corral.gateway.logs import LineHandler


def test_no_traceback() -> None:
    """What went wrong inside is one line that says what, wherever it was logged."""
    lines: list[str] = []
    log = logging.Logger("of the test")
    log.addHandler(LineHandler(lines.append, shows_time=False))
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("Unhandled exception")

    assert lines == ["Unhandled exception: ValueError: odd"]
