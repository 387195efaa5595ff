"""The public HTTP API as the demo uses it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import requests

from common.domain.errors import StackError

_TIMEOUT_S = 5.0


class DemoFailed(Exception):
    """What did not arrive, or not as it should: one line."""


class Away(Exception):
    """The API cannot be reached, or cannot reach what it needs."""


class Api:
    """Raises DemoFailed for a refusal, Away when there is no answer, StackError where loopback is refused."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business on loopback
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

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
            response = self._session.request(method, self._url + path, json=body, timeout=_TIMEOUT_S)
        except requests.RequestException as error:
            raise Away from error
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise Away
        if not response.ok:
            raise _refusal(method, path, response)
        return response.json() if response.content else None


def _refusal(method: str, path: str, response: requests.Response) -> Exception:
    try:
        said = response.json()
    except ValueError:
        said = {}
    if said.get("code") == "EGRESS_DENIED":
        return StackError(
            "the running stack does not reach loopback addresses (TOCSIN_EGRESS=public or TOCSIN_EGRESS_DENY), and the "
            "demo's endpoint is on one; with another TOCSIN_DATA_DIR the demo starts a stack of its own"
        )
    return DemoFailed(f"{method} {path} was answered by {response.status_code} {said.get('message', '')}".rstrip())
