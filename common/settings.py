"""Every setting of Tocsin, and the only reader of the environment.

A setting comes from its environment variable; a secret may instead come from the file that `<VARIABLE>_FILE` names.
Wrong values stop the start: `load_settings` raises SettingsError with one line per wrong setting.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from common.domain.errors import SettingsError

#: Only these may come from a file: the file's content, without the last newline, is the value.
SECRET_FIELDS = (
    "database_url",
    "redis_url",
    "jwt_key",
    "encryption_keys",
    "admin_password",
    "smtp_url",
    "oidc_client_secret",
    "deadman_url",
)

#: What commands that talk to an API go by (ClientSettings): no role's settings, and no role gets them.
CLIENT_VARIABLES = ("TOCSIN_URL", "TOCSIN_API_KEY", "TOCSIN_API_KEY_FILE")

#: Characters that these need at least.
_LEAST_LENGTH = {"jwt_key": 32, "admin_password": 12}

_SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}
#: A login is compared, not written to: more than mail servers take is fine.
_LOGIN = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,253}")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")

#: [v6], [v6]:port, v4:port.
_NAME_SERVER = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")
_LOCATION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _default_data_dir() -> Path:
    return Path("/var/lib/tocsin") if os.geteuid() == 0 else Path(".tocsin")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server; `tls` is "starttls", "tls" (from the first byte) or "none"."""

    host: str
    port: int
    tls: str
    username: str = field(repr=False)
    password: str = field(repr=False)


