"""A real OpenID Connect provider as a process on loopback: discovery, RSA keys, code flow with PKCE, userinfo.

It keeps to the contract (codes are good once, for one client, redirect URI and verifier; the client proves its secret)
until a test tells it over /_behave to break just one part of it. Everybody is logged in there already.

`python -m tests.oidc_provider PORT` serves; `running()` starts that and stops it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.targets import free_port

CLIENT_ID = "tocsin-test"
CLIENT_SECRET = "the client's secret of 32 bytes or so"
CODE_LIFETIME_S = 60


class Provider:
    """Its state: keys, codes, who is logged in, and in what it misbehaves."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.lock = threading.Lock()
        self.keys = [self.new_key()]
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.user: dict[str, Any] = {}
        self.wrong: dict[str, Any] = {}
        self.asked: dict[str, int] = {}

    @staticmethod
    def new_key() -> RSAKey:
        return RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"}, private=True)

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.wrong.get("discovered_issuer", self.issuer),
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def authorize(self, query: dict[str, str]) -> str:
        """The URL that the browser is sent back to."""
        assert query["response_type"] == "code" and query["client_id"] == CLIENT_ID
        assert "openid" in query["scope"].split() and query["code_challenge_method"] == "S256"
        if "error" in self.wrong:
            return f"{query['redirect_uri']}?{urlencode({'error': self.wrong['error'], 'state': query['state']})}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "issued_at": str(time.time())}
        answer = {"code": code, "state": query["state"], "iss": self.wrong.get("answered_iss", self.issuer)}
        return f"{query['redirect_uri']}?{urlencode({**answer, 'session_state': 'x'})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        with self.lock:
            asked = self.codes.pop(form.get("code", ""), None)  # good once
        if asked is None or time.time() - float(asked["issued_at"]) > CODE_LIFETIME_S:
            return 400, {"error": "invalid_grant"}
        challenge = _base64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        access = secrets.token_urlsafe(16)
        self.tokens[access] = dict(self.user)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 300}
        return 200, {**answer, "id_token": self.id_token(asked.get("nonce", ""))}

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **self.user}
        claims |= self.wrong.get("claims", {})
        claims = {name: value for name, value in claims.items() if name not in self.wrong.get("dropped", ())}
        algorithm = self.wrong.get("alg", "RS256")
        key = self.keys[-1]
        header = {"alg": algorithm, "kid": key.kid}
        if algorithm == "none":
            return ".".join([*(_base64(json.dumps(part).encode()) for part in (header, claims)), ""])
        if algorithm == "HS256":
            # What a careless client takes for the shared secret: the public key's text.
            secret = CLIENT_SECRET if self.wrong.get("with") == "secret" else key.as_pem(private=False).decode()
            # By hand: the library refuses a public key for a secret, which is just the attack.
            signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
            return f"{signed}.{_base64(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"
        signer = self.new_key() if self.wrong.get("with") == "another key" else key
        return jwt.encode(header, claims, signer, algorithms=["RS256"])

    def key_set(self) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def behave(self, told: dict[str, Any]) -> None:
        if told.pop("rotate", False):
            self.keys = [self.new_key()]
        self.user = told.pop("user", self.user)
        self.wrong = told


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        self.provider.asked[path] = self.provider.asked.get(path, 0) + 1
        if path == "/.well-known/openid-configuration":
            self.answer(200, self.provider.metadata())
        elif path == "/keys":
            self.answer(200, self.provider.key_set())
        elif path == "/authorize":
            self.answer(302, {}, Location=self.provider.authorize(query))
        elif path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            found = self.provider.tokens.get(token)
            self.answer(200 if found else 401, {**(found or {}), **self.provider.wrong.get("userinfo", {})})
        elif path == "/_asked":
            self.answer(200, self.provider.asked)
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if self.path == "/token":
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*self.provider.token(form, self.headers.get("Authorization", "")))
        elif self.path == "/_behave":
            self.provider.behave(json.loads(body))
            self.answer(200, {})
        else:
            self.answer(404, {})

    def answer(self, status: int, value: Any, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Quiet."""


class Remote:
    """A provider in another process."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def behave(self, **told: Any) -> None:
        """Change who is logged in there (user), change its key (rotate), or what it does wrong (all the rest)."""
        requests.post(f"{self.issuer}/_behave", json=told, timeout=60).raise_for_status()

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return requests.get(f"{self.issuer}/_asked", timeout=60).json().get(path, 0)

    def visit(self, url: str) -> str:
        """What a browser does there: where it is sent back to."""
        assert url.startswith(f"{self.issuer}/authorize?")
        response = requests.get(url, allow_redirects=False, timeout=60)
        assert response.status_code == 302, response.text
        return response.headers["Location"]


@contextmanager
def running() -> Iterator[Remote]:
    """A provider process, stopped at the end."""
    port = free_port()
    remote = Remote(f"http://127.0.0.1:{port}")
    process = subprocess.Popen([sys.executable, "-m", "tests.oidc_provider", str(port)])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                remote.behave()
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < deadline, "the provider did not start"
                time.sleep(0.05)
        yield remote
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    number = int(sys.argv[1])
    Handler.provider = Provider(f"http://127.0.0.1:{number}")
    ThreadingHTTPServer(("127.0.0.1", number), Handler).serve_forever()
