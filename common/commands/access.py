"""`tocsin login`, `logout` and `whoami`."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer
from rich.text import Text

from common.client import Client
from common.client_errors import ClientError
from common.client_types import Me
from common.client_wire import address
from common.commands import options, output
from common.commands.connect import connect, local_url
from common.commands.credentials import Login, Store
from common.exit_status import CommandError
from common.settings import client_settings


def login(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The installation, like https://tocsin.example; default: asked.")
    ] = "",
    *,
    email: Annotated[str, typer.Option(metavar="ADDRESS", help="Your address; default: asked.")] = "",
    api_key: Annotated[
        bool, typer.Option("--api-key", help="With an API key instead of address and password.")
    ] = False,
    organization: Annotated[str | None, typer.Option(metavar="ID", help="The id of one of your organizations.")] = None,
    as_json: options.Json = False,
) -> None:
    """Log in to an installation and remember it.

    Password or API key are asked for without showing them, or read from standard input where that is no terminal. What
    is remembered is an API key, or a session of 30 days that every use prolongs; never the password.
    """
    given = client_settings()
    base = address(url or given.url or _ask("URL", local_url(given))).geturl()
    if base.startswith("http://") and address(base).hostname not in ("localhost", "127.0.0.1", "::1"):
        output.note(f"{base} is not encrypted: whoever is in between can read what is sent", "yellow")
    made = _with_key(base) if api_key else _with_password(base, email or _ask("e-mail"), organization)
    with Client(base, made.token) as client:
        me = client.me()
    store = Store(given.config_dir)
    with store.locked():
        store.write(made)
    _tell(me, base, as_json=as_json)
    output.note(f"remembered in {store.path}")


def logout(*, as_json: options.Json = False) -> None:
    """End the session and forget it. An API key is forgotten only: it goes on working elsewhere."""
    store = Store(client_settings().config_dir)
    with store.locked():
        remembered = store.read()
        if remembered is not None and remembered.refresh_token:
            try:
                with Client(remembered.url) as client:
                    client.logout(remembered.refresh_token)
            except ClientError as error:
                output.note(f"forgotten here, but the session may go on: {error.message}", "yellow")
        store.forget()
    if as_json:
        output.emit({"url": remembered.url if remembered else None})
    else:
        output.note(f"logged out of {remembered.url}" if remembered else "nobody was logged in", "")


def whoami(*, as_json: options.Json = False) -> None:
    """Who you are, in which organization of which installation, and what you may do."""
    with connect() as client:
        _tell(client.me(), client.url, as_json=as_json)


def _with_key(base: str) -> Login:
    key = _ask_secret("API key")
    if not key.startswith("tcs_"):
        raise CommandError("that is no API key: they begin with tcs_")
    return Login(base, api_key=key)


def _with_password(base: str, email: str, organization: str | None) -> Login:
    password = _ask_secret("password")
    with Client(base) as client:
        tokens = client.login(email, password, organization_id=organization)
    return Login(base, access_token=tokens["access_token"], refresh_token=tokens["refresh_token"])


def _tell(me: Me, url: str, *, as_json: bool) -> None:
    if as_json:
        output.emit({"url": url, **me})
        return
    who = me["user"]["email"] if me["user"] else f"API key {me['api_key']['name'] if me['api_key'] else ''}"
    rows = [
        ("who", output.plain(who, "bold")),
        ("role", Text.assemble(output.plain(me["role"]), " of ", output.plain(me["organization"]["name"]))),
        ("where", output.plain(url)),
    ]
    output.console().print(output.pairs(rows))


def _ask(name: str, default: str = "") -> str:
    if not sys.stdin.isatty():
        if default:
            return default
        raise CommandError(f"{name} is not given, and there is no terminal to ask at: say --email and the URL")
    shown = f"{name} [{default}]: " if default else f"{name}: "
    sys.stderr.write(shown)
    sys.stderr.flush()
    return sys.stdin.readline().strip() or default


def _ask_secret(name: str) -> str:
    # From the terminal without echo; where there is none, one line of what comes in.
    typed = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not typed:
        raise CommandError(f"no {name} was given")
    return typed
