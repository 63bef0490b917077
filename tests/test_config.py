"""Settings: default < file < environment < flag, and errors that name where the bad value stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral.config import Config, Flags, find_config_file, load_config, parse_duration, parse_size, read_key_file
from corral.wire import BadArgumentError


def write_config(folder: Path, text: str) -> dict[str, str]:
    """Write the file where it is looked for, and return the environment that leads to it."""
    (folder / "corral").mkdir()
    (folder / "corral" / "config.toml").write_text(text, encoding="utf-8")
    return {"XDG_CONFIG_HOME": str(folder)}


def test_empty_world_gives_defaults() -> None:
    """Without flags, variables and a file every setting is left to the client."""
    assert Config() == load_config(Flags(), {})


def test_precedence_of_url(tmp_path: Path) -> None:
    """--url beats CORRAL_URL beats LLAMA_SERVER_URL beats the file."""
    environ = write_config(tmp_path, 'url = "http://file"')
    seen = [load_config(Flags(), environ).url]
    environ["LLAMA_SERVER_URL"] = "http://llama"
    seen.append(load_config(Flags(), environ).url)
    environ["CORRAL_URL"] = "http://corral"
    seen.append(load_config(Flags(), environ).url)
    seen.append(load_config(Flags(url="http://flag"), environ).url)

    assert ["http://file", "http://llama", "http://corral", "http://flag"] == seen


def test_precedence_of_key(tmp_path: Path) -> None:
    """--api-key-file beats CORRAL_API_KEY beats LLAMA_API_KEY beats the file."""
    environ = write_config(tmp_path, 'api_key = "from-config"')
    key_file = tmp_path / "key"
    key_file.write_text("from-flag\n")
    seen = [load_config(Flags(), environ).api_key]
    environ["LLAMA_API_KEY"] = "from-llama"
    seen.append(load_config(Flags(), environ).api_key)
    environ["CORRAL_API_KEY"] = "from-corral"
    seen.append(load_config(Flags(), environ).api_key)
    seen.append(load_config(Flags(api_key_file=str(key_file)), environ).api_key)

    assert ["from-config", "from-llama", "from-corral", "from-flag"] == seen


def test_empty_variable_counts_as_unset() -> None:
    """An empty variable means the same as none."""
    assert Config() == load_config(Flags(), {"CORRAL_URL": "", "CORRAL_API_KEY": "", "CORRAL_CONFIG": ""})


@pytest.mark.parametrize("field", ["url", "api_key_file", "ca_file"])
@pytest.mark.parametrize("value", ["", " "])
def test_empty_flag_is_refused(field: str, value: str) -> None:
    """A flag that was given empty, as by a variable that is not set, falls back on nothing: it is an error."""
    fields: dict[str, Any] = {field: value}
    flag = f"--{field.replace('_', '-')}"

    with pytest.raises(BadArgumentError, match=f"^{flag} is empty") as caught:
        load_config(Flags(**fields), {"CORRAL_URL": "http://other:8080", "CORRAL_API_KEY": "k"})

    assert caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://mine:8080", "http://mine:8080/", "mine:8080", "HTTP://MINE:8080/", "http://mine:8080/v1/models"]
)
def test_key_of_the_file_goes_to_its_url_however_that_is_written(tmp_path: Path, url: str) -> None:
    """A key that stands beside a url in the file goes to that router, whatever the spelling of its address."""
    environ = write_config(tmp_path, 'url = "http://mine:8080"\napi_key = "secret"')

    assert "secret" == load_config(Flags(), environ).api_key
    config = load_config(Flags(url=url), environ)

    assert ("secret", None) == (config.api_key, config.key_elsewhere)


@pytest.mark.parametrize(
    "url", ["http://other:8080", "https://mine:8080", "http://mine:8081", "http://mine:8080/llm", "unix:///mine:8080"]
)
def test_key_of_the_file_goes_nowhere_else(tmp_path: Path, url: str) -> None:
    """A key that stands beside a url in the file goes to no other router, and where it belongs is known."""
    environ = write_config(tmp_path, 'url = "http://mine:8080/"\napi_key = "secret"')
    config = load_config(Flags(url=url), environ)

    assert (None, "http://mine:8080") == (config.api_key, config.key_elsewhere)


def test_two_names_of_one_host_are_two_urls(tmp_path: Path) -> None:
    """No name is looked up to tell whose key it is: localhost and 127.0.0.1 stay different hosts."""
    environ = write_config(tmp_path, 'url = "http://localhost:8080"\napi_key = "secret"')

    assert load_config(Flags(url="http://127.0.0.1:8080"), environ).api_key is None


def test_no_key_is_told_to_be_elsewhere_where_there_is_none(tmp_path: Path) -> None:
    """A file without a key, and a key from somewhere else, leave nothing to be said of a key that stays behind."""
    environ = write_config(tmp_path, 'url = "http://mine:8080"')

    assert load_config(Flags(url="http://other:8080"), environ).key_elsewhere is None
    environ["CORRAL_API_KEY"] = "k"
    assert load_config(Flags(url="http://other:8080"), environ).key_elsewhere is None


def test_paths_in_the_file_count_from_its_folder(tmp_path: Path) -> None:
    """A relative path in the file is relative to the file, whatever the working folder is."""
    environ = write_config(tmp_path, 'api_key_file = "key"\nca_file = "ca.pem"')
    (tmp_path / "corral" / "key").write_text("k1\n")
    config = load_config(Flags(), environ)

    assert ("k1", str(tmp_path / "corral" / "ca.pem")) == (config.api_key, config.ca_file)


def test_timeouts_from_file_variable_and_flag(tmp_path: Path) -> None:
    """Time limits are read as durations or plain seconds, from each source."""
    environ = write_config(tmp_path, 'connect_timeout = 2\nread_timeout = "1m"')
    config = load_config(Flags(read_timeout_s=3.0), environ | {"CORRAL_CONNECT_TIMEOUT": "500ms"})

    assert (0.5, 3.0) == (config.connect_timeout_s, config.read_timeout_s)
    assert 60.0 == load_config(Flags(), environ).read_timeout_s


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ulr = 'x'", "ulr"),
        ("url = 8080", "url"),
        ("connect_timeout = true", "connect_timeout"),
        ("connect_timeout = 'soon'", "connect_timeout"),
        ("url = ", "Invalid value"),
        ("[url]\nx = 1", "url"),
        ("url = ''", "url is empty"),
        ("api_key_file = ' '", "api_key_file is empty"),
        ("url = 'http://u:hunter2@mine'\napi_key = 'k'", "url"),
        ('ca_file = "a\\u0000b"', "ca_file"),
        ('api_key_file = "~a\\u0000b"', "api_key_file"),
        ("a=" + "[" * 20_000, "nested"),
        ("#" * (1 << 20) + "\n", "larger"),
    ],
    ids=range(13),
)
def test_errors_name_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    """A bad file is refused with its path and the setting that is wrong."""
    environ = write_config(tmp_path, text)

    with pytest.raises(BadArgumentError) as caught:
        load_config(Flags(url="http://other"), environ)

    assert "config.toml" in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_config_that_was_named_must_exist(tmp_path: Path) -> None:
    """CORRAL_CONFIG leads to a file, or it is an error that names it."""
    with pytest.raises(BadArgumentError, match="nowhere"):
        load_config(Flags(), {"CORRAL_CONFIG": str(tmp_path / "nowhere")})


def test_config_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """A device that never ends, a pipe that nobody writes to and a folder are refused at once, by name."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path)):
        with pytest.raises(BadArgumentError, match="not a plain file") as caught:
            load_config(Flags(), {"CORRAL_CONFIG": path})

        assert path in caught.value.message


