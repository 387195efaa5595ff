"""What heartbeats are pinged by: a random UUID, stored as its hash to be found by, and sealed to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from api.context import caller, services
from common.store import heartbeats_read
from common.store.engine import Connection
from common.store.heartbeats_read import NewToken
from common.store.monitors import MonitorSettings

TYPE = "heartbeat"


def hash_of(token: UUID) -> bytes:
    """What a secret is looked up by. It has 122 random bits: nobody finds it from its hash."""
    return sha256(token.bytes).digest()


def make(connection: Connection, numbers: Mapping[str, int], settings: Mapping[str, MonitorSettings]) -> None:
    """Give those of these monitors that are heartbeats a secret: {id: monitor_no}, {id: settings}."""
    ids = [id_ for id_ in numbers if settings[id_].type == TYPE]
    tokens = [NewToken(id_, numbers[id_], *_new(id_)) for id_ in ids]
    if tokens:
        heartbeats_read.create(connection, org_id=caller().org_id, tokens=tokens)


def renew(connection: Connection, monitor_id: str) -> None:
    """Another secret; the one before is unknown from now on."""
    token_hash, sealed = _new(monitor_id)
    heartbeats_read.replace_token(
        connection, org_id=caller().org_id, monitor_id=monitor_id, token_hash=token_hash, sealed=sealed
    )


def opened(monitor_id: str, sealed: str) -> str:
    """The secret itself. Raises SecretUnreadable."""
    secret: Any = services().vault.open(_owner(monitor_id), sealed)
    return str(secret["token"])


def _new(monitor_id: str) -> tuple[bytes, str]:
    token = uuid4()
    return hash_of(token), services().vault.seal(_owner(monitor_id), {"token": str(token)})


def _owner(monitor_id: str) -> str:
    return f"heartbeat:{caller().org_id}:{monitor_id}"
