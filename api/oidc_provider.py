"""The OpenID Connect provider that the operator chose: where to send people, and whom it says that came back.

Discovery and keys are read when they are first needed and kept for a while; a token signed by a key that we do not
know yet makes us look again. What the provider says is believed only with its signature, for us, about this login.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from common.clock import monotonic_s
from common.domain.errors import TocsinError, Unavailable
from common.settings import Settings

CALLBACK_PATH = "/v1/auth/oidc/callback"

#: Signatures only: a shared secret (HS256) or none at all proves nothing about who made the token.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
_TIMEOUT_S = 5.0
_MAX_BYTES = 1024 * 1024
_KEPT_S = 3600.0
#: Two machines need not agree to the second.
_LEEWAY_S = 30
_JSON = "application/json"


class Refused(TocsinError):
    """The provider, or what came from it, does not prove who this is; the message is for our log."""

    code = "OIDC_LOGIN_FAILED"


@dataclass(frozen=True, slots=True)
class Start:
    """One login on its way: what must come back, and what only we know."""

    state: str
    nonce: str
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for. `email` is "" unless the provider says that it is verified."""

    issuer: str
    subject: str
    email: str
    name: str


class OidcProvider:
    """Talks to one provider; for all threads of a process."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = monotonic_s) -> None:
        secret = settings.oidc_client_secret
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._client_secret = secret.get_secret_value() if secret else None
        self._scopes = settings.oidc_scopes
        self._redirect_uri = f"{settings.base_url}{CALLBACK_PATH}"
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    def where_to(self, start: Start) -> str:
        """Where the browser goes to log in. Raises Unavailable and Refused."""
        endpoint = self._endpoint("authorization_endpoint")
        with self._session() as session:
            url, _state = session.create_authorization_url(
                endpoint, state=start.state, nonce=start.nonce, code_verifier=start.verifier
            )
        return str(url)

    def who(self, code: str, start: Start) -> Identity:
        """Whom the code stands for that came back. Raises Unavailable and Refused."""
        token = self._exchange(code, start)
        claims = self._claims(token.get("id_token"), start)
        if "email" not in claims:
            claims = {**self._userinfo(str(token.get("access_token", "")), claims["sub"]), **claims}
        # Some providers say "true"; none of those says so of an address that it has not verified.
        said = claims.get("email_verified")
        verified = said is True or said == "true"
        email = claims.get("email") if verified else ""
        name = claims.get("name")
        return Identity(
            self._issuer,
            claims["sub"],
            email if isinstance(email, str) else "",
            name if isinstance(name, str) else "",
        )

    def issued_by_us(self, issuer: str | None) -> bool:
        """Whether an answer comes from our provider, where it says from whom (RFC 9207)."""
        return issuer is None or issuer == self._issuer

    def _exchange(self, code: str, start: Start) -> Mapping[str, Any]:
        endpoint = self._endpoint("token_endpoint")
        try:
            with self._session() as session:
                found: Any = session.fetch_token(
                    endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=start.verifier,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                )
        except requests.HTTPError as error:
            if error.response.status_code >= 500:
                raise Unavailable("The login provider has a problem of its own.") from error
            raise Refused(f"the provider refused the code: {error}") from error
        except (AuthlibBaseError, ValueError) as error:
            raise Refused(f"the provider refused the code: {error}") from error
        except requests.RequestException as error:
            raise Unavailable("The login provider cannot be reached.") from error
        if not isinstance(found, Mapping):
            raise Refused("the provider's answer to the code is no object")
        return found

    def _claims(self, id_token: Any, start: Start) -> dict[str, Any]:
        if not isinstance(id_token, str):
            raise Refused("the provider sent no ID token")
        claims = self._signed(id_token)
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": start.nonce},
            sub={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise Refused(f"the ID token is not for this login: {error}") from error
        audiences = claims["aud"]
        party = claims.get("azp", self._client_id if isinstance(audiences, str) or len(audiences) == 1 else None)
        if party != self._client_id:
            raise Refused("the ID token was made for another client")
        subject = claims["sub"]
        if not isinstance(subject, str) or len(subject) > 255 or not (subject.isascii() and subject.isprintable()):
            raise Refused("the ID token's subject is none")
        return claims

    def _signed(self, id_token: str) -> dict[str, Any]:
        """The claims, if a key of the provider signed them; its keys are read again before we say no."""
        for fresh in (False, True):
            try:
                return dict(jwt.decode(id_token, self._keys(fresh=fresh), algorithms=list(_ALGORITHMS)).claims)
            except (JoseError, ValueError) as error:
                problem = error
        raise Refused(f"the ID token's signature is not the provider's: {problem}") from problem

    def _userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """More about the same person, where the ID token does not say it; {} where there is no such place."""
        endpoint = self._metadata().get("userinfo_endpoint")
        if not isinstance(endpoint, str):
            return {}
        found = self._get(endpoint, {"Authorization": f"Bearer {access_token}"})
        if found.get("sub") != subject:
            raise Refused("the provider's userinfo is about somebody else")
        return found

    def _keys(self, *, fresh: bool) -> KeySet:
        uri = self._endpoint("jwks_uri")
        found = self._keep("keys", lambda: self._get(uri), fresh=fresh)
        try:
            return KeySet.import_key_set(cast("KeySetSerialization", found))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Refused(f"the provider's keys are none: {error}") from error

    def _metadata(self) -> dict[str, Any]:
        found = self._keep(
            "metadata", lambda: self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        )
        if found.get("issuer") != self._issuer:
            raise Refused(f"the provider calls itself {found.get('issuer')!r}, not {self._issuer!r}")
        return found

    def _endpoint(self, name: str) -> str:
        url = self._metadata().get(name)
        # The issuer may be http only on this machine (settings); its endpoints are no worse than it is.
        allowed = {"https", urlsplit(self._issuer).scheme}
        if not isinstance(url, str) or urlsplit(url).scheme not in allowed:
            raise Refused(f"the provider's {name} is missing or not https")
        return url

    def _keep(self, name: str, read: Callable[[], dict[str, Any]], *, fresh: bool = False) -> dict[str, Any]:
        with self._lock:
            read_at, value = self._kept.get(name, (0.0, None))
            if value is None or fresh or self._monotonic() - read_at > _KEPT_S:
                value = read()
                self._kept[name] = (self._monotonic(), value)
            return dict(value)

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            with requests.Session() as session:
                session.trust_env = False
                response = session.get(
                    url,
                    headers={"Accept": _JSON, **(headers or {})},
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,
                    stream=True,
                )
                body = response.raw.read(_MAX_BYTES + 1, decode_content=True)
        except (requests.RequestException, OSError) as error:
            raise Unavailable("The login provider cannot be reached.") from error
        if response.status_code != 200:
            raise Unavailable(f"The login provider answered {response.status_code}.")
        try:
            found = json.loads(body) if len(body) <= _MAX_BYTES else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable("The login provider did not answer with a JSON object.")
        return found

    def _session(self) -> OAuth2Session:
        session = OAuth2Session(
            self._client_id,
            self._client_secret,
            scope=self._scopes,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._client_secret else "none",
        )
        session.trust_env = False
        return session


def open_provider(settings: Settings) -> OidcProvider | None:
    """The provider that the settings name; None for none."""
    return OidcProvider(settings) if settings.oidc_issuer else None
