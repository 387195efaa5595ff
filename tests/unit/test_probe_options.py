"""Options of each type at the API's edge: bounded, explained, stored without secrets, read back by the worker whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api import parsing
from api.monitor_documents import keep_secrets, to_settings
from api.schemas_monitors import MonitorIn
from api.schemas_options import OPTIONS_IN
from common.domain.errors import ValidationFailed
from common.domain.options import OPTIONS, read_options
from common.domain.sources import TYPES
from tests.certificate import make_certificate

TARGETS = {
    "http": "https://shop.example/",
    "tcp": "db.example:5432",
    "tls": "shop.example",
    "dns": "shop.example",
    "icmp": "shop.example",
    "websocket": "wss://shop.example/live",
    "smtp": "mail.example",
    "postgres": "db.example",
    "redis": "cache.example:6380",
    "heartbeat": "",
}


def checked(type_: str, target: str | None = None, **fields: Any) -> MonitorIn:
    return parsing.validate(MonitorIn, {"name": "n", "type": type_, "target": target or TARGETS[type_], **fields})


def wrong_fields(*args: Any, **fields: Any) -> list[str]:
    with pytest.raises(ValidationFailed) as caught:
        checked(*args, **fields)
    assert all(0 < len(detail.message) < 300 for detail in caught.value.details)
    return [detail.field for detail in caught.value.details]


def test_every_type_has_options_on_both_sides_and_needs_none() -> None:
    assert set(OPTIONS) == set(OPTIONS_IN) == {*TYPES, "heartbeat"} == set(TARGETS)
    for type_, kind in OPTIONS.items():
        settings = to_settings(checked(type_), (1,), {})
        assert settings.options == ({} if type_ != "http" else settings.options)
        assert read_options(type_, settings.options, settings.secrets) == kind()


#: type, target: good ones, in every form that people write
GOOD_TARGETS = [
    ("tcp", "tcp://[2001:db8::1]:53"), ("tls", "shop.example:8443"), ("tls", "tls://192.0.2.1"),
    ("tls", "bücher.example"), ("smtp", "[2001:db8::1]"), ("postgres", "postgres://db.example:5433"),
    ("redis", "cache.example"), ("icmp", "2001:db8::1"), ("icmp", "192.0.2.1"), ("icmp", "[2001:db8::1]"),
    ("dns", "_sip._tcp.example"), ("dns", "."), ("dns", "bücher.example."), ("dns", "*.example"),
    ("websocket", "ws://192.0.2.1:8080/x?y=z"), ("websocket", "WSS://shop.example"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "target"), GOOD_TARGETS)
def test_good_targets_pass(type_: str, target: str) -> None:
    assert checked(type_, target).target == target


BAD_TARGETS = [
    ("tcp", "db.example"), ("tcp", "udp://db.example:1"), ("tls", "https://shop.example"), ("tls", "a b"),
    ("tls", "shop.example:0"), ("smtp", "mail.example:65536"), ("smtp", "user@mail.example"),
    ("postgres", "postgres://u:p@db.example/x"), ("redis", "redis://cache/0"), ("icmp", "http://a"),
    ("icmp", "a:80:x"), ("icmp", "fe80::1%eth0"), ("dns", "a..b"), ("dns", "a b"), ("dns", "x" * 64),
    ("dns", "a.b/c"), ("dns", "a\r\nb"), ("dns", ".".join(["a" * 60] * 5)), ("websocket", "http://shop.example"),
    ("websocket", "ws://"), ("websocket", "ws://u:p@shop.example/"), ("websocket", "ws://a b/"),
    ("websocket", "shop.example"), ("http", "ws://shop.example"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "target"), BAD_TARGETS)
def test_bad_targets_are_refused(type_: str, target: str) -> None:
    assert wrong_fields(type_, target) == ["target"]


#: type, its options, the field that is to blame
BAD_OPTIONS: list[tuple[str, Any, str]] = [
    ("http", {"max_redirects": 21}, "http.max_redirects"),
    ("http", {"max_redirects": -1}, "http.max_redirects"),
    ("http", {"http_version": "3"}, "http.http_version"),
    ("http", {"username": "a:b"}, "http.username"),
    ("http", {"username": "a\r\nb"}, "http.username"),
    ("http", {"password": {"secret": "x"}}, "http.password"),
    ("http", {"password": "plain"}, "http.password"),
    ("http", {"bearer_token": {"secret": "a\r\nX: y"}}, "http.bearer_token"),
    ("http", {"username": "a", "bearer_token": {"secret": "x"}}, "http.username"),
    ("http", {"username": "a", "headers": {"authorization": "x"}}, "http.username"),
    ("http", {"proxy": "https://proxy.example"}, "http.proxy"),
    ("http", {"proxy": "http://u:p@proxy.example"}, "http.proxy"),
    ("http", {"proxy": "http://proxy.example/path"}, "http.proxy"),
    ("http", {"proxy_username": "a"}, "http.proxy_username"),
    ("http", {"ca_certificates": "nonsense"}, "http.ca_certificates"),
    ("http", {"ca_certificates": "x" * 65_537}, "http.ca_certificates"),
    ("http", {"client_key": {"secret": "x"}}, "http.client_key"),
    ("tcp", {"tls": True, "starttls": "smtp"}, "tcp.starttls"),
    ("tcp", {"starttls": "gopher"}, "tcp.starttls"),
    ("tcp", {"expect": "("}, "tcp.expect"),
    ("tcp", {"expect": "x" * 1001}, "tcp.expect"),
    ("tcp", {"expect": ""}, "tcp.expect"),
    ("tcp", {"send": "x" * 16_385}, "tcp.send"),
    ("tcp", {"server_name": "a b"}, "tcp.server_name"),
    ("tls", {"min_version": "1.0"}, "tls.min_version"),
    ("dns", {"record_type": "ANY"}, "dns.record_type"),
    ("dns", {"resolver": "a b"}, "dns.resolver"),
    ("dns", {"resolver": "192.0.2.1:0"}, "dns.resolver"),
    ("icmp", {"count": 0}, "icmp.count"),
    ("icmp", {"count": 21}, "icmp.count"),
    ("icmp", {"size": 65_000}, "icmp.size"),
    ("websocket", {"subprotocol": "a b"}, "websocket.subprotocol"),
    ("websocket", {"subprotocol": "a\r\nX: y"}, "websocket.subprotocol"),
    ("websocket", {"headers": {"Sec-WebSocket-Key": "x"}}, "websocket.headers.Sec-WebSocket-Key"),
    ("websocket", {"headers": {"X": "a\nb"}}, "websocket.headers.X"),
    ("smtp", {"security": "maybe"}, "smtp.security"),
    ("smtp", {"ehlo": "a\r\nMAIL FROM:<x>"}, "smtp.ehlo"),
    ("postgres", {"tls": "allow"}, "postgres.tls"),
    ("postgres", {"query": "x" * 4_097}, "postgres.query"),
    ("postgres", {"username": ""}, "postgres.username"),
    ("redis", {"command": []}, "redis.command"),
    ("redis", {"command": ["x"] * 21}, "redis.command"),
    ("redis", {"database": -1}, "redis.database"),
    ("redis", {"unknown": 1}, "redis.unknown"),
]


@pytest.mark.parametrize(("type_", "options", "field"), BAD_OPTIONS)
def test_bad_options_are_refused_naming_their_field(type_: str, options: Any, field: str) -> None:
    assert wrong_fields(type_, **{type_: options}) == [field]


@pytest.mark.parametrize("type_", TYPES)
def test_options_of_another_type_are_refused(type_: str) -> None:
    for other in TYPES:
        if other != type_:
            assert wrong_fields(type_, **{other: {}}) == [other]


def test_secrets_are_stored_apart_and_come_back_together(tmp_path: Path) -> None:
    certificate, key = (path.read_text() for path in make_certificate(tmp_path))
    sent = {
        "username": "alice", "password": {"secret": "c4nary-password"}, "client_certificate": certificate,
        "client_key": {"secret": key}, "headers": {"X-Key": {"secret": "c4nary-header"}, "X": "y"},
        "proxy": "http://proxy.example:3128", "proxy_username": "p", "proxy_password": {"secret": "c4nary-proxy"},
    }  # fmt: skip
    settings = to_settings(checked("http", http=sent), (1,), {})
    assert "c4nary" not in repr(settings.options)
    assert key[60:100] not in repr(settings.options)
    assert settings.options["password"] is None
    assert set(settings.secrets) == {
        "http.password", "http.client_key", "http.headers.X-Key", "http.proxy_password"
    }  # fmt: skip
    options = read_options("http", settings.options, settings.secrets)
    assert options.headers[:2] == (("X-Key", "c4nary-header"), ("X", "y"))  # type: ignore[union-attr]
    assert options.extras.proxy_password == "c4nary-proxy"  # type: ignore[union-attr]
    assert options.extras.client_key == key  # type: ignore[union-attr]


def test_null_keeps_a_secret_an_empty_one_and_a_put_without_it_remove_it() -> None:
    stored = {"redis.password": "s3cret"}
    for options, kept in (({"password": None}, True), ({"password": {"secret": ""}}, False), ({}, False)):
        settings = to_settings(checked("redis", redis=options), (1,), stored)
        assert settings.secrets == (stored if kept else {})
        assert ("password" in settings.options) is kept
    patch = {"redis": {"password": None, "database": 1}}
    merged = parsing.merge({"redis": {"password": None}}, patch)
    assert keep_secrets(merged, patch, stored) == {"redis": {"password": None, "database": 1}}


def test_a_key_must_belong_to_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = (path.read_text() for path in make_certificate(tmp_path))
    _, other = (path.read_text() for path in make_certificate(tmp_path / "other"))
    sent = {"client_certificate": certificate, "client_key": {"secret": other}}
    assert wrong_fields("tls", tls=sent) == ["tls.client_key"]
    assert wrong_fields("tls", tls={"client_certificate": certificate}) == ["tls.client_certificate"]
