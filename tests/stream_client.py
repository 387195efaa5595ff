"""A client of the event stream over a bare socket: what came, message by message."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `id` "" where none was sent."""

    event: str
    id: str
    data: Any


def parse(text: str) -> list[Message]:
    """All whole messages in a text; a block without data is one of the event ""."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":"))
        if fields:
            data = json.loads(fields["data"]) if "data" in fields else None
            found.append(Message(fields.get("event", ""), fields.get("id", ""), data))
    return found


class StreamClient:
    """Reads what comes; `last_id` is what a browser would send when it comes again."""

    def __init__(self, sock: socket.socket, *, whole: bool = True) -> None:
        self.sock = sock
        self.raw = b""
        self.head = "" if whole else "none"
        self.last_id = ""
        self.messages: list[Message] = []
        self.ended = False
        self.heartbeats = 0

    @classmethod
    def connect(cls, port: int, token: str, last_id: str | None = None) -> StreamClient:
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        lines = ["GET /v1/stream HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "Accept: text/event-stream"]
        if last_id is not None:
            lines.append(f"Last-Event-ID: {last_id}")
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return cls(sock)

    def read(self, timeout_s: float = 0.0) -> list[Message]:
        """What is new after one look."""
        self.sock.settimeout(timeout_s or 0.000001)
        try:
            while got := self.sock.recv(65536):
                self.raw += got
                self.sock.settimeout(0.000001)
            self.ended = True
        except (TimeoutError, BlockingIOError):
            pass
        except OSError:
            self.ended = True
        if not self.head and b"\r\n\r\n" in self.raw:
            head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            self.head = head.decode("latin-1")
        if not self.head:
            return []
        whole, cut, rest = self.raw.rpartition(b"\n\n")
        self.raw = rest
        self.heartbeats += whole.count(b":\n\n") + (whole.endswith(b":") and cut != b"")
        new = parse((whole + cut).decode())
        for message in new:
            self.last_id = message.id or self.last_id
        self.messages += new
        return new

    def wait(self, enough: Callable[[list[Message]], bool], timeout_s: float = 60.0) -> list[Message]:
        """Read until there is enough of all that came."""
        deadline = time.monotonic() + timeout_s
        while not enough(self.messages):
            is_late = time.monotonic() > deadline
            assert not self.ended, (self.head, self.messages[-5:])
            self.read(0.2)
            assert not is_late or enough(self.messages), (self.head, self.messages[-5:])
        return self.messages

    def wait_for_end(self, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.ended:
            is_late = time.monotonic() > deadline
            self.read(0.2)
            assert self.ended or not is_late

    def of(self, event: str) -> list[Message]:
        return [message for message in self.messages if message.event == event]

    def numbers(self) -> list[int]:
        """Of the incident events that came."""
        return [int(message.id) for message in self.of("incident")]

    def close(self) -> None:
        self.sock.close()
