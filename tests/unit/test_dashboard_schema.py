"""Dashboards are what Grafana's own schema says, as its maker publishes it in Python: no key unknown, no value of none.

The types are those of `grafana-foundation-sdk`, generated from Grafana's source for its newest version.
"""

from __future__ import annotations

import enum
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools import dashboards

#: Of the data source, not of the dashboard: Prometheus' annotations have them, and the schema leaves them open.
OPEN = {"$.annotations.list[0].step", "$.annotations.list[0].titleFormat"}
PLAIN = (str, int, float, bool)

plugins.register_default_plugins()
BOARDS = {name: json.loads(text) for name, text in dashboards.rendered().items()}


def lost(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    """What of ours is not there any more once Grafana's types have read and written it: they do not know it."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from lost(value, theirs[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(*pair, f"{where}[{place}]")
    elif ours != theirs:
        yield where


def wrong(value: Any, hint: Any, module: types.ModuleType, where: str) -> Iterator[str]:
    """Where a value is not of its type; classes are looked into."""
    if isinstance(hint, str | typing.ForwardRef):
        hint = eval(hint if isinstance(hint, str) else hint.__forward_arg__, vars(module))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        options = [list(wrong(value, part, module, where)) for part in parts]
        if all(options):
            # The one that is wrong deepest inside was meant.
            yield from max(options, key=lambda found: len(found[0].partition(":")[0]))
    elif origin is typing.Literal:
        if value not in parts:
            yield f"{where}: {value!r} is none of {parts}"
    elif origin is list and isinstance(value, list):
        for place, item in enumerate(value):
            yield from wrong(item, parts[0], module, f"{where}[{place}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from wrong(item, parts[1], module, f"{where}.{key}")
    elif inspect.isclass(hint) and issubclass(hint, enum.Enum):
        if value not in {member.value for member in hint}:
            yield f"{where}: {value!r} is none of {[member.value for member in hint]}"
    elif hint in PLAIN:
        if not isinstance(value, (int, float) if hint is float else hint) or (hint is not bool and value is True):
            yield f"{where}: {value!r} is no {hint.__name__}"
    elif hint is type(None):
        if value is not None:
            yield f"{where}: {value!r} is not null"
    elif inspect.isclass(hint) and isinstance(value, hint):
        yield from fields(value, where)
    elif inspect.isclass(hint) and isinstance(value, dict) and hasattr(hint, "from_json"):
        yield from fields(hint.from_json(value), where)
    elif hint not in {typing.Any, object}:
        yield f"{where}: {type(value).__name__} is no {hint}"


def fields(value: Any, where: str) -> Iterator[str]:
    """The attributes of an object of Grafana's."""
    for kind in type(value).__mro__:
        for name, hint in inspect.get_annotations(kind).items():
            if hasattr(value, name):
                yield from wrong(getattr(value, name), hint, sys.modules[kind.__module__], f"{where}.{name}")


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_grafana_knows_every_key(name: str) -> None:
    board = BOARDS[name]
    read = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    assert set(lost(board, read, "$")) == OPEN


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_value_is_one_that_grafana_has(name: str) -> None:
    assert list(fields(Dashboard.from_json(BOARDS[name]), "$")) == []


def test_what_grafana_does_not_know_is_found() -> None:
    """Its types read whatever they are given: that these tests see more has to be shown."""
    board = json.loads(json.dumps(BOARDS["tocsin-overview.json"]))
    (place, chart) = next((n, panel) for n, panel in enumerate(board["panels"]) if panel["type"] == "timeseries")
    chart["fieldConfig"]["defaults"]["custom"]["lineInterpolation"] = "monotone"
    chart["options"]["tooltip"]["mode"] = "all"
    chart["targets"][0]["instant"] = "no"
    chart["gridPos"]["w"] = "12"
    chart["colour"] = "red"
    read = Dashboard.from_json(board)
    assert {line.partition(":")[0].rpartition("]")[2] for line in fields(read, "$")} == {
        ".grid_pos.w", ".options.tooltip.mode", ".field_config.defaults.custom.line_interpolation", ".instant",
    }  # fmt: skip
    assert set(lost(board, json.loads(json.dumps(read, cls=JSONEncoder)), "$")) == {*OPEN, f"$.panels[{place}].colour"}
