"""/v1/silences: what nobody is to hear of for a while."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import audit, pagination, parsing
from api.context import caller, services
from api.routing import Routes
from api.schemas_silences import Silence, SilenceIn, SilenceQuery
from common.domain.errors import Conflict, FieldError, ValidationFailed
from common.domain.silences import LONGEST, time_problems
from common.store import monitors, routing_versions, silences
from common.store.silences import SilenceConfig

routes = Routes("silences")

#: Silences of an organization that have not ended.
MAX_SILENCES = 1_000


@routes.post("/v1/silences", permission="silences:write", body=SilenceIn, answer=Silence, status=201)
def create_silence(body: SilenceIn) -> dict[str, Any]:
    """Hold back what matches, until an end; what is still wrong then is announced then.

    Monitors go on, incidents open and close. The end of what was announced before is told all the same.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        if silences.count(connection, org_id=org_id) >= MAX_SILENCES:
            raise Conflict(f"An organization has at most {MAX_SILENCES:,} silences at a time.", code="LIMIT_REACHED")
        silence = _config(body, monitors.now(connection))
        row = silences.add(
            connection, org_id=org_id, silence_id=str(uuid7()), silence=silence, created_by=caller().actor
        )
        audit.changed(connection, "silence", row["id"], None, _decided(row))
    return row


@routes.get("/v1/silences", permission="silences:read", query=SilenceQuery, answer=Silence, paged=True)
def list_silences(query: SilenceQuery) -> Response:
    """Silences, the newest end first, ended ones too."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = silences.list_page(
            connection, org_id=caller().org_id, limit=query.limit + 1, before=before, state=query.state
        )
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["ends_at"], last["id"])
    return pagination.page(shown, cursor)


@routes.get("/v1/silences/<silence_id>", permission="silences:read", answer=Silence)
def get_silence(silence_id: str) -> dict[str, Any]:
    """One silence."""
    with services().database.begin(caller().org_id) as connection:
        return silences.get(connection, org_id=caller().org_id, silence_id=silence_id)


@routes.patch("/v1/silences/<silence_id>", permission="silences:write", body=SilenceIn, merge=True, answer=Silence)
def change_silence(silence_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch: the comment, and until it has ended the end and the matchers.

    What new matchers do not hold back any more is announced now if it is still wrong: an ended silence with the old
    ones is left behind. The beginning can be changed until it is there.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = silences.get(connection, org_id=org_id, silence_id=silence_id)
        wanted = parsing.validate(SilenceIn, _merged(row, body))
        silence = _rewritten(row, wanted, monitors.now(connection))
        if row["state"] == "active" and silence.matchers != row["matchers"]:
            silences.leave_behind(connection, org_id=org_id, silence_id=silence_id)
        changed = silences.change(connection, org_id=org_id, silence_id=silence_id, silence=silence)
        audit.changed(connection, "silence", silence_id, _decided(row), _decided(changed))
    return changed


@routes.delete("/v1/silences/<silence_id>", permission="silences:write")
def delete_silence(silence_id: str) -> None:
    """End it now; it stays listed. What is still wrong is announced. One that has ended stays as it is."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        routing_versions.move(connection, org_id)
        row = silences.get(connection, org_id=org_id, silence_id=silence_id)
        if row["state"] != "expired":
            silences.end(connection, org_id=org_id, silence_id=silence_id)
            audit.changed(connection, "silence", silence_id, _decided(row), None)


def _decided(row: Mapping[str, Any]) -> dict[str, Any]:
    """What people decide about a silence; its state and when it was written follow from that."""
    return {name: row[name] for name in ("matchers", "comment", "created_by", "starts_at", "ends_at")}


def _merged(row: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A stored silence, as it would be sent, with a merge patch; a duration in it takes the place of the end."""
    base = {
        "matchers": row["matchers"],
        "comment": row["comment"],
        "starts_at": row["starts_at"].isoformat(),
        "ends_at": row["ends_at"].isoformat(),
    }
    if patch.get("duration_seconds") is not None:
        del base["ends_at"]
    merged: dict[str, Any] = parsing.merge(base, patch)
    return merged


def _rewritten(row: Mapping[str, Any], wanted: SilenceIn, now: datetime) -> SilenceConfig:
    """What a silence becomes. Raises ValidationFailed or Conflict for what it cannot become any more."""
    matchers = _matchers(wanted)
    same_times = (wanted.starts_at, wanted.ends_at) == (row["starts_at"], row["ends_at"])
    if row["state"] == "expired" and not (same_times and matchers == row["matchers"]):
        raise Conflict("This silence has ended; make a new one.", code="SILENCE_EXPIRED")
    if same_times:
        return SilenceConfig(matchers, wanted.comment, row["starts_at"], row["ends_at"])
    silence = _config(wanted, now)
    if row["state"] == "active" and silence.starts_at != row["starts_at"]:
        raise _wrong([FieldError("starts_at", "cannot be changed: the silence has begun")])
    return silence


def _config(body: SilenceIn, now: datetime) -> SilenceConfig:
    """A checked silence as it is stored. Raises ValidationFailed for times that cannot be."""
    starts_at = now if body.starts_at is None else body.starts_at
    ends_at = body.ends_at
    if ends_at is None:
        # A beginning that is refused anyway is not added to: the sum may have no name.
        ends_at = min(starts_at, now + LONGEST) + timedelta(seconds=body.duration_seconds or 0)
    wrong = list(time_problems(starts_at, ends_at, now, body.end_field))
    if wrong:
        raise _wrong(wrong)
    return SilenceConfig(_matchers(body), body.comment, starts_at, ends_at)


def _matchers(body: SilenceIn) -> list[dict[str, str]]:
    return [matcher.model_dump() for matcher in body.matchers]


def _wrong(details: list[FieldError]) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=details)
