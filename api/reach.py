"""Refuse what the egress policy certainly denies: an address literal; names are judged when they are resolved."""

from __future__ import annotations

from api.context import services
from common.domain.egress import judge
from common.domain.errors import FieldError, ValidationFailed
from common.http.target import Host


def refuse_denied(field: str, host: Host | str) -> None:
    """Raise ValidationFailed with code EGRESS_DENIED for a literal address that must not be reached."""
    if isinstance(host, Host) and host.address and judge(host.address, services().egress) is not None:
        raise ValidationFailed(
            "The egress policy of this installation does not allow this address.",
            code="EGRESS_DENIED",
            details=[FieldError(field, "this address is not allowed here")],
        )