class Settings(BaseModel):
    """All settings with their defaults. The alias is the environment variable, the description stands in the docs."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    database_url: SecretStr | None = Field(
        None, alias="DATABASE_URL", description="PostgreSQL 15 or newer; unset: the embedded server."
    )
    redis_url: SecretStr | None = Field(
        None,
        alias="REDIS_URL",
        description="Redis 7 or Valkey 8 or newer, a database of its own; unset: the embedded server.",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        alias="TOCSIN_DATA_DIR",
        description="Where the embedded servers, keys and credentials live. Default ./.tocsin, for root /var/lib/"
        "tocsin.",
    )
    bind: str = Field("127.0.0.1", alias="TOCSIN_BIND", description="Address the API listens on.")
    port: int = Field(8000, ge=1, le=65535, alias="TOCSIN_PORT", description="Port the API listens on.")
    public_url: str = Field(
        "", alias="TOCSIN_PUBLIC_URL", description="Base of the links in messages. Default http://<bind>:<port>."
    )
    workers: int = Field(
        2, ge=1, le=64, alias="TOCSIN_WORKERS", description="Worker processes that `tocsin up` starts."
    )
    api_workers: int = Field(1, ge=1, le=64, alias="TOCSIN_API_WORKERS", description="API processes under gunicorn.")
    api_threads: int = Field(8, ge=1, le=128, alias="TOCSIN_API_THREADS", description="Threads per API process.")
    streams: int = Field(
        1_000,
        ge=0,
        le=20_000,
        alias="TOCSIN_STREAMS",
        description="Open event streams (GET /v1/stream) per API process; beyond it 503.",
    )
    streams_per_credential: int = Field(
        20,
        ge=1,
        le=20_000,
        alias="TOCSIN_STREAMS_PER_CREDENTIAL",
        description="Open event streams of one API key or session per API process; beyond it 503.",
    )
    location: str = Field("local", alias="TOCSIN_LOCATION", description="Where this worker stands; its queues' name.")
    egress: Literal["internal", "public"] = Field(
        "internal",
        alias="TOCSIN_EGRESS",
        description="internal: private and loopback targets allowed; public: only public ones. Link-local and cloud "
        "metadata addresses never.",
    )
    egress_allow: str = Field(
        "", alias="TOCSIN_EGRESS_ALLOW", description="CIDRs, comma-separated, that `public` lets through as well."
    )
    egress_deny: str = Field(
        "", alias="TOCSIN_EGRESS_DENY", description="CIDRs, comma-separated, that are never reached; wins over allow."
    )
    dns_servers: str = Field(
        "",
        alias="TOCSIN_DNS_SERVERS",
        description="Addresses, each with or without port, comma-separated, like 192.0.2.53, 127.0.0.1:5353 or "
        "[2001:db8::53]:53; unset: the system's resolvers.",
    )
    canaries: str = Field(
        "",
        alias="TOCSIN_CANARIES",
        description="host:port, comma-separated: places a worker connects to when it doubts its own network.",
    )
    blind_after_s: int = Field(
        30,
        ge=5,
        le=3600,
        alias="TOCSIN_BLIND_AFTER",
        description="Seconds for which a location has to see nothing, or to have no worker, until an incident says "
        "that it is blind; and to see again until that is over.",
    )
    flap_turns: int = Field(
        6,
        ge=0,
        le=20,
        alias="TOCSIN_FLAP_TURNS",
        description="A monitor that turns so often between up and not up within the time of 20 checks is flapping: "
        "one notice, then silence until it has not turned for the time of 10. 0: none ever is.",
    )
    registration: Literal["closed", "open"] = Field(
        "closed", alias="TOCSIN_REGISTRATION", description="Whether strangers may register an organization."
    )
    jwt_key: SecretStr | None = Field(
        None,
        alias="TOCSIN_JWT_KEY",
        description="Signs access tokens, 32 characters or more; generated into the data directory with the embedded "
        "servers.",
    )
    encryption_keys: SecretStr | None = Field(
        None,
        alias="TOCSIN_ENCRYPTION_KEYS",
        description="Fernet keys, comma-separated, the first encrypts; generated with the embedded servers.",
    )
    admin_email: str = Field(
        "admin@tocsin.local", alias="TOCSIN_ADMIN_EMAIL", description="The first administrator, made at first start."
    )
    admin_password: SecretStr | None = Field(
        None, alias="TOCSIN_ADMIN_PASSWORD", description="The first password; generated when unset."
    )
    smtp_url: SecretStr | None = Field(
        None,
        alias="TOCSIN_SMTP_URL",
        description="Mail server for channels that name none: smtp://user:password@host:587 (STARTTLS), "
        "smtps://host:465, or smtp://host:25?tls=none.",
    )
    mail_from: str = Field(
        "", alias="TOCSIN_MAIL_FROM", description="Sender of mails by that server, like tocsin@example.com."
    )
    oidc_issuer: str = Field(
        "",
        alias="TOCSIN_OIDC_ISSUER",
        description="Login through an OpenID Connect provider: its issuer, exactly as it names itself; unset: none. "
        "The redirect URI to give it is <TOCSIN_PUBLIC_URL>/v1/auth/oidc/callback.",
    )
    oidc_client_id: str = Field(
        "", alias="TOCSIN_OIDC_CLIENT_ID", description="What the provider calls this installation."
    )
    oidc_client_secret: SecretStr | None = Field(
        None,
        alias="TOCSIN_OIDC_CLIENT_SECRET",
        description="The secret that goes with it; unset: a public client, by PKCE alone.",
    )
    oidc_scopes: str = Field(
        "openid email profile", alias="TOCSIN_OIDC_SCOPES", description="What the provider is asked for."
    )
    oidc_auto_join: Literal["none", "admin", "editor", "viewer"] = Field(
        "none",
        alias="TOCSIN_OIDC_AUTO_JOIN",
        description="Role of those whom the provider knows and we do not, in the first organization; none: only those "
        "who are members or invited come in.",
    )
    oidc_allowed_domains: str = Field(
        "",
        alias="TOCSIN_OIDC_ALLOWED_DOMAINS",
        description="Mail domains, comma-separated, that may log in through the provider; unset or *: all it vouches "
        "for. Needed with TOCSIN_OIDC_AUTO_JOIN.",
    )
    deadman_url: SecretStr | None = Field(
        None,
        alias="TOCSIN_DEADMAN_URL",
        description="Asked by GET as long as everything from scheduler to notifier works, so that something else can "
        "raise the alarm when it is not asked any more.",
    )
    deadman_interval_s: int = Field(
        60, ge=5, le=3600, alias="TOCSIN_DEADMAN_INTERVAL", description="How often that is, in seconds."
    )
    request_timeout: int = Field(
        20,
        ge=1,
        le=600,
        alias="TOCSIN_REQUEST_TIMEOUT",
        description="Seconds within which a request has to be there whole; of a slower one nothing more is read.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        alias="TOCSIN_TRUSTED_PROXIES",
        description="How many reverse proxies stand before the API: so many hops of X-Forwarded-For and -Proto are "
        "believed. 0: none, whoever connects is the client.",
    )
    cors_origins: str = Field(
        "",
        alias="TOCSIN_CORS_ORIGINS",
        description="Origins, comma-separated, whose pages may use the API from a browser, like https://status.example.",
    )
    rate_limit_writes: int = Field(
        100,
        ge=0,
        alias="TOCSIN_RATE_LIMIT_WRITES",
        description="Writes a minute of one user or API key, or of an address where there is neither. 0: no limit.",
    )
    rate_limit_auth: int = Field(
        30,
        ge=0,
        alias="TOCSIN_RATE_LIMIT_AUTH",
        description="Logins, refreshes, registrations and the like a minute of one address, and as many on one account "
        "from all addresses. 0: no limit.",
    )
    rate_limit_alerts: int = Field(
        60_000,
        ge=0,
        alias="TOCSIN_RATE_LIMIT_ALERTS",
        description="Requests a minute with alerts of one API key, each of up to 1,000 alerts: a guard against one "
        "gone wild. Platform keys have none. 0: no limit.",
    )
    rate_limit_reads: int = Field(
        0, ge=0, alias="TOCSIN_RATE_LIMIT_READS", description="Reads a minute of one user or API key. 0: no limit."
    )
    rate_limit_pings: int = Field(
        60,
        ge=0,
        alias="TOCSIN_RATE_LIMIT_PINGS",
        description="Pings a minute of one address with a secret that nobody has; others are not counted. 0: no limit.",
    )
    result_retention_days: int = Field(
        30, ge=1, le=3650, alias="TOCSIN_RESULT_RETENTION_DAYS", description="How long results are kept."
    )
    rollup_retention_days: int = Field(
        400,
        ge=2,
        le=3650,
        alias="TOCSIN_ROLLUP_RETENTION_DAYS",
        description="How long uptime and latency are kept by hours and days. They go by whole months.",
    )
    fine_rollup_retention_days: int = Field(
        7,
        ge=2,
        le=3650,
        alias="TOCSIN_FINE_ROLLUP_RETENTION_DAYS",
        description="How long uptime and latency are kept by five minutes.",
    )
    event_retention_days: int = Field(
        400,
        ge=2,
        le=3650,
        alias="TOCSIN_EVENT_RETENTION_DAYS",
        description="How long resolved incidents are kept, with their events and notifications. Those of alerts from "
        "outside are kept for at least as long as a repeat is known, 400 days.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="TOCSIN_LOG_LEVEL", description="Least level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", alias="TOCSIN_LOG_FORMAT", description="auto: readable on a terminal, JSON elsewhere."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="TOCSIN_METRICS_PORT",
        description="Port of a role's own /metrics; 0: none (`tocsin up` shows all roles' metrics at the API's).",
    )
    metrics_dir: Path | None = Field(
        None,
        alias="PROMETHEUS_MULTIPROC_DIR",
        description="Set by `tocsin up`: where the processes of one machine share their metrics.",
    )

    @field_validator("egress_allow", "egress_deny")
    @classmethod
    def _networks(cls, value: str) -> str:
        for part in _parts(value):
            ipaddress.ip_network(part)
        return value

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        value = value.strip()
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if value and not _is_base(value):
            raise ValueError("must be a URL with a host, like https://tocsin.example.com, without user or query")
        return value.rstrip("/")

    @field_validator("location")
    @classmethod
    def _location_name(cls, value: str) -> str:
        if not _LOCATION.fullmatch(value):
            raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens, the first no hyphen")
        return value

    @field_validator("admin_email")
    @classmethod
    def _login_address(cls, value: str) -> str:
        value = value.strip()
        if not _LOGIN.fullmatch(value):
            raise ValueError("must be an address like admin@example.com")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for part in _parts(value):
            parts = urlsplit(part)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or part != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{part} is not an origin like https://status.example")
        return value

    @field_validator("dns_servers")
    @classmethod
    def _name_servers(cls, value: str) -> str:
        for part in _parts(value):
            if not _is_name_server(part):
                raise ValueError(f"{part} is not an address like 192.0.2.53, 192.0.2.53:53 or [2001:db8::53]:53")
        return value

    @field_validator("canaries")
    @classmethod
    def _endpoints(cls, value: str) -> str:
        for part in _parts(value):
            _check_endpoint(part)
        return value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return _check_url(value, "postgresql", "postgres")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        return _check_url(value, "redis", "rediss", "unix")

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        if _check_url(value, "smtp", "smtps") is not None and value is not None:
            _smtp_server(value.get_secret_value())
        return value

    @field_validator("deadman_url")
    @classmethod
    def _watcher(cls, value: SecretStr | None) -> SecretStr | None:
        _check_url(value, "http", "https")
        if value is not None and not urlsplit(value.get_secret_value()).hostname:
            raise ValueError("is not a URL, look at its host and port")
        return value

    @field_validator("mail_from")
    @classmethod
    def _mail_address(cls, value: str) -> str:
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("must be an address like tocsin@example.com")
        return value

    @field_validator("jwt_key", "admin_password", mode="before")
    @classmethod
    def _long_enough(cls, value: Any, info: ValidationInfo) -> Any:
        least = _LEAST_LENGTH[str(info.field_name)]
        if isinstance(value, str) and len(value) < least:
            raise ValueError(f"must have at least {least} characters")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        parts = urlsplit(value)
        safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
        if value and not (safe and parts.hostname and not parts.query and not parts.fragment):
            raise ValueError("must be an https:// URL without query (http:// only on this machine)")
        return value

    @field_validator("oidc_scopes")
    @classmethod
    def _asks_for_identity(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must hold openid")
        return value

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        if self.registration == "open" and self.egress == "internal":
            raise ValueError(
                "TOCSIN_REGISTRATION=open with TOCSIN_EGRESS=internal would let strangers probe your network; "
                "set TOCSIN_EGRESS=public or TOCSIN_REGISTRATION=closed"
            )
        return self

    @model_validator(mode="after")
    def _mail_complete(self) -> Settings:
        if self.smtp_url is not None and not self.mail_from:
            raise ValueError("TOCSIN_SMTP_URL needs TOCSIN_MAIL_FROM: the sender of the mails")
        return self

    @model_validator(mode="after")
    def _provider_complete(self) -> Settings:
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("TOCSIN_OIDC_ISSUER needs TOCSIN_OIDC_CLIENT_ID")
        if self.oidc_auto_join != "none" and not self.oidc_allowed_domains:
            raise ValueError(
                "TOCSIN_OIDC_AUTO_JOIN needs TOCSIN_OIDC_ALLOWED_DOMAINS: at a public provider everybody has an "
                "account; * lets all of them in"
            )
        return self

    @property
    def oidc_domains(self) -> frozenset[str]:
        """Mail domains that may log in through the provider; empty for all."""
        return frozenset(part.lower() for part in _parts(self.oidc_allowed_domains)) - {"*"}

    @property
    def smtp_server(self) -> SmtpServer | None:
        """The installation's own mail server, if there is one."""
        return None if self.smtp_url is None else _smtp_server(self.smtp_url.get_secret_value())

    @property
    def base_url(self) -> str:
        """Where people reach the API."""
        return self.public_url or f"http://{self.bind}:{self.port}"

    @property
    def cors_origin_list(self) -> tuple[str, ...]:
        """Origins that may use the API from a browser."""
        return _parts(self.cors_origins)

    @property
    def egress_allow_networks(self) -> tuple[str, ...]:
        """CIDRs that the operator lets through."""
        return _parts(self.egress_allow)

    @property
    def egress_deny_networks(self) -> tuple[str, ...]:
        """CIDRs that the operator forbids."""
        return _parts(self.egress_deny)

    @property
    def dns_server_list(self) -> tuple[str, ...]:
        """Resolvers to ask, empty for the system's."""
        return _parts(self.dns_servers)

    @property
    def canary_list(self) -> tuple[str, ...]:
        """host:port of each canary."""
        return _parts(self.canaries)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _smtp_server(url: str) -> SmtpServer:
    """The messages never show the URL: it may hold a password."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    tls = query.pop("tls", "tls" if parts.scheme == "smtps" else "starttls")
    if not parts.hostname or query or parts.path not in ("", "/") or tls not in _SMTP_PORTS:
        raise ValueError("must look like smtp://user:password@host:587, smtps://host:465 or smtp://host:25?tls=none")
    if (parts.scheme == "smtps") != (tls == "tls"):
        raise ValueError("smtps:// is TLS from the first byte; ?tls= is for smtp:// and starttls or none")
    if parts.username and tls == "none":
        raise ValueError("the password would be sent in the clear: use STARTTLS or smtps://")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    return SmtpServer(parts.hostname, parts.port or _SMTP_PORTS[tls], tls, username, password)


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)


def _is_base(url: str) -> bool:
    """Whether a path can be put behind this http(s) URL to make a link."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0  # a wrong port raises here by itself
    except ValueError:
        return False
    return sound and not parts.username and not re.search(r"[\s\x00-\x1f\x7f?#]", url)


