"""What llama-server says and accepts: requests as values, readers of replies, decoders, errors. No I/O.

Rule for whoever edits this room: a reader takes what is there, keeps the raw document, and raises only for
what a person must hear about.
"""

from corral.wire.activity import count_requests, read_metrics, read_slots
from corral.wire.errors import (
    AuthError,
    BadArgumentError,
    BrokenCallError,
    CorralError,
    NotARouterError,
    RefusedError,
    UnknownModelError,
    UnreachableError,
)
from corral.wire.events import EVERY_MODEL, Event, follow_events, read_event
from corral.wire.models import (
    DEFAULT_STOP_TIMEOUT_S,
    GONE,
    NOT_RESIDENT,
    Listing,
    Model,
    list_models,
    read_listing,
    read_model,
)
from corral.wire.record import Record
from corral.wire.reply import Call, Reply, excerpt, read_document, read_refusal
from corral.wire.sse import MAX_EVENT_BYTES, ServerSentEvent, SseDecoder
from corral.wire.text import escape_controls, quote_name, shorten, show_name
from corral.wire.verbs import (
    load_model,
    read_success,
    says_already_running,
    says_not_found,
    says_not_running,
    unload_model,
)

__all__ = [
    "DEFAULT_STOP_TIMEOUT_S",
    "EVERY_MODEL",
    "GONE",
    "MAX_EVENT_BYTES",
    "NOT_RESIDENT",
    "AuthError",
    "BadArgumentError",
    "BrokenCallError",
    "Call",
    "CorralError",
    "Event",
    "Listing",
    "Model",
    "NotARouterError",
    "Record",
    "RefusedError",
    "Reply",
    "ServerSentEvent",
    "SseDecoder",
    "UnknownModelError",
    "UnreachableError",
    "count_requests",
    "escape_controls",
    "excerpt",
    "follow_events",
    "list_models",
    "load_model",
    "quote_name",
    "read_document",
    "read_event",
    "read_listing",
    "read_metrics",
    "read_model",
    "read_refusal",
    "read_slots",
    "read_success",
    "says_already_running",
    "says_not_found",
    "says_not_running",
    "shorten",
    "show_name",
    "unload_model",
]
