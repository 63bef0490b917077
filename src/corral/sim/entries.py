"""What the router prints about its models and itself: the JSON of ``/models`` and ``/props`` by era."""

from __future__ import annotations

import time

from corral.sim.config import SimConfig
from corral.sim.models import SimModel, build_meta

Json = dict[str, object]


def build_listing(models: list[SimModel], config: SimConfig) -> Json:
    """The body of ``GET /models`` in router mode."""
    created = int(time.time())
    return {"data": [_build_entry(model, config, created) for model in models], "object": "list"}


def build_single_listing(model_id: str) -> Json:
    """The body of ``GET /models`` of a server with one model: an Ollama-like list beside the usual one."""
    details = {"parent_model": "", "format": "gguf", "family": "", "families": [""]}
    ollama: Json = {"name": model_id, "model": model_id, "type": "model", "tags": [""], "capabilities": ["completion"]}
    entry: Json = {
        "id": model_id,
        "aliases": [model_id],
        "tags": [],
        "object": "model",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "created": int(time.time()),
        "owned_by": "llamacpp",
        "meta": build_meta(),
    }
    return {"models": [{**ollama, "details": details}], "object": "list", "data": [entry]}


def build_router_props(config: SimConfig) -> Json:
    """The router's own ``/props``."""
    era = config.features
    props: Json = {"role": "router", "max_instances": config.models_max if era.has_full_props else 4}
    if era.has_full_props:
        props["models_autoload"] = config.autoload
    props |= {"model_alias": "llama-server", "model_path": "none"}
    props["default_generation_settings"] = {"params": None, "n_ctx": 0}
    if era.has_full_props:
        props["build_info"] = era.build_info
    return props


def build_child_props(model_id: str, config: SimConfig, slots: int, is_sleeping: bool) -> Json:
    """``/props`` of one model: a single-model server, or a child behind the router."""
    return {
        "default_generation_settings": {"params": {}, "n_ctx": 256},
        "total_slots": slots,
        "model_alias": model_id,
        "model_path": "models/tiny.gguf",
        "modalities": {"vision": False, "audio": False},
        "endpoint_slots": config.slots,
        "endpoint_props": False,
        "endpoint_metrics": config.metrics,
        "build_info": config.features.build_info,
        "is_sleeping": is_sleeping,
    }


def _build_entry(model: SimModel, config: SimConfig, created: int) -> Json:
    era, spec = config.features, model.spec
    entry: Json = {"id": spec.id}
    if era.has_aliases:
        entry |= {"aliases": list(spec.aliases), "tags": list(spec.tags)}
    if era.has_cache_path:
        entry |= {"in_cache": spec.source == "cache", "path": "models/tiny.gguf"}
    status = _build_status(model, config)
    entry |= {"object": "model", "owned_by": "llamacpp", "created": created}
    entry["status"] = status["value"] if config.string_status else status
    if era.has_architecture:
        entry["architecture"] = {"input_modalities": ["text"], "output_modalities": ["text"]}
    if era.has_events:
        entry |= {"source": spec.source, "can_remove": spec.source == "cache"}
    if era.has_meta and model.value in ("loaded", "sleeping"):
        entry["meta"] = build_meta()
    return {**entry, **spec.extra}


def _build_status(model: SimModel, config: SimConfig) -> Json:
    value = model.value
    if value == "sleeping" and not config.features.shows_sleeping:
        value = "loaded"
    status: Json = {"value": value, "args": _build_args(model, config)}
    if model.spec.source == "preset":
        status["preset"] = _build_preset(model)
    if model.has_failed:
        status |= {"exit_code": model.exit_code, "failed": True}
    return status


def _build_args(model: SimModel, config: SimConfig) -> list[str]:
    args = ["llama-server", "--host", "127.0.0.1", "--port", str(model.port)]
    if config.metrics or model.spec.metrics:
        args.append("--metrics")
    if model.sleep_idle_s is not None:
        args += ["--sleep-idle-seconds", f"{model.sleep_idle_s:g}"]
    if model.spec.tags:
        args += ["--tags", ",".join(model.spec.tags)]
    return [*args, "--alias", model.spec.id, "--ctx-size", "512", "--model", "models/tiny.gguf", "--parallel", "2"]


def _build_preset(model: SimModel) -> str:
    lines = [f"[{model.spec.id}]", "ctx-size = 512", "model = models/tiny.gguf", "parallel = 2"]
    if model.spec.stop_timeout_s is not None:
        lines.append(f"stop-timeout = {model.spec.stop_timeout_s:g}")
    return "\n".join(lines) + "\n\n"
