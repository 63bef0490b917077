"""The router's list of models, read tolerantly.

Shapes differ between builds (see each reader). One odd entry never hides the others: what cannot be read
is None, and the untouched entry stays in ``raw``.

Source: llama.cpp ``tools/server/server-models.cpp``, compared from December 2025 to b11434.
"""

from __future__ import annotations

from corral.wire.errors import NotARouterError, RefusedError, UnreachableError
from corral.wire.reading import as_dict, as_int, as_str, as_strings
from corral.wire.record import Record
from corral.wire.reply import Call, Reply, excerpt, read_document, read_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOT_RESIDENT = frozenset({"unloaded", "downloading", "downloaded", "failed"})
"""Status values of a model without a child process.

Any value not listed here may hold memory: a new one, and ``unknown``, which stands for one that cannot be read.
"""

GONE = frozenset({"unloaded", "failed"})
"""Status values that say the child process has ended. ``failed`` as a value was seen in builds after b11434."""

_GATEWAY_HINT = "Start the router; the gateway finds it by itself."

DEFAULT_STOP_TIMEOUT_S = 10.0
"""How long the router waits for a child before it kills it, unless the preset says otherwise (since January 2026)."""

_NEVER_RUN_EXIT_CODE = 10
"""Builds around b9093 list this code, and ``failed``, for models that were never loaded (llama.cpp issue 23257)."""


class Model(Record):
    """One entry of the list."""

    id: str
    status: str
    """The router's own word, any case or novelty kept; ``unknown`` when the entry has none."""
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    port: int | None
    """The child's port; None before the first load or when not told. Each new child has a new one."""
    exit_code: int | None
    """How the last child ended, when the router calls that a failure; None otherwise.

    On POSIX 1 may also be the router's own SIGKILL (99 on Windows), so this is no proof of a crash.
    """
    stop_timeout_s: float
    raw: dict[str, Any]

    @property
    def is_resident(self) -> bool:
        """Whether the model has a child process: ``loading``, ``loaded``, ``sleeping``, or a status not yet known."""
        return self.status not in NOT_RESIDENT

    @property
    def is_gone(self) -> bool:
        """Whether the router says that no child process is left."""
        return self.status in GONE

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is this model's id or one of its aliases."""
        return name == self.id or name in self.aliases


class Listing(Record):
    """One look at the router: all its models, sorted as it sent them."""

    models: tuple[Model, ...]
    has_events: bool | None
    """Whether this build has ``/models/sse``, by the ``can_remove`` marker; None when the list is empty."""
    unreadable: int = 0
    """Entries that name no model, so that nothing can be said of them."""

    def find(self, model_id: str) -> Model | None:
        """The model with exactly this id; None when it is not listed."""
        return next((model for model in self.models if model.id == model_id), None)


def list_models() -> Call:
    """Read the list; returns a Listing. Loads, wakes and unloads nothing (``?reload`` is never sent)."""
    return Call("GET", "/models", read_listing)


def read_listing(reply: Reply) -> Listing:
    """Read the answer to ``GET /models``.

    Raises NotARouterError for a single-model server, one still loading, another program or HTML;
    AuthError and RefusedError for what the router refused; UnreachableError for the list that a gateway keeps for
    chat clients while its router does not answer, since that says nothing of now.
    """
    if reply.headers.get("corral-stale"):
        raise UnreachableError("The gateway answers, but the router behind it does not.", _GATEWAY_HINT)
    if reply.status != 200:
        raise _explain_refusal(reply)
    document = read_document(reply)
    entries = document.get("data")
    if not isinstance(entries, list):
        raise NotARouterError(
            f"The answer to /models is not a list of models: {excerpt(reply.body)}",
            "Check the URL and its path prefix: does it lead to llama-server?",
        )
    found = [entry for entry in entries if isinstance(entry, dict)]
    _require_router(document, found, reply)
    if entries and not any(map(_has_name, found)):
        raise NotARouterError(
            f"The list of models cannot be read: {excerpt(reply.body)}",
            "Check the URL: does it lead to llama-server? A newer build may need a newer Corral.",
        )
    models: dict[str, Model] = {}
    for model in map(read_model, found):
        # Of two entries with one id, the one that may hold memory counts.
        if model is not None and not (model.id in models and models[model.id].is_resident):
            models[model.id] = model
    unreadable = len(entries) - sum(_has_name(entry) for entry in found)
    has_events = any("can_remove" in entry for entry in found) if found else None
    return Listing(tuple(models.values()), has_events, unreadable)


