"""What people do with incidents: open one by hand, acknowledge, resolve, change, assign, comment.

Each locks the incident first and moves its version by one per event, as `incidents` does for what machines find.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg.types.json
from uuid_utils import uuid7

from common.domain.errors import FieldError, NotFound, PreconditionFailed, ValidationFailed
from common.domain.health import State
from common.domain.incident import EventType, Priority, Severity, Status, merge_labels, move, priority_of
from common.store import votes
from common.store.engine import Connection
from common.store.incidents import Alteration, Deed, Opening, alter_all, by_hand, open_all, record

#: Source of incidents that people open; their dedup_key is this and their id.
BY_HAND = "manual"

#: Longer texts are cut in the timeline: the whole ones stand in the incident.
_TOLD_CHARS = 500

#: What somebody changed: {field: {"from": …, "to": …}}.
Changes = Mapping[str, Mapping[str, Any]]

_Json = psycopg.types.json.Jsonb

# An incident as it stands, ours until the transaction ends.
_LOCK = """
SELECT status, version, ack_expires_at, title, description, severity, priority, assignee_id::text AS assignee, labels,
       postmortem
  FROM incidents WHERE org_id = %(org_id)s AND id = %(id)s FOR UPDATE
"""
# The same for many, in one order for all who do it.
_LOCK_ALL = """
SELECT id::text, status FROM incidents WHERE org_id = %(org_id)s AND id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE
"""
_MONITOR_NO = """
SELECT m.monitor_no FROM incidents i JOIN monitors m ON m.org_id = i.org_id AND m.id = i.monitor_id
 WHERE i.org_id = %(org_id)s AND i.id = %(id)s
"""
_MONITOR_EXISTS = "SELECT 1 FROM monitors WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL"

# Whether somebody belongs to the organization, and goes on doing so until the transaction ends.
_HOLD_MEMBER = "SELECT 1 FROM memberships WHERE org_id = %(org_id)s AND user_id = %(user_id)s FOR KEY SHARE"

# A comment or another note moves the version too, so that the timeline has no gap and no two events share a place.
_TOUCH = "UPDATE incidents SET version = version + 1 WHERE id = ANY(%(ids)s::uuid[])"
_UPDATE = """
UPDATE incidents SET version = version + 1, title = %(title)s, description = %(description)s, severity = %(severity)s,
                     priority = %(priority)s, labels = %(labels)s, postmortem = %(postmortem)s
 WHERE id = %(id)s
"""
_ASSIGN = "UPDATE incidents SET version = version + 1, assignee_id = %(assignee)s::uuid WHERE id = %(id)s"
# Acknowledged for a time that is over. Whoever resolves or extends one right now, or is another notifier, has it.
_EXPIRED = """
SELECT id::text, correlation_id, ack_expires_at FROM incidents
 WHERE status = 'acknowledged' AND ack_expires_at <= %(now)s
 ORDER BY ack_expires_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""
_EXTEND = "UPDATE incidents SET version = version + 1, ack_expires_at = %(expires_at)s WHERE id = %(id)s"


@dataclass(frozen=True, slots=True)
class NewIncident:
    """An incident to open by hand. Without `labels` it has its monitor's; `priority` None follows from the severity."""

    title: str
    severity: Severity
    description: str = ""
    priority: Priority | None = None
    labels: Mapping[str, str] | None = None
    assignee: str | None = None
    monitor_id: str | None = None


