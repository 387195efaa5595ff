"""The demo's composition root: a stack, an organization of the demo's own, the play, and everything away again.

`python -m common.demo.app` is what `tocsin demo` becomes.
"""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from common.demo import stacks
from common.demo.api import Api, DemoFailed
from common.demo.play import Play
from common.demo.stacks import Stack
from common.demo.stage import serving
from common.demo.timeline import Timeline
from common.domain.errors import SettingsError, StackError, Unavailable
from common.passwords import Passwords
from common.settings import Settings, load_settings
from common.store.accounts import Owner, create_organization, remove_organization
from common.store.engine import Database, DatabaseRole

_UNUSABLE = 2
_INTERRUPTED = 130
#: Before each try to remove the organization (seconds).
_REMOVE_AFTER_S = (0.0, 0.5, 1.0)


def main() -> int:
    """The demo by the environment's settings; the exit status. What the operator has to mend is one line."""
    try:
        return demo(load_settings(), Console())
    except (SettingsError, StackError) as error:
        sys.stderr.write(f"tocsin demo: {error.message}\n")
        return _UNUSABLE


def demo(settings: Settings, console: Console) -> int:
    """Run the demo on the running stack, or on a temporary one; the exit status. Raises StackError."""
    with _interruptible(), ExitStack() as cleanup:
        try:
            stack = stacks.find(settings) or cleanup.enter_context(stacks.temporary(console))
            return play(stack, console)
        except KeyboardInterrupt:
            console.print("[yellow]interrupted[/yellow]")
            return _INTERRUPTED


def play(stack: Stack, console: Console) -> int:
    """The whole story on this stack; the exit status. Raises StackError where the stack refuses loopback."""
    story = Timeline(console)
    story.title()
    story.fact("stack", stack.url, "a temporary one" if stack.temporary else "the one that runs here")
    with _organization(stack, story) as api_key, serving() as stage:
        try:
            Play(Api(stack.url, api_key), stage, story).run()
        except DemoFailed as failure:
            story.failed(str(failure))
    if not story.failures:
        story.succeeded()
    return 1 if story.failures else 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal all lead through the clean-up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _organization(stack: Stack, story: Timeline) -> Iterator[str]:
    """The API key of an organization of our own, which is removed afterwards with all its rows."""
    database = Database(stack.database_url, DatabaseRole.OWNER, application="demo", pool_size=1)
    name = f"Demo {secrets.token_hex(4)}"
    owner = Owner(f"{name.lower().replace(' ', '-')}@tocsin.invalid", "Demo", Passwords().hash(secrets.token_urlsafe()))
    try:
        with database.begin() as connection:
            made = create_organization(connection, name, owner, key_name="demo")
    except Unavailable as error:
        raise StackError("the stack answers, but its database cannot be reached from here") from error
    try:
        yield made.api_key
    finally:
        if not _removed(database, made.org_id) and not stack.temporary:
            story.failed(f"the database is away, so the organization “{name}” is still in it")
        database.dispose()


def _removed(database: Database, org_id: str) -> bool:
    for pause_s in _REMOVE_AFTER_S:
        time.sleep(pause_s)
        try:
            with database.begin() as connection:
                remove_organization(connection, org_id)
        except Unavailable:
            continue  # a deadlock with what the services still finish, or a database that starts again
        else:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
