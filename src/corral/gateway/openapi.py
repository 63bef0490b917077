"""The OpenAPI document of Corral's own API, built from the table of its endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from corral import __version__
from corral.gateway.asking import MAX_SECONDS

if TYPE_CHECKING:
    from corral.gateway.endpoints import Endpoint

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "number", "description": "seconds"}
SPAN: Schema = {"type": "number", "description": "seconds, at most a year", "minimum": 0, "maximum": MAX_SECONDS}
MODELS: Schema = {"type": "array", "items": {"type": "string"}}
NAMES: Schema = {"oneOf": [TEXT, MODELS], "description": "ids or aliases"}
FLAG: Schema = {"type": "boolean"}


def an_object(fields: Schema, *required: str) -> Schema:
    """An object with these fields."""
    schema: Schema = {"type": "object", "properties": fields}
    return schema | {"required": list(required)} if required else schema


def a_list(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def an_answer(**fields: Schema) -> Schema:
    """An answer: the fields that every one has, and these, all of them there."""
    own = {"schema_version": {"type": "integer"}, "url": TEXT | {"description": "the router's"}}
    return an_object(own | fields, *own, *fields)


ALL: Schema = {
    "models": NAMES,
    "all": FLAG | {"description": "instead of models: every one that is resident"},
    "tags": NAMES,
    "match": NAMES | {"description": "globs"},
    "except": NAMES,
    "include_pinned": FLAG,
}
_SIGNED: Schema = {"user": TEXT | {"description": "who asks, for the log"}, "host": TEXT}
"""In every body."""
HOLD: Schema = an_object(
    {
        "id": TEXT,
        "models": {"description": "null is all"},
        "excepted": MODELS,
        "user": TEXT,
        "host": TEXT,
        "reason": TEXT,
        "left_s": TIME,
        "ends": {"type": "number", "description": "seconds since 1970"},
    },
    *("id", "models", "user", "host", "reason", "left_s", "ends"),
)
_OUTCOME: Schema = an_object(
    {"id": TEXT, "outcome": TEXT, "ok": FLAG, "detail": TEXT, "held": FLAG, "hold": {}},
    *("id", "outcome", "ok", "detail", "held", "hold"),
)
REPORT: Schema = an_answer(ok=FLAG, seconds=TIME, freed_bytes={}, models=a_list(_OUTCOME), holds=a_list(HOLD))
_REQUEST: Schema = an_object({"client": TEXT, "user_agent": TEXT, "task": TEXT, "since_s": TIME}, "client", "since_s")
_MODEL: Schema = an_object(
    {
        "id": TEXT,
        "status": TEXT,
        "resident": FLAG,
        "in_flight": {"type": "integer"},
        "parked": {"type": "integer"},
        "idle_s": {"description": "null for one that is not up"},
        "pinned": FLAG,
        "held": FLAG,
        "hold": {},
        "draining": {},
        "requests": a_list(_REQUEST),
    },
    *("id", "status", "resident", "in_flight", "parked", "idle_s", "pinned", "held", "hold", "draining", "requests"),
)
_ROUTER: Schema = an_object({"reachable": FLAG, "error": {}, "models_max": {}, "build": {}}, "reachable", "error")
STATE: Schema = an_answer(
    router=_ROUTER, guarded=FLAG, parked={"type": "integer"}, models=a_list(_MODEL), holds=a_list(HOLD)
)
_ERROR: Schema = an_object(
    {
        "error": an_object(
            {"message": TEXT, "type": TEXT, "code": {"type": "integer"}, "reason": TEXT}, "message", "code"
        )
    },
    "error",
)


def build_document(endpoints: Iterable[Endpoint]) -> Schema:
    """The whole document."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _describe(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Corral gateway", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
        "paths": paths,
    }


def _describe(endpoint: Endpoint) -> Schema:
    kind = "text/event-stream" if endpoint.path.endswith("/events") else "application/json"
    operation: Schema = {
        "summary": endpoint.summary,
        "responses": {
            "200": {"description": "done", "content": {kind: {"schema": endpoint.gives}}},
            "default": {"description": "refused", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
    fields = endpoint.takes["properties"]
    if endpoint.method == "GET":
        operation["parameters"] = [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]
    else:
        # A field that is not here is refused: a misspelt one would do nothing in silence.
        schema = endpoint.takes | {"properties": fields | _SIGNED, "additionalProperties": False}
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"content": content, "required": "required" in schema}
    return operation