@dataclass(frozen=True, slots=True)
class How:
    """What comes with a status. `seen`: the versions that the caller may have seen (None: whichever it is)."""

    expires_at: datetime | None = None  # of an acknowledgement
    comment: str = ""
    seen: Collection[int] | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """Fields to change by their names, as the API names them; labels are a merge patch. `seen` as in `How`."""

    fields: Mapping[str, Any]
    seen: Collection[int] | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of many incidents: ids that are acknowledged now, that stay as they were, and that nobody has."""

    changed: list[str]
    unchanged: list[str]
    not_found: list[str]


_PLAIN = How()


def create(connection: Connection, *, org_id: str, new: NewIncident, deed: Deed) -> str:
    """Open an incident by hand; its id. Raises ValidationFailed for a monitor or assignee that there is not."""
    if new.monitor_id is not None:
        _require_monitor(connection, org_id, new.monitor_id)
    id_ = str(uuid7())
    opening = Opening(
        org_id,
        new.monitor_id,
        BY_HAND,
        f"{BY_HAND}:{id_}",
        new.title,
        new.severity,
        {},
        deed.at,
        deed.request_id,
        description=new.description,
        labels=new.labels,
        actor=deed.actor,
        priority=new.priority,
        id=id_,
    )
    open_all(connection, [opening])
    if new.assignee is not None:
        _assign(connection, org_id, by_hand(id_, EventType.ASSIGNED, deed, {"from": None, "to": new.assignee}))
    return id_


def set_status(  # noqa: PLR0913 - which, whereto, who; how is mostly left out
    connection: Connection, *, org_id: str, incident_id: str, wanted: Status, deed: Deed, how: How = _PLAIN
) -> Changes:
    """Move an incident by hand; what changed. Raises NotFound, PreconditionFailed and InvalidTransition.

    Resolving a monitor's incident releases its failing votes: it opens again only after a whole threshold of further
    scheduled failures. An acknowledgement that is repeated with a time of its own now lasts until then.
    """
    facts = _lock_facts(connection, org_id, incident_id) if wanted is Status.RESOLVED else None
    current = _lock(connection, org_id, incident_id, how.seen)
    changes: dict[str, Any] = {}
    if move(Status(current["status"]), wanted):
        changes["status"] = {"from": current["status"], "to": wanted.value}
        type_ = EventType.ACKNOWLEDGED if wanted is Status.ACKNOWLEDGED else EventType.RESOLVED
        alter_all(connection, [_move(incident_id, type_, wanted, deed, how)])
        if facts is not None and facts.open_incident == incident_id:
            votes.release(connection, monitor_no=facts.monitor_no)
            released = votes.StateUpdate(facts.monitor_no, State(facts.state.health), None, incident_id, 0)
            votes.save_states(connection, [released])
    elif how.expires_at is not None and how.expires_at != current["ack_expires_at"]:
        changes["acknowledgement_expires_at"] = _extend(connection, incident_id, current, how.expires_at, deed)
    _comment(connection, [incident_id], how.comment, deed)
    return changes


def acknowledge_all(
    connection: Connection, *, org_id: str, ids: Sequence[str], deed: Deed, how: How = _PLAIN
) -> Acknowledged:
    """Acknowledge those of these incidents that are open, each with an event of its own."""
    found: dict[str, str] = {
        row[0]: row[1] for row in connection.exec_driver_sql(_LOCK_ALL, {"org_id": org_id, "ids": list(ids)})
    }
    changed = [id_ for id_, status in found.items() if status == Status.OPEN]
    alter_all(connection, [_move(id_, EventType.ACKNOWLEDGED, Status.ACKNOWLEDGED, deed, how) for id_ in changed])
    _comment(connection, changed, how.comment, deed)
    unchanged = [id_ for id_, status in found.items() if status != Status.OPEN]
    return Acknowledged(changed, unchanged, [id_ for id_ in dict.fromkeys(ids) if id_ not in found])


def expire_acknowledgements(connection: Connection, now: datetime, *, limit: int) -> int:
    """Open again what was acknowledged for a time that is over, up to `limit`; how many. For the worker's role."""
    rows = connection.exec_driver_sql(_EXPIRED, {"now": now, "limit": limit}).all()
    expired = [
        Alteration(
            id_,
            EventType.ACKNOWLEDGEMENT_EXPIRED,
            now,
            correlation_id,
            status=Status.OPEN,
            data={"expired_at": expires_at.isoformat()},
        )
        for id_, correlation_id, expires_at in rows
    ]
    return len(alter_all(connection, expired))


def update(connection: Connection, *, org_id: str, incident_id: str, edit: Edit, deed: Deed) -> Changes:
    """Change fields; what changed. Raises NotFound, PreconditionFailed, and ValidationFailed for a foreign assignee."""
    current = _lock(connection, org_id, incident_id, edit.seen)
    wanted = {**current, **_following(edit.fields, current)}
    changes: dict[str, Any] = {
        name: {"from": current[name], "to": value} for name, value in wanted.items() if value != current[name]
    }
    assigned = changes.pop("assignee", None)
    if changes:
        connection.exec_driver_sql(_UPDATE, {**wanted, "labels": _Json(wanted["labels"]), "id": incident_id})
        _note_update(connection, incident_id, changes, deed)
    if assigned is not None:
        _assign(connection, org_id, by_hand(incident_id, EventType.ASSIGNED, deed, assigned))
        changes["assignee"] = assigned
    return changes


