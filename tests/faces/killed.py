"""Runs a command line and kills it, as SIGKILL does, at a step of its work: ``python -m tests.faces.killed N WORDS``.

The steps are the beginning and the end of each transaction on the ledger, and of each request that changes a model.
With N = -1 none is killed, and the number of steps is printed on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from corral.client.transport import Transport
from corral.faces.cli import main
from corral.ledger.store import Transaction

_ENTER, _EXIT, _SEND = (each.__code__ for each in (Transaction.__enter__, Transaction.__exit__, Transport.send))


class Steps:
    """Counts the steps, and kills at the one that was asked for."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = 0

    def watch(self, frame: FrameType, event: str, _argument: object) -> None:
        """What the interpreter calls at each beginning and end of a function."""
        code = frame.f_code
        is_step = (code, event) in ((_ENTER, "call"), (_EXIT, "return"))
        if is_step or (code is _SEND and event in ("call", "return") and frame.f_locals["call"].method == "POST"):
            self.step()

    def step(self) -> None:
        """One step further."""
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def run(last: int, words: list[str]) -> int:
    """Run the command line as far as that."""
    steps = Steps(last)
    threading.setprofile(steps.watch)
    sys.setprofile(steps.watch)
    code = main(words)
    sys.setprofile(None)
    print(f"steps: {steps.count}", file=sys.stderr)
    return code


if __name__ == "__main__":
    code = run(int(sys.argv[1]), sys.argv[2:])
    sys.stderr.flush()
    os._exit(code)
