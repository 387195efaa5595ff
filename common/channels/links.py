"""Links that acknowledge an incident without a login: signed, expiring, bound to organization, incident and channel.

A token is 52 bytes (organization, incident, channel, expiry in Unix seconds) and 16 bytes of HMAC-SHA256 over them, in
URL-safe base64. Its key is derived from the encryption keys: the first signs, each of them verifies.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from common.vault import Vault

LIFETIME = timedelta(days=7)

_PURPOSE = "acknowledgement link 1"
_FIELDS = struct.Struct(">16s16s16sI")
_SIGNATURE_BYTES = 16
_TOKEN = re.compile(r"[A-Za-z0-9_-]{91}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a link allows: to acknowledge this incident, as this channel."""

    org_id: str
    incident_id: str
    channel_id: str
    expires_at: datetime


class Links:
    """Makes and reads links. `base_url` is where people reach the API."""

    def __init__(self, vault: Vault, base_url: str) -> None:
        self._vault = vault
        self._base_url = base_url

    def url(self, org_id: str, incident_id: str, channel_id: str, told_at: datetime) -> str:
        """The link for a message of this moment: the same at every attempt."""
        expires_at = int((told_at + LIFETIME).timestamp())
        fields = _FIELDS.pack(UUID(org_id).bytes, UUID(incident_id).bytes, UUID(channel_id).bytes, expires_at)
        token = base64.urlsafe_b64encode(fields + self._vault.sign(_PURPOSE, fields)[:_SIGNATURE_BYTES])
        return f"{self._base_url}/ack/{token.decode().rstrip('=')}"

    def read(self, token: str) -> Grant | None:
        """What a token allows, expired or not; None when it is not one of ours."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            data = base64.b64decode(token + "=", altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        if base64.urlsafe_b64encode(data).decode() != f"{token}=":
            return None  # another spelling of the same bytes
        fields, signature = data[: _FIELDS.size], data[_FIELDS.size :]
        if not self._vault.signed(_PURPOSE, fields, signature):
            return None
        org, incident, channel, expires_at = _FIELDS.unpack(fields)
        org_id, incident_id, channel_id = (str(UUID(bytes=raw)) for raw in (org, incident, channel))
        return Grant(org_id, incident_id, channel_id, datetime.fromtimestamp(expires_at, UTC))
