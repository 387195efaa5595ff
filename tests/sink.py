"""A receiver of webhooks on a free loopback port: records what arrives, answers by script, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """What to do with one request: wait, then answer, or break off before or after the answer's first bytes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    reset: bool = False
    reset_after_status: bool = False


@dataclass(frozen=True)
class Received:
    """A request as it came; `accepted` when its answer was 2xx."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    accepted: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.json["type"]).removeprefix("incident.")


class Sink:
    """`script[path]` holds answers for the next requests; after them `default[path]` (200) answers.

    `asked` counts what has arrived, answered or not.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.asked: Counter[str] = Counter()
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.default: dict[str, Answer] = defaultdict(Answer)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.hang_up()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024))
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse connections, from the return on."""
        self._call(self._close())

    def hang_up(self) -> None:
        """Close every connection without an answer."""
        self._call(self._hang_up())

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def accepted(self, path: str | None = None) -> list[Received]:
        return [r for r in list(self.received) if r.accepted and (path is None or r.path == path)]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
        """Whether the condition came true in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            is_late = time.monotonic() > deadline
            if condition():
                return True
            if is_late:
                return False
            time.sleep(0.01)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _close(self) -> None:
        self._server.close()

    async def _hang_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has hung up, or we do
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        body = await reader.readexactly(
            int(next((v for k, v in headers.items() if k.lower() == "content-length"), "0"))
        )
        self.asked[path] += 1
        answer = self.script[path].popleft() if self.script[path] else self.default[path]
        accepted = 200 <= answer.status < 300 and not answer.reset
        if not answer.wait_s:
            self.received.append(Received(path, headers, body, time.time(), accepted))
        await asyncio.sleep(answer.wait_s)
        if answer.wait_s:
            self.received.append(Received(path, headers, body, time.time(), accepted))
        if not answer.reset:
            extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            writer.write(f"HTTP/1.1 {answer.status} Said\r\n{extra}Content-Length: 2\r\n\r\n".encode())
            await writer.drain()
        if answer.reset or answer.reset_after_status:
            await asyncio.sleep(0.02)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        writer.write(b"ok")
        await writer.drain()
