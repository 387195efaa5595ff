"""What browsers are told, and what they are refused."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from api.app import create_app
from common.settings import Settings
from tests import api_cast
from tests.api_cast import MONITOR, Person, World
from tests.integration.test_api_process import environment, free_port, run, serving

world = api_cast.world

ORIGIN = "https://status.example"
PATIENCE_S = 3


def under(world: World, **settings: Any) -> Person:
    """Alice, where the operator has set these."""
    changed = Settings.model_validate({**world.services.settings.model_dump(), **settings})
    alice = Person(create_app(replace(world.services, settings=changed)).test_client())
    alice.headers = world.alice.headers
    return alice


PATHS = ("/livez", "/v1/monitors", "/v1/nothing", "/openapi.json", "/docs", "/ack/x", "/metrics", "/")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_keeps_browsers_careful(world: World, path: str) -> None:
    for person in (world.alice, world.nobody):
        headers = person.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Strict-Transport-Security" not in headers
        assert "Access-Control-Allow-Origin" not in headers


def test_pages_run_under_their_policy_without_a_script_or_a_foreign_host(world: World) -> None:
    page = world.nobody.get("/docs")
    assert not re.search(r"<script|\son\w+=|javascript:|style=\"|(?:src|href)=\"(?:https?:)?//", page.text)
    assert re.search(r"style-src 'sha256-[^']+'", page.headers["Content-Security-Policy"])


def test_a_name_that_is_a_script_stays_a_name(world: World) -> None:
    name = "<script>alert(1)</script>"
    response = world.alice.post("/v1/monitors", json={**MONITOR, "name": name})
    assert (response.status_code, response.content_type) == (201, "application/json")
    assert response.get_json()["name"] == name


def test_https_is_insisted_on_where_people_come_by_it(world: World) -> None:
    assert under(world, public_url="https://tocsin.example").get("/livez").headers["Strict-Transport-Security"]
    assert "Strict-Transport-Security" not in under(world, public_url="http://tocsin.example").get("/livez").headers


#: (headers, content type, status): writes of alice's, as a browser would send them from elsewhere
CROSS_SITE: list[tuple[dict[str, str], str, int]] = [
    ({}, "application/json", 201),  # no browser
    ({"Sec-Fetch-Site": "same-origin"}, "application/json", 201),
    ({"Sec-Fetch-Site": "none"}, "application/json", 201),
    ({"Sec-Fetch-Site": "cross-site"}, "application/json", 403),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, "text/plain", 403),
    ({"Origin": "https://evil.example"}, "text/plain", 415),
    ({"Origin": "null"}, "application/x-www-form-urlencoded", 415),
    ({"Origin": "https://evil.example"}, "multipart/form-data; boundary=x", 415),
    ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, "application/json", 403),  # not yet allowed
]


@pytest.mark.parametrize(("headers", "kind", "status"), CROSS_SITE)
def test_a_write_on_behalf_of_another_site_is_refused(
    world: World, headers: dict[str, str], kind: str, status: int
) -> None:
    body = b'{"name": "Shop", "type": "http", "target": "http://192.0.2.7/"}'
    response = world.alice.post("/v1/monitors", data=body, content_type=kind, headers=headers)
    assert response.status_code == status, response.text
    assert len(world.rows("SELECT id FROM monitors")) == (1 if status == 201 else 0)


def test_a_form_without_a_body_is_refused_like_one_with_a_body(world: World) -> None:
    monitor = world.alice.make_monitor()
    path = f"/v1/monitors/{monitor['id']}/pause"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert world.alice.post(path, content_type=kind).status_code == 415
    assert world.alice.get(f"/v1/monitors/{monitor['id']}").get_json()["enabled"] is True
    assert world.alice.post(path).status_code == 200


def test_reading_never_writes(world: World) -> None:
    """A link from elsewhere is a GET: none of them changes anything, and HEAD is the same without a body."""
    monitor = world.alice.make_monitor()
    for path in (f"/v1/monitors/{monitor['id']}/pause", f"/v1/monitors/{monitor['id']}/check", "/v1/auth/logout"):
        assert world.alice.get(path).status_code == 405


def test_only_allowed_origins_may_read_answers(world: World) -> None:
    alice = under(world, cors_origins=f"{ORIGIN}, http://localhost:3000")
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    preflight = alice.call("OPTIONS", "/v1/monitors", headers=asked)
    assert (preflight.status_code, preflight.get_data()) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Idempotency-Key", "Content-Type"} <= set(
        preflight.headers["Access-Control-Allow-Headers"].split(", ")
    )
    read = alice.get("/v1/monitors", headers={"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"})
    assert read.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "RateLimit" in read.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in read.headers
    written = alice.post("/v1/monitors", json=MONITOR, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"})
    assert written.status_code == 201
    for origin in ("https://evil.example", "https://status.example.evil.example", "http://status.example", "null", "*"):
        stranger = {**asked, "Origin": origin}
        for response in (alice.call(method, "/v1/monitors", headers=stranger) for method in ("OPTIONS", "GET")):
            assert "Access-Control-Allow-Origin" not in response.headers, origin
            assert "Origin" in response.headers["Vary"]


def test_a_body_may_be_as_large_as_its_route_says(world: World) -> None:
    spaces = b" " * (1024 * 1024)
    tooth = world.alice.post("/v1/monitors", data=b"{" + spaces + b"}", content_type="application/json")
    assert (tooth.status_code, tooth.get_json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert "1048576 bytes" in tooth.get_json()["message"]
    assert world.alice.post("/v1/alerts", data=b"[" + spaces + b"]", content_type="application/json").status_code == 202
    much = world.alice.post("/v1/alerts", data=b"[" + spaces * 5 + b"]", content_type="application/json")
    assert much.status_code == 413


@pytest.fixture
def impatient(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An API with one thread, of its own process."""
    port = free_port()
    env = environment(database_url, redis_url, tmp_path, TOCSIN_PORT=str(port), TOCSIN_API_THREADS="1",
                      TOCSIN_REQUEST_TIMEOUT=str(PATIENCE_S))  # fmt: skip
    assert run("migrations.run", env).returncode == 0
    with serving(env, port):
        yield port


