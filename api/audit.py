"""What a request changes, written into the audit log in the transaction of the change.

One line in a view: `audit.changed(connection, "monitor", id, before, after)`, with the documents that the API shows.
Those hold no secrets, so the log does not either; what is shown once, at creation, is added to the answer afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import g, request

from api.context import caller, request_id
from common.store import audit_log
from common.store.audit_log import Entry
from common.store.engine import Connection

Document = Mapping[str, Any]


def changed(  # noqa: PLR0913 - what changed, from what, to what; the rest is for those who are no callers
    connection: Connection,
    kind: str,
    id_: str,
    before: Document | None,
    after: Document | None,
    *,
    org_id: str | None = None,
    actor: str | None = None,
) -> None:
    """Write down that this request made (`before` None), changed or removed (`after` None) something.

    `org_id` and `actor` default to the caller's. Nothing is written where both documents say the same.
    """
    all_changed(connection, kind, [(id_, before, after)], org_id=org_id, actor=actor)


def noted(connection: Connection, kind: str, id_: str, facts: Document | None = None) -> None:
    """Write down something that was done and changed no document, like a new password."""
    me = caller()
    audit_log.add(connection, [_entry(me.org_id, me.actor, kind, (id_, None, facts))])


def all_changed(
    connection: Connection,
    kind: str,
    changes: Iterable[tuple[str, Document | None, Document | None]],
    *,
    org_id: str | None = None,
    actor: str | None = None,
) -> None:
    """Write down changes (id, before, after) of many things of one kind."""
    org_id = caller().org_id if org_id is None else org_id
    actor = caller().actor if actor is None else actor
    entries = [_entry(org_id, actor, kind, change) for change in changes if change[1] != change[2]]
    audit_log.add(connection, entries)


def _entry(org_id: str, actor: str, kind: str, change: tuple[str, Document | None, Document | None]) -> Entry:
    return Entry(org_id, actor, g.operation, kind, *change, request_id(), request.remote_addr or "")
