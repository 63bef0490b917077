"""Where Corral runs, as facts for the diagnosis: who named the address and the key, clock, state directory, files."""

from __future__ import annotations

import os
import platform

from corral import __version__
from corral.client import identify
from corral.client.settings import find_proxy
from corral.config import find_config_file
from corral.ops.diagnosis import Folder, Kept, KeptFile, Surroundings
from corral.wire import CorralError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Collection, Mapping

    from corral.client import Target
    from corral.config import Config
    from corral.ops.measurement import Process

    FindLiving = Callable[[list[Process]], Collection[Process]]

_TIMESYNC = "run/systemd/timesync"


def look_around(
    args: Namespace,
    config: Config,
    environ: Mapping[str, str],
    *,
    now: float,
    jumped_s: float,
    target: Target,
    find_living: FindLiving,
    root: str = "/",
) -> Surroundings:
    """Read what surrounds this run; nothing is written or made.

    ``find_living`` tells which of some processes still run.
    """
    kept, state = look_at_promises(look_at_state(environ, root), target, find_living)
    return Surroundings(
        corral=__version__,
        python=platform.python_version(),
        url_from=find_url_origin(args.url, config, environ),
        key_from=find_key_origin(args.api_key_file, config, environ),
        now=now,
        is_clock_synchronised=_read_synchronised(root),
        clock_jumped_s=jumped_s,
        state=state,
        kept=kept,
        key_files=tuple(_find_key_files(args.api_key_file, environ)),
        proxy=find_proxy(target),
    )


def find_url_origin(flag: str | None, config: Config, environ: Mapping[str, str]) -> str:
    """What named the router's address."""
    if flag:
        return "--url"
    for name in ("CORRAL_URL", "LLAMA_SERVER_URL"):
        if environ.get(name):
            return name
    return "the configuration" if config.url else "the default"


def find_key_origin(flag: str | None, config: Config, environ: Mapping[str, str]) -> str | None:
    """What named the API key; None when there is none."""
    if config.api_key is None:
        return None
    if flag:
        return "--api-key-file"
    for name in ("CORRAL_API_KEY", "LLAMA_API_KEY"):
        if environ.get(name):
            return name
    return "the configuration"


def look_at_state(
    environ: Mapping[str, str], root: str = "/", *, read_free: Callable[[str], int | None] | None = None
) -> Folder:
    """Whether the state directory can be written, or made where it is missing, and is fit to hold the ledger."""
    from corral.ledger import find_folder
    from corral.ledger.place import is_network, read_mounts

    try:
        path = find_folder(environ)
    except CorralError:
        return Folder(None)
    mode = _read_mode(path)
    nearest = os.path.abspath(path)
    while not os.path.lexists(nearest) and nearest != os.path.dirname(nearest):
        nearest = os.path.dirname(nearest)
    is_writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK)
    is_full = (read_free or _read_free)(nearest) == 0
    return Folder(
        path,
        mode is not None,
        is_writable,
        mode,
        is_network(os.path.realpath(nearest), read_mounts(root)),
        f"The disk of {escape_controls(path)} is full: pins, holds, sets and the log are not kept." if is_full else "",
        "Make room there, or set CORRAL_STATE_DIR to another place." if is_full else "",
    )


def look_at_promises(folder: Folder, target: Target, find_living: FindLiving) -> tuple[Kept | None, Folder]:
    """What the ledger promises about a router, and the folder with what is wrong with the ledger, if anything is."""
    from corral.ledger import has_ledger, read_moment, read_promises
    from corral.ops.promises import LEFT_BEHIND, is_enforced, judge_lease

    if folder.path is None or not has_ledger(folder.path):
        return None, folder
    now = read_moment()
    try:
        promises = read_promises(folder.path, now).select(identify(target.label))
    except CorralError as error:
        state = (folder.path, folder.exists, folder.is_writable, folder.mode, folder.is_network)
        return None, Folder(*state, error.message, error.hint)
    actors = [hold.enforcer for hold in promises.holds if hold.enforcer is not None]
    actors += [lease.corral for lease in promises.leases]
    actors += [lease.command for lease in promises.leases if lease.command is not None]
    living = find_living([actor.process for actor in actors])
    unenforced = tuple(hold.id for hold in promises.holds if is_enforced(hold, now, living) is False)
    left = tuple(lease.id for lease in promises.leases if judge_lease(lease, now, living) == LEFT_BEHIND)
    return Kept(len(promises.holds), unenforced, left), folder


def _find_key_files(flag: str | None, environ: Mapping[str, str]) -> list[KeptFile]:
    """The files that this run takes its key from, or would."""
    named = [("key file", flag)] if flag else []
    config = find_config_file(environ)
    if config is not None:
        values = _read_toml(config)
        if values.get("api_key"):
            named.append(("configuration", config))
        if values.get("api_key_file"):
            beside = os.path.dirname(os.path.abspath(config))
            named.append(("key file", os.path.join(beside, os.path.expanduser(str(values["api_key_file"])))))
    # Elsewhere than on POSIX the permission bits say nothing.
    modes = [(path, what, _read_mode(path)) for what, path in named if os.name == "posix"]
    return [KeptFile(path, what, mode) for path, what, mode in modes if mode is not None]


def _read_toml(path: str) -> dict[str, object]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return {}


def _read_free(path: str) -> int | None:
    """Bytes that this user may still write there; None where the system does not tell."""
    try:
        space = os.statvfs(path)
    except (AttributeError, OSError):
        return None
    return space.f_bavail * space.f_frsize if space.f_blocks else None


def _read_mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode & 0o777
    except (OSError, ValueError):
        return None


def _read_synchronised(root: str) -> bool | None:
    """What systemd-timesyncd left behind; None where another service, or none, keeps the time."""
    folder = os.path.join(root, _TIMESYNC)
    return os.path.exists(os.path.join(folder, "synchronized")) if os.path.isdir(folder) else None