def read_model(entry: dict[str, Any]) -> Model | None:
    """Read one entry; None when it has no identifier at all.

    ``status`` is an object in every llama.cpp build seen and a plain string in some forks; the identifier is
    under ``id``, else ``name``, else ``model``.
    """
    model_id = _read_name(entry)
    if not model_id:
        return None
    status = as_dict(entry, "status")
    value = as_str(status, "value") or as_str(entry, "status") or "unknown"
    port = _read_port(status.get("args"))
    return Model(
        model_id,
        value,
        as_strings(entry, "aliases"),
        as_strings(entry, "tags"),
        port,
        _read_exit_code(status, value, port),
        _read_stop_timeout(status),
        entry,
    )


def _read_name(entry: dict[str, Any]) -> str | None:
    return as_str(entry, "id") or as_str(entry, "name") or as_str(entry, "model")


def _has_name(entry: dict[str, Any]) -> bool:
    return bool(_read_name(entry))


def _require_router(document: dict[str, Any], entries: list[dict[str, Any]], reply: Reply) -> None:
    """A router's entries all have a status; only a single-model server sends ``models`` beside ``data``."""
    if entries and any("status" in entry for entry in entries):
        return
    if "models" in document:
        raise NotARouterError(
            "A llama-server with a single model answers there, not a router: it has nothing to load or unload.",
            "Start llama-server without -m/-hf (router mode), or stop that process to free its memory.",
            found="single",
        )
    if entries or not reply.says_llama_cpp():
        raise NotARouterError(
            "A server with an OpenAI-like model list answers there, but not llama-server in router mode.",
            "Check the URL: it should lead to the llama-server that was started without a model.",
        )


def _explain_refusal(reply: Reply) -> RefusedError | NotARouterError | UnreachableError:
    error = read_refusal(reply)
    if isinstance(error, NotARouterError) or reply.status == 401:
        return error
    if reply.headers.get("corral-gateway") and reply.status in (502, 503, 504, 508):
        said = error.message.removeprefix("The router refuses: ")
        hint = _GATEWAY_HINT if reply.status != 508 else "Start the gateway with the router's own address as --router."
        return UnreachableError(f"The gateway answers, but: {said}", hint)
    if not reply.says_llama_cpp():
        return NotARouterError(
            f"The server answers HTTP {reply.status} to /models, and not as llama-server does: {excerpt(reply.body)}",
            "Check host, port and path prefix; if a proxy stands in front, ask it for the router behind it.",
        )
    if reply.status == 404:
        return NotARouterError(
            "A llama-server answers there, but has no /models under this path.",
            "Was it started with --api-prefix? Then add that prefix to the URL, as in http://host:8080/prefix.",
        )
    if reply.status == 503:
        return NotARouterError(
            "A llama-server answers there and is still loading its model, so it is not a router.",
            "A router answers at once; check the port, or wait and run this again.",
            found="starting",
        )
    return error


def _read_port(args: object) -> int | None:
    if not isinstance(args, list):
        return None
    for index, arg in enumerate(args):
        if arg == "--port" and index + 1 < len(args):
            value = args[index + 1]
            text = str(value)
            return int(text) or None if text.isascii() and text.isdigit() and len(text) < 6 else None
    return None


def _read_exit_code(status: dict[str, Any], value: str, port: int | None) -> int | None:
    code = as_int(status, "exit_code")
    if value not in GONE or status.get("failed") is not True:
        return None
    if code == _NEVER_RUN_EXIT_CODE and port is None:
        return None
    return code


def _read_stop_timeout(status: dict[str, Any]) -> float:
    for line in (as_str(status, "preset") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "stop-timeout":
            text = value.strip()
            return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else DEFAULT_STOP_TIMEOUT_S
    return DEFAULT_STOP_TIMEOUT_S