def _is_name_server(text: str) -> bool:
    """An IP address with or without port: who answers for names is not itself found by one."""
    found = _NAME_SERVER.fullmatch(text)
    host, port = (found["v6"] or found["v4"], found["port"]) if found else (text, None)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if found and (address.version == 6) != (found["v6"] is not None):
        return False
    return port is None or 1 <= int(port) <= 65535


def _check_endpoint(text: str) -> None:
    wrong = ValueError(f"{text} is not host:port")
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        raise wrong from None
    if not parts.hostname or parts.netloc != text or "@" in text or re.search(r"\s", text) or port == 0:
        raise wrong
    if port is None:
        raise ValueError(f"{text} has no port")


def _check_url(value: SecretStr | None, *schemes: str) -> SecretStr | None:
    """The message never shows the value: it holds a password."""
    if value is None:
        return None
    starts = tuple(f"{scheme}://" for scheme in schemes)
    if not value.get_secret_value().startswith(starts):
        raise ValueError(f"must start with {' or '.join(starts)}")
    try:
        _ = urlsplit(value.get_secret_value()).port
    except ValueError:
        raise ValueError("is not a URL, look at its host and port") from None
    return value


#: Field name by environment variable.
VARIABLES: Mapping[str, str] = {str(field.alias): name for name, field in Settings.model_fields.items()}


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment (or the mapping given), with overrides by field name.

    Raises SettingsError that names every wrong variable; an unknown TOCSIN_ variable is wrong too (a typo would
    otherwise be silently ignored).
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one reader
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable, text in environ.items():
        target = _variable_of(variable)
        if target is None:
            if variable.startswith("TOCSIN_") and variable not in CLIENT_VARIABLES:
                problems.append(f"{variable}: no such setting")
        elif text != "":
            if VARIABLES[target] in values:
                problems.append(f"{target}: set only one of {target} and {target}_FILE")
                continue
            try:
                values[VARIABLES[target]] = text if target == variable else _read_secret(text)
            except OSError as error:
                problems.append(f"{variable}: cannot read {text}: {error.strerror}")
            except ValueError as error:
                problems.append(f"{variable}: cannot use {text}: {error}")
    values.update(overrides)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems.extend(_line(item) for item in error.errors())
        raise SettingsError("; ".join(problems)) from None
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """By what commands find their API; url and api_key are empty where they are not given."""

    url: str
    api_key: str = field(repr=False)
    data_dir: Path
    config_dir: Path