@pytest.mark.parametrize(
    "environ", [{}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"HOME": "relative"}, {"XDG_CONFIG_HOME": "relative"}]
)
def test_missing_home_is_no_problem(environ: dict[str, str]) -> None:
    """A home that is missing, empty or relative means that there is no file."""
    assert find_config_file(environ) is None


def test_repr_masks_the_key() -> None:
    """The key never shows in the representation."""
    assert "hunter2" not in repr(Config(api_key="hunter2"))


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"k1", "k1"),
        (b"k1\n", "k1"),
        (b"k1\r\nk2\r\n", "k1"),
        (b"\n# mine\n\n  k1  \n", "k1"),
        (b"\xff\n", "\udcff"),
    ],
)
def test_key_file_gives_its_first_key(tmp_path: Path, data: bytes, key: str) -> None:
    """The key is the first line that is neither empty nor a comment."""
    path = tmp_path / "key"
    path.write_bytes(data)

    assert key == read_key_file(str(path), "--api-key-file")


@pytest.mark.parametrize("data", [b"", b"\n\n# no\n", b"x" * 70_000])
def test_key_file_without_a_key_is_refused(tmp_path: Path, data: bytes) -> None:
    """An empty or far too large key file is an error that names it and shows nothing of it."""
    path = tmp_path / "key"
    path.write_bytes(data)

    with pytest.raises(BadArgumentError) as caught:
        read_key_file(str(path), "--api-key-file")

    assert str(path) in caught.value.message
    assert "xxx" not in caught.value.message


