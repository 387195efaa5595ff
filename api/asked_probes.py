"""A probe that somebody waits for: what a body asks for, and which location looks."""

from __future__ import annotations

from api.context import caller, services
from api.monitor_documents import to_settings
from api.reach import refuse_denied
from api.schemas_probes import ProbeBase
from common.domain.errors import FieldError, ValidationFailed
from common.probe_requests import Detail, ProbeRequest
from common.store import locations


def ask(body: ProbeBase, detail: Detail = Detail.RESULT) -> ProbeRequest:
    """What a worker is asked. Raises ValidationFailed for a target that may not be probed."""
    refuse_denied("target", body.host)
    settings = to_settings(body.monitor, (), {})
    return ProbeRequest(
        caller().org_id,
        settings.type,
        settings.target,
        body.timeout_seconds,
        settings.options,
        settings.secrets,
        settings.assertions,
        detail,
    )


def place(location: str | None) -> str:
    """The location that looks: the wanted one, or our own. Raises ValidationFailed for one that there is not."""
    wanted = location or services().settings.location
    with services().database.begin(caller().org_id) as connection:
        known = locations.ids_by_name(connection)
    if wanted not in known:
        message = f"unknown; there are: {', '.join(sorted(known))}"
        raise ValidationFailed("There is no such location.", details=[FieldError("location", message)])
    return wanted
