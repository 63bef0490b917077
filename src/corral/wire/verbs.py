"""The calls that change something: load and unload one model.

Both answer before the thing is done. ``{"success": true}`` to an unload means that the stop was queued; the
model's child may live for its whole stop-timeout. To a load it means that the child was started.

Source: llama.cpp ``tools/server/server-models.cpp`` b11434; texts compared back to December 2025.
"""

from __future__ import annotations

from corral.wire.errors import RefusedError
from corral.wire.reply import Call, Reply, encode_json, excerpt, find_step, read_document

_NOT_RUNNING = ("model is not running", "model is not loaded")
_ALREADY_RUNNING = ("model is already running", "model is already loaded")


def load_model(model_id: str) -> Call:
    """Ask for a load. At the router's maximum this first evicts another model and answers when that is gone."""
    return Call("POST", "/models/load", read_success, encode_json({"model": model_id}))


def unload_model(model_id: str) -> Call:
    """Ask for an unload. Blocks only for a model that is downloading."""
    return Call("POST", "/models/unload", read_success, encode_json({"model": model_id}))


def read_success(reply: Reply) -> None:
    """Read the answer to a load or unload; raises RefusedError unless it says success."""
    document = read_document(reply)
    if document.get("success") is not True:
        raise RefusedError(
            f"The router did not confirm: {excerpt(reply.body)}", find_step(reply.status), status=reply.status
        )


def says_not_running(error: RefusedError) -> bool:
    """Whether an unload was refused because the model has no child process (the list must confirm it)."""
    return any(text in error.message for text in _NOT_RUNNING)


def says_already_running(error: RefusedError) -> bool:
    """Whether a load was refused because the model is resident already."""
    return any(text in error.message for text in _ALREADY_RUNNING)


def says_not_found(error: RefusedError) -> bool:
    """Whether the router does not know the model.

    To an unload it answers 400 with these words; to a load 404, whose own text the server's error page replaces
    (``File Not Found``, measured on b11434).
    """
    return error.status == 404 or "model is not found" in error.message


def says_unheard(status: int, body: bytes) -> bool:
    """Whether the router turned a model's request away before any child got it: the model was not up just then.

    Source: ``router_validate_model`` and ``proxy_request`` in ``server-models.cpp``, and cpp-httplib's words for a
    child that does not listen yet.
    """
    if status == 400:
        return b'"model is not loaded"' in body or (b'"model name=' in body and b' is not running"' in body)
    return status == 500 and body == b"proxy error: Could not establish connection"