def comment(connection: Connection, *, org_id: str, incident_id: str, body: str, deed: Deed) -> int:
    """Append a comment to the timeline; the incident's version before it. Raises NotFound."""
    version: int = _lock(connection, org_id, incident_id, None)["version"]
    _comment(connection, [incident_id], body, deed)
    return version


def _following(fields: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """The new values; a severity brings its priority with it, unless that is given as well."""
    wanted = dict(fields)
    if "labels" in wanted:
        wanted["labels"] = merge_labels(current["labels"], wanted["labels"])
    if wanted.get("severity", current["severity"]) != current["severity"]:
        wanted.setdefault("priority", priority_of(wanted["severity"]).value)
    return wanted


def _move(incident_id: str, type_: EventType, wanted: Status, deed: Deed, how: How) -> Alteration:
    data: dict[str, Any] = {"by": "hand"}
    if how.expires_at is not None:
        data["expires_at"] = how.expires_at.isoformat()
    return replace(by_hand(incident_id, type_, deed, data), status=wanted, ack_expires_at=how.expires_at)


def _extend(
    connection: Connection, incident_id: str, current: Mapping[str, Any], until: datetime, deed: Deed
) -> dict[str, str | None]:
    connection.exec_driver_sql(_EXTEND, {"id": incident_id, "expires_at": until})
    before = current["ack_expires_at"]
    moved = {"from": None if before is None else before.isoformat(), "to": until.isoformat()}
    _note_update(connection, incident_id, {"acknowledgement_expires_at": moved}, deed)
    return moved


def _assign(connection: Connection, org_id: str, assigned: Alteration) -> None:
    user_id = assigned.data["to"]
    if user_id is not None:
        member = connection.exec_driver_sql(_HOLD_MEMBER, {"org_id": org_id, "user_id": user_id}).first()
        if member is None:
            raise _wrong("assignee", "no such user in this organization")
    connection.exec_driver_sql(_ASSIGN, {"id": assigned.incident_id, "assignee": user_id})
    record(connection, [assigned])


def _note_update(
    connection: Connection, incident_id: str, changes: Mapping[str, Mapping[str, Any]], deed: Deed
) -> None:
    told = {name: {side: _told(value) for side, value in change.items()} for name, change in changes.items()}
    record(connection, [by_hand(incident_id, EventType.UPDATED, deed, {"changes": told})])


def _told(value: Any) -> Any:
    return value[:_TOLD_CHARS] + "…" if isinstance(value, str) and len(value) > _TOLD_CHARS else value


def _comment(connection: Connection, ids: Sequence[str], body: str, deed: Deed) -> None:
    if body and ids:
        connection.exec_driver_sql(_TOUCH, {"ids": list(ids)})
        record(connection, [by_hand(id_, EventType.COMMENTED, deed, {"body": body}) for id_ in ids])


def _lock(connection: Connection, org_id: str, incident_id: str, seen: Collection[int] | None) -> dict[str, Any]:
    row = connection.exec_driver_sql(_LOCK, {"org_id": org_id, "id": incident_id}).mappings().first()
    if row is None:
        raise NotFound("incident")
    if seen is not None and row["version"] not in seen:
        raise PreconditionFailed(f"The incident has changed meanwhile: its version is {row['version']}.")
    return dict(row)


def _lock_facts(connection: Connection, org_id: str, incident_id: str) -> votes.MonitorFacts | None:
    """Votes and state before the incident: the order in which the writer takes them."""
    monitor_no = connection.exec_driver_sql(_MONITOR_NO, {"org_id": org_id, "id": incident_id}).scalar()
    if monitor_no is None:
        return None
    votes.lock(connection, [monitor_no])
    return votes.lock_states(connection, [monitor_no])[monitor_no]


def _require_monitor(connection: Connection, org_id: str, monitor_id: str) -> None:
    if connection.exec_driver_sql(_MONITOR_EXISTS, {"org_id": org_id, "id": monitor_id}).first() is None:
        raise _wrong("monitor_id", "no such monitor in this organization")


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=[FieldError(field, message)])
