"""Between a channel as clients send and see it and as it is stored: open configuration here, sealed secrets there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api import parsing
from api.context import caller
from api.permissions import allows
from api.schemas_channels import ChannelIn
from common.channels.registry import CHANNELS
from common.domain.errors import FieldError, ValidationFailed
from common.store.channels import ChannelConfig


def document(row: Mapping[str, Any], secret: str | None = None) -> dict[str, Any]:
    """A stored channel as the caller may see it."""
    settings = CHANNELS[row["type"]].settings
    config = {**row["config"], **dict.fromkeys(sorted(settings.secret_fields()))}
    if not allows(caller().role, "channels:write"):
        config |= {name: _origin(config[name]) for name in settings.SHADED if config.get(name)}
    return {
        "id": row["id"],
        "name": row["name"],
        "type": row["type"],
        "config": config,
        "secret": secret,
        "enabled": row["enabled"],
        "is_default": row["is_default"],
        "fallback_channel_id": row["fallback_id"],
        "cap": _cap(row),
        "disabled_reason": row["disabled_reason"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def stored(body: ChannelIn) -> tuple[ChannelConfig, dict[str, str]]:
    """What to store openly, and the secrets to seal."""
    config, secrets = body.settings().split()
    return (
        ChannelConfig(
            body.name,
            body.type,
            config,
            body.enabled,
            body.is_default,
            body.fallback_channel_id,
            body.cap.count if body.cap else None,
            body.cap.window_seconds if body.cap else None,
        ),
        secrets,
    )


def merged(row: Mapping[str, Any], opened: Mapping[str, str], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A stored channel, secrets included, with a JSON Merge Patch; null keeps a secret, "" removes it."""
    hidden = CHANNELS[row["type"]].settings.secret_fields()
    known = {name: value for name, value in opened.items() if name in hidden}
    base = {
        "name": row["name"],
        "type": row["type"],
        "config": {**row["config"], **known},
        "enabled": row["enabled"],
        "is_default": row["is_default"],
        "fallback_channel_id": row["fallback_id"],
        "cap": _cap(row),
    }
    config = patch.get("config")
    if isinstance(config, dict):
        given = {name: value for name, value in config.items() if not (name in hidden and value is None)}
        given = {name: None if name in hidden and value == "" else value for name, value in given.items()}
        patch = {**patch, "config": given}
    found: dict[str, Any] = parsing.merge(base, patch)
    return found


def kept_secrets(opened: Mapping[str, str], given: Mapping[str, str], wanted: ChannelIn) -> dict[str, str]:
    """All secrets of the changed channel: what the server made stays, the rest is as the body has it."""
    hidden = CHANNELS[wanted.type].settings.secret_fields()
    return {**{name: value for name, value in opened.items() if name not in hidden}, **given}


def refuse_leak(row: Mapping[str, Any], wanted: ChannelIn, patch: Mapping[str, Any]) -> None:
    """Secrets can be written, never read: pointing a channel at another server must not send them there."""
    settings = CHANNELS[wanted.type].settings
    config, secrets = wanted.settings().split()
    if all(config.get(name) == row["config"].get(name) for name in settings.LEADS):
        return
    given = patch.get("config")
    again = {name for name, value in given.items() if value is not None} if isinstance(given, dict) else set()
    kept = sorted(secrets.keys() - again)
    if kept:
        raise ValidationFailed(
            "Stored secrets do not follow a channel to another server.",
            details=[FieldError(f"config.{name}", "send it again, or remove it, with this change") for name in kept],
        )


def owner(channel_id: str) -> str:
    """Whom a channel's secrets are sealed for."""
    return f"channel:{caller().org_id}:{channel_id}"


def _cap(row: Mapping[str, Any]) -> dict[str, int] | None:
    if row["cap_count"] is None:
        return None
    return {"count": row["cap_count"], "window_seconds": row["cap_window_s"]}


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/', 1)[0].split('?', 1)[0].split('#', 1)[0]}/…"
