"""The public HTTP API as the demo uses it: by the client, asked once and without patience."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from common.client_errors import ClientError, Refused, Unreachable
from common.client_wire import Call, Patience, Wire
from common.domain.errors import StackError

_TIMEOUT_S = 5.0
_ONCE = Patience(tries=1)


class DemoFailed(Exception):
    """What did not arrive, or not as it should: one line."""


class Away(Exception):
    """The API cannot be reached, or cannot reach what it needs."""


class Api:
    """Raises DemoFailed for a refusal, Away when there is no answer, StackError where loopback is refused."""

    def __init__(self, url: str, key: str = "") -> None:
        self._wire = Wire(url, key, patience=_ONCE)

    def get(self, path: str) -> Any:
        """The answer's JSON."""
        return self._call("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> None:
        """Nothing comes back."""
        self._call("DELETE", path)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return self._wire.send(Call(method, path, body=body, timeout_s=_TIMEOUT_S))
        except Unreachable as error:
            raise Away from error
        except ClientError as error:
            raise _refusal(method, path, error) from error


def _refusal(method: str, path: str, error: ClientError) -> Exception:
    if isinstance(error, Refused) and error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Away()
    if error.code == "EGRESS_DENIED":
        return StackError(
            "the running stack does not reach loopback addresses (TOCSIN_EGRESS=public or TOCSIN_EGRESS_DENY), and the "
            "demo's endpoint is on one; with another TOCSIN_DATA_DIR the demo starts a stack of its own"
        )
    status = f"by {error.status} " if isinstance(error, Refused) else ""
    return DemoFailed(f"{method} {path} was answered {status}{error.message}".rstrip())
