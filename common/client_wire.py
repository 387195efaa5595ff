"""One request to the API and what comes of it: time limits, repeats, problems as exceptions.

Only what may be done twice is repeated: `Call.repeatable`. Credentials go to the address they were given for and to no
other: redirects are not followed. Nothing here logs.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import requests
from requests.auth import AuthBase

from common.client_errors import BadAddress, ClientError, Foreign, Refused, Unreachable, refusal
from common.client_problems import problem_of, trouble_of

#: Said when nobody is listening for seconds; an answer may take as long as the server allows itself (30 s), and more.
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 35.0

#: The whole body has to be there so long after its first byte, and have at most so much.
_BODY_WITHIN_S = 120.0
_MAX_BODY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 65_536

_PASSING = frozenset({429, 502, 503, 504})
_TOKEN = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `repeatable`: doing it twice is like doing it once. `token`: instead of the session's."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    timeout_s: float = ANSWER_TIMEOUT_S
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a repeatable request is tried; pauses double, each by chance up to half shorter."""

    tries: int = 4
    first_pause_s: float = 0.25
    longest_pause_s: float = 5.0
    within_s: float = 30.0

    def pause_s(self, done: int) -> float:
        """The pause after so many tries."""
        return min(self.longest_pause_s, self.first_pause_s * 2.0 ** (done - 1)) * random.uniform(0.5, 1)  # noqa: S311


class _Bearer(AuthBase):
    """The token at the moment of sending. As requests' `auth` it also keeps ~/.netrc from putting in another one."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Wire:
    """A session with one API. `renew` gets a token that was refused and may return a better one."""

    def __init__(
        self, url: str, token: str = "", *, patience: Patience, renew: Callable[[str], str | None] | None = None
    ) -> None:
        parts = address(url)
        self.url = parts.geturl()
        self._bearer = _Bearer(checked(token))
        self._patience = patience
        self._renew = renew
        self._session = requests.Session()
        self._session.auth = self._bearer
        self._session.headers.update({"Accept": "application/json", "User-Agent": "tocsin-client"})
        # A proxy of the environment has no business on the way to this machine.
        self._session.trust_env = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._session.close()

    def send(self, call: Call) -> Any:
        """The answer's JSON, None where there is none. Raises ClientError."""
        ends_s, done = time.monotonic() + self._patience.within_s, 0
        renewed = False
        while True:
            try:
                return self._once(call)
            except ClientError as error:
                if not renewed and call.token is None and self._renewed(error):
                    renewed = True  # it was not let in, so nothing was done
                    continue
                done += 1
                pause_s = self._pause_s(error, call, done)
                if pause_s is None or time.monotonic() + pause_s > ends_s:
                    raise
            time.sleep(pause_s)

    def _renewed(self, error: ClientError) -> bool:
        if self._renew is None or not isinstance(error, Refused) or error.status != 401:
            return False
        token = self._renew(self._bearer.token)
        if token is None:
            return False
        self._bearer.token = checked(token)
        return True

    def _pause_s(self, error: ClientError, call: Call, done: int) -> float | None:
        """How long to wait before the next try, None when there is none."""
        if not call.repeatable or done >= self._patience.tries:
            return None
        if isinstance(error, Refused):
            passing = error.status in _PASSING or error.code == "IDEMPOTENCY_KEY_IN_USE"
            wanted = error.retry_after_s or 0.0
            return max(wanted, self._patience.pause_s(done)) if passing else None
        if isinstance(error, Unreachable) and not error.permanent:
            return self._patience.pause_s(done)
        return None

    def _once(self, call: Call) -> Any:
        try:
            with self._session.request(
                call.method,
                self.url + call.path,
                params={name: value for name, value in call.query.items() if value is not None},
                data=None if call.body is None else json.dumps(call.body, allow_nan=False),
                headers={**call.headers, **({} if call.body is None else _JSON)},
                auth=None if call.token is None else _Bearer(checked(call.token)),
                timeout=(CONNECT_TIMEOUT_S, call.timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._judged(response, _body(response))
        except requests.RequestException as error:
            raise trouble_of(error, self.url, call.timeout_s) from None

    def _judged(self, response: requests.Response, body: bytes) -> Any:
        if 300 <= response.status_code < 400:
            raise Foreign(f"{self.url} redirects to {_origin(response)}: use that address, if you trust it")
        if response.ok and not body:
            return None
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if response.ok and said is not None:
            return said
        if response.ok:
            raise Foreign(f"{self.url} answers, but not as Tocsin's API does: is the address right?")
        raise refusal(problem_of(response, said, self.url))


_JSON: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})


def address(url: str) -> SplitResult:
    """The API's base, without what stands behind host and path. Raises BadAddress, which never shows a password."""
    wrong = BadAddress("the address must look like https://tocsin.example or http://127.0.0.1:8000")
    try:
        parts = urlsplit(url.strip())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wrong from None
    if not sound or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise wrong
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1"))


def checked(token: str) -> str:
    """The token, if it can be sent. Raises BadAddress: the library's own error would show it."""
    if not _TOKEN.fullmatch(token):
        raise BadAddress("the token or API key holds characters that none has: copy it again")
    return token


def _body(response: requests.Response) -> bytes:
    ends_s = time.monotonic() + _BODY_WITHIN_S
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise Foreign(f"the answer is larger than {_MAX_BODY_BYTES >> 20} MiB")
        if time.monotonic() > ends_s:
            raise Unreachable(f"the answer was not whole within {_BODY_WITHIN_S:.0f} s")
    return b"".join(chunks)


def _origin(response: requests.Response) -> str:
    """Where a redirect leads, without what might be secret in it."""
    try:
        parts = urlsplit(response.headers.get("Location", ""))
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "nowhere"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else "another path"
