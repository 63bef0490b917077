"""What was seen of a router, its machine and Corral's own surroundings: the facts that a diagnosis is made from.

What was not looked at, or could not be seen, is None; a check that needs it then says so or stays silent.
"""

from __future__ import annotations

from corral.ops.measurement import Measurement, Orphan, Peer
from corral.wire import CorralError, Listing, Record
from corral.wire.probes import PageAccess
from corral.wire.props import Props

NOTHING = "nothing"
"""No answer came."""
ROUTER = "router"
LOCKED = "locked"
"""A server that wants a key, and has not been given the right one."""
SINGLE = "single"
"""A llama-server with one model."""
STARTING = "starting"
"""A llama-server that loads its one model."""
MISPLACED = "misplaced"
"""A llama-server that has no list under this path."""
FAILING = "failing"
"""A llama-server that answers its list with an error."""
FOREIGN = "foreign"
"""Something else."""


class Elsewhere(Record):
    """What answers at another address of the same host."""

    url: str
    found: str
    """One of the words above."""


class Answer(Record):
    """What the address answered."""

    found: str
    error: CorralError | None = None
    """Why a command would fail there; None when it would not."""
    server: str | None = None
    """Its ``Server`` header."""
    seconds: float | None = None
    """How long the first answer took, connecting included."""
    key_needed: bool | None = None
    key_accepted: bool | None = None
    """None when no key was sent."""
    is_list_public: bool | None = None
    """Whether the list was given without a key; None when it was not asked for, or not answered."""
    listing: Listing | None = None
    props: Props | None = None
    as_page: PageAccess | None = None
    """How the list is answered to a foreign web page."""
    preflight: PageAccess | None = None
    """How the browser's question before a page's unload is answered."""
    clock_ahead_s: float | None = None
    """How far the server's clock is ahead of ours; the server tells whole seconds."""
    tried: tuple[str, ...] = ()
    """Other addresses of the host that were asked for a router, because none was here."""
    elsewhere: tuple[Elsewhere, ...] = ()
    """Those of them that answered as llama-server."""
    gateway: str | None = None
    """The version of the Corral gateway that answers in the router's place; None where none does."""


class Host(Record):
    """What the router's own machine says, seen from there."""

    measurement: Measurement
    addresses: tuple[str, ...] | None = None
    """Where the router listens, without the port; None when that could not be seen."""
    peers: tuple[Peer, ...] | None = None
    waiting_s: tuple[float, ...] | None = None
    """For each request that the router took and has neither answered nor passed on, how long it has waited."""
    loading_s: dict[str, float] | None = None
    """For each model that is loading, the age of its child."""
    orphans: tuple[Orphan, ...] | None = None
    shows_key: bool | None = None
    """Whether the router's API key stands on its command line, where every user can read it."""


class KeptFile(Record):
    """A file that holds or may hold a key."""

    path: str
    what: str
    """Such as ``key file``."""
    mode: int
    """Its permission bits."""


class Folder(Record):
    """Corral's state directory."""

    path: str | None
    """None when neither the environment nor a home names one."""
    exists: bool = False
    is_writable: bool = False
    """Whether it can be written, or made when it is not there yet."""
    mode: int | None = None
    is_network: bool = False
    """Whether it lies on a file system that other machines write too."""
    problem: str = ""
    """Why what is in it cannot be read; empty when it can, or is not there."""
    cure: str = ""


class Kept(Record):
    """What Corral has promised about this router and remembers in its ledger."""

    holds: int = 0
    """How many are in force."""
    unenforced: tuple[str, ...] = ()
    """The ids of those that nobody sees to."""
    left_behind: tuple[str, ...] = ()
    """The ids of runs that ended without putting back what they owe."""


class Surroundings(Record):
    """Where Corral runs."""

    corral: str
    python: str
    url_from: str
    """What named the router's address: a flag, a variable, the configuration or ``default``."""
    key_from: str | None
    """What named the API key; None when there is none."""
    now: float
    """Seconds since 1970 by our clock."""
    is_clock_synchronised: bool | None = None
    """What the system's time service says; None when it does not say."""
    clock_jumped_s: float = 0.0
    """How much more the clock has moved than time has passed, while we looked."""
    state: Folder | None = None
    kept: Kept | None = None
    """None when nothing could be read."""
    key_files: tuple[KeptFile, ...] = ()
    proxy: str | None = None
    """The environment's proxy that requests to the router go through."""


class Facts(Record):
    """Everything that one diagnosis knows."""

    url: str
    """The router's address, safe to print."""
    is_loopback: bool
    """Whether the address is this machine's own by its form."""
    is_plain: bool
    """Whether requests travel unencrypted over TCP."""
    answer: Answer
    here: Surroundings
    host: Host | None = None
    """None when the machine was not looked at."""
