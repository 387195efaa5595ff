"""Start child processes that cannot outlive us, if wanted as another user."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.domain.errors import StackError

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that a child runs as."""

    uid: int
    gid: int


def spawn(  # noqa: PLR0913 — the keywords are those of Popen, bundling them would hide that
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    uid: int | None = None,
    gid: int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    stdout: int | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `argv` in its own session; the kernel sends it `death_signal` when this process dies, even by SIGKILL.

    stdout: a file descriptor that also takes stderr; None inherits both. Raises OSError when the program cannot be
    executed, StackError outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        # The kernel ties the death signal to the thread that forked: its end would take the children along.
        raise StackError("child processes must be started from the main thread")
    # The order in the child is fixed by CPython: setsid, setgroups, setgid, setuid, preexec_fn, exec. It has to be
    # that one, since a change of uid clears the death signal.
    return subprocess.Popen(  # noqa: S603 — argv is ours, no shell
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=None if stdout is None else subprocess.STDOUT,
        cwd=cwd,
        pass_fds=pass_fds,
        # Out of the terminal's process group, so that Ctrl-C reaches the supervisor only and the stop stays orderly.
        start_new_session=True,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else (),
        preexec_fn=_die_with(death_signal, os.getpid()),  # noqa: PLW1509 — a few calls, looked up before the fork
    )


def watch_parent() -> Callable[[], bool]:
    """A question: has the process that is our parent now died since?"""
    parent = os.getppid()
    return lambda: os.getppid() != parent


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, dies: for what others fork, without `spawn`."""
    if ask := _die_with(signal.SIGKILL, parent):
        ask()


def _die_with(death_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """What the child runs between fork and exec. Everything is looked up here, before the fork."""
    if sys.platform != "linux":
        return None  # no such call elsewhere: there, only an orderly stop ends the children
    prctl, getppid, leave, handle = ctypes.CDLL(None).prctl, os.getppid, os._exit, signal.signal
    number, catchable = ctypes.c_ulong(death_signal.value), death_signal is not signal.SIGKILL

    def die_with_parent() -> None:
        if catchable:
            handle(death_signal, signal.SIG_DFL)  # our own handler, still in place until exec, would swallow it
        if prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            leave(126)
        if getppid() != parent:  # it died before the call above, so no signal will come
            leave(125)

    return die_with_parent


def barrier(path: Path, account: Account) -> Path | None:
    """The topmost part of `path` that `account` may not enter or execute; None when the whole path is open to it.

    Reads mode bits only, as they decide on every file system without ACLs.
    """
    real = path.resolve()
    for part in (*reversed(real.parents), real):
        info = part.stat()
        if info.st_uid == account.uid:
            needed = 0o100
        elif info.st_gid == account.gid:
            needed = 0o010
        else:
            needed = 0o001
        if not info.st_mode & needed:
            return part
    return None
