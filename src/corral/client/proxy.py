"""The proxy that the environment names, and for whom it is used.

Never for this machine: a proxy elsewhere would reach itself under that name. User and password in the proxy's URL go
to the proxy as ``Proxy-Authorization``, and into no message.
"""

from __future__ import annotations

from corral.client.target import Target
from corral.wire import BadArgumentError, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib.parse import SplitResult


class Proxy(Record):
    """One proxy."""

    host: str
    port: int
    variable: str
    """The variable of the environment that names it."""
    login: tuple[str, str] | None = None
    """User and password; None when the URL holds none."""

    @property
    def label(self) -> str:
        """The address, safe to print."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def build_headers(self) -> dict[str, str]:
        """What the proxy is told besides the request."""
        if self.login is None:
            return {}
        from base64 import b64encode

        return {"Proxy-Authorization": f"Basic {b64encode(':'.join(self.login).encode()).decode()}"}

    def __repr__(self) -> str:
        """Neither user nor password shows."""
        return f"Proxy({self.label!r}, {self.variable!r})"


def read_proxy(target: Target, own_name: str | None = None) -> Proxy | None:
    """The proxy for this target; None for this machine and for hosts that ``NO_PROXY`` names.

    ``own_name`` is what this machine calls itself; None asks the system. Raises BadArgumentError, naming the variable,
    for a proxy that is no ``http://`` address.
    """
    if target.is_loopback:
        return None
    from os import environ

    name = f"{target.scheme}_proxy"
    names = (name, name.upper(), "all_proxy", "ALL_PROXY")
    if not any(environ.get(variable) for variable in names) or _is_own_name(target.host, own_name):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    named = proxies.get(target.scheme) or proxies.get("all")
    if not named or proxy_bypass(target.host):
        return None
    variable = next((variable for variable in names if environ.get(variable) == named), name)
    return _parse(named, variable, target)


def _parse(named: str, variable: str, target: Target) -> Proxy:
    from urllib.parse import unquote, urlsplit

    try:
        parts: SplitResult = urlsplit(named if "://" in named else f"http://{named}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "http":
        raise BadArgumentError(
            f"The proxy that {variable} names for {target.label} cannot be used.",
            f"Write it as http://host:port, or add {target.host} to NO_PROXY.",
        )
    login = None
    if parts.username is not None:
        login = (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(host, port if port is not None else 80, variable, login)


def _is_own_name(host: str, own_name: str | None) -> bool:
    """Whether this is what the machine calls itself, whole or without its domain; nothing is looked up."""
    if own_name is None:
        from socket import gethostname

        own_name = gethostname()
    own = own_name.lower().removesuffix(".")
    return bool(own) and host.lower().removesuffix(".") in (own, own.partition(".")[0])