def test_who_never_ends_a_request_does_not_keep_the_thread(impatient: int) -> None:
    """A body that never comes leaves the only thread to others, and after a while is waited for no longer."""
    took = []
    for _ in range(3):  # a machine that is busy for a moment gets another try
        with socket.create_connection(("127.0.0.1", impatient), timeout=60) as slow:
            slow.sendall(
                b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 99\r\n\r\n{"
            )
            began = time.monotonic()
            time.sleep(0.2)
            assert requests.get(f"http://127.0.0.1:{impatient}/livez", timeout=60).status_code == 200
            took.append(time.monotonic() - began)
            assert slow.recv(12) == b"HTTP/1.1 408"
            assert PATIENCE_S - 1 < time.monotonic() - began < PATIENCE_S + 30
        if took[-1] < 2:
            return
    pytest.fail(f"others waited {took} s")


#: (what is sent, status): none of it is a request
GARBAGE = [
    (b"GET /v1/monitors?q=" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    (b"G\x00T /livez HTTP/1.1\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHo st: x\r\n\r\n", 400),
    (b"POST /v1/monitors HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
]


def test_what_is_no_request_is_refused_in_the_one_form(impatient: int) -> None:
    for sent, status in GARBAGE:
        with socket.create_connection(("127.0.0.1", impatient), timeout=60) as connection:
            connection.sendall(sent)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65_536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), sent[:60]
        assert b"application/problem+json" in head
        problem = json.loads(body)
        assert set(problem) == {"type", "title", "status", "code", "message", "request_id", "details"}
        assert problem["status"] == status
    assert requests.get(f"http://127.0.0.1:{impatient}/livez", timeout=60).status_code == 200
