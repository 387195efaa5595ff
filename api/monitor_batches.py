"""Bodies of many monitors, checked one by one: what is wrong with one is said of that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api import monitor_changes, parsing
from api.context import caller, services
from api.monitor_documents import to_settings
from api.reach import refuse_denied
from api.schemas_monitors import MonitorIn
from common.domain.errors import FieldError, RequestError, ValidationFailed
from common.store import locations, monitor_sets
from common.store.engine import Connection
from common.store.monitors import MonitorSettings

#: Nobody reads a thousand complaints about one body.
_MAX_DETAILS = 100


@dataclass(slots=True)
class Checked:
    """The items of a body that are right, and what is wrong with the others, by index."""

    bodies: dict[int, MonitorIn] = field(default_factory=dict)
    faults: dict[int, RequestError] = field(default_factory=dict)

    def refuse(self, index: int, fault: RequestError) -> None:
        """Leave an item out."""
        self.bodies.pop(index, None)
        self.faults[index] = fault

    def raise_faults(self) -> None:
        """Refuse the whole body if anything is wrong with any item: by its path, and as 400 if any is that."""
        if not self.faults:
            return
        faults = {index: fault for index, fault in self.faults.items() if fault.status == 400} or self.faults
        details = [
            FieldError(_path(index, detail.field), detail.message)
            for index, fault in sorted(faults.items())
            for detail in fault.details
        ]
        first = faults[min(faults)]
        if first.status == 400:
            message = "Some monitors are wrong; none of them was taken."
            raise ValidationFailed(message, details=details[:_MAX_DETAILS])
        raise type(first)(first.message, code=first.code, details=details[:_MAX_DETAILS])


def check(items: Sequence[Any]) -> Checked:
    """Look at every item by itself, and for keys that stand twice."""
    checked = Checked()
    first_with: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            body = parsing.validate(MonitorIn, item)
            refuse_denied("target", body.host)
        except ValidationFailed as fault:
            checked.refuse(index, fault)
            continue
        checked.bodies[index] = body
        if body.key is not None and first_with.setdefault(body.key, index) != index:
            message = f"is also that of monitors.{first_with[body.key]}"
            checked.refuse(index, _wrong([FieldError("key", message)]))
    return checked


def resolve(
    connection: Connection, checked: Checked, present: Mapping[int, Mapping[str, Any]], secrets: Mapping[int, Any]
) -> dict[int, MonitorSettings]:
    """The settings of the items that are right, their names looked up; what cannot be is refused.

    `present` are the rows of those that are there already, `secrets` their opened ones.
    """
    known = locations.ids_by_name(connection)
    parents = {body.parent_id for body in checked.bodies.values() if body.parent_id is not None}
    if any(
        checked.bodies[i].parent_id not in (None, row["parent_id"]) for i, row in present.items() if i in checked.bodies
    ):
        monitor_sets.lock_parents(connection, org_id=caller().org_id)
    above = monitor_sets.ancestry(connection, org_id=caller().org_id, ids=sorted(parents)) if parents else {}
    # Who is above whom once all of it is done.
    above |= {row["id"]: checked.bodies[i].parent_id for i, row in present.items() if i in checked.bodies}
    resolved = {}
    for index, body in list(checked.bodies.items()):
        names = body.locations or [services().settings.location]
        problems = [
            *monitor_changes.location_problems(names, known),
            *_parent_problems(body, present.get(index), above),
        ]
        try:
            if problems:
                raise _wrong(problems)
            if index in present:
                monitor_changes.refuse_leak(present[index], body)
            resolved[index] = to_settings(body, tuple(known[name] for name in names), secrets.get(index, {}))
        except ValidationFailed as fault:
            checked.refuse(index, fault)
    return resolved


def _parent_problems(
    body: MonitorIn, row: Mapping[str, Any] | None, above: Mapping[str, str | None]
) -> list[FieldError]:
    # One that is there already may be gone by now: that is no reason to refuse everything else.
    if body.parent_id is None or (row is not None and row["parent_id"] == body.parent_id not in above):
        return []
    if body.parent_id not in above:
        return [FieldError("parent_id", "no such monitor in this organization")]
    step: str | None = body.parent_id
    seen: set[str] = set()
    while row is not None and step is not None and step not in seen:
        if step == row["id"]:
            return [FieldError("parent_id", "a monitor cannot stand above itself")]
        seen.add(step)
        step = above.get(step)
    return []


def _wrong(problems: Sequence[FieldError]) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=problems)


def _path(index: int, name: str) -> str:
    return f"monitors.{index}" if name == "body" else f"monitors.{index}.{name}"
