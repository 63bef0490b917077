"""What the proxy asks before it forwards anything, and the gate that lets everything through."""

from __future__ import annotations

from typing import Protocol

from corral.gateway.visits import Visit
from corral.wire import Record


class Pass(Record):
    """The request may go on."""

    autoload: bool | None = None
    """None: the client's query stays as it is. False: whatever it says, the router is told ``autoload=false``."""


class Refusal(Record):
    """The request is answered here."""

    status: int
    message: str
    code: str
    """A word for programs, as ``model_held``."""
    retry_after_s: float | None = None
    should_retry: bool = True
    """False where another try soon cannot help; OpenAI's clients then do not repeat it."""
    kind: str = "unavailable_error"
    """The ``type`` of the error, in llama-server's words."""


class Admission(Protocol):
    """Decides about each request; see ``corral.gateway.gate``."""

    def resolve(self, name: str) -> str | None:
        """The id of the model with this id or alias, by the last list; None when there is none."""
        ...

    async def admit(self, visit: Visit) -> Pass | Refusal:
        """Let it through, park it until it can be, or refuse it. Cancelled when the client leaves."""
        ...

    async def reconsider(self, visit: Visit) -> Pass | Refusal | None:
        """Decide anew about one that the router turned away unheard; None when its client is to be told that."""
        ...

    def leave(self, visit: Visit) -> None:
        """The request is over. Called once for each that was asked about, also after a cancellation."""
        ...

    def stop(self) -> None:
        """The gateway stops: answer who is parked, and let nobody in any more."""
        ...

    def list_holds(self) -> tuple[str, ...]:
        """The ids of the holds in force."""
        ...


class OpenGate:
    """Lets everything through: no drains, no holds, no aliases known."""

    def resolve(self, name: str) -> str | None:
        """The name itself."""
        return name

    async def admit(self, visit: Visit) -> Pass | Refusal:
        """Let it through."""
        return Pass()

    async def reconsider(self, visit: Visit) -> Pass | Refusal | None:
        """Its client is told."""
        return None

    def leave(self, visit: Visit) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nobody is parked."""

    def list_holds(self) -> tuple[str, ...]:
        """There are none."""
        return ()
