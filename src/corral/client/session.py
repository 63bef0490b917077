"""Who is told the key, and when: the rule that both drivers follow.

The key goes only to what has answered as llama.cpp. So the first call of a session goes out without it: where
the server refuses that call as llama-server does (401), the key follows; where the server answers with its list
(builds before August 2026 did so without a key), the key goes out with the next call.
"""

from __future__ import annotations

from corral.wire import AuthError, Reply


class KeyGuard:
    """Decides call by call whether the key goes along."""

    __slots__ = ("_elsewhere", "_key", "_trusted")

    def __init__(self, key: str | None, elsewhere: str | None = None) -> None:
        self._key = key
        self._elsewhere = elsewhere
        self._trusted = False

    @property
    def needs_proof(self) -> bool:
        """Whether there is a key, and the server has not yet shown that it is llama.cpp."""
        return self._key is not None and not self._trusted

    @property
    def is_proven(self) -> bool:
        """Whether the server has shown that it is llama.cpp."""
        return self._trusted

    @property
    def key(self) -> str | None:
        """The key to send now; None before the server has shown what it is."""
        return self._key if self._trusted else None

    def learn(self, reply: Reply) -> None:
        """Look at a reply for llama-server's mark."""
        if reply.says_llama_cpp() or _has_model_status(reply):
            self._trusted = True

    def explain(self, error: AuthError) -> AuthError:
        """Say of a 401 whether the key was missing, belongs elsewhere or is wrong; a gateway's own says enough."""
        if error.kind in ("token_needed", "router_key"):
            return error
        hint = error.hint
        if self._key is None and self._elsewhere is not None:
            message = (
                "The router wants an API key, and none was given: "
                f"the key of the configuration belongs to {self._elsewhere}, and was not sent here."
            )
        elif self._key is None:
            message = "The router wants an API key, and none was given."
        elif self._trusted:
            message = "The router does not accept this API key."
        else:
            message = (
                "The server wants a key, but does not answer as llama-server does; the API key was not sent to it."
            )
            hint = "Check the URL; where a proxy stands in front and asks for a login, give the address behind it."
        return AuthError(message, hint, status=error.status, code=error.code, kind=error.kind)


def _has_model_status(reply: Reply) -> bool:
    """A router's list behind a proxy that replaced the Server header."""
    return reply.status == 200 and b'"status"' in reply.body and b'"object"' in reply.body and b'"data"' in reply.body
