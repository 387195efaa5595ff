"""The identity of one check, as everybody outside sees it: the same for the answer to "check now", results and logs."""

from __future__ import annotations

from hashlib import blake2b


def check_id(monitor_id: str, location_id: int, scheduled_at_ms: int) -> str:
    """32 hex characters from a check's identity (monitor, location, slot); the form of a W3C trace id."""
    identity = f"{monitor_id}|{location_id}|{scheduled_at_ms}"
    return blake2b(identity.encode(), digest_size=16).hexdigest()
