"""Drive libcurl's multi handle on the running asyncio loop: sockets, one timer, one future per transfer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pycurl

from common.http.sockets import OnReady, Sockets, open_sockets

Outcome = tuple[int, str]


class Multi:
    """Runs prepared easy handles on one event loop. Not for use from another thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        opener: Callable[[asyncio.AbstractEventLoop, OnReady], Sockets] = open_sockets,
    ) -> None:
        self._loop = loop
        self._multi = pycurl.CurlMulti()
        self._sockets = opener(loop, self._on_ready)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._waiting: dict[pycurl.Curl, asyncio.Future[Outcome]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._tick_is_due = False
        self._closed = False

    def start(self, curl: pycurl.Curl) -> asyncio.Future[Outcome]:
        """Start a prepared handle; the future gets (CURLE code, libcurl's text) when it has ended."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._multi.add_handle(curl)
        self._waiting[curl] = future
        return future

    def abandon(self, curl: pycurl.Curl) -> None:
        """Break off one transfer, if it is still under way: its caller was cancelled, the handle is free again."""
        if self._waiting.pop(curl, None) is not None:
            self._multi.remove_handle(curl)

    def close(self) -> None:
        """Break off what is under way: its callers get CURLE_ABORTED_BY_CALLBACK."""
        self._closed = True
        for curl in list(self._waiting):
            self._settle(curl, pycurl.E_ABORTED_BY_CALLBACK, "the engine was closed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._multi.close()
        self._sockets.close()

    # -- called by libcurl: they may only note things down, libcurl must not be entered again from here ---------

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        self._sockets.watch(fd, 0 if what == pycurl.POLL_REMOVE else what)

    def _on_timer(self, timeout_ms: int) -> None:
        if timeout_ms == 0:
            # Each new transfer asks for this; one tick serves all that were added in this turn of the loop.
            if not self._tick_is_due:
                self._tick_is_due = True
                self._loop.call_soon(self._tick)
            return
        if timeout_ms < 0:
            return
        due = self._loop.time() + timeout_ms / 1000
        # An earlier timer stays: firing too early is harmless, libcurl then says again how long it wants to sleep.
        if self._timer is None or self._timer_due > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_timeout)

    # -- called by the loop ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_is_due = False
        self._on_ready([(pycurl.SOCKET_TIMEOUT, 0)])

    def _on_timeout(self) -> None:
        self._timer = None
        self._on_ready([(pycurl.SOCKET_TIMEOUT, 0)])

    def _on_ready(self, events: list[tuple[int, int]]) -> None:
        if self._closed:
            return
        socket_action = self._multi.socket_action
        for fd, bits in events:
            socket_action(fd, bits)
        more = 1
        while more:
            more, finished, failed = self._multi.info_read()
            for curl in finished:
                self._settle(curl, pycurl.E_OK, "")
            for curl, code, text in failed:
                self._settle(curl, code, text)

    def _settle(self, curl: pycurl.Curl, code: int, text: str) -> None:
        self._multi.remove_handle(curl)
        future = self._waiting.pop(curl, None)
        if future is not None and not future.done():
            future.set_result((code, text))
