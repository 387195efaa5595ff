"""/v1/channels: where alerts go."""

from __future__ import annotations

from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import audit, pagination, parsing
from api.channel_documents import document, kept_secrets, merged, owner, refuse_leak, stored
from api.context import caller, services
from api.reach import refuse_denied
from api.routing import Routes
from api.schemas import PageQuery
from api.schemas_channels import Channel, ChannelIn, Trial
from common import log
from common.channels.base import Destination
from common.domain.errors import FieldError, ValidationFailed
from common.store import channels
from common.store.channels import Rewrite
from common.store.engine import Connection
from common.vault import SecretUnreadable

routes = Routes("channels")


@routes.post("/v1/channels", permission="channels:write", body=ChannelIn, answer=Channel, status=201)
def create_channel(body: ChannelIn) -> dict[str, Any]:
    """Add a channel. A webhook's `secret` signs it and is shown this once; the first channel of all is default."""
    _refuse_denied(body)
    org_id, channel_id = caller().org_id, str(uuid7())
    generated = body.settings().generate()
    config, secrets = stored(body)
    sealed = _seal(channel_id, {**secrets, **generated})
    with services().database.begin(org_id) as connection:
        _check_fallback(connection, body, channel_id)
        row = channels.add(connection, org_id=org_id, channel_id=channel_id, channel=config, secrets=sealed)
        audit.changed(connection, "channel", channel_id, None, document(row))
    return document(row, generated.get("secret"))


@routes.get("/v1/channels", permission="channels:read", query=PageQuery, answer=Channel, paged=True)
def list_channels(query: PageQuery) -> Response:
    """All channels, newest first."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = channels.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page([document(row) for row in shown], cursor)


@routes.get("/v1/channels/<channel_id>", permission="channels:read", answer=Channel)
def get_channel(channel_id: str) -> dict[str, Any]:
    """One channel."""
    with services().database.begin(caller().org_id) as connection:
        return document(channels.get(connection, org_id=caller().org_id, channel_id=channel_id))


@routes.patch("/v1/channels/<channel_id>", permission="channels:write", body=ChannelIn, merge=True, answer=Channel)
def change_channel(channel_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch. A channel that is mended or enabled is tried again at once.

    In `config`, null leaves a secret as it is and "" removes it.
    """
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = channels.get(connection, org_id=org_id, channel_id=channel_id, lock=True)
        sealed = channels.secrets(connection, org_id=org_id, channel_id=channel_id)
        opened = _open(channel_id, sealed)
        wanted = parsing.validate(ChannelIn, merged(row, opened, body))
        if wanted.type != row["type"]:
            raise ValidationFailed("A channel's type never changes.", details=[FieldError("type", "cannot be changed")])
        _refuse_denied(wanted)
        refuse_leak(row, wanted, body)
        _check_fallback(connection, wanted, channel_id)
        config, secrets = stored(wanted)
        kept = kept_secrets(opened, secrets, wanted)
        mended = dict(config.config) != row["config"] or kept != opened or (config.enabled and not row["enabled"])
        # Sealed anew only when they changed: what does not open (its key is gone) is not lost by a new name.
        rewrite = Rewrite(config, sealed if kept == opened else _seal(channel_id, kept), mended)
        after = document(channels.change(connection, org_id=org_id, channel_id=channel_id, rewrite=rewrite))
        audit.changed(connection, "channel", channel_id, document(row), after)
        return after


@routes.delete("/v1/channels/<channel_id>", permission="channels:write")
def delete_channel(channel_id: str) -> None:
    """Send nothing there any more; its notifications stay listed."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        channels.lock_to_delete(connection, org_id=org_id, channel_id=channel_id)
        row = channels.get(connection, org_id=org_id, channel_id=channel_id)
        channels.delete(connection, org_id=org_id, channel_id=channel_id)
        audit.changed(connection, "channel", channel_id, document(row), None)


@routes.post("/v1/channels/<channel_id>/test", permission="channels:write", answer=Trial, audited=False)
def test_channel(channel_id: str) -> dict[str, Any]:
    """Send a test message now and say what came of it; once in a few seconds per channel, disabled ones too."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = channels.get(connection, org_id=org_id, channel_id=channel_id)
        sealed = channels.secrets(connection, org_id=org_id, channel_id=channel_id)
    destination = Destination(channel_id, row["config"], _open(channel_id, sealed))
    return services().trials.run(row["type"], org_id, destination)


def _refuse_denied(body: ChannelIn) -> None:
    settings = body.settings()
    for field, host in settings.hosts():
        refuse_denied(f"config.{field}", host)
    if settings.needs_mail_server() and services().settings.smtp_url is None:
        raise ValidationFailed(
            "This installation has no mail server of its own (TOCSIN_SMTP_URL).",
            details=[FieldError("config.host", "is required here")],
        )


def _check_fallback(connection: Connection, body: ChannelIn, channel_id: str) -> None:
    """A fallback exists in this organization and does not lead back."""
    if body.fallback_channel_id is None:
        return
    chain = channels.fallbacks(connection, org_id=caller().org_id, channel_id=body.fallback_channel_id)
    if not chain:
        raise _wrong_fallback("no such channel in this organization")
    if channel_id in chain:
        raise _wrong_fallback("leads back to this channel")


def _wrong_fallback(message: str) -> ValidationFailed:
    return ValidationFailed("Some fields are wrong.", details=[FieldError("fallback_channel_id", message)])


def _seal(channel_id: str, secrets: dict[str, str]) -> str | None:
    return services().vault.seal(owner(channel_id), secrets) if secrets else None


def _open(channel_id: str, sealed: str | None) -> dict[str, str]:
    """A channel's secrets; none where their key is gone: they have to be sent again."""
    if sealed is None:
        return {}
    try:
        secrets: dict[str, str] = services().vault.open(owner(channel_id), sealed)
    except SecretUnreadable as error:
        log.get_logger().error("channel_secrets_unreadable", channel_id=channel_id, error=error.message)
        return {}
    return secrets
