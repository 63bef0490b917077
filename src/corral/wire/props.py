"""What a llama-server says about itself, ``GET /props`` without a model: its role, build and settings.

Asked like this it touches no model. With ``?model=`` it would load an unloaded one, so that is never sent.

Source: llama.cpp ``tools/server/server-models.cpp`` (router) and ``server-context.cpp`` (one model), b11434;
routers before spring 2026 say their role and little else.
"""

from __future__ import annotations

from corral.wire.reading import as_int, as_str
from corral.wire.record import Record
from corral.wire.reply import Call, Reply, read_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_MODELS_MAX = 4
"""How many models a router keeps resident unless it is told otherwise (``--models-max``, in every build so far)."""
FREE_DOWNLOADS_BUILD = 11434
"""From this build on, at the latest, a download takes no place of a model; earlier ones may count it."""
_MAX_BUILD_DIGITS = 7


class Props(Record):
    """The server's own description."""

    role: str | None
    """``router``; None for a server with one model."""
    build_info: str | None
    """Such as ``b11434-51e0a2b``; builds from a source archive say ``b0-unknown``."""
    build: int | None
    """The number in ``build_info``; None when it has none or 0."""
    autoload: bool | None
    """Whether a request loads the model that it names; None when not told."""
    models_max: int | None
    """How many models may be resident; 0 or less is no limit, None when not told."""
    model_path: str | None
    raw: dict[str, Any]

    @property
    def is_router(self) -> bool:
        """Whether the server calls itself a router."""
        return self.role == "router"


def ask_props() -> Call:
    """Ask the server about itself; returns Props. Loads and wakes nothing, and needs the key where there is one."""
    return Call("GET", "/props", read_props)


def ask_models_max() -> Call:
    """Ask a router how many models it keeps resident; returns ``Props.models_max``."""
    return Call("GET", "/props", lambda reply: read_props(reply).models_max)


def ask_build() -> Call:
    """Ask the server for its build; returns ``Props.build``."""
    return Call("GET", "/props", lambda reply: read_props(reply).build)


def read_props(reply: Reply) -> Props:
    """Read the answer to ``GET /props``; raises what ``read_document`` raises."""
    document = read_document(reply)
    build_info = as_str(document, "build_info")
    autoload = document.get("models_autoload")
    # The first routers sent a constant 4 as their maximum, and no build_info.
    models_max = as_int(document, "max_instances") if build_info is not None else None
    return Props(
        as_str(document, "role"),
        build_info,
        _read_build(build_info),
        autoload if isinstance(autoload, bool) else None,
        models_max,
        as_str(document, "model_path"),
        document,
    )


def _read_build(build_info: str | None) -> int | None:
    """``b<number>-<commit>``; distributions write other words after the dash."""
    text = (build_info or "").partition("-")[0]
    digits = text[1:]
    if text[:1] != "b" or not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_BUILD_DIGITS:
        return None
    return int(digits) or None
