"""What this router can do, how it is set, and whether its models are well."""

from __future__ import annotations

from os.path import basename

from corral.ops.diagnosis.facts import Facts
from corral.ops.diagnosis.finding import Finding, name_some, ok, tell_count, tell_duration, warn
from corral.wire import Model, show_name
from corral.wire.reading import as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

QUEUE_BUILD = 10313
"""From here on busy models are never evicted, and requests queue (llama.cpp pull request 26572)."""
CALM_METRICS_BUILD = 10519
"""From here on ``/metrics`` of a sleeping model answers from a cache and leaves it asleep (27376)."""
LONG_LOAD_S = 120.0
LONG_WAIT_S = 5.0
"""Besides the longest stop-timeout of a resident model: a request for a model that stops waits for its end."""
_FAULTY = (
    (9010, 9659, "unloads a model without its stop-timeout, so that every answer in flight is cut (issue 23257)"),
    (10867, 11113, "may evict a model before the request that it was loaded for (issue 28698)"),
)
"""First and last build known for it, and what they do."""
_SOURCE_FLAGS = frozenset({"-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-dr", "--docker-repo"})


def check_build(facts: Facts) -> Iterator[Finding]:
    """What this build offers, by the marks in its answers, and what is known to be wrong with it."""
    listing, props = facts.answer.listing, facts.answer.props
    if listing is None:
        return
    entries = [model.raw for model in listing.models]
    marks = {
        "event stream": listing.has_events,
        "aliases": any("aliases" in entry for entry in entries) if entries else None,
        "settings in /props": None if props is None else props.build_info is not None,
    }
    build = props.build if props is not None else None
    number = f"Build {build}" if build is not None else "A build that does not tell its number"
    has = [name for name, there in marks.items() if there]
    lacks = [name for name, there in marks.items() if there is False]
    seen = f"{number}; has {', '.join(has) or 'none of the later features'}"
    seen += f"; lacks {', '.join(lacks)}." if lacks else "."
    faults = _find_faults(build)
    if faults:
        yield warn("build", f"{seen} It {'; it '.join(faults)}.", "Update llama-server.")
    elif listing.has_events is False:
        yield ok("build", f"{seen} Corral looks at the list instead, up to twice a second.")
    else:
        yield ok("build", seen)


def check_models(facts: Facts) -> Iterator[Finding]:
    """How many models there are, what they are called, and which of them cannot work."""
    listing = facts.answer.listing
    if listing is None:
        return
    if not listing.models:
        yield warn("models", "The router lists no models.", "Check its --models-dir, --models-preset or cache.")
        return
    residents = sum(model.is_resident for model in listing.models)
    seen = f"{tell_count(len(listing.models), 'model')}, {residents} resident."
    yield ok("models", f"{seen} {_tell_names(listing.models)}")
    lost = [model.id for model in listing.models if _lacks_source(model)]
    if lost:
        seen = f"The preset of {name_some(lost)} names no model: once asked for, it stays 'loading' for ever."
        do = "Give the section a model, or remove it; 'corral unload --now NAME' ends such a load."
        yield warn("presets", seen, do)
    failed = [f"{model.id} (exit {model.exit_code})" for model in listing.models if model.exit_code is not None]
    if failed:
        seen = f"The last run of {name_some(failed)} failed, or the router killed it to unload it (exit 1 may be that)."
        yield warn("failures", seen, "The router's log says which; 'corral load NAME' tries again.")


def check_autoload(facts: Facts) -> Iterator[Finding]:
    """Whether requests load models, and what that does to an unload."""
    props = facts.answer.props
    if props is None or not props.is_router:
        return
    if props.autoload is None:
        yield ok("autoload", "This build does not say whether requests load models; unless told otherwise they do.")
    elif props.autoload:
        seen = "Autoload is on: the next request for an unloaded model loads it again."
        yield ok("autoload", seen, "To keep one away, stop its clients, or use --no-models-autoload or 'corral hold'.")
    else:
        yield ok("autoload", "Autoload is off: an unloaded model stays away until somebody loads it by name.")


def check_room(facts: Facts) -> Iterator[Finding]:
    """How many of the places for models are taken, and what happens when they all are."""
    listing, props = facts.answer.listing, facts.answer.props
    if listing is None or props is None or props.models_max is None:
        return
    hidden = 0 if facts.host is None else sum(child.is_hidden for child in facts.host.measurement.children)
    taken = sum(model.is_resident for model in listing.models) + hidden
    if props.models_max <= 0:
        yield ok("room", f"{tell_count(taken, 'model')} resident; --models-max sets no limit, so memory alone does.")
        return
    seen = f"{taken} of {props.models_max} places (--models-max) are taken."
    if taken < props.models_max:
        yield ok("room", seen)
    elif props.build is not None and props.build < QUEUE_BUILD:
        seen += " The next load evicts the model used longest ago, even a busy one, and cuts its answers."
        yield warn("room", seen, "Unload what is not needed, raise --models-max, or update llama-server.")
    else:
        seen += " The next load evicts the idle model used longest ago, or waits while all are busy."
        yield ok("room", seen, "Unload what is not needed, or raise --models-max if memory allows.")


