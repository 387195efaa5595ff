"""/ping and /api/push: what heartbeats are pinged by, word for word as healthchecks.io and Uptime Kuma have it.

The secret in the path is all that there is to know; it stands in no log. Who does not know it is limited by address,
who does only far beyond what a job means (api/heartbeats_flood.py). Most pings never come here: api/heartbeats_short.py
takes them before Flask does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from flask import Response, request
from pydantic import BaseModel

from api import heartbeats_words, limits
from api.context import services
from api.heartbeats_short import ASKED, UNKNOWN
from api.replies import reply
from api.routing import Routes
from common.domain.errors import TocsinError
from common.domain.heartbeats import PingKind
from common.store.heartbeats_intake import Heard

routes = Routes("compatibility")


class PushTaken(BaseModel):
    """As Uptime Kuma says that a push was taken, or why not."""

    ok: bool
    msg: str | None = None


@routes.get("/ping/<code>", media_type="text/plain", own_errors=(404,), statuses=(429,), limit="")
def ping(code: str) -> Response:
    """Success: what the monitor waits for. Query: `rid`, the id of the run (a UUID)."""
    return _ping(code, PingKind.SUCCESS, None)


@routes.post("/ping/<code>", media_type="text/plain", own_errors=(404,), statuses=(429,), limit="")
def post_ping(code: str) -> Response:
    """The same; of the body the first 10,000 bytes are kept."""
    return _ping(code, PingKind.SUCCESS, None)


@routes.get("/ping/<code>/<action>", media_type="text/plain", own_errors=(400, 404), statuses=(429,), limit="")
def ping_action(code: str, action: str) -> Response:
    """`start` of a run, `fail`, `log`, or an exit status of 0 to 255: 0 is success, everything else failure."""
    return _act(code, action)


@routes.post("/ping/<code>/<action>", media_type="text/plain", own_errors=(400, 404), statuses=(429,), limit="")
def post_ping_action(code: str, action: str) -> Response:
    """The same; of the body the first 10,000 bytes are kept."""
    return _act(code, action)


@routes.get("/api/push/<token>", answer=PushTaken, own_errors=(404,), statuses=(429,), limit="")
def push(token: str) -> Response:
    """As Uptime Kuma's push monitors: `status` is up or down, `msg` says why, `ping` is a duration in milliseconds."""
    return _push(token)


@routes.post("/api/push/<token>", answer=PushTaken, own_errors=(404,), statuses=(429,), limit="")
def post_push(token: str) -> Response:
    """The same; a body is not read."""
    return _push(token)


def _act(code: str, action: str) -> Response:
    act = heartbeats_words.action(action)
    if act is None:
        return _text("not found", 404)
    kind, exit_code = act
    if exit_code is not None and exit_code > heartbeats_words.MAX_EXIT:
        return _text("invalid url format", 400)
    return _ping(code, kind, exit_code)


def _ping(code: str, kind: PingKind, exit_code: int | None) -> Response:
    rid = request.args.get("rid")
    if rid is not None and heartbeats_words.uuid_of(rid) is None:
        return _text("invalid uuid format", 400)

    def read() -> Heard | None:
        # Of a body of any length its beginning is kept: a ping is not missed for what it has to say.
        request.max_content_length = sys.maxsize
        body = request.stream.read(heartbeats_words.BODY_BYTES)
        return heartbeats_words.ping(code, kind, exit_code=exit_code, rid=rid, body=body, source=_source())

    if not _known(read):
        limits.count_address(limits.PINGS)
        return _text("not found", 404)
    response = _text("OK", 200)
    response.headers["Ping-Body-Limit"] = str(heartbeats_words.BODY_BYTES)
    return response


def _push(token: str) -> Response:
    if not heartbeats_words.possible(request.args.get("ping", "")):
        return _refused(f"Invalid ping value. Must be between 0 and {heartbeats_words.MAX_PING_MS} ms.")
    if not _known(lambda: heartbeats_words.push(token, request.args, _source())):
        limits.count_address(limits.PINGS)
        return _refused("Monitor not found or not active.")
    return reply({"ok": True}, 200)


def _known(read: Callable[[], Heard | None]) -> bool:
    """Whether a monitor has taken the ping; what came by the short way has been asked already."""
    asked = request.environ.get(ASKED)
    if asked is UNKNOWN:
        return False
    if isinstance(asked, TocsinError):
        raise asked
    heard = read()
    return heard is not None and services().pings.take(heard)


def _refused(message: str) -> Response:
    return reply({"ok": False, "msg": message}, 404)


def _source() -> str:
    return heartbeats_words.network(request.remote_addr or "")


def _text(text: str, status: int) -> Response:
    response = Response(text, status, content_type="text/plain; charset=utf-8")
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
