"""The command of ``corral run``: started as ours, given the signals that are meant for it, and waited for.

It runs in our process group, so that what a terminal sends (Ctrl-C, Ctrl-Z) reaches it once and directly.
What another process sends to us is passed on; which of both it was, the kernel says with the signal. Of the terminal's
end the kernel tells its first process alone, which is us under ``ssh -t`` or ``xterm -e``: then that is passed on too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from corral.faces.cli import gate
from corral.faces.cli.exits import ExitError
from corral.machine import read_process
from corral.ops.measurement import Process
from corral.wire import CorralError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_FROM_KERNEL = 128
"""``si_code`` of a signal that the kernel sends by itself, as for a key of the terminal (SI_KERNEL, Linux)."""
_PASSED = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT", "SIGWINCH")
    if hasattr(signal, name)
}
_POLL_S = 0.02


def check_command(argv: Sequence[str], environ_path: str | None) -> str:
    """Where the command's program is; raises ExitError with 126 or 127 where it cannot be run."""
    search = (environ_path if environ_path is not None else os.defpath).split(os.pathsep)
    path, code = gate.find_program(argv[0], search)
    name = show_name(argv[0])
    if code == gate.NOT_FOUND:
        raise ExitError(f"There is no program {name}.", "Nothing was unloaded; check its name and PATH.", code)
    if code:
        raise ExitError(f"{name} is no program that may be run.", "Nothing was unloaded; check its permissions.", code)
    return path


class SignalsHeld:
    """``with SignalsHeld():`` signals wait, for this thread and those that it starts, instead of ending the run."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED | {signal.SIGCHLD})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class Child:
    """A command that is there and waits for its word: nothing of it has run. To be used while signals are held."""

    def __init__(self, path: str, argv: Sequence[str]) -> None:
        """Raises CorralError where no process can be started."""
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # As whoever started us left it; but then the system does not tell how a child has ended.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        word, self._word = os.pipe()
        words = [sys.executable, "-I", "-S", gate.__file__, str(word), path, *argv]
        try:
            self._running = subprocess.Popen(words, pass_fds=(word,))
        except (OSError, ValueError) as error:
            os.close(self._word)
            said = getattr(error, "strerror", None) or str(error)
            raise CorralError(f"The command cannot be started: {said}.", "Check the limits of this user.") from None
        finally:
            os.close(word)
        self.process = read_process(self._running.pid) or Process(self._running.pid, 0)

    def start(self) -> None:
        """Let the command run."""
        with suppress(BrokenPipeError):
            # Killed before it was told: that is how it ended, then.
            os.write(self._word, b"\n")
        os.close(self._word)

    def cancel(self) -> None:
        """End the process; nothing of the command will have run."""
        os.close(self._word)
        self._running.wait()

    def wait(self, meanwhile: Callable[[], None], every_s: float = 0.2) -> int:
        """Wait until the command has ended, passing signals on; returns its exit code, 128 and N for signal N.

        ``meanwhile`` is called about every ``every_s``.
        """
        due = time.monotonic() + every_s
        while self._running.poll() is None:
            self._take_signal(max(0.0, min(every_s, due - time.monotonic())))
            if time.monotonic() >= due:
                meanwhile()
                due = time.monotonic() + every_s
        code = self._running.returncode
        return code if code >= 0 else 128 - code

    def _take_signal(self, timeout_s: float) -> None:
        number, is_for_both = _receive(timeout_s)
        if number not in _PASSED or number is None:
            return
        if not is_for_both and self._running.poll() is None:
            os.kill(self._running.pid, number)
        if number == signal.SIGTSTP:
            _stop()


def _stop() -> None:
    """Stop as this signal does by itself: the shell sees that, and wakes both; without a shell nothing stops."""
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})


def _receive(timeout_s: float) -> tuple[int | None, bool]:
    """The next signal that waits, if one comes in time, and whether the command has had it as well."""
    if hasattr(signal, "sigtimedwait"):
        info = signal.sigtimedwait(_PASSED | {signal.SIGCHLD}, timeout_s)
        return (None, False) if info is None else (info.si_signo, _is_for_both(info))
    # Systems that do not say who sent it: what a terminal's key can send is taken to be that.
    waiting = signal.sigpending() & _PASSED
    if not waiting:
        time.sleep(min(timeout_s, _POLL_S))
        return None, False
    number = signal.sigwait(waiting)
    return number, number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP) and sys.stdin.isatty()


def _is_for_both(info: signal.struct_siginfo) -> bool:
    """Whether the kernel sent it to the group of the terminal, and not to the leader of its session alone."""
    is_alone = info.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
    return info.si_code == _FROM_KERNEL and not is_alone