def check_queue(facts: Facts) -> Iterator[Finding]:
    """Whether loads come to an end, and whether clients wait while nothing loads."""
    listing, host = facts.answer.listing, facts.host
    if listing is None:
        return
    loading = [model.id for model in listing.models if model.status == "loading"]
    ages = host.loading_s if host is not None and host.loading_s is not None else {}
    slow = [f"{name} ({tell_duration(ages[name])})" for name in loading if ages.get(name, 0.0) > LONG_LOAD_S]
    if slow:
        seen = f"{name_some(slow)} has been loading for long."
        do = "The router's log says how far it is; 'corral unload --now NAME' gives it up, if it never ends."
        yield warn("queue", seen, do)
    elif loading:
        yield ok("queue", f"{name_some(loading)} is loading.")
    elif host is None or host.waiting_s is None:
        seen = "Nothing is loading. Requests that wait in the router's queue are seen on its own machine only."
        do = "If clients hang meanwhile, 'corral load NAME' of the model that they ask for sets the queue going."
        yield ok("queue", seen, do)
    else:
        stops = [model.stop_timeout_s for model in listing.models if model.is_resident]
        patience_s = LONG_WAIT_S + max(stops, default=0.0)
        yield _judge_waiting(facts, [waited for waited in host.waiting_s if waited > patience_s])


def check_scrapers(facts: Facts) -> Iterator[Finding]:
    """Whether collecting metrics can load models or keep them from sleeping."""
    listing, props = facts.answer.listing, facts.answer.props
    if listing is None or not listing.models:
        return
    unseen = "Whether anything scrapes cannot be seen from here."
    metered = {model.id for model in listing.models if "--metrics" in _find_args(model)}
    sleepers = {model.id for model in listing.models if "--sleep-idle-seconds" in _find_args(model)}
    build = props.build if props is not None else None
    both = sorted(metered & sleepers)
    if both and (build is None or build < CALM_METRICS_BUILD):
        seen = f"Before build {CALM_METRICS_BUILD} a scrape of /metrics wakes a sleeping model, or keeps it awake"
        this = "this build does not tell its number" if build is None else f"this is build {build}"
        do = "If models never sleep, stop what scrapes, or update llama-server."
        yield warn("scrapers", f"{seen}, and {this} ({name_some(both)}). {unseen}", do)
    elif props is not None and props.autoload is False:
        yield ok("scrapers", f"With autoload off, no scrape loads a model. {unseen}")
    elif metered:
        seen = "A scrape of /metrics for an unloaded model loads it, unless autoload=false is given."
        do = "Have scrapers ask /models first, only for loaded models, and always with &autoload=false."
        yield ok("scrapers", f"{seen} {unseen}", do)
    else:
        seen = "/metrics is off. Asking /slots or /props for an unloaded model loads it, unless autoload=false is given"
        seen += ", and /slots wakes a sleeping one." if sleepers else "."
        yield ok("scrapers", f"{seen} {unseen}")


def _judge_waiting(facts: Facts, waits: Sequence[float]) -> Finding:
    """Requests that wait for long while nothing loads: for a place, or in a queue that is stuck."""
    if not waits:
        return ok("queue", "Nothing is loading, and no request waits for long.")
    seen = f"{tell_count(len(waits), 'request')} waited up to {tell_duration(max(waits))} for an answer while no model"
    if _is_busy_everywhere(facts):
        return ok("queue", f"{seen} loads: all places are busy.", "Unload a model, or raise --models-max.")
    do = "'corral load NAME' of the model that they ask for sets it going; it ends as well when they give up."
    return warn("queue", f"{seen} loads: the router's queue looks stuck.", do)


def _is_busy_everywhere(facts: Facts) -> bool:
    """Whether no model can come up without an answer being over first; unknown counts as busy."""
    props, host = facts.answer.props, facts.host
    if props is None or props.models_max is None or props.models_max <= 0 or host is None:
        return False
    children = host.measurement.children
    return len(children) >= props.models_max and all(child.in_flight != 0 for child in children)


def _find_faults(build: int | None) -> list[str]:
    if build is None:
        return []
    faults = [what for first, last, what in _FAULTY if first <= build <= last]
    if build < QUEUE_BUILD:
        faults.append("evicts busy models for a newcomer when all places are taken")
    return faults


def _tell_names(models: Sequence[Model]) -> str:
    """Requests name models by id, and people look at file names."""
    pairs = [(model.id, basename(path)) for model in models if (path := _find_path(model))]
    others = [(name, file) for name, file in pairs if name not in (file, file.removesuffix(".gguf"))]
    if not others:
        return "Requests name them by these ids."
    name, file = others[0]
    example = f"{show_name(name, 40)} is the file {show_name(file, 60)}"
    count = "1 id is" if len(others) == 1 else f"{len(others)} ids are"
    return f"Requests name them by id, and {count} not the file's name: {example}."


def _find_path(model: Model) -> str | None:
    args = _find_args(model)
    for flag in ("--model", "-m"):
        if flag in args[:-1]:
            return args[args.index(flag) + 1]
    return None


def _lacks_source(model: Model) -> bool:
    """Whether its child would start without any model, as a router (llama.cpp issue 27351)."""
    args = _find_args(model)
    return bool(args) and not any(arg in _SOURCE_FLAGS or arg.endswith("-default") for arg in args)


def _find_args(model: Model) -> list[str]:
    args = as_dict(model.raw, "status").get("args")
    return [arg for arg in args if isinstance(arg, str)] if isinstance(args, list) else []
