"""Writes tiny GGUF models that llama-server loads and talks with, so that nothing must be downloaded.

The weights are random. What makes the output readable is the last layer: each word's row is the embedding of
another word, so that every word calls for the next in an order that the seed shuffles. All other rows are small,
so end-of-sequence all but never wins and a stream lasts exactly its ``max_tokens``. The same seed gives the same
bytes.

Source: the GGUF specification (ggml ``docs/gguf.md``), and what ``llama-model.cpp`` b11434 asks of a llama model.
"""

from __future__ import annotations

import struct
from array import array
from random import Random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

_ALIGNMENT = 32
_U32, _F32, _STRING, _ARRAY, _I32 = 4, 6, 8, 9, 5
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_WORDS = """
a and are as at barn big black brown but by calf came cattle corral cow day dog dust far farm fast fence field
for from gate gave good grass gray green had hay herd herds hill his home horse horses in into is it its keep
lane left light long low man many mare more moon near new night no of off old on one open out over pen people
plain pony post quiet rail ranch ran red ride rider rope round saddle saw she slow small some soon south star
still sun that the then there they three tied time to trail two under up very was water west when white wide
wind with wood work year you young
""".split()  # noqa: SIM905 - a hundred quoted words in a column would hide the code
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}assistant:"
)


def write_tiny_model(
    path: str | PathLike[str], *, seed: int = 1, layers: int = 2, width: int = 64, context: int = 2048
) -> None:
    """Write a model of ``layers`` blocks of ``width`` (a multiple of 64) to ``path``.

    The default is about half a megabyte. ``layers=8, width=512`` takes a few milliseconds a token on one core,
    which keeps a stream going long enough to be looked at.
    """
    tokens, kinds = _build_vocabulary()
    tensors = list(_describe_tensors(len(tokens), layers, width))
    metadata = _build_metadata(tokens, kinds, layers, width, context)
    infos, offset = [], 0
    for name, shape, _ in tensors:
        infos.append(_pack_tensor_info(name, shape, offset))
        offset += _pad(4 * _count(shape))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + b"".join(metadata) + b"".join(infos)
    random = Random(seed)
    rows = _draw_embeddings(random, kinds, width)
    special = {"token_embd.weight": rows, "output.weight": _shuffle_words(random, kinds, rows)}
    with open(path, "wb") as file:
        file.write(head.ljust(_pad(len(head)), b"\0"))
        for name, shape, scale in tensors:
            data = b"".join(special[name]) if name in special else _fill(random, _count(shape), scale)
            file.write(data.ljust(_pad(len(data)), b"\0"))


def _build_vocabulary() -> tuple[list[str], list[int]]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"\u2581{w}" for w in _WORDS)]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(_WORDS)]
    return tokens, kinds


def _build_metadata(tokens: list[str], kinds: list[int], layers: int, width: int, context: int) -> list[bytes]:
    return [
        _pack_text("general.architecture", "llama"),
        _pack_text("general.name", "corral tiny model"),
        _pack_int("llama.context_length", context),
        _pack_int("llama.embedding_length", width),
        _pack_int("llama.block_count", layers),
        _pack_int("llama.feed_forward_length", 2 * width),
        _pack_int("llama.rope.dimension_count", 16),
        _pack_int("llama.attention.head_count", width // 16),
        _pack_int("llama.attention.head_count_kv", width // 16),
        _pack_int("llama.vocab_size", len(tokens)),
        _pack_key("llama.attention.layer_norm_rms_epsilon", _F32) + struct.pack("<f", 1e-5),
        _pack_text("tokenizer.ggml.model", "llama"),
        _pack_list("tokenizer.ggml.tokens", _STRING, map(_pack_string, tokens), len(tokens)),
        _pack_list(
            "tokenizer.ggml.scores", _F32, (struct.pack("<f", -float(i)) for i in range(len(tokens))), len(tokens)
        ),
        _pack_list("tokenizer.ggml.token_type", _I32, (struct.pack("<i", kind) for kind in kinds), len(tokens)),
        _pack_int("tokenizer.ggml.bos_token_id", 1),
        _pack_int("tokenizer.ggml.eos_token_id", 2),
        _pack_int("tokenizer.ggml.unknown_token_id", 0),
        _pack_text("tokenizer.chat_template", _CHAT_TEMPLATE),
    ]


def _describe_tensors(vocabulary: int, layers: int, width: int) -> Iterable[tuple[str, tuple[int, ...], float]]:
    """Name, shape (fastest dimension first) and scale; a scale of 0 means a norm's ones."""
    yield "token_embd.weight", (width, vocabulary), 1.0
    yield "output_norm.weight", (width,), 0.0
    yield "output.weight", (width, vocabulary), 1.0
    weight = 0.6 / width**0.5
    for layer in range(layers):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", (width,), 0.0
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}{part}.weight", (width, width), weight
        yield f"{block}ffn_norm.weight", (width,), 0.0
        yield f"{block}ffn_gate.weight", (width, 2 * width), weight
        yield f"{block}ffn_up.weight", (width, 2 * width), weight
        yield f"{block}ffn_down.weight", (2 * width, width), weight


def _fill(random: Random, count: int, scale: float) -> bytes:
    if scale == 0.0:
        return array("f", [1.0] * count).tobytes()
    # A prime number of random values, repeated: drawing each weight would take seconds in pure Python.
    block = array("f", [random.gauss(0.0, scale) for _ in range(4099)]).tobytes()
    return (block * (4 * count // len(block) + 1))[: 4 * count]


def _draw_embeddings(random: Random, kinds: list[int], width: int) -> list[bytes]:
    """One row for each token: large for words, small for all others."""
    scales = [1.0 if kind == _NORMAL else 0.01 for kind in kinds]
    return [array("f", [random.gauss(0.0, scale) for _ in range(width)]).tobytes() for scale in scales]


def _shuffle_words(random: Random, kinds: list[int], rows: list[bytes]) -> list[bytes]:
    """The same rows, those of the words moved on by one in a random order: one word calls for the next."""
    order = [token for token, kind in enumerate(kinds) if kind == _NORMAL]
    random.shuffle(order)
    output = list(rows)
    for token, follower in zip(order, [*order[1:], order[0]], strict=True):
        output[follower] = rows[token]
    return output


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _pad(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _pack_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _pack_key(key: str, kind: int) -> bytes:
    return _pack_string(key) + struct.pack("<I", kind)


def _pack_text(key: str, text: str) -> bytes:
    return _pack_key(key, _STRING) + _pack_string(text)


def _pack_int(key: str, value: int) -> bytes:
    return _pack_key(key, _U32) + struct.pack("<I", value)


def _pack_list(key: str, kind: int, items: Iterable[bytes], count: int) -> bytes:
    return _pack_key(key, _ARRAY) + struct.pack("<IQ", kind, count) + b"".join(items)


def _pack_tensor_info(name: str, shape: tuple[int, ...], offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _pack_string(name) + sizes + struct.pack("<IQ", 0, offset)
