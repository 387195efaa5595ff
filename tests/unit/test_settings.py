"""Settings: every wrong value stops the start with one clear line that names the variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.domain.errors import SettingsError
from common.settings import SECRET_FIELDS, VARIABLES, Settings, child_environment, load_settings


def problem(**environ: str) -> str:
    with pytest.raises(SettingsError) as wrong:
        load_settings(environ)
    return wrong.value.message


#: (variable, wrong value, words that the line holds)
WRONG = [
    ("DATABASE_URL", "mysql://h/db", "must start with postgresql://"),
    ("DATABASE_URL", "postgresql", "must start with postgresql://"),
    ("DATABASE_URL", "postgresql://u:hunter2@h:port/db", "not a URL"),
    ("DATABASE_URL", "postgresql://u:hunter2@[::1/db", "not a URL"),
    ("REDIS_URL", "http://h", "must start with redis://"),
    ("REDIS_URL", "redis://:hunter2@h:99999999/0", "not a URL"),
    ("TOCSIN_PORT", "0", "must be a whole number from 1 to 65535"),
    ("TOCSIN_PORT", "65536", "must be a whole number from 1 to 65535"),
    ("TOCSIN_PORT", "http", "must be a whole number from 1 to 65535"),
    ("TOCSIN_WORKERS", "0", "must be a whole number from 1 to 64"),
    ("TOCSIN_API_WORKERS", "65", "must be a whole number from 1 to 64"),
    ("TOCSIN_API_THREADS", "2.5", "must be a whole number from 1 to 128"),
    ("TOCSIN_CORS_ORIGINS", "https://a.example, *", "* is not an origin"),
    ("TOCSIN_CORS_ORIGINS", "https://a.example/path", "not an origin"),
    ("TOCSIN_CORS_ORIGINS", "https://a.example/", "not an origin"),
    ("TOCSIN_CORS_ORIGINS", "file:///x", "not an origin"),
    ("TOCSIN_TRUSTED_PROXIES", "-1", "must be a whole number from 0 to 10"),
    ("TOCSIN_RATE_LIMIT_WRITES", "-1", "must be a whole number of 0 or more"),
    ("TOCSIN_RATE_LIMIT_AUTH", "100/min", "must be a whole number of 0 or more"),
    ("TOCSIN_REQUEST_TIMEOUT", "0", "must be a whole number from 1 to 600"),
    ("TOCSIN_LOCATION", "EU West", "lower-case letters, digits and hyphens"),
    ("TOCSIN_LOCATION", "a.b", "lower-case letters, digits and hyphens"),  # a dot would break the names of queues
    ("TOCSIN_EGRESS", "everything", "must be one of internal, public"),
    ("TOCSIN_EGRESS_ALLOW", "10.0.0.0/8, lan", "lan"),
    ("TOCSIN_EGRESS_DENY", "10.0.0.1/8", "host bits"),
    ("TOCSIN_DNS_SERVERS", "1.1.1.1:dns", "1.1.1.1:dns is not an address"),
    ("TOCSIN_DNS_SERVERS", "http://1.1.1.1", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "1.1.1.1, dns.google", "dns.google is not an address"),  # who could look it up?
    ("TOCSIN_DNS_SERVERS", "foo bar", "foo bar is not an address"),
    ("TOCSIN_DNS_SERVERS", "1.1.1.1:0", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "1.1.1.1:65536", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "1.1.1", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "[1.1.1.1]:53", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "[::1]x", "is not an address"),
    ("TOCSIN_DNS_SERVERS", "[::1]:", "is not an address"),
    ("TOCSIN_CANARIES", "1.1.1.1", "has no port"),
    ("TOCSIN_CANARIES", "1.1.1.1:99999", "not host:port"),
    ("TOCSIN_CANARIES", "one two:443", "not host:port"),
    ("TOCSIN_CANARIES", "a:1, :443", "not host:port"),
    ("TOCSIN_REGISTRATION", "maybe", "must be one of closed, open"),
    ("TOCSIN_JWT_KEY", "hunter2", "at least 32 characters"),
    ("TOCSIN_ADMIN_PASSWORD", "hunter2", "at least 12 characters"),
    ("TOCSIN_PUBLIC_URL", "status.example", "must start with http:// or https://"),
    ("TOCSIN_PUBLIC_URL", "http://", "a URL with a host"),
    ("TOCSIN_PUBLIC_URL", "https:///path", "a URL with a host"),
    ("TOCSIN_PUBLIC_URL", "https://status.example:http", "a URL with a host"),
    ("TOCSIN_PUBLIC_URL", "https://status.example?x=1", "a URL with a host"),
    ("TOCSIN_PUBLIC_URL", "https://status example", "a URL with a host"),
    ("TOCSIN_PUBLIC_URL", "https://me:hunter2@status.example", "a URL with a host"),
    ("TOCSIN_ADMIN_EMAIL", "nope", "an address like admin@example.com"),
    ("TOCSIN_ADMIN_EMAIL", " nope", "an address like admin@example.com"),
    ("TOCSIN_ADMIN_EMAIL", "a@b c", "an address like admin@example.com"),
    ("TOCSIN_ADMIN_EMAIL", "a@b@c", "an address like admin@example.com"),
    ("TOCSIN_ADMIN_EMAIL", "@b", "an address like admin@example.com"),
    ("TOCSIN_RESULT_RETENTION_DAYS", "0", "must be a whole number from 1 to 3650"),
    ("TOCSIN_LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
    ("TOCSIN_LOG_FORMAT", "xml", "must be one of auto, json, console"),
    ("TOCSIN_METRICS_PORT", "-1", "must be a whole number from 0 to 65535"),
    ("TOCSIN_ENCRYPTON_KEYS", "x", "no such setting"),  # a typo is not silently ignored
    ("TOCSIN_PORT_FILE", "/run/port", "no such setting"),  # only secrets come from files
]


@pytest.mark.parametrize(("variable", "value", "words"), WRONG)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_shows_no_secret(
    variable: str, value: str, words: str
) -> None:
    line = problem(**{variable: value})
    assert line.startswith(f"{variable}: ")
    assert words in line
    assert "\n" not in line
    assert "hunter2" not in line


def test_all_wrong_variables_are_named_at_once() -> None:
    line = problem(TOCSIN_PORT="x", TOCSIN_EGRESS="y", TOCSIN_WRONG="z", TOCSIN_JWT_KEY_FILE="/nowhere")
    assert all(name in line for name in ("TOCSIN_PORT:", "TOCSIN_EGRESS:", "TOCSIN_WRONG:", "TOCSIN_JWT_KEY_FILE:"))


def test_strangers_may_not_register_where_internal_targets_are_allowed() -> None:
    line = problem(TOCSIN_REGISTRATION="open")
    assert "TOCSIN_REGISTRATION=open" in line and "TOCSIN_EGRESS=internal" in line
    assert load_settings({"TOCSIN_REGISTRATION": "open", "TOCSIN_EGRESS": "public"}).registration == "open"


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_every_secret_may_come_from_a_file_without_its_last_newline(name: str, tmp_path: Path) -> None:
    variable = next(variable for variable, field in VARIABLES.items() if field == name)
    urls = {"database_url": "postgresql://u@h/d", "redis_url": "redis://h/0", "smtp_url": "smtp://h"}
    urls["deadman_url"] = "https://h/ping"
    value = urls.get(name, "s" * 40)
    file = tmp_path / "secret"
    file.write_text(value + "\n")
    settings = load_settings({f"{variable}_FILE": str(file), "TOCSIN_MAIL_FROM": "tocsin@example.com"})
    assert getattr(settings, name).get_secret_value() == value


def test_a_secret_file_that_is_missing_empty_or_not_text_is_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in ((tmp_path / "gone", "No such file"), (empty, "empty"), (binary, "not text")):
        line = problem(TOCSIN_ENCRYPTION_KEYS_FILE=str(path))
        assert line.startswith("TOCSIN_ENCRYPTION_KEYS_FILE: ") and words in line and str(path) in line


def test_a_variable_and_its_file_together_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k" * 40)
    assert "only one of" in problem(TOCSIN_JWT_KEY="j" * 40, TOCSIN_JWT_KEY_FILE=str(file))


def test_an_empty_variable_is_an_unset_one() -> None:
    settings = load_settings({"DATABASE_URL": "", "TOCSIN_PORT": "", "TOCSIN_CANARIES": ""})
    assert (settings.database_url, settings.port, settings.canary_list) == (None, 8000, ())


def test_other_programs_variables_are_none_of_ours() -> None:
    assert load_settings({"PATH": "/bin", "DATABASE": "x", "XTOCSIN_PORT": "y"}) == load_settings({})


def test_good_values_of_lists_are_taken_apart() -> None:
    settings = load_settings(
        {
            "TOCSIN_EGRESS_ALLOW": "10.0.0.0/8, 2001:db8::/32,",
            "TOCSIN_DNS_SERVERS": "127.0.0.1, 127.0.0.1:5353, [::1]:53, ::1, [::1]",
            "TOCSIN_CANARIES": "one.example:443, [::1]:80",
        }
    )
    assert settings.egress_allow_networks == ("10.0.0.0/8", "2001:db8::/32")
    assert settings.dns_server_list == ("127.0.0.1", "127.0.0.1:5353", "[::1]:53", "::1", "[::1]")
    assert settings.canary_list == ("one.example:443", "[::1]:80")


def test_what_people_type_around_an_address_or_a_url_is_cut_off() -> None:
    settings = load_settings(
        {"TOCSIN_ADMIN_EMAIL": " ops@example.com\n", "TOCSIN_PUBLIC_URL": " https://status.example/tocsin/ "}
    )
    assert settings.admin_email == "ops@example.com"
    assert settings.public_url == "https://status.example/tocsin"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_has_a_variable_and_a_description(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.alias is not None
    assert field.alias in {"DATABASE_URL", "REDIS_URL", "PROMETHEUS_MULTIPROC_DIR"} or field.alias.startswith("TOCSIN_")
    assert field.description and field.description.endswith(".")


def test_what_a_role_is_given_reads_as_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOCSIN_JWT_KEY_FILE", "/nowhere")  # of our parent: the value itself is handed on
    monkeypatch.setenv("LANG", "C")
    settings = load_settings(
        {"DATABASE_URL": "postgresql://u:p@h/d", "TOCSIN_JWT_KEY": "j" * 40, "TOCSIN_DATA_DIR": str(tmp_path)}
    )
    environ = child_environment(settings, EXTRA="1")
    assert load_settings(environ) == settings
    assert (environ["LANG"], environ["EXTRA"]) == ("C", "1")


def test_a_secret_is_never_shown_by_a_settings_object() -> None:
    settings = load_settings({"TOCSIN_JWT_KEY": "j" * 40, "DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in repr(settings) and "jjj" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example", ("mail.example", 587, "starttls", "", "")),
        ("smtp://me%40x:p%2Fw@mail.example:2525", ("mail.example", 2525, "starttls", "me@x", "p/w")),
        ("smtps://me:pw@mail.example", ("mail.example", 465, "tls", "me", "pw")),
        ("smtp://127.0.0.1?tls=none", ("127.0.0.1", 25, "none", "", "")),
    ],
)
def test_a_mail_server_is_one_url(url: str, server: tuple[Any, ...]) -> None:
    found = load_settings({"TOCSIN_SMTP_URL": url, "TOCSIN_MAIL_FROM": "tocsin@example.com"}).smtp_server
    assert found is not None
    assert (found.host, found.port, found.tls, found.username, found.password) == server
    assert "pw" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "http://mail.example",
        "smtp://",
        "smtp://mail.example:99999",
        "smtp://mail.example/path",
        "smtp://mail.example?tls=maybe",
        "smtp://mail.example?starttls=no",
        "smtps://mail.example?tls=none",
        "smtp://me:hunter2@mail.example?tls=none",  # the password would be sent in the clear
    ],
)
def test_a_wrong_mail_server_is_named_without_its_password(url: str) -> None:
    line = problem(TOCSIN_SMTP_URL=url, TOCSIN_MAIL_FROM="tocsin@example.com")
    assert "TOCSIN_SMTP_URL" in line and "hunter2" not in line


def test_a_mail_server_needs_a_sender() -> None:
    assert "TOCSIN_MAIL_FROM" in problem(TOCSIN_SMTP_URL="smtp://mail.example")
    assert "TOCSIN_MAIL_FROM" in problem(TOCSIN_MAIL_FROM="not an address")


OIDC = {"TOCSIN_OIDC_ISSUER": "https://id.example/realm", "TOCSIN_OIDC_CLIENT_ID": "tocsin"}


def test_a_login_provider_is_named_completely() -> None:
    assert load_settings(OIDC).oidc_issuer == "https://id.example/realm"
    assert "TOCSIN_OIDC_CLIENT_ID" in problem(TOCSIN_OIDC_ISSUER="https://id.example")
    for issuer in ("id.example", "http://id.example", "https://id.example?x=1", "ftp://id.example", "https://"):
        assert "TOCSIN_OIDC_ISSUER" in problem(**{**OIDC, "TOCSIN_OIDC_ISSUER": issuer}), issuer
    assert load_settings({**OIDC, "TOCSIN_OIDC_ISSUER": "http://127.0.0.1:9000"}).oidc_issuer
    assert "openid" in problem(**OIDC, TOCSIN_OIDC_SCOPES="email profile")


def test_whom_a_provider_lets_in_by_itself_is_limited_to_domains() -> None:
    assert "TOCSIN_OIDC_ALLOWED_DOMAINS" in problem(**OIDC, TOCSIN_OIDC_AUTO_JOIN="viewer")
    assert "TOCSIN_OIDC_AUTO_JOIN" in problem(**OIDC, TOCSIN_OIDC_AUTO_JOIN="owner", TOCSIN_OIDC_ALLOWED_DOMAINS="*")
    both = {**OIDC, "TOCSIN_OIDC_AUTO_JOIN": "viewer", "TOCSIN_OIDC_ALLOWED_DOMAINS": " Corp.example, other.example"}
    assert load_settings(both).oidc_domains == {"corp.example", "other.example"}
    assert load_settings({**both, "TOCSIN_OIDC_ALLOWED_DOMAINS": "*"}).oidc_domains == frozenset()