def client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """What the environment says of the API to talk to. Raises SettingsError."""
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one reader
    key, key_file = environ.get("TOCSIN_API_KEY", ""), environ.get("TOCSIN_API_KEY_FILE", "")
    if key and key_file:
        raise SettingsError("TOCSIN_API_KEY: set only one of TOCSIN_API_KEY and TOCSIN_API_KEY_FILE")
    try:
        key = _read_secret(key_file) if key_file else key
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"TOCSIN_API_KEY_FILE: cannot use {key_file}: {said}") from None
    data_dir = Path(environ.get("TOCSIN_DATA_DIR") or _default_data_dir())
    return ClientSettings(environ.get("TOCSIN_URL", ""), key.strip(), data_dir, _config_dir(environ, data_dir))


def _config_dir(environ: Mapping[str, str], data_dir: Path) -> Path:
    # By the XDG base directory specification a relative path counts as none.
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if base.is_absolute():
        return base / "tocsin"
    try:
        return Path(environ.get("HOME") or "~").expanduser() / ".config" / "tocsin"
    except RuntimeError:  # a user without a home, as in containers
        return data_dir / "client"


def telemetry_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of OpenTelemetry's own, by which traces are told (common/tracing.py reads them)."""
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one reader
    return {name: value for name, value in environ.items() if name.startswith("OTEL_")}


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment of a role's process that `tocsin up` starts: ours, with these settings put in."""
    given = os.environ.items()  # noqa: TID251
    environ = {name: value for name, value in given if _variable_of(name) is None and name not in CLIENT_VARIABLES}
    for variable, name in VARIABLES.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            environ[variable] = str(value)
    return {**environ, **extra}


def _variable_of(name: str) -> str | None:
    if name in VARIABLES:
        return name
    plain = name.removesuffix("_FILE")
    return plain if plain != name and VARIABLES.get(plain) in SECRET_FIELDS else None


def _read_secret(path: str) -> str:
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not secret:
        raise ValueError("it is empty")
    return secret


def _line(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    variable = next((key for key, field in VARIABLES.items() if name in (key, field)), name)
    message = str(error["msg"]).removeprefix("Value error, ")
    field = Settings.model_fields.get(VARIABLES.get(variable, ""))
    choices = get_args(field.annotation) if field is not None else ()
    if choices and all(isinstance(choice, str) for choice in choices):
        message = f"must be one of {', '.join(choices)}"
    elif field is not None and field.annotation is int:
        message = f"must be a whole number {_range(field.metadata)}"
    return f"{variable}: {message}" if variable else message


def _range(limits: Sequence[Any]) -> str:
    """What a number may be, in words."""
    least = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    most = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    return f"of {least} or more" if most is None else f"from {least} to {most}"
