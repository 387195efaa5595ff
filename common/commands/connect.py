"""Which API a command talks to, and as whom.

1. TOCSIN_URL and TOCSIN_API_KEY (or TOCSIN_API_KEY_FILE)
2. what `tocsin login` remembered
3. the installation that `tocsin up` runs or ran in this data directory: nothing is needed after `make run`

Credentials only ever go to the address that they were given for.
"""

from __future__ import annotations

from dataclasses import replace

from common.client import Client
from common.client_errors import NotLetIn
from common.client_wire import address
from common.commands.credentials import Login, Store, read_private
from common.exit_status import CommandError, ExitStatus
from common.settings import ClientSettings, client_settings

#: Where `tocsin up` listens unless told otherwise.
DEFAULT_URL = "http://127.0.0.1:8000"

#: Files of `tocsin up`: the first API key, and where it is to be reached while it runs.
_LOCAL_KEY, _LOCAL_STACK = "credentials.json", "stack.json"


def connect() -> Client:
    """A client for the command that runs. Raises CommandError where nobody has logged in."""
    given = client_settings()
    store = Store(given.config_dir)
    login = find(given, store)
    if login.refresh_token:
        return Client(login.url, login.token, renew=lambda refused: _renew(store, login.url, refused))
    return Client(login.url, login.token)


def find(given: ClientSettings, store: Store) -> Login:
    """The login that counts. Raises CommandError."""
    url = address(given.url).geturl() if given.url else ""
    if given.api_key:
        return Login(url or local_url(given), api_key=given.api_key)
    remembered = store.read()
    if remembered is not None and url in ("", remembered.url):
        return remembered
    local = _local(given)
    if local is not None and url in ("", local.url):
        return local
    where = f" at {url}" if url else ""
    raise CommandError(
        f"not logged in{where}: run `tocsin login{' ' + url if url else ''}`, set TOCSIN_URL and TOCSIN_API_KEY, or "
        "start an installation here with `tocsin up`",
        ExitStatus.NOT_LET_IN,
    )


def local_url(given: ClientSettings) -> str:
    """Where this machine's own installation is, or would be."""
    stack = read_private(given.data_dir / _LOCAL_STACK) or {}
    return str(stack.get("url") or DEFAULT_URL)


def _local(given: ClientSettings) -> Login | None:
    made = read_private(given.data_dir / _LOCAL_KEY)
    if made is None or not made.get("api_key"):
        return None
    stack = read_private(given.data_dir / _LOCAL_STACK) or made
    return Login(address(str(stack.get("url") or DEFAULT_URL)).geturl(), api_key=str(made["api_key"]))


def _renew(store: Store, url: str, refused: str) -> str | None:
    """The next access token, by the refresh token or by another command that was faster."""
    with store.locked():
        login = store.read()
        if login is None or login.url != url:
            return None
        if login.access_token != refused:
            return login.access_token
        try:
            with Client(url) as client:
                tokens = client.refresh(login.refresh_token)
        except NotLetIn:
            return None
        access, refresh = tokens["access_token"], tokens["refresh_token"]
        store.write(replace(login, access_token=access, refresh_token=refresh))
        return access
