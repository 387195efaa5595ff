"""What has to be done to make monitors as they are to be: a pure comparison of two sets of settings, by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Hidden:
    """A secret within settings: compared, never shown."""

    value: str = field(repr=False)


class Action(StrEnum):
    """What happens to a monitor."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Desired:
    """A monitor as it is to be. `settings` are complete: what was left out has its default."""

    key: str
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Present:
    """A monitor as it is."""

    id: str
    key: str
    name: str
    config_version: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, by its path, that is to be another."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one monitor; `id` and `config_version` are None while it is not there."""

    action: Action
    key: str
    name: str
    id: str | None = None
    config_version: int | None = None
    differences: tuple[Difference, ...] = ()


def plan(desired: Sequence[Desired], present: Mapping[str, Present], doomed: Sequence[Present]) -> list[Change]:
    """The changes, by key, that make `present` (by key) as desired and remove what is doomed."""
    changes = [_change(one, present.get(one.key)) for one in desired]
    gone = [Change(Action.DELETE, one.key, one.name, one.id, one.config_version) for one in doomed]
    return sorted([*filter(None, changes), *gone], key=lambda change: change.key)


def _change(wanted: Desired, there: Present | None) -> Change | None:
    if there is None:
        return Change(Action.CREATE, wanted.key, wanted.name)
    found = tuple(differences(there.settings, wanted.settings))
    if not found:
        return None
    return Change(Action.UPDATE, wanted.key, wanted.name, there.id, there.config_version, found)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[Difference]:
    """Where two settings differ: within objects field by field, lists as a whole; what is not there is None."""
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, f"{path}{name}.")
        elif one != other:
            yield Difference(path + name, one, other)
