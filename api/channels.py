"""/v1/channels: where alerts go."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from flask import Response
from uuid_utils import uuid7

from api import pagination, parsing
from api.context import caller, services
from api.permissions import allows
from api.reach import refuse_denied
from api.routing import Routes
from api.schemas import Channel, ChannelIn, PageQuery
from common.domain.errors import FieldError, ValidationFailed
from common.http.target import Target
from common.store import channels
from common.store.channels import ChannelConfig

routes = Routes("channels")


@routes.post("/v1/channels", permission="channels:write", body=ChannelIn, answer=Channel, status=201)
def create_channel(body: ChannelIn) -> dict[str, Any]:
    """Add a channel. `secret` signs its webhooks and is shown this once; an organization's first channel is default."""
    _refuse_denied(body)
    org_id, channel_id = caller().org_id, str(uuid7())
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    sealed = services().vault.seal(f"channel:{org_id}:{channel_id}", {"secret": secret})
    with services().database.begin(org_id) as connection:
        row = channels.add(connection, org_id=org_id, channel_id=channel_id, channel=_config(body), secrets=sealed)
    return _document(row, secret)


@routes.get("/v1/channels", permission="channels:read", query=PageQuery, answer=Channel, paged=True)
def list_channels(query: PageQuery) -> Response:
    """All channels, newest first."""
    before = pagination.before_id(query.cursor)
    with services().database.begin(caller().org_id) as connection:
        rows = channels.list_page(connection, org_id=caller().org_id, limit=query.limit + 1, before=before)
    shown, last = pagination.cut(rows, query.limit)
    cursor = None if last is None else pagination.encode(last["created_at"], last["id"])
    return pagination.page([_document(row) for row in shown], cursor)


@routes.get("/v1/channels/<channel_id>", permission="channels:read", answer=Channel)
def get_channel(channel_id: str) -> dict[str, Any]:
    """One channel."""
    with services().database.begin(caller().org_id) as connection:
        return _document(channels.get(connection, org_id=caller().org_id, channel_id=channel_id))


@routes.patch("/v1/channels/<channel_id>", permission="channels:write", body=ChannelIn, merge=True, answer=Channel)
def change_channel(channel_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Change some fields by JSON Merge Patch. A channel that is mended or enabled is tried again at once."""
    org_id = caller().org_id
    with services().database.begin(org_id) as connection:
        row = channels.get(connection, org_id=org_id, channel_id=channel_id, lock=True)
        base = {name: row[name] for name in ChannelIn.model_fields}
        wanted = parsing.validate(ChannelIn, parsing.merge(base, body))
        if wanted.type != row["type"]:
            raise ValidationFailed("A channel's type never changes.", details=[FieldError("type", "cannot be changed")])
        _refuse_denied(wanted)
        config = _config(wanted)
        mended = dict(config.config) != row["config"] or (config.enabled and not row["enabled"])
        return _document(
            channels.change(connection, org_id=org_id, channel_id=channel_id, channel=config, mended=mended)
        )


@routes.delete("/v1/channels/<channel_id>", permission="channels:write")
def delete_channel(channel_id: str) -> None:
    """Send nothing there any more; its notifications stay listed."""
    with services().database.begin(caller().org_id) as connection:
        channels.delete(connection, org_id=caller().org_id, channel_id=channel_id)


def _refuse_denied(body: ChannelIn) -> None:
    target = body.config.target
    if isinstance(target, Target):
        refuse_denied("config.url", target.host)


def _config(body: ChannelIn) -> ChannelConfig:
    return ChannelConfig(body.name, body.type, body.config.model_dump(), body.enabled, body.is_default)


def _document(row: dict[str, Any], secret: str | None = None) -> dict[str, Any]:
    config = row["config"]
    if not allows(caller().role, "channels:write"):
        # The path of a webhook is often the receiver's token.
        config = {**config, "url": _origin(config["url"])}
    return {**row, "config": config, "secret": secret}


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0].split('?', 1)[0].split('#', 1)[0]}/…"
