"""Alerts from outside: what one says, what makes two of them the same, and the order in which a batch is taken in.

Two alerts are about the same problem when their dedup_key is the same; without one it is a fingerprint of what does
not change while the problem lasts. An alert that is sent again is known by its identity: its alert_id, or else its
dedup_key, status and start; without a start only the open incident tells that it is a repeat. Of what fires each
severity is noted apart: one that was not told before may make the open incident worse, but opens nothing anew.

Two things end an incident although nobody said that its alert is over: somebody resolved it by hand, or the sender has
stopped repeating what it promised to repeat. A repeat that comes afterwards says that the alert still fires, and opens
another incident (docs/decisions/0019).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from common.domain.incident import Severity


class AlertStatus(StrEnum):
    """Whether the problem is there or over."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Outcome(StrEnum):
    """What became of an alert."""

    OPENED = "opened"  # it is a new incident
    RESOLVED = "resolved"  # it ended one
    DEDUPLICATED = "deduplicated"  # known already, or nothing is open that it could end
    UNMATCHED = "unmatched"  # from the platform, and no organization's routes want it


#: Keys under which Tocsin itself opens incidents, and the platform's; nobody else's alert may touch those.
MONITOR_KEYS = "monitor:"
PLATFORM_KEYS = "platform:"
CHANNEL_KEYS = "channel:"
OWN_KEYS = "tocsin:"
RESERVED_KEYS = (MONITOR_KEYS, PLATFORM_KEYS, CHANNEL_KEYS, OWN_KEYS)

#: Identities that we derive; an alert_id never begins like this.
DERIVED_IDS = "tocsin:"

#: How long an alert lasts whose sender repeats it and does not say how long: Alertmanager's resolve_timeout.
RESOLVE_TIMEOUT = timedelta(minutes=5)
#: A repeat that comes so long after somebody resolved its incident by hand is none that was on its way by then.
REOPEN_AFTER = timedelta(minutes=5)
#: Why an incident was resolved, as its timeline says it.
ALERT_RESOLVED = "alert_resolved"
ALERT_EXPIRED = "alert_expired"

MAX_KEY_CHARS = 255
_HASH_CHARS = 8

#: How other tools say it. What nobody has heard of is an error: neither lost nor a reason to wake everybody.
_SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {
        **{severity.value: severity for severity in Severity},
        **dict.fromkeys(("crit", "fatal", "emergency", "emerg", "page", "disaster", "p1", "sev1"), Severity.CRITICAL),
        **dict.fromkeys(("err", "major", "high", "p2", "sev2"), Severity.ERROR),
        **dict.fromkeys(("warn", "minor", "average", "medium", "moderate", "p3", "sev3"), Severity.WARNING),
        **dict.fromkeys(
            ("informational", "information", "notice", "low", "none", "ok", "debug", "p4", "p5", "sev4", "sev5"),
            Severity.INFO,
        ),
    }
)


_FNV_BASIS = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_64_BITS = 2**64 - 1

