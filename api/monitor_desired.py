"""A desired set of monitors beside what there is: read, compared, fingerprinted; and made so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uuid_utils import uuid7

from api import audit, monitor_batches, monitor_writes
from api.context import caller, services
from api.monitor_batches import Checked
from api.monitor_documents import audited_document, stored_settings
from api.monitor_settings import complete, revealed, shown
from api.monitor_writes import Rewriting, open_secrets
from api.schemas_bulk import MAX_DESIRED, PlanIn
from common.domain import plans
from common.domain.errors import FieldError, PreconditionFailed, ValidationFailed
from common.domain.plans import Action, Change, Desired, Present
from common.store import locations, monitor_plans, monitor_sets, votes
from common.store.engine import Connection
from common.store.monitors import MonitorSettings

#: Nobody reads more of what was changed in another way.
_MAX_DRIFT = 1_000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What there is to do, and all that is needed to do it. `wanted` and `rows` (what is there) are by key."""

    changes: Sequence[Change]
    fingerprint: str
    drift: Sequence[Row]
    wanted: Mapping[str, MonitorSettings]
    rows: Mapping[str, Row]
    secrets: Mapping[str, Mapping[str, str]]
    doomed: Mapping[str, Row]


def check(body: PlanIn) -> Checked:
    """The monitors of a body. Raises ValidationFailed."""
    checked = monitor_batches.check(body.monitors)
    for index, monitor in list(checked.bodies.items()):
        problems = []
        if monitor.key is None:
            problems.append(FieldError("key", "is required: a plan knows monitors by their keys"))
        if any(monitor.labels.get(name) != value for name, value in (body.labels or {}).items()):
            problems.append(FieldError("labels", "must hold the labels of this plan"))
        if problems:
            checked.refuse(index, ValidationFailed("Some fields are wrong.", details=problems))
    checked.raise_faults()
    return checked


def compare(connection: Connection, body: PlanIn, checked: Checked, *, lock: bool = False) -> Comparison:
    """What an apply of this body does now. `lock` keeps what it rests on until the transaction ends.

    Raises ValidationFailed, and PreconditionFailed when something came while we waited for the locks.
    """
    org_id = caller().org_id
    indexes = {monitor.key or "": index for index, monitor in checked.bodies.items()}
    locked = _lock(connection, body, sorted(indexes)) if lock else None
    # Read after the locks: what was changed while we waited for them shows in the fingerprint.
    rows = {row["key"]: row for row in monitor_sets.of_keys(connection, org_id=org_id, keys=sorted(indexes))}
    doomed = _doomed(connection, body, sorted(indexes)) if body.prune else {}
    if locked is not None and not locked.issuperset(row["id"] for row in (*rows.values(), *doomed.values())):
        # To lock it now would be out of order.
        raise stale()
    secrets = {key: open_secrets(row) for key, row in rows.items()}
    resolved = monitor_batches.resolve(
        connection,
        checked,
        {indexes[key]: row for key, row in rows.items()},
        {indexes[key]: opened for key, opened in secrets.items()},
    )
    checked.raise_faults()
    wanted = {key: resolved[index] for key, index in indexes.items()}
    changes = _changes(connection, wanted, rows, secrets, doomed)
    drift = monitor_plans.drifted(connection, org_id=org_id, labels=body.labels, limit=_MAX_DRIFT)
    return Comparison(changes, _fingerprint(body, changes, wanted), drift, wanted, rows, secrets, doomed)


def apply(connection: Connection, found: Comparison) -> None:
    """Do what the comparison found; its rows are locked. Raises PreconditionFailed when a new key was just taken."""
    org_id = caller().org_id
    by_action = {action: [one for one in found.changes if one.action is action] for action in Action}
    ids = {change.key: str(uuid7()) for change in by_action[Action.CREATE]}
    if ids:
        made = monitor_writes.add(connection, {ids[key]: found.wanted[key] for key in ids})
        if len(made) < len(ids):
            raise stale()
    updates = [found.rows[change.key] for change in by_action[Action.UPDATE]]
    deletions = [found.doomed[change.key] for change in by_action[Action.DELETE]]
    if updates and deletions:
        # All votes before the first state and incident: those of what is deleted would come after those of what pauses.
        votes.lock(connection, [row["monitor_no"] for row in (*updates, *deletions)])
    monitor_writes.rewrite(
        connection,
        [Rewriting(row, stored_settings(row, found.secrets[row["key"]]), found.wanted[row["key"]]) for row in updates],
    )
    if deletions:
        monitor_writes.delete(connection, deletions)
    kept = [*ids.values(), *(row["id"] for row in found.rows.values())]
    monitor_plans.note_applied(connection, org_id=org_id, ids=kept)
    _audit(connection, [*ids.values(), *(row["id"] for row in updates)], {row["id"]: row for row in updates}, deletions)


