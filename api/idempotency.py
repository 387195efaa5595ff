"""Idempotency-Key: a request that is sent again because its answer got lost must not make a second thing.

The key is taken, the thing made and the answer kept in one transaction: whatever crashes, all of it is there or nothing
(docs/decisions/0014-one-transaction-per-key.md). Of two at once the second waits a moment for the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from flask import Response, request

from api.context import caller, services
from common import log
from common.domain.errors import Conflict, Contended, FieldError, StillRunning, ValidationFailed
from common.store import idempotency_keys
from common.store.engine import Connection, Database
from common.store.idempotency_keys import Claim, Earlier
from common.vault import SecretUnreadable

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY_CHARS = 255

#: Printable ASCII; quoted as RFC 8941 writes a string, or plain.
_PLAIN = re.compile(r"[\x20-\x7e]+")
_ESCAPED = re.compile(r'\\(["\\])')
#: What an answer says beside its body.
_KEPT_HEADERS = ("Location", "ETag")
_RETRY_AFTER_S = 1
#: What the fingerprint is signed for. A body may hold a password: without our key nobody can try some against it.
_PURPOSE = "idempotent request"
#: Where the body's plain digest stands beside the answer, sealed: a signature ends with its key, this is sealed anew.
_DIGEST = "digest"


class _Failed(Exception):
    """The view answered with an error: nothing that it did may stay."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def once(body: Any, act: Callable[[], Response]) -> Response:
    """Do this request, or repeat what it was answered before. `body` is the parsed one, None without.

    Raises ValidationFailed (no such key), StillRunning, and Conflict for a key that another body has.
    """
    key = _key()
    if key is None:
        return act()
    me = caller()
    digest = _digest(body)
    fingerprint = services().vault.sign(_PURPOSE, digest)
    claim = Claim(me.org_id or None, me.actor, f"{request.method} {request.path}", key, fingerprint)
    claimed = False
    try:
        with _database().share(me.org_id) as connection:
            earlier = idempotency_keys.claim(connection, claim)
            claimed = True
            return _do(connection, claim, digest, act) if earlier is None else _replay(earlier, claim, digest)
    except _Failed as failed:
        return failed.response
    except Contended:
        if claimed:
            raise
        raise StillRunning(
            "A request with this Idempotency-Key is still running.", retry_after_s=_RETRY_AFTER_S
        ) from None


def _do(connection: Connection, claim: Claim, digest: bytes, act: Callable[[], Response]) -> Response:
    response = act()
    if response.status_code >= 400:
        raise _Failed(response)
    idempotency_keys.complete(connection, claim.id, _seal(claim, digest, response))
    return response


def _key() -> str | None:
    """The key in this request, None without one. Raises ValidationFailed."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = _ESCAPED.sub(r"\1", key[1:-1])
    if len(key) > MAX_KEY_CHARS or not _PLAIN.fullmatch(key):
        message = f"must have 1 to {MAX_KEY_CHARS} printable ASCII characters"
        raise ValidationFailed("The idempotency key is wrong.", details=[FieldError(HEADER, message)])
    return key


def _digest(body: Any) -> bytes:
    """The same for bodies that say the same: neither spaces nor the order of names matter."""
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def _database() -> Database:
    """Where this caller's things are made: the operator's are in no organization."""
    return services().database if caller().org_id else services().platform.database


def _seal(claim: Claim, digest: bytes, response: Response) -> str:
    kept = {
        _DIGEST: digest.hex(),
        "body": response.get_data(as_text=True),
        "content_type": response.content_type,
        "headers": {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
    }
    return services().vault.seal(_owner(claim.org_id, claim.id), kept)


def _replay(earlier: Earlier, claim: Claim, digest: bytes) -> Response:
    try:
        kept = services().vault.open(_owner(claim.org_id, earlier.id), earlier.answer)
    except SecretUnreadable as error:
        log.get_logger().error("idempotent_answer_unreadable", error=error.message)
        raise Conflict(
            "This request was done before, but its answer can no longer be read: its encryption key is gone.",
            code="IDEMPOTENCY_ANSWER_LOST",
        ) from None
    # The version before this one sealed none: its fingerprint is the digest.
    if kept.get(_DIGEST, earlier.fingerprint.hex()) != digest.hex():
        raise Conflict(
            "This Idempotency-Key was used with another body; send a new key with a new request.",
            code="IDEMPOTENCY_KEY_CONFLICT",
        )
    response = Response(kept["body"], 200, headers=kept["headers"], content_type=kept["content_type"])
    response.headers[REPLAYED] = "true"
    return response


def _owner(org_id: str | None, claim_id: str) -> str:
    return f"idempotency-key:{org_id}:{claim_id}"
