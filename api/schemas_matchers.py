"""Matchers as requests hold them: conditions on labels, of routes, silences and whatever else selects incidents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from api.schemas import Body
from api.schemas_monitors import LabelName
from common.domain.errors import FieldError
from common.domain.labels import MAX_VALUE, Matcher, Op, check_matcher

MAX_MATCHERS = 50


class MatcherIn(Body):
    """One condition. `*` in the value of `=` and `!=` is any text; `=~` and `!~` are RE2 and match the whole value.

    `severity`, `source` and `name` are labels too. An absent label has the value "".
    """

    label: LabelName
    op: Literal["=", "!=", "=~", "!~"]
    value: Annotated[str, Field(max_length=MAX_VALUE)]

    def matcher(self) -> Matcher:
        """What it means."""
        return Matcher(self.label, Op(self.op), self.value)


def matcher_problems(matchers: Sequence[MatcherIn]) -> Iterator[FieldError]:
    """What is wrong with the regular expressions of a body's `matchers`."""
    for index, item in enumerate(matchers):
        yield from check_matcher(item.matcher(), f"matchers.{index}.value")
