"""New passwords: judged, then hashed. Hashing takes its time, so no transaction is open meanwhile."""

from __future__ import annotations

from api.context import services
from common.domain.errors import FieldError, ValidationFailed
from common.domain.weak_passwords import weakness


def hash_new(password: str, email: str, *, field: str) -> str:
    """The hash to store for the user with this address. Raises ValidationFailed, which names the field of the body."""
    wrong = weakness(password, email)
    if wrong is not None:
        raise ValidationFailed("Some fields are wrong.", details=[FieldError(field, wrong)])
    return services().passwords.hash(password)
