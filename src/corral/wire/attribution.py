"""Which model a request is for: one table of llama-server's routes, and how each names its model.

The router matches a path after decoding it, so ``/models%2Funload`` is ``/models/unload`` to it, and answers HEAD as
GET. Of a repeated query key the last one counts. What is not in the table names no model: the web page and its
files, ``/tools``, ``/cors-proxy``, and routes of builds to come.

Source: llama.cpp ``tools/server/server.cpp`` (the routes), ``server-models.cpp`` (``proxy_get``, ``proxy_post``,
``router_stream_*``) and ``vendor/cpp-httplib/httplib.cpp`` (the decoding) of b11434; older builds have fewer routes.
"""

from __future__ import annotations

from corral.wire.record import Record

BODY, QUERY, CONVERSATION, NOWHERE = "body", "query", "conversation", "nowhere"
"""Where a route names its model: in the request's body (JSON or a multipart field), in its query, by a conversation
that an earlier request began, or not at all."""

WORK, STREAM, LOOK, LIST, CHANGE, OTHER = "work", "stream", "look", "list", "change", "other"
"""What a request is: an answer to be computed, more of an answer that is under way, a look at a model, a look at the
router, a change of what is resident, or anything else."""


class Route(Record):
    """One route of the router."""

    path: str
    """As in the table, with ``*`` for the one part that varies; ``*`` alone for what is not in it."""
    where: str
    kind: str

    @property
    def counts(self) -> bool:
        """Whether a request of this kind is in flight at its model, so that it must not be cut, and is its use."""
        return self.kind in (WORK, STREAM)


_ANSWERS = (
    *("/completion", "/completions", "/v1/completions", "/infill"),
    *("/chat/completions", "/v1/chat/completions", "/responses", "/v1/responses", "/v1/messages"),
    *("/embedding", "/embeddings", "/v1/embeddings"),
    *("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
    *("/audio/transcriptions", "/v1/audio/transcriptions", "/v1/systemone"),
    *("/tokenize", "/detokenize", "/apply-template"),
    *("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
    *("/responses/input_tokens", "/v1/responses/input_tokens", "/v1/messages/count_tokens"),
)
_ROUTES = {
    **{("POST", path): Route(path, BODY, WORK) for path in _ANSWERS},
    # A model's settings, its adapters, and its saved slots: short, but a child that ends would cut them.
    ("POST", "/props"): Route("/props", BODY, WORK),
    ("POST", "/lora-adapters"): Route("/lora-adapters", BODY, WORK),
    ("POST", "/slots/*"): Route("/slots/*", BODY, WORK),
    # Tells an answer under way to end its thoughts.
    ("POST", "/v1/chat/completions/control"): Route("/v1/chat/completions/control", BODY, OTHER),
    ("GET", "/v1/stream"): Route("/v1/stream", CONVERSATION, STREAM),
    ("DELETE", "/v1/stream"): Route("/v1/stream", CONVERSATION, OTHER),
    ("POST", "/v1/streams/lookup"): Route("/v1/streams/lookup", CONVERSATION, OTHER),
    ("GET", "/props"): Route("/props", QUERY, LOOK),
    ("GET", "/slots"): Route("/slots", QUERY, LOOK),
    ("GET", "/metrics"): Route("/metrics", QUERY, LOOK),
    ("GET", "/lora-adapters"): Route("/lora-adapters", QUERY, LOOK),
    ("GET", "/health"): Route("/health", NOWHERE, LIST),
    ("GET", "/v1/health"): Route("/v1/health", NOWHERE, LIST),
    ("GET", "/models"): Route("/models", NOWHERE, LIST),
    ("GET", "/v1/models"): Route("/v1/models", NOWHERE, LIST),
    ("GET", "/models/sse"): Route("/models/sse", NOWHERE, LIST),
    ("POST", "/models"): Route("/models", BODY, CHANGE),
    ("DELETE", "/models"): Route("/models", QUERY, CHANGE),
    ("POST", "/models/load"): Route("/models/load", BODY, CHANGE),
    ("POST", "/models/unload"): Route("/models/unload", BODY, CHANGE),
    # Vertex AI's envelope (AIP_MODE=PREDICTION): one request for any number of models, which cannot be told apart.
    ("POST", "/predict"): Route("/predict", NOWHERE, WORK),
}
_OTHER = Route("*", NOWHERE, OTHER)
_NEW_CHANGE = Route("/models/*", NOWHERE, CHANGE)
_READING = ("GET", "HEAD", "OPTIONS")


def find_route(method: str, path: str) -> Route:
    """The route of a request; ``path`` is decoded, without query and without the router's prefix."""
    route = _ROUTES.get((method, path))
    if route is not None:
        return route
    if method == "HEAD":
        return find_route("GET", path)
    if method == "POST" and path.startswith("/slots/") and path.count("/") == 2 and path != "/slots/":
        return _ROUTES["POST", "/slots/*"]
    # What builds to come may let one do to models.
    is_change = method not in _READING and path.removeprefix("/v1").startswith("/models/")
    return _NEW_CHANGE if is_change else _OTHER


def list_routes() -> list[tuple[str, Route]]:
    """Every route of the table with its method."""
    return [(method, route) for (method, _), route in _ROUTES.items()]


def decode_path(raw: str) -> str:
    """A path as the router reads it before it looks for the route: ``%2F`` is a slash, ``%u002F`` too."""
    if "%" not in raw:
        return raw
    data = raw.encode("utf-8", "surrogateescape")
    out = bytearray()
    at = 0
    while at < len(data):
        step = 1
        if data[at] == 0x25:
            if data[at + 1 : at + 2] == b"u" and (point := _read_hex(data, at + 2, 4)) is not None:
                out += chr(point).encode("utf-8", "surrogatepass")
                step = 6
            elif (byte := _read_hex(data, at + 1, 2)) is not None:
                out.append(byte)
                step = 3
        if step == 1:
            out.append(data[at])
        at += step
    return out.decode("utf-8", "surrogateescape")


def read_query(raw: str) -> dict[str, str]:
    """The parameters as the router sees them: decoded, ``+`` a space, of a repeated one the last.

    A pair that stands there twice to the letter counts where it first stood: ``a=1&a=2&a=1`` has ``a`` for 2.
    """
    found: dict[str, str] = {}
    for part in dict.fromkeys(part.strip(" \t") for part in raw.split("&")):
        key, _, value = part.partition("=")
        if key:
            found[decode_query(key)] = decode_query(value)
    return found


def decode_query(text: str) -> str:
    """One key or value of a query as the router reads it."""
    if "%" not in text and "+" not in text:
        return text
    head, *parts = text.replace("+", " ").encode("utf-8", "surrogateescape").split(b"%")
    out = bytearray(head)
    for part in parts:
        byte = _read_hex(part, 0, 2)
        out += b"%" + part if byte is None else bytes((byte,)) + part[2:]
    return out.decode("utf-8", "surrogateescape")


def drop_parameters(raw: str, names: tuple[str, ...]) -> str:
    """The query without these parameters, however their names are spelled; the rest stays byte for byte."""
    kept = [part for part in raw.split("&") if decode_query(part.strip(" \t").partition("=")[0]) not in names]
    return "&".join(kept)


def _read_hex(data: bytes, at: int, digits: int) -> int | None:
    text = data[at : at + digits]
    return int(text, 16) if len(text) == digits and all(char in b"0123456789abcdefABCDEF" for char in text) else None
