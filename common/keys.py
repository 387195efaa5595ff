"""Keys of an embedded stack: made once, kept in the data directory, readable by its owner only."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from common.domain.errors import SettingsError
from common.settings import Settings
from common.vault import Vault, generate_key

_FILE = "keys.json"


def check_keys(settings: Settings) -> None:
    """Raise SettingsError for encryption keys that are given and are none: every role would end on them."""
    if settings.encryption_keys is not None:
        Vault(settings.encryption_keys.get_secret_value())


def with_keys(settings: Settings) -> Settings:
    """Settings whose JWT and encryption keys are set: as given, or (with the embedded database only) generated.

    With DATABASE_URL a generated key would be lost with this machine while the data lives on: there they must be given.
    """
    missing = [
        variable
        for variable, value in (
            ("TOCSIN_JWT_KEY", settings.jwt_key),
            ("TOCSIN_ENCRYPTION_KEYS", settings.encryption_keys),
        )
        if value is None
    ]
    if not missing:
        return settings
    if settings.database_url is not None:
        raise SettingsError(f"{' and '.join(missing)} must be set with DATABASE_URL; `tocsin keygen` makes both")
    kept = _keep(settings.data_dir / _FILE)
    return settings.model_copy(
        update={
            "jwt_key": settings.jwt_key or SecretStr(kept["jwt_key"]),
            "encryption_keys": settings.encryption_keys or SecretStr(kept["encryption_keys"]),
        }
    )


def generate() -> dict[str, str]:
    """A new pair of keys."""
    return {"jwt_key": secrets.token_urlsafe(48), "encryption_keys": generate_key()}


def write_private(path: Path, value: Any) -> None:
    """Write JSON that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _keep(path: Path) -> dict[str, str]:
    if not path.exists():
        write_private(path, generate())
    try:
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the keys in {path}: {error}") from error
    return kept
