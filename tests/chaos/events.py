"""What a chaos run remembers: the events of its history, one JSON object per line.

Who causes or sees something writes it down at once (`History.add`); the checker reads nothing else. All moments are
Unix seconds of the harness's clock, which no fault moves.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, get_args


@dataclass(frozen=True, slots=True)
class MonitorSpec:
    """A monitor of the run; `id` is the API's, `no` the database's."""

    id: str
    no: int
    path: str
    interval_s: float
    timeout_s: float
    failure_threshold: int
    recovery_threshold: int
    retry_interval_s: float
    team: str = ""


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A webhook channel to the sink's `path`; `hostile` when its answers are scripted to fail for a while.

    `part` is what tests/chaos/routing.py gives it to do.
    """

    id: str
    path: str
    hostile: bool
    part: str = "plain"


@dataclass(frozen=True, slots=True)
class HeartbeatSpec:
    """A heartbeat of the run: `path` is its address, `every_s` how often it is pinged while it beats."""

    id: str
    path: str
    interval_s: float
    period_s: float
    grace_s: float
    every_s: float
    team: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The first event."""

    at: float
    seed: int
    profile: str
    monitors: tuple[MonitorSpec, ...]
    channels: tuple[ChannelSpec, ...]
    kind: ClassVar[str] = "run"


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase begins: warm, fault, heal, quiesce or check. `heal` begins when the last fault has ended."""

    at: float
    name: str
    kind: ClassVar[str] = "phase"


@dataclass(frozen=True, slots=True)
class Truth:
    """From now on the endpoint of a monitor answers (up) or fails; the first of each monitor is at the start."""

    at: float
    monitor: str
    up: bool
    kind: ClassVar[str] = "truth"


#: What came of a fault, as its end says: it took hold; it never did, and excuses nothing; its tool failed half-way.
TOOK_HOLD, IN_VAIN, BROKEN_OFF = "", "in vain", "broken off"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault begins or ends; a momentary one (a kill) begins and ends at once. `detail` is for people."""

    at: float
    name: str
    begins: bool
    target: str = ""
    detail: str = ""
    outcome: str = TOOK_HOLD
    kind: ClassVar[str] = "fault"


@dataclass(frozen=True, slots=True)
class Death:
    """A process of ours ended. `how`: `kill`, `failpoint:<name>`, `exit:<status>` or `stop` (asked to)."""

    at: float
    process: str
    pid: int
    how: str
    kind: ClassVar[str] = "death"


@dataclass(frozen=True, slots=True)
class Write:
    """A write through the API: `status` None when no answer came (it may or may not have happened)."""

    at: float
    answered_at: float
    method: str
    path: str
    key: str
    status: int | None
    kind: ClassVar[str] = "write"


@dataclass(frozen=True, slots=True)
class Signal:
    """An alert in a batch that was sent: `status` of the answer, None when none came.

    A problem (`key`) fires and is resolved once in each of its periods, 1, 2, 3 …
    """

    at: float
    answered_at: float
    alert_id: str
    key: str
    period: int
    firing: bool
    team: str
    status: int | None
    kind: ClassVar[str] = "signal"


@dataclass(frozen=True, slots=True)
class Silenced:
    """The API has said that a silence is there (`answered_at`), from `begins_at` to `ends_at`."""

    answered_at: float
    id: str
    begins_at: float
    ends_at: float
    kind: ClassVar[str] = "silenced"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Somebody has acknowledged an incident until `until`: `status` of the answer, None when none came."""

    at: float
    answered_at: float
    incident: str
    until: float
    status: int | None
    kind: ClassVar[str] = "acknowledged"


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """What is pinged, and not checked."""

    at: float
    heartbeats: tuple[HeartbeatSpec, ...]
    kind: ClassVar[str] = "heartbeats"


@dataclass(frozen=True, slots=True)
class Pulse:
    """From now on a heartbeat is pinged (beats), or falls silent; the first of each is at its first ping."""

    at: float
    monitor: str
    beats: bool
    kind: ClassVar[str] = "pulse"


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping: `status` of the answer, None when none came. Nobody sends it again."""

    at: float
    answered_at: float
    monitor: str
    status: int | None
    kind: ClassVar[str] = "ping"


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window of one team: when it was asked for and acknowledged, and when its end was.

    None: that was never acknowledged, or never asked for. `refused`: an answer that there must not be.
    """

    at: float
    answered_at: float | None
    end_at: float | None
    ended_at: float | None
    id: str
    refused: int | None = None
    kind: ClassVar[str] = "window"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request that reached the sink. `accepted`: a whole 2xx was sent; `ambiguous`: 2xx began, then was cut off.

    `entries`, (incident, type) in order, is what it tells when that may be more than one thing; `digest` is of its
    body.
    """

    at: float
    path: str
    webhook_id: str
    type: str
    incident: str
    monitor: str
    accepted: bool
    ambiguous: bool
    entries: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    kind: ClassVar[str] = "webhook"

    @property
    def told(self) -> tuple[tuple[str, str], ...]:
        """(incident, type) of all that it tells, in order."""
        return self.entries or ((self.incident, self.type),)

    @property
    def heard(self) -> bool:
        """Whether the receiver may know it."""
        return self.accepted or self.ambiguous


@dataclass(frozen=True, slots=True)
class Probed:
    """Checks that reached the endpoints shortly before `at`: paths, the first half of each trace id, how long before.

    A trace id names one check: a monitor's slot.
    """

    at: float
    paths: tuple[str, ...]
    traces: tuple[str, ...]
    before_ms: tuple[int, ...]
    kind: ClassVar[str] = "probed"


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process used at a moment."""

    at: float
    process: str
    pid: int
    rss_mb: float
    fds: int
    kind: ClassVar[str] = "sample"


@dataclass(frozen=True, slots=True)
class Final:
    """The database and the queues after the quiet, by table: lists of rows as the checker's docstring names them."""

    at: float
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    kind: ClassVar[str] = "final"


Event = (
    Run | Phase | Truth | Fault | Death | Write | Signal | Silenced | Acknowledged | Webhook | Probed | Sample | Final
    | Heartbeats | Pulse | Ping | Window
)  # fmt: skip
_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Event)}


class History:
    """Appends events to a file, from any thread, each flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def add(self, event: Event) -> None:
        """Write one event down."""
        line = json.dumps({"kind": event.kind, **asdict(event)}, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def stood_still(self, name: str, target: str, at: float, seconds: float) -> None:
        """Write down that somebody stood still from `at` until now."""
        detail = f"{target} stood still for {seconds:.2f} s"
        self.add(Fault(at, name, begins=True, target=target))
        self.add(Fault(time.time(), name, begins=False, target=target, detail=detail))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(path: Path) -> list[Event]:
    """All events of a file, in the order of writing."""
    with path.open(encoding="utf-8") as file:
        return [_event(json.loads(line)) for line in file]


def _event(document: dict[str, Any]) -> Event:
    kind = _KINDS[document.pop("kind")]
    if kind is Run:
        document["monitors"] = tuple(MonitorSpec(**spec) for spec in document["monitors"])
        document["channels"] = tuple(ChannelSpec(**spec) for spec in document["channels"])
    elif kind is Heartbeats:
        document["heartbeats"] = tuple(HeartbeatSpec(**spec) for spec in document["heartbeats"])
    elif kind is Webhook:
        document["entries"] = tuple((incident, type_) for incident, type_ in document.get("entries", ()))
    names = {part.name for part in fields(kind)}
    event: Event = kind(**{name: value for name, value in document.items() if name in names})
    return event
