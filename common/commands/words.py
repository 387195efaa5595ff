"""Times, durations and ids as people read them."""

from __future__ import annotations

import re
from datetime import datetime

from common.exit_status import CommandError

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")

#: Ids begin with the time they were made at, so neighbours begin alike: what tells them apart is their end.
SHORT = 8


def short_id(full: str) -> str:
    """The end of an id."""
    return full[-SHORT:]


def moment(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.fromisoformat(text)


def span(seconds: float) -> str:
    """A duration in its two largest units: 3 d 4 h, 12 m 5 s, 0 s."""
    left = int(max(0, seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    shown = [part for part in parts if not part.startswith("0")]
    return " ".join(shown) or "0s"


def ago(text: str | None, now: datetime) -> str:
    """How long a time is past, or a dash."""
    return "-" if text is None else span((now - moment(text)).total_seconds())


def clock(text: str) -> str:
    """A time of the API in this machine's zone."""
    return moment(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(value: float | None) -> str:
    """A latency: 4.2 ms, 412 ms, 3.1 s."""
    if value is None:
        return "-"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def seconds_of(text: str) -> int:
    """A duration as people write it: 90, 45s, 30m, 2h, 1d12h. Raises CommandError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found or not any(found.groups()):
        raise CommandError(f"{text!r} is no duration: write 45s, 30m, 2h or 1d12h")
    return sum(int(count or 0) * size for count, (_, size) in zip(found.groups(), _UNITS, strict=True))


def pairs(labels: list[str] | None) -> dict[str, str]:
    """Labels given as name=value or name:value. Raises CommandError."""
    found: dict[str, str] = {}
    for text in labels or ():
        name, mark, value = re.split("([=:])", text, maxsplit=1) if re.search("[=:]", text) else (text, "", "")
        if not name or not mark:
            raise CommandError(f"{text!r} is no label: write name=value")
        found[name] = value
    return found


def filters(labels: list[str] | None) -> list[str]:
    """Labels to filter by, as the API takes them; a name alone stands for any value."""
    return [re.sub("[=:]", ":", text, count=1) for text in labels or ()]
