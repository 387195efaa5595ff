"""An open-loop client of the API in a process of its own: `python -m bench.api_client`, plan as JSON on stdin.

Requests leave at fixed moments whether or not the ones before were answered, and a latency counts from the moment at
which its request was due: a server that stands still is charged for everybody who had to wait.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

_CONNECTIONS = 32
_MIX = {"read one": 60, "list 50": 25, "change": 10, "create": 5}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run of the client is asked for."""

    host: str
    port: int
    key: str
    per_second: float
    seconds: float
    ids: list[str]
    mix: dict[str, int]
    #: (method, path, body) to choose from, for what is not one of ours.
    requests: dict[str, list[tuple[str, str, str]]]


class Client:
    """Sends and measures; one connection carries one request at a time."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._chance = random.Random(1)
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.latencies_ms: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[str, int] = defaultdict(int)
        self.late_ms: list[float] = []

    async def run(self) -> None:
        """Everything, to the last answer."""
        for _ in range(_CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection(self._asked.host, self._asked.port))
        names, weights = list(self._asked.mix), list(self._asked.mix.values())
        began, tasks = time.perf_counter(), []
        for number in range(round(self._asked.per_second * self._asked.seconds)):
            due = began + number / self._asked.per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            name = self._chance.choices(names, weights)[0]
            tasks.append(asyncio.create_task(self._send(name, number, due)))
        await asyncio.wait(tasks, timeout=30)

    async def _send(self, name: str, number: int, due: float) -> None:
        # How late we are by ourselves; waiting for a free connection is the server's doing.
        self.late_ms.append((time.perf_counter() - due) * 1000)
        reader, writer = await self._free.get()
        try:
            writer.write(self._request(name, number))
            status = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            self.statuses["broken"] += 1
            reader, writer = await asyncio.open_connection(self._asked.host, self._asked.port)
        else:
            self.statuses[str(status)] += 1
            if status < 400:
                self.latencies_ms[name].append((time.perf_counter() - due) * 1000)
        self._free.put_nowait((reader, writer))

    def _request(self, name: str, number: int) -> bytes:
        if name in self._asked.requests:
            method, path, body = self._chance.choice(self._asked.requests[name])
            return self._head(method, path, body.encode())
        id_ = self._chance.choice(self._asked.ids)
        if name == "read one":
            return self._head("GET", f"/v1/monitors/{id_}", b"")
        if name == "list 50":
            return self._head("GET", "/v1/monitors?limit=50", b"")
        if name == "change":
            return self._head("PATCH", f"/v1/monitors/{id_}", json.dumps({"name": f"changed {number}"}).encode())
        made = {"type": "http", "name": f"made {number}", "target": "http://127.0.0.1:9/", "enabled": False}
        return self._head("POST", "/v1/monitors", json.dumps(made).encode())

    def _head(self, method: str, path: str, body: bytes) -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1", f"Host: {self._asked.host}", f"Authorization: Bearer {self._asked.key}",
            "Content-Type: application/json", f"Content-Length: {len(body)}", "", "",
        ]  # fmt: skip
        return "\r\n".join(lines).encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next((line[15:] for line in head.split("\r\n") if line.startswith("content-length:")), "0")
    await reader.readexactly(int(length))
    return int(head.split(" ", 2)[1])


def main() -> int:
    """Read what is asked, do it, print what was measured."""
    asked: dict[str, Any] = json.load(sys.stdin)
    client = Client(Asked(**{"mix": _MIX, "requests": {}, **asked}))
    asyncio.run(client.run())
    json.dump({"latencies_ms": client.latencies_ms, "statuses": client.statuses, "late_ms": client.late_ms}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