def stale() -> PreconditionFailed:
    """What was looked at is no longer what there is to do."""
    return PreconditionFailed("Things have changed since this plan was made: plan again.", code="PLAN_STALE")


def document(found: Comparison) -> dict[str, Any]:
    """A plan as it is shown."""
    counts = {action: sum(change.action is action for change in found.changes) for action in Action}
    unchanged = len(found.wanted) - counts[Action.CREATE] - counts[Action.UPDATE]
    return {
        "fingerprint": found.fingerprint,
        "summary": {**{action.value: count for action, count in counts.items()}, "unchanged": unchanged},
        "changes": [_change_document(change) for change in found.changes],
        "drift": [dict(row) for row in found.drift],
    }


def _lock(connection: Connection, body: PlanIn, keys: Sequence[str]) -> set[str]:
    return monitor_plans.lock(
        connection,
        org_id=caller().org_id,
        keys=keys,
        labels=body.labels,
        limit=MAX_DESIRED + 1,
        prune=body.prune,
    )


def _doomed(connection: Connection, body: PlanIn, keys: Sequence[str]) -> dict[str, Row]:
    org_id = caller().org_id
    rows = monitor_plans.others(connection, org_id=org_id, keys=keys, labels=body.labels, limit=MAX_DESIRED + 1)
    if len(rows) > MAX_DESIRED:
        message = f"would delete more than {MAX_DESIRED:,} monitors; narrow it by labels"
        raise ValidationFailed("This plan deletes too much.", details=[FieldError("prune", message)])
    return {row["key"]: row for row in rows}


def _changes(
    connection: Connection,
    wanted: Mapping[str, MonitorSettings],
    rows: Mapping[str, Row],
    secrets: Mapping[str, Mapping[str, str]],
    doomed: Mapping[str, Row],
) -> list[Change]:
    names = {id_: name for id_, name, _ in locations.list_all(connection)}
    desired = [Desired(key, settings.name, complete(settings, names)) for key, settings in wanted.items()]
    present = {key: _present(row, complete(stored_settings(row, secrets[key]), names)) for key, row in rows.items()}
    return plans.plan(desired, present, [_present(row, {}) for row in doomed.values()])


def _present(row: Row, settings: Mapping[str, Any]) -> Present:
    return Present(row["id"], row["key"], row["name"], row["config_version"], settings)


def _fingerprint(body: PlanIn, changes: Sequence[Change], wanted: Mapping[str, MonitorSettings]) -> str:
    """The same as long as the same would be done. By our key: nobody can try secrets against it."""
    facts = [
        caller().org_id,
        body.labels,
        body.prune,
        [
            [
                change.action,
                change.key,
                change.id,
                change.config_version,
                [[one.field, revealed(one.before), revealed(one.after)] for one in change.differences],
                _whole(wanted[change.key]) if change.action is Action.CREATE else None,
            ]
            for change in changes
        ],
    ]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + services().vault.sign("monitor plan", text.encode()).hex()


def _whole(settings: MonitorSettings) -> list[Any]:
    return [getattr(settings, name) for name in MonitorSettings.__slots__]


def _change_document(change: Change) -> dict[str, Any]:
    return {
        "action": change.action.value,
        "key": change.key,
        "id": change.id,
        "name": change.name,
        "differences": [
            {"field": one.field, "from": shown(one.before), "to": shown(one.after)} for one in change.differences
        ],
    }


def _audit(connection: Connection, ids: Sequence[str], before: Mapping[str, Row], deletions: Sequence[Row]) -> None:
    after = monitor_sets.of_ids(connection, org_id=caller().org_id, ids=ids) if ids else []
    written = [
        (row["id"], audited_document(before[row["id"]]) if row["id"] in before else None, audited_document(row))
        for row in after
    ]
    gone = [(row["id"], audited_document(row), None) for row in deletions]
    audit.all_changed(connection, "monitor", [*written, *gone])
