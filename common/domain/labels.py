"""Labels and the matchers that select by them: what routes, silences and maintenance windows are made of.

`severity`, `source` and `name` are labels like any other. An absent label has the value "". `*` in the value of `=`
and `!=` stands for any text; `=~` and `!~` are RE2 and match the whole value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import re2

from common.domain.errors import FieldError
from common.domain.patterns import pattern_of

T = TypeVar("T")

Labels = Mapping[str, str]
Test = Callable[[str], bool]

MAX_VALUE = 1_000


class Op(StrEnum):
    """How a label's value is compared."""

    EQ = "="
    NE = "!="
    RE = "=~"
    NOT_RE = "!~"


#: The operators that say what must not be, by the one that says it positively.
_POSITIVE = {Op.NE: Op.EQ, Op.NOT_RE: Op.RE}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    op: Op
    value: str

    def describe(self) -> str:
        """As people write it: team="shop"."""
        return f'{self.label}{self.op}"{self.value}"'


def check_matcher(matcher: Matcher, where: str) -> list[FieldError]:
    """What is wrong with it, [] for nothing."""
    if matcher.op in (Op.EQ, Op.NE):
        return []
    try:
        pattern_of(matcher.value)
    except re2.error as error:
        return [FieldError(where, f"is not a regular expression (RE2): {error}")]
    return []


def matches(matcher: Matcher, labels: Labels) -> bool:
    """Whether one matcher holds."""
    holds = _test(_POSITIVE.get(matcher.op, matcher.op), matcher.value)(labels.get(matcher.label, ""))
    return holds is (matcher.op not in _POSITIVE)


def matches_all(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Whether all hold; no matcher at all holds for everything."""
    return all(matches(matcher, labels) for matcher in matchers)


@dataclass(frozen=True, slots=True)
class _Condition:
    """A matcher without its sign."""

    label: str
    op: Op
    value: str

    @property
    def exact(self) -> bool:
        return self.op is Op.EQ and "*" not in self.value


class _Patterns:
    """The conditions on one label that are not a plain value, and what they said about values seen lately.

    A glob waits at its literal beginning, else at its literal end, so that a value meets few of many. Only lengths
    that such literals have are cut from a value: one of a million characters costs hardly more than a short one.
    """

    def __init__(self) -> None:
        self._heads: dict[str, list[tuple[Test, int]]] = {}
        self._tails: dict[str, list[tuple[Test, int]]] = {}
        self._head_lengths: set[int] = set()
        self._tail_lengths: set[int] = set()
        self._known: dict[str, frozenset[int]] = {}

    def add(self, condition: _Condition, number: int) -> None:
        """One more condition."""
        head, _, tail = condition.value.partition("*") if condition.op is Op.EQ else ("", "", "")
        tail = tail.rpartition("*")[2]
        if tail and not head:
            places, literal, lengths = self._tails, tail, self._tail_lengths
        else:
            places, literal, lengths = self._heads, head, self._head_lengths
        places.setdefault(literal, []).append((_test(condition.op, condition.value), number))
        lengths.add(len(literal))

    def true_for(self, value: str) -> frozenset[int]:
        """The conditions that hold."""
        found = self._known.get(value)
        if found is None:
            found = frozenset(number for test, number in self._met_by(value) if test(value))
            if len(value) <= MAX_VALUE:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[value] = found
        return found

    def _met_by(self, value: str) -> Iterator[tuple[Test, int]]:
        for length in self._head_lengths:
            if length <= len(value):
                yield from self._heads.get(value[:length], ())
        for length in self._tail_lengths:
            if length <= len(value):
                yield from self._tails.get(value[-length:], ())


#: Values of one label whose answers are kept; long ones are not.
_REMEMBERED = 4_096


class LabelIndex(Generic[T]):
    """Finds the entries whose matchers all hold, without looking at the others.

    Every distinct condition has a number. Each entry waits at the rarest of its positive conditions; a look-up goes
    to the conditions that hold for the labels, and only there are the entries' other conditions compared, as sets of
    numbers. Never changed once built: a new one replaces it.
    """

    def __init__(self, entries: Iterable[tuple[T, Sequence[Matcher]]]) -> None:
        self._items: list[T] = []
        self._required: list[frozenset[int]] = []
        self._forbidden: list[frozenset[int]] = []
        numbers: dict[_Condition, int] = {}
        for item, matchers in entries:
            self._items.append(item)
            self._required.append(_numbers(numbers, matchers, positive=True))
            self._forbidden.append(_numbers(numbers, matchers, positive=False))
        self._waiting, self._anywhere = _postings(self._required, len(numbers))
        self._exact: dict[tuple[str, str], int] = {}
        self._patterns: dict[str, _Patterns] = {}
        for condition, number in numbers.items():
            if condition.exact:
                self._exact[condition.label, condition.value] = number
            else:
                self._patterns.setdefault(condition.label, _Patterns()).add(condition, number)
        # What holds for a label that is absent.
        self._absent = {label: holds for label in {c.label for c in numbers} if (holds := self._true_for(label, ""))}

    def __len__(self) -> int:
        return len(self._items)

    def find(self, labels: Labels) -> list[T]:
        """The entries that match, in the order in which they were given."""
        holding: set[int] = set()
        for label, value in labels.items():
            holding |= self._true_for(label, value)
        for label, numbers in self._absent.items():
            if label not in labels:
                holding |= numbers
        required, forbidden = self._required, self._forbidden
        found = [n for n in self._anywhere if forbidden[n].isdisjoint(holding)]
        for number in holding:
            found += [n for n in self._waiting[number] if required[n] <= holding and forbidden[n].isdisjoint(holding)]
        found.sort()
        return [self._items[n] for n in found]

    def _true_for(self, label: str, value: str) -> frozenset[int]:
        patterns = self._patterns.get(label)
        holds = patterns.true_for(value) if patterns else frozenset()
        number = self._exact.get((label, value))
        return holds if number is None else holds | {number}


def _numbers(numbers: dict[_Condition, int], matchers: Sequence[Matcher], *, positive: bool) -> frozenset[int]:
    return frozenset(
        numbers.setdefault(_Condition(m.label, _POSITIVE.get(m.op, m.op), m.value), len(numbers))
        for m in matchers
        if (m.op not in _POSITIVE) is positive
    )


def _postings(required: Sequence[frozenset[int]], conditions: int) -> tuple[list[list[int]], list[int]]:
    """Entries by the rarest condition that they require, and those that require none."""
    counts = [0] * conditions
    for numbers in required:
        for number in numbers:
            counts[number] += 1
    waiting: list[list[int]] = [[] for _ in range(conditions)]
    anywhere: list[int] = []
    for entry, numbers in enumerate(required):
        if numbers:
            waiting[min(numbers, key=counts.__getitem__)].append(entry)
        else:
            anywhere.append(entry)
    return waiting, anywhere


def _test(op: Op, value: str) -> Test:
    if op is Op.RE:
        return _whole(value)
    if "*" not in value:
        return value.__eq__
    return _glob(value)


def _whole(pattern: str) -> Test:
    compiled = pattern_of(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _glob(pattern: str) -> Test:
    """Pieces in order: the first at the start, the last at the end, the others anywhere between."""
    head, *middle, tail = pattern.split("*")

    def test(text: str) -> bool:
        if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
            return False
        at, end = len(head), len(text) - len(tail)
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return test
