"""The parts of the `tocsin` command that need no API: files, words, bars, what is imported when."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from common import cli
from common.client_errors import Problem, Unreachable, refusal
from common.client_types import Phases
from common.commands import output, phases, targets, words, yaml_files
from common.domain.errors import FieldError, SettingsError
from common.exit_status import CommandError, ExitStatus, clean, one_line, status_of
from common.settings import client_settings, load_settings

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


# Files of monitors


def read(tmp_path: Path, text: str | bytes) -> list[dict[str, Any]]:
    file = tmp_path / "monitors.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yaml_files.read(str(file))


def test_texts_stay_texts_and_numbers_numbers(tmp_path: Path) -> None:
    (found,) = read(
        tmp_path,
        "monitors: [{a: on, b: 12:30, c: 2026-01-01, d: 0755, e: 1_000, f: 30, g: -1.5, h: 1e3, i: true, j: null,"
        " k: ~, l: .inf, m: 0x1f, n: 'true', o: y, p: =, q: , r: 0}]",
    )
    assert found == {
        "a": "on", "b": "12:30", "c": "2026-01-01", "d": "0755", "e": "1_000", "f": 30, "g": -1.5, "h": 1000.0,
        "i": True, "j": None, "k": None, "l": ".inf", "m": "0x1f", "n": "true", "o": "y", "p": "=", "q": None, "r": 0,
    }  # fmt: skip


def test_what_is_shared_may_be_written_once(tmp_path: Path) -> None:
    text = "monitors:\n- &shop {name: A, labels: {team: shop}}\n- {<<: *shop, name: B}\n"
    assert read(tmp_path, text)[1] == {"labels": {"team": "shop"}, "name": "B"}


def _bomb() -> str:
    levels = [f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(["monitors:", "- l0: &l0 [x]", *levels])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("monitors: [", "line 2: did not find"),
        ("monitors:\n- name: A\n  name: B\n", "line 3: 'name' stands twice"),
        ("monitors: []\nmonitors: []\n", "stands twice"),
        ("monitors: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("monitors: [*nobody]", "undefined alias"),
        ("[]", "monitors: and a list of them"),
        ("", "monitors: and a list of them"),
        ("monitors: {}", "monitors: and a list of them"),
        ("monitors: []\nroutes: []", "there is no routes"),
        ("monitors: [A]", "monitors.0 is not a monitor"),
        ("monitors: [{1: A}]", "monitors.0: 1 must be a text: put it in quotes"),
        ("monitors: [{a: !!binary aGk=}]", "monitors.0.a: a bytes cannot be sent"),
        ("monitors: [{a: !!timestamp 2026-01-01}]", "monitors.0.a: a date cannot be sent"),
        ("monitors: [{a: !!float .nan}]", "monitors.0.a: nan cannot be sent"),
        ("monitors: &a\n- x: *a", "aliases unfold into too much"),
        (_bomb(), "aliases unfold into too much"),
        ("[" * 20_000 + "]" * 20_000, "nested more than 64 deep"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"monitors: [\x00]", "not YAML"),
        (b" " * (21 * 1024 * 1024), "larger than"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(CommandError) as caught:
        read(tmp_path, text)
    assert said in caught.value.message
    assert "\n" not in one_line(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "monitors:\n" + "- " * 100_000 + "x",
        "{a: " * 100_000 + "}" * 100_000,
        "? " * 100_000 + "x",
        "[" * 10_000_000,
    ],
    ids=["flow", "block", "mappings", "keys", "20 MB"],
)
def test_a_file_that_is_nested_deep_is_refused_before_anybody_has_waited(tmp_path: Path, text: str) -> None:
    began_s = time.process_time()
    with pytest.raises(CommandError, match=r"line \d: nested more than 64 deep"):
        read(tmp_path, text)
    assert time.process_time() - began_s < 10.0


def test_a_file_of_too_many_values_is_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_files, "_MAX_NODES", 1_000)
    monkeypatch.setattr(yaml, "load", lambda *_: pytest.fail("it was composed"))
    with pytest.raises(CommandError, match="holds more than 1,000 values"):
        read(tmp_path, "monitors: [" + "{}," * 1_000 + "]")


def test_standard_input_and_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("\ufeffmonitors: [{name: Käse}]".encode())))
    assert yaml_files.read("-") == [{"name": "Käse"}]
    with pytest.raises(CommandError, match="directory"):
        yaml_files.read(str(tmp_path))


def test_what_is_written_is_read_back_by_us_and_by_others(tmp_path: Path) -> None:
    monitor = {"name": "on", "labels": {"a": "12:30", "b": "2026-01-01", "c": "0755", "d": "null", "e": "ä\x1b\u202e"}}
    document = {"monitors": [{**monitor, "interval_seconds": 30, "enabled": False, "latency": 0.5, "key": None}]}
    text = yaml_files.write(document)
    assert yaml.safe_load(text) == document
    assert read(tmp_path, text) == document["monitors"]
    assert "\x1b" not in text
    assert text.index("name") < text.index("labels")  # as given, not sorted


# Words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m 1s"), (3_600, "1h"), (3_661, "1h 1m"),
     (90_000, "1d 1h"), (86_400 + 60, "1d")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("30m", 1_800), ("2h", 7_200), ("1d12h", 129_600), (" 1H30M ", 5_400)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert words.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1h1d", "1.5h", "h", "1 h"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(CommandError, match="no duration"):
        words.seconds_of(text)


def test_labels_may_have_either_sign_and_values_any() -> None:
    assert words.pairs(["team=shop", "url:http://a=b", "empty="]) == {"team": "shop", "url": "http://a=b", "empty": ""}
    assert words.filters(["team=shop", "env", "a:b=c"]) == ["team:shop", "env", "a:b=c"]
    for wrong in ("team", "=shop", ""):
        with pytest.raises(CommandError):
            words.pairs([wrong])


def test_times_are_shown_as_ages() -> None:
    assert words.ago("2026-03-01T11:58:55.5Z", NOW) == "1m 4s"
    assert words.ago(None, NOW) == "-"
    assert [words.milliseconds(value) for value in (None, 0.04, 42.24, 412.6, 31_000.0)] == [
        "-", "0.0 ms", "42.2 ms", "413 ms", "31.0 s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "kind"),
    [("https://a.example/x", "http"), ("HTTP://a", "http"), ("a.example:25", "tcp"), ("[2001:db8::1]:25", "tcp")],
)
def test_a_target_says_its_type(target: str, kind: str) -> None:
    assert targets.type_of(target) == kind


@pytest.mark.parametrize("target", ["", "a.example", "a b:1", "ftp://a", "2001:db8::1"])
def test_one_that_does_not_needs_a_type(target: str) -> None:
    with pytest.raises(CommandError, match="--type"):
        targets.type_of(target)


def test_control_characters_of_others_are_taken_out() -> None:
    assert clean("a\x1b[2Jb\r\nc\x00\u202e d\x9b") == "a [2Jb c d"


# Bars


def seen(**values: float | None) -> Phases:
    nothing: dict[str, Any] = dict.fromkeys(("dns_ms", "connect_ms", "tls_ms", "ttfb_ms", "total_ms"))
    return {**nothing, **values}  # type: ignore[typeddict-item,return-value]


def test_bars_follow_each_other_and_none_is_lost() -> None:
    found = seen(dns_ms=10.0, connect_ms=20.0, tls_ms=0.0, ttfb_ms=60.0, total_ms=100.0)
    console = Console(width=80, record=True, file=TextIOWrapper(BytesIO()))
    console.print(phases.picture(found, width=40))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines == [
        "name lookup  ████                                      10.0 ms",
        "connect          ████████                              20.0 ms",
        "TLS                      ▏                             0.0 ms".replace("0.0 ms", " 0.0 ms"),
        "first byte               ████████████████████████      60.0 ms",
        "the rest                                         ████  10.0 ms",
        "total                                                  100 ms".replace("100 ms", " 100 ms"),
    ]


@pytest.mark.parametrize("begin", [0.0, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 1.0])
def test_a_bar_is_as_wide_as_it_may_be(begin: float, share: float) -> None:
    drawn = phases.bar(begin, share, 40)
    assert len(drawn) == 40
    assert drawn.strip()


def test_what_was_not_reached_is_not_drawn() -> None:
    assert phases.durations(seen()) == []
    assert [name for name, _, _ in phases.durations(seen(dns_ms=1.0, total_ms=5.0))] == ["name lookup", "the rest"]
    assert not phases.known(seen(total_ms=3.0))


@pytest.mark.parametrize("width", [80, 120])
def test_only_wide_columns_give_way(width: int) -> None:
    listing = output.Listing("state", "name", "target", "id", wide=("name", "target"))
    listing.line(output.marked("degraded"), output.plain("N" * 100), output.plain("t" * 100), "0123abcd")
    console = Console(width=width, record=True, file=TextIOWrapper(BytesIO()))
    console.print(listing)
    head, line = console.export_text().splitlines()
    assert line.startswith("▲ degraded  NNN") and line.rstrip().endswith("0123abcd")
    assert line.count("…") == 2 and max(len(head), len(line)) <= width


# Failures and settings


def test_every_status_has_a_meaning_and_errors_are_one_line() -> None:
    refused = refusal(Problem(400, "X", "Some fields\nare wrong.", (FieldError("a", "must be b"),), "r", None))
    assert one_line(refused) == "Some fields are wrong: a must be b"
    assert one_line(refusal(Problem(500, "X", "No.", (), "r-1"))) == "No (request r-1)"
    assert status_of(Unreachable("x")) is ExitStatus.NO_ANSWER
    assert status_of(SettingsError("x")) is ExitStatus.USAGE


def test_settings_of_commands_are_no_settings_of_roles(tmp_path: Path) -> None:
    environ = {"TOCSIN_URL": "https://t.example", "TOCSIN_API_KEY": "tcs_secret", "HOME": str(tmp_path)}
    given = client_settings(environ)
    assert (given.url, given.api_key) == ("https://t.example", "tcs_secret")
    assert given.config_dir == tmp_path / ".config" / "tocsin"
    assert "tcs_secret" not in repr(given)
    assert load_settings(environ) == load_settings({})


def test_every_command_of_the_table_is_there() -> None:
    for name, place in cli.COMMANDS.items():
        command = cli.load(name)
        assert command.name == name
        assert command.help, name
        assert place.help.endswith("."), name


@pytest.mark.parametrize("words", [["--help"], ["monitors", "--help"], ["whoami", "--json"]])
def test_commands_that_need_no_service_start_without_one(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from common import cli\n"
        f"cli.run({words!r})\n"
        "print([m for m in ('sqlalchemy', 'psycopg', 'redis', 'dramatiq', 'flask', 'pycurl', 'apprise', 'yaml', 'api',"
        " 'scheduler', 'worker', 'notifier', 'common.store') if m in sys.modules], file=sys.stderr)"
    )
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TOCSIN_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
