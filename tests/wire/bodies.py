"""Bodies, and the model that the real router reads in each; None where it refuses, or finds none."""

from __future__ import annotations

BODIES: list[tuple[bytes, str | None]] = [
    (b'{"model":"plain"}', "plain"),
    (b' \t\r\n{ "x" : [1, {"model": "other"}] , "model" : "plain" } \n', "plain"),
    (b'{"model":"other","model":"plain"}', "plain"),
    (b'{"model":"plain","model":7}', None),
    (b'{"mo\\u0064el":"plain"}', "plain"),
    (b'{"model":"other","\\u006dodel":"plain"}', "plain"),
    (b'{"model":"pl\\u0061in"}', "plain"),
    (b'\xef\xbb\xbf{"model":"plain"}', "plain"),
    (b'\xef\xbb{"model":"plain"}', None),
    (b'\xef\xbb\xbf\xef\xbb\xbf{"model":"plain"}', None),
    ('{"model":"plain"}'.encode("utf-16"), None),
    ('{"model":"plain"}'.encode("utf-16-le"), None),
    (b'{"model":"plain"}x', None),
    (b'{"model":"plain"}{}', None),
    (b'{"model":"plain"}\0x', "plain"),
    (b'{"model":"plain"} \0', "plain"),
    (b'\0{"model":"plain"}', None),
    (b'{"model":"plain",}', None),
    (b'{"model":"plain"', None),
    (b"", None),
    (b"null", None),
    (b'"model"', None),
    (b'["model","plain"]', None),
    (b'[{"model":"plain"}]', None),
    (b'{"model":["plain"]}', None),
    (b'{"model":{"model":"plain"}}', None),
    (b'{"model":null}', None),
    (b'{"model":true}', None),
    (b'{"model":""}', None),
    (b'{"x":{"model":"plain"}}', None),
    (b'{"Model":"plain"}', None),
    (b'{"model ":"plain"}', None),
    (b'{"model":"plain","x":NaN}', None),
    (b'{"model":"plain","x":-Infinity}', None),
    (b'{"model":"plain","x":1e999}', None),
    (b'{"model":"plain","x":' + b"9" * 400 + b"}", None),
    (b'{"model":"plain","x":' + b"9" * 300 + b"}", "plain"),
    (b'{"model":"plain","x":' + b"9" * 5000 + b"}", None),
    (b'{"model":"plain","x":1e-999}', "plain"),
    (b'{"model":"plain","x":01}', None),
    (b'{"model":"plain","x":1.}', None),
    (b'{"model":"plain","x":"\\ud83d\\ude00"}', "plain"),
    (b'{"model":"plain","x":"\\ud83d"}', None),
    (b'{"model":"plain","x":"\\ude00"}', None),
    (b'{"model":"plain","x":"\\ud83d\\\\ude00"}', None),
    (b'{"model":"plain","x":"\\\\ud83d"}', "plain"),
    (b'{"model":"plain","x":"\xff"}', None),
    (b'{"model":"plain","x":"\xed\xa0\xbd"}', None),
    (b'{"model":"plain","x":"\x01"}', None),
    (b'{"model":"plain","x":"\x7f"}', "plain"),
    (b'{"model":"plain","x":"\\x"}', None),
    (b'{"model":"plain"/**/}', None),
    (b"{'model':'plain'}", None),
    (b'{"model":"plain","x":"}\\"{]["}', "plain"),
    ('{"model":"emoji 🐎 ü:Q4"}'.encode(), "emoji 🐎 ü:Q4"),
    (b'{"model":"emoji \\ud83d\\udc0e \\u00fc:Q4"}', "emoji 🐎 ü:Q4"),
    (b'{"model":"we \\"quote\\" it\'s \\/ here"}', 'we "quote" it\'s / here'),
    (b'{"":1,"model":"plain"}', "plain"),
    (b'{"x":' + b"[" * 2000 + b"]" * 2000 + b',"model":"plain"}', "plain"),
]


def part(name: str, value: bytes, more: str = "") -> bytes:
    """One part of a form."""
    return f'--b-1\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


_FILE = part("file", b"RIFF\r\n--b-\r\n\0", '; filename="a.wav"\r\nContent-Type: audio/wav')
_END = b"--b-1--\r\n"
NAME_BEHIND_A_PARAMETER = b'--b-1\r\nContent-Disposition: form-data; x="a;name=y"; name="model"\r\n\r\nplain\r\n' + _END
"""The one that routers before 11434 read otherwise: no model for them."""
FORMS: list[tuple[bytes, str | None]] = [
    (part("model", b"plain") + _FILE + _END, "plain"),
    (_FILE + part("model", b"plain") + _END, "plain"),
    (b"preamble\r\n" + part("model", b"plain") + _END + b"epilogue", "plain"),
    (part("model", b"plain") + part("model", b"plain") + _END, None),
    (part("model", b"plain", '; filename="x"') + _END, None),
    (part("model", b"plain", '; filename=""') + _END, "plain"),
    (part("Model", b"plain") + _END, None),
    (_FILE + _END, None),
    (part("model", b"") + _END, None),
    (part("model", b"plain"), None),
    (part("model", b"\xff") + _END, None),
    (b"--b-1\r\ncontent-disposition:  Form-Data;  name=model\r\nX: y\r\n\r\nplain\r\n" + _END, "plain"),
    (NAME_BEHIND_A_PARAMETER, "plain"),
    (b"nothing at all", None),
]
