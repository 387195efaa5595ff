"""The client against answers that only a broken or hostile way produces."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from common import client_wire
from common.client import Client
from common.client_errors import (
    BadAddress,
    ClientError,
    Collision,
    Foreign,
    Missing,
    NotLetIn,
    Refused,
    ServerTrouble,
    Stale,
    TooMany,
    Unreachable,
)
from common.client_wire import Call, Patience, Wire
from tests.scripted_api import Answer, ScriptedApi, problem
from tests.targets import deaf_port, free_port, make_authority

SECRET = "tcs_abcdefgh_this-must-never-be-seen"
QUICK = Patience(tries=3, first_pause_s=0.01, longest_pause_s=0.02, within_s=60)

Act = Callable[[Client], Any]

GET: Act = methodcaller("monitor", "m1")
LIST: Act = lambda client: list(client.monitors())  # noqa: E731
CREATE: Act = methodcaller("create_monitor", {"name": "Shop"})
PUT: Act = methodcaller("put_monitor", "shop", {"name": "Shop"})
PAUSE: Act = methodcaller("pause_monitor", "m1")
PATCH: Act = methodcaller("change_monitor", "m1", {"name": "Shop"})
DELETE: Act = methodcaller("delete_monitor", "m1")
APPLY: Act = methodcaller("apply", [], "f")
COMMENTED: Act = methodcaller("resolve", "i1", comment="done")

UNAVAILABLE = problem(503, "UNAVAILABLE")


def failing(url: str, act: Act, patience: Patience = QUICK) -> ClientError:
    """The error that the act ends with."""
    with Client(url, SECRET, patience=patience) as client, pytest.raises(ClientError) as caught:
        act(client)
    return caught.value


def test_what_a_problem_says_is_the_errors() -> None:
    details = [{"field": "target", "message": "must be a URL"}]
    with ScriptedApi(problem(400, "VALIDATION_ERROR", "Some fields are wrong.", details=details)) as api:
        error = failing(api.url, CREATE)
    assert isinstance(error, Refused)
    assert (error.status, error.code, error.request_id) == (400, "VALIDATION_ERROR", "r-1")
    assert error.message == "Some fields are wrong."
    assert [(item.field, item.message) for item in error.details] == [("target", "must be a URL")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotLetIn), (403, NotLetIn), (404, Missing), (409, Collision), (412, Stale), (429, TooMany),
     (500, ServerTrouble), (503, ServerTrouble), (413, Refused)],
)  # fmt: skip
def test_every_status_has_its_error(status: int, kind: type[Refused]) -> None:
    with ScriptedApi(problem(status, "SOME_CODE")) as api:
        error = failing(api.url, PATCH)
    assert type(error) is kind and error.status == status


@pytest.mark.parametrize("act", [GET, PUT, CREATE, APPLY, PAUSE], ids=["get", "put", "create", "apply", "pause"])
@pytest.mark.parametrize(
    "fault", [Answer(reset=True), Answer(cut=True), UNAVAILABLE, problem(429, "X"), Answer(502, b"bad gateway")],
    ids=["reset", "cut", "503", "429", "502"],
)  # fmt: skip
def test_what_may_be_done_twice_is_tried_again(act: Act, fault: Answer) -> None:
    with ScriptedApi(fault, fault, Answer(body={"id": "m1"})) as api, Client(api.url, patience=QUICK) as client:
        assert act(client) == {"id": "m1"}
    assert len(api.asked) == 3


@pytest.mark.parametrize("act", [PATCH, DELETE, COMMENTED], ids=["patch", "delete", "commented"])
@pytest.mark.parametrize("fault", [Answer(reset=True), UNAVAILABLE], ids=["reset", "503"])
def test_what_may_not_is_tried_once(act: Act, fault: Answer) -> None:
    with ScriptedApi(fault, Answer()) as api:
        assert isinstance(failing(api.url, act), Unreachable | ServerTrouble)
    assert len(api.asked) == 1


@pytest.mark.parametrize("fault", [problem(400, "X"), problem(404, "X"), problem(409, "X"), problem(500, "X")])
def test_what_will_not_change_is_tried_once(fault: Answer) -> None:
    with ScriptedApi(fault, Answer()) as api:
        assert isinstance(failing(api.url, GET), Refused)
    assert len(api.asked) == 1


def test_tries_are_bounded() -> None:
    with ScriptedApi(UNAVAILABLE) as api:
        failing(api.url, GET)
    assert len(api.asked) == QUICK.tries


def test_a_creation_keeps_its_key_over_its_tries_and_the_next_has_another() -> None:
    in_use = problem(409, "IDEMPOTENCY_KEY_IN_USE")
    with ScriptedApi(UNAVAILABLE, in_use, Answer(201)) as api, Client(api.url, patience=QUICK) as client:
        CREATE(client)
        CREATE(client)
    keys = [asked.headers["idempotency-key"] for asked in api.asked]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_retry_after_is_waited_for() -> None:
    slow_down = problem(429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "1"})
    with ScriptedApi(slow_down, Answer()) as api, Client(api.url, patience=QUICK) as client:
        GET(client)
    assert api.asked[1].at - api.asked[0].at >= 0.95


@pytest.mark.parametrize("text", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_one_that_is_too_long_is_an_error_at_once(text: str) -> None:
    with ScriptedApi(problem(429, "X", headers={"Retry-After": text})) as api:
        error = failing(api.url, GET)
    assert isinstance(error, TooMany) and (error.retry_after_s or 0) > 3_000
    assert len(api.asked) == 1


@pytest.mark.parametrize("text", ["soon", "-1", "", "99999999999999999999"])
def test_a_senseless_one_counts_as_none(text: str) -> None:
    limited = problem(429, "X", headers={"Retry-After": text})
    with ScriptedApi(limited, Answer()) as api, Client(api.url, patience=QUICK) as client:
        GET(client)
    assert len(api.asked) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("act", [GET, CREATE], ids=["get", "create"])
def test_no_redirect_is_followed_so_credentials_stay_where_they_were_given_for(status: int, act: Act) -> None:
    with ScriptedApi() as elsewhere:
        there = Answer(status, b"", {"Location": f"{elsewhere.url}/v1/monitors?token=hidden"})
        with ScriptedApi(there) as api:
            error = failing(api.url, act)
        assert elsewhere.asked == []
    assert isinstance(error, Foreign)
    assert elsewhere.url in error.message and "hidden" not in error.message
    assert len(api.asked) == 1


@pytest.mark.parametrize("body", [b"<html>Router login</html>", b"\xff\xfe", b"nul"], ids=["page", "bytes", "cut"])
def test_something_else_that_answers_is_said_to_be_that(body: bytes) -> None:
    with ScriptedApi(Answer(200, body)) as api:
        assert isinstance(failing(api.url, GET), Foreign)
    with ScriptedApi(Answer(403, body)) as api:
        error = failing(api.url, GET)
    assert isinstance(error, NotLetIn) and "answered 403" in error.message


def test_a_list_that_is_none_or_never_ends_is_refused() -> None:
    with ScriptedApi(Answer(body={"data": [1], "next_cursor": "a"})) as api:
        assert "same page twice" in failing(api.url, LIST).message
    with ScriptedApi(Answer(body=[1])) as api:
        assert "no list" in failing(api.url, LIST).message


def test_nobody_listening_is_said() -> None:
    assert "nothing listens there" in failing(f"http://127.0.0.1:{free_port()}", GET).message
    assert "its name is not known" in failing("http://no-such-host.invalid", GET, Patience(tries=1)).message


def test_nothing_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_wire, "CONNECT_TIMEOUT_S", 0.3)
    with deaf_port() as port:
        assert "no connection" in failing(f"http://127.0.0.1:{port}", GET, Patience(tries=1)).message
    monkeypatch.setattr(client_wire, "CONNECT_TIMEOUT_S", 30)
    began = time.monotonic()
    with (
        ScriptedApi(Answer(wait_s=90)) as api,
        Wire(api.url, patience=Patience(tries=1)) as wire,
        pytest.raises(Unreachable, match="no answer within"),
    ):
        wire.send(Call("GET", "/", timeout_s=0.3))
    assert time.monotonic() - began < 60


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_wire, "_MAX_BODY_BYTES", 100_000)
    with ScriptedApi(Answer(200, b" " * 200_000)) as api:
        assert "larger than" in failing(api.url, GET).message


def test_a_certificate_that_is_not_trusted_is_not_tried_again(tmp_path: Path) -> None:
    with ScriptedApi(tls=make_authority(tmp_path).context("127.0.0.1")) as api:
        error = failing(api.url, GET)
    assert isinstance(error, Unreachable) and error.permanent
    assert "no secure connection" in error.message
    assert api.asked == []


@pytest.mark.parametrize(
    "url",
    ["", "tocsin.example", "ftp://tocsin.example", "http://", "http://a b", "http://me:hunter2@tocsin.example",
     "http://tocsin.example/?key=hunter2", "http://[::1", "http://tocsin.example:99999", "http://a\r\nhunter2"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        Client(url, SECRET)
    assert "hunter2" not in str(caught.value)


def test_a_base_may_have_a_path_and_end_as_people_paste_it() -> None:
    for url in ("http://127.0.0.1:1/tocsin", "http://127.0.0.1:1/tocsin/", "http://127.0.0.1:1/tocsin/v1/"):
        assert Client(url).url == "http://127.0.0.1:1/tocsin"


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET} x", f"{SECRET}\r\nHost: evil", f"{SECRET}ä"])
def test_a_token_that_is_none_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(BadAddress) as caught:
        Client("http://127.0.0.1:1", token)
    assert SECRET not in str(caught.value)


def test_the_secret_is_in_no_log_no_error_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = [repr(Client("http://127.0.0.1:1", SECRET))]
    for answer in (Answer(reset=True), Answer(200, b"page"), problem(401, "UNAUTHORIZED"), Answer(302, b"")):
        with ScriptedApi(answer) as api:
            error = failing(api.url, GET)
        said += [str(error), repr(error), repr(error.__cause__)]
        assert api.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in "\n".join([*said, caplog.text])


def test_a_netrc_does_not_put_in_another_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\ndefault login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedApi() as api, Client(api.url, SECRET) as client:
        client._wire._session.trust_env = True
        GET(client)
        client._wire._bearer.token = ""
        GET(client)
    assert [asked.headers.get("authorization") for asked in api.asked] == [f"Bearer {SECRET}", None]


def test_a_refused_token_is_renewed_once_even_for_what_may_not_be_done_twice() -> None:
    renewed: list[str] = []

    def renew(token: str) -> str:
        renewed.append(token)
        return "fresh"

    expired = problem(401, "UNAUTHORIZED")
    with ScriptedApi(expired, Answer(), expired) as api, Client(api.url, "stale", renew=renew) as client:
        PATCH(client)
        with pytest.raises(NotLetIn):
            PATCH(client)
    assert renewed == ["stale", "fresh"]
    tokens = [asked.headers["authorization"] for asked in api.asked]
    assert tokens == ["Bearer stale", "Bearer fresh", "Bearer fresh", "Bearer fresh"]


def test_ids_cannot_leave_their_place_in_the_path() -> None:
    with ScriptedApi() as api, Client(api.url) as client:
        client.monitor("../organization?x=1#y")
    assert api.asked[0].path == "/v1/monitors/..%2Forganization%3Fx%3D1%23y"