@pytest.mark.parametrize("path", ["/nonexistent/key", "/", "bad\0path"])
def test_key_file_that_cannot_be_read_is_named(path: str) -> None:
    """A key file that is missing, a folder or no path at all is an error, not a crash."""
    with pytest.raises(BadArgumentError, match="cannot be read"):
        read_key_file(path, "--api-key-file")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("500ms", 0.5), (" 2s ", 2.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are seconds, or numbers with units."""
    assert seconds == parse_duration(text, "--timeout")


def test_duration_of_nothing_where_it_may_be() -> None:
    """A grace period may be none at all."""
    assert {0.0} == {parse_duration(text, "--grace", may_be_zero=True) for text in ("0", "0s", "0m0s")}


@pytest.mark.parametrize(
    "text", ["", "s", "-4", "0", "0s", "1x", "1h30", "nan", "inf", "1e9", "1..5s", "٣s", "9999d", "1 s", "\x1b[31m"]
)
def test_bad_durations_are_refused(text: str) -> None:
    """What is no duration, or none that can be waited for, is refused with its origin and printable text."""
    with pytest.raises(BadArgumentError, match=r"^--timeout: ") as caught:
        parse_duration(text, "--timeout")

    assert caught.value.message.isprintable()


def test_too_long_is_told_from_nothing() -> None:
    """A duration that is too long is told the longest one, which is taken; none at all is called that."""
    with pytest.raises(BadArgumentError, match="is too long") as caught:
        parse_duration("9999d", "--for")
    assert "366d" in caught.value.hint and parse_duration("366d", "--for") == 366 * 86400
    with pytest.raises(BadArgumentError, match="is no time at all"):
        parse_duration("0s", "--for")


SIZES = {
    "12GiB": 12 << 30,
    "500MiB": 500 << 20,
    "8G": 8 << 30,
    "8g": 8 << 30,
    "8GB": 8_000_000_000,
    "1.5 GiB": 3 << 29,
    " 1k ": 1024,
    "2tib": 2 << 40,
    "512B": 512,
}


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text: str) -> None:
    """Sizes are numbers with units: GiB and G count by 1024, GB by 1000, in any case."""
    assert SIZES[text] == parse_size(text, "SIZE")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "GiB",
        "-4G",
        "0G",
        "0.1B",
        "4 x",
        "1..5G",
        "nanG",
        "1e3M",
        "٣G",
        "99999999T",
        "1G2M",
        "\x1b[31m",
        "9" * 500,
    ],
)
def test_bad_sizes_are_refused(text: str) -> None:
    """What is no size, or one without a unit, is refused with its origin, printable text and an example."""
    with pytest.raises(BadArgumentError, match=r"^--free: ") as caught:
        parse_size(text, "--free")

    assert caught.value.message.isprintable() and "12GiB" in caught.value.hint
