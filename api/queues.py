"""/v1/queues: the queues between the services, and the messages that were given up on.

They belong to the whole installation, not to an organization. Messages carry ids only, and none of those is shown.
Losing or repeating one does no harm: PostgreSQL is the truth. Who replays or discards them stands in our own log: the
audit log is an organization's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, Field

from api import pagination
from api.context import caller, services
from api.routing import Routes
from api.schemas import Body, PageQuery, Query
from common import dead_letters, log
from common.broker import NOTIFY_QUEUE, probe_queue, queue_name
from common.domain.checks import Lane
from common.domain.errors import FieldError, Forbidden, NotFound
from common.store import locations

routes = Routes("queues")


class Queue(BaseModel):
    """A queue."""

    name: str
    messages: Annotated[int, Field(description="Wait to be fetched.")]
    delayed: Annotated[int, Field(description="Wait for their time: retries.")]
    dead: Annotated[int, Field(description="Were given up on.")]
    oldest_dead_at: datetime | None


class DeadMessage(BaseModel):
    """A message that was given up on; `error` is the class of its last error, null when none was kept."""

    id: str
    actor: Annotated[str | None, Field(description="null: it cannot be read at all.")]
    enqueued_at: datetime | None
    died_at: datetime
    retries: int
    error: str | None


class ReplayIn(Body):
    """Which dead messages to put back: these, or all (10,000 a call, the oldest first)."""

    ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]] | None, Field(max_length=1_000)] = None
    all: Literal[True] | None = None

    def problems(self) -> Iterator[FieldError]:
        """One of the two."""
        if (self.ids is None) == (self.all is None):
            yield FieldError("ids", "give either ids or all")


class Replay(BaseModel):
    """What came of it."""

    replayed: Annotated[int, Field(description="Are in their queue again.")]
    remaining: Annotated[int, Field(description="Are dead still, or again.")]


@routes.get("/v1/queues", permission="queues:read", query=Query, answer=Queue, paged=True)
def list_queues(query: Query) -> Response:  # noqa: ARG001 - it takes no parameters, and says so
    """All queues on one page: how much waits, and how much was given up on."""
    broker = services().broker
    return pagination.page([asdict(dead_letters.state(broker, name)) for name in _known()], None)


@routes.get("/v1/queues/<name>/dead", permission="queues:read", query=PageQuery, answer=DeadMessage, paged=True)
def list_dead_messages(name: str, query: PageQuery) -> Response:
    """Messages that were given up on, the last first. They are kept for seven days."""
    _find(name)
    before = pagination.before_id(query.cursor)
    rows = dead_letters.list_page(services().broker, name, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last.died_at, last.id)
    return pagination.page([asdict(row) for row in shown], cursor)


@routes.post("/v1/queues/<name>/replay", permission="queues:write", body=ReplayIn, answer=Replay, audited=False)
def replay_dead_messages(name: str, body: ReplayIn) -> dict[str, Any]:
    """Put dead messages back into their queue, with all their retries. Each is replayed once, whoever else asks.

    Under a new id, should it die again. Ids that are not dead (any more) and messages that cannot be read are left out.
    """
    _find(name)
    broker = services().broker
    replayed = dead_letters.replay(broker, name, None if body.ids is None else list(dict.fromkeys(body.ids)))
    log.get_logger().info("dead_messages_replayed", queue=name, count=replayed)
    return {"replayed": replayed, "remaining": dead_letters.state(broker, name).dead}


@routes.delete("/v1/queues/<name>/dead/<message>", permission="queues:write", audited=False)
def discard_dead_message(name: str, message: str) -> None:
    """Throw a dead message away."""
    _find(name)
    if not dead_letters.discard(services().broker, name, message):
        raise NotFound("message")
    log.get_logger().info("dead_message_discarded", queue=name, message_id=message)


def _find(name: str) -> None:
    if name not in _known():
        raise NotFound("queue")


def _known() -> list[str]:
    """The queues of all locations, and the notifiers'."""
    if services().settings.registration == "open" and caller().org_id:
        raise Forbidden("Here anybody may register, so the queues are the operator's: send a platform key.")
    with services().database.begin(caller().org_id) as connection:
        places = [name for _, name, _ in locations.list_all(connection)]
    lanes = (queue_name(lane, place) for place in places for lane in Lane)
    return [NOTIFY_QUEUE, *lanes, *map(probe_queue, places)]
