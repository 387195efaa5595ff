"""Where in a JSON document a value stands: `$.a.b[0]['c d']`, one value at most, so that a check stays cheap."""

from __future__ import annotations

import re
from typing import Any

MAX_CHARS = 500
MAX_STEPS = 50

#: What `find` returns where there is nothing; JSON's null is something.
ABSENT: Any = object()

Path = tuple[str | int, ...]

_STEP = re.compile(
    r"\.(?P<name>[^.\[\]'\"\s]+)|\[(?P<index>-?[0-9]{1,6})\]|\['(?P<single>[^']*)'\]|\[\"(?P<double>[^\"]*)\"\]"
)


def parse(text: str) -> Path | str:
    """The steps of a path; a text in place of them says what is wrong with it."""
    if len(text) > MAX_CHARS:
        return f"the path is longer than {MAX_CHARS} characters"
    if not text.startswith("$"):
        return "the path must begin with $, like $.db.status"
    steps: list[str | int] = []
    place = 1
    while place < len(text):
        found = _STEP.match(text, place)
        if found is None or found["name"] == "*":
            return f"the path is wrong at character {place + 1}; it may have .name, ['name'] and [0]"
        index = found["index"]
        steps.append(int(index) if index else next(filter(None, found.group("name", "single", "double")), ""))
        place = found.end()
    return tuple(steps) if len(steps) <= MAX_STEPS else f"the path has more than {MAX_STEPS} steps"


def find(document: Any, path: Path) -> Any:
    """What stands there, or ABSENT."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(document, list) or not -len(document) <= step < len(document):
                return ABSENT
            document = document[step]
        else:
            if not isinstance(document, dict) or step not in document:
                return ABSENT
            document = document[step]
    return document
