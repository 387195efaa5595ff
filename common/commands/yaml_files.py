"""Files of monitors: YAML that says what it seems to say, and the same bytes for the same monitors.

Read by PyYAML's safe constructor, without the surprises of YAML 1.1: `on`, `12:30` and `2026-01-01` are texts, and
a name that stands twice is an error, not the last one's victory.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from common.exit_status import CommandError

#: As much as the API takes.
_MAX_BYTES = 20 * 1024 * 1024
#: Values in a file, and what its aliases may unfold into.
_MAX_NODES = 2_000_000
_MAX_DEPTH = 64

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_Base):  # type: ignore[misc]
    """As JSON reads its words and numbers; all else is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Refuse a name that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(str(key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("bool", "true|false|True|False|TRUE|FALSE", "tfTF"),
    ("null", "~|null|Null|NULL|", "~nN\0"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _regex = re.compile(f"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _regex, [c if c != "\0" else "" for c in _first])


def read(path: str) -> list[dict[str, Any]]:
    """The monitors of a file, or of standard input for "-". Raises CommandError."""
    where = "standard input" if path == "-" else path
    try:
        text = _text(path, where)
        _refuse_what_is_too_much(text, where)
        document = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        raise CommandError(f"{where}{_line(error.problem_mark)}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise CommandError(f"{where} is not YAML") from None
    if not isinstance(document, dict) or not isinstance(document.get("monitors"), list):
        raise CommandError(f"{where} must be like `tocsin export` writes it: monitors: and a list of them")
    unknown = [str(name) for name in document if name != "monitors"]
    if unknown:
        raise CommandError(f"{where}: there is no {', '.join(unknown)} beside monitors")
    for wrong in _complaints(document):
        raise CommandError(f"{where}: {wrong}")
    monitors: list[dict[str, Any]] = document["monitors"]
    return monitors


def write(document: dict[str, Any]) -> str:
    """A document as YAML, in the order that it has."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _text(path: str, where: str) -> str:
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{where} is not UTF-8") from None
    if len(raw) > _MAX_BYTES:
        raise CommandError(f"{where} is larger than {_MAX_BYTES >> 20} MiB")
    return text


def _refuse_what_is_too_much(text: str, where: str) -> None:
    """Go through its events, and no further than to the first that is too much.

    The loader itself is recursive, and in C that ends the process; and what it reads costs more with every level.
    """
    depth = nodes = 0
    for event in yaml.parse(text, _Base):
        nodes += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise CommandError(f"{where}{_line(event.start_mark)}: nested more than {_MAX_DEPTH} deep")
        if nodes > _MAX_NODES:
            raise CommandError(f"{where} holds more than {_MAX_NODES:,} values")


def _line(mark: Any) -> str:
    return f", line {mark.line + 1}" if mark else ""


def _complaints(document: dict[str, Any]) -> Iterator[str]:
    """What JSON cannot hold. What aliases share is counted as often as it is meant."""
    # Iterators, not lists: what unfolds without end is never held.
    stack: list[Iterator[tuple[str, Any]]] = [_children("", document)]
    seen = 0
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            continue
        seen += 1
        if seen > _MAX_NODES or len(stack) > _MAX_DEPTH:
            yield "its aliases unfold into too much"
            return
        place, value = item
        if complaint := _complaint(place, value):
            yield complaint
        stack.append(_children(place, value))


def _children(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ((f"{place}.{name}".lstrip("."), one) for name, one in named)


def _complaint(place: str, value: Any) -> str:
    if isinstance(value, dict):
        wrong = next((name for name in value if not isinstance(name, str)), None)
        return "" if wrong is None else f"{place}: {wrong!r} must be a text: put it in quotes"
    if place.startswith("monitors.") and place.count(".") == 1:
        return f"{place} is not a monitor"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place}: {value} cannot be sent"
    if value is None or isinstance(value, str | int | float | list):
        return ""
    return f"{place}: a {type(value).__name__} cannot be sent"
