"""Endpoints whose paths a test breaks and mends, served by a thread of ours on loopback."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any, Self

from tests.dns_server import DnsServer, Zone
from tests.targets import Act, Target, answer, serving


class Endpoint:
    """`paths` may be changed at any time; a path that is not in it answers 200."""

    def __init__(self) -> None:
        self.paths: dict[str, Act] = {"*": answer(200)}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open = AsyncExitStack()
        self.target = Target(0)

    def __enter__(self) -> Self:
        self._thread.start()
        self.target = self._call(self._open.enter_async_context(serving(self.paths)))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._open.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def also(self, paths: dict[str, Act], tls: SSLContext | None = None) -> Target:
        """One more server."""
        target: Target = self._call(self._open.enter_async_context(serving(paths, tls=tls)))
        return target

    def talking(self, data: bytes) -> int:
        """The port of a server that says this at once, whatever it is asked."""

        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            writer.close()

        server = self._call(asyncio.start_server(talk, "127.0.0.1", 0))
        self._loop.call_soon_threadsafe(lambda: self._open.callback(server.close))
        return int(server.sockets[0].getsockname()[1])

    def name_server(self, zones: dict[str, Zone]) -> str:
        """A name server for these zones; its host:port."""
        server: DnsServer = self._call(DnsServer(zones).start())
        self._loop.call_soon_threadsafe(lambda: self._open.callback(server.close))
        return server.address

    def url(self, path: str) -> str:
        return self.target.url(path)

    def breaks(self, path: str) -> None:
        self.paths[path] = answer(503)

    def mends(self, path: str) -> None:
        self.paths.pop(path, None)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)