_BADNESS: Mapping[Severity, int] = MappingProxyType({severity: -place for place, severity in enumerate(Severity)})


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Of an alert that ends by itself unless it is repeated. `until` None: RESOLVE_TIMEOUT after it was taken in."""

    until: datetime | None = None

    def ends_at(self, taken_at: datetime) -> datetime:
        """When it ends."""
        return taken_at + RESOLVE_TIMEOUT if self.until is None else self.until


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it is taken in. `facts` goes into the incident's cause as it is.

    Without a `lifetime` only its sender or a person ends it.
    """

    name: str
    source: str
    severity: Severity
    status: AlertStatus
    dedup_key: str
    summary: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    starts_at: datetime | None = None
    alert_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    lifetime: Lifetime | None = None

    @property
    def identity(self) -> str | None:
        """What a repeat has too; None when only the open incident tells."""
        if self.alert_id is not None or self.starts_at is None:
            return self.alert_id
        return self._derived(self.starts_at, self.severity)

    @property
    def told_as(self) -> tuple[str, ...]:
        """Of what fires and has no alert_id: the identities of the same problem since the same start."""
        if self.alert_id is not None or self.starts_at is None or self.status is AlertStatus.RESOLVED:
            return ()
        return tuple(self._derived(self.starts_at, severity) for severity in Severity)

    def _derived(self, starts_at: datetime, severity: Severity) -> str:
        # The end is one, however bad the problem was.
        said = f"{self.status} {severity}" if self.status is AlertStatus.FIRING else self.status
        started = starts_at.astimezone(UTC).isoformat()
        return DERIVED_IDS + sha256(f"{said}\n{started}\n{self.dedup_key}".encode()).hexdigest()[:32]

    @property
    def matched(self) -> dict[str, str]:
        """The labels that routes see."""
        return {**self.labels, "severity": self.severity.value, "source": self.source, "name": self.name}

    @property
    def title(self) -> str:
        """What an incident of it is called."""
        return self.summary or self.name

    @property
    def cause(self) -> dict[str, Any]:
        """Why its incident was opened."""
        started = {} if self.starts_at is None else {"starts_at": self.starts_at.isoformat()}
        return {"reason": "alert", "message": self.title, **started, **self.facts}


def fingerprint(name: str, source: str, labels: Mapping[str, str]) -> str:
    """The dedup_key of an alert that has none: of its name, source and labels, whatever their order.

    Severity, summary and times may change while it is the same problem, so they are not in it, as labels neither.
    """
    kept = sorted((label, value) for label, value in labels.items() if label != "severity")
    return sha256(json.dumps([name, source, kept], ensure_ascii=False).encode()).hexdigest()


def label_fingerprint(labels: Mapping[str, str]) -> str:
    """Prometheus' own fingerprint of a label set, 64-bit FNV-1a: the one that Alertmanager tells in its webhooks."""
    digest = _FNV_BASIS
    for name, value in sorted(labels.items()):
        for byte in b"%b\xff%b\xff" % (name.encode(), value.encode()):
            digest = (digest ^ byte) * _FNV_PRIME & _64_BITS
    return f"{digest:016x}"


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning with a hash of the whole: what differed anywhere still differs."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - _HASH_CHARS - 1]}…{sha256(text.encode()).hexdigest()[:_HASH_CHARS]}"


def severity_of(text: str) -> Severity:
    """The severity that another tool means."""
    return _SEVERITIES.get(text.strip().lower(), Severity.ERROR)


def badness(severity: Severity) -> int:
    """How bad it is: the worse, the larger."""
    return _BADNESS[severity]


@dataclass(frozen=True, slots=True)
class Run:
    """Alerts of one key and status that follow each other in a batch, by their places in it."""

    dedup_key: str
    status: AlertStatus
    places: tuple[int, ...]


def in_rounds(alerts: Sequence[Alert]) -> list[list[Run]]:
    """A batch as rounds, to be taken in one after the other: in each a key has one run, so its alerts keep order."""
    runs: dict[str, list[tuple[AlertStatus, list[int]]]] = {}
    for place, alert in enumerate(alerts):
        of_key = runs.setdefault(alert.dedup_key, [])
        if not of_key or of_key[-1][0] is not alert.status:
            of_key.append((alert.status, []))
        of_key[-1][1].append(place)
    rounds: list[list[Run]] = []
    for key, of_key in runs.items():
        for number, (status, places) in enumerate(of_key):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append(Run(key, status, tuple(places)))
    return rounds


#: Of what happened to an alert in several organizations, the first of these counts.
_TELLING = (Outcome.OPENED, Outcome.RESOLVED, Outcome.DEDUPLICATED)


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """What became of an alert that was offered to these organizations."""
    found = set(outcomes)
    return next((outcome for outcome in _TELLING if outcome in found), Outcome.UNMATCHED)
