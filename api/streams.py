"""Open streams: connections that a request has handed over, all of them in one thread that waits for none.

Whoever feeds them puts bytes into a stream's buffer; this thread sends what the client takes, keeps silent connections
alive, notices who is gone, and cuts who takes nothing. A buffer is bounded by its feeder, who looks at `hungry` first.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from common import telemetry
from common.clock import monotonic_s
from common.process import Step, start_loop

#: A comment after so much silence: proxies close what says nothing, and a client knows that it is still connected.
HEARTBEAT_S = 15.0
#: A client that takes nothing for so long is let go; it comes again, and goes on where it was.
STUCK_S = 30.0
#: One that takes a little now and then is let go as well: what was before it has to be taken within this.
TAKEN_WITHIN_S = 60.0
#: From the decision that there is room to the connection itself; a place that nobody came to take is free again then.
ARRIVES_S = 10.0
#: Beyond this a client is behind: no more is put before it until it has taken that (bytes).
HUNGRY_BYTES = 64 * 1024
#: Clients have nothing to say.
_MOST_HEARD_BYTES = 64 * 1024
_HEARTBEAT = b":\n\n"
_TICK_S = 0.25
_FEED_EVERY_S = 0.25
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Access:
    """Whose stream it is: `credential` says by what they came, `expires_s` until when that is good (Unix time).

    What has the same `holder` shares a limit: a key's streams, or a session's, whose tokens change.
    """

    org_id: str
    holder: str
    credential: Hashable
    monitors: bool
    expires_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Room that is kept for a connection on its way, until `until_s`."""

    access: Access
    until_s: float


class Stream:
    """One open connection. `asked` is where the client wants to go on; `position` and `missed` are the feeder's."""

    __slots__ = (
        "access", "asked", "buffer", "ending", "heard", "missed", "moved_s", "owed", "owed_s", "position", "sock",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, access: Access, asked: str | None, now_s: float) -> None:
        self.sock = sock
        self.access = access
        self.asked = asked
        self.buffer = bytearray()
        self.heard = 0
        self.moved_s = now_s  # when it took something last
        self.owed, self.owed_s = 0, now_s  # what was before it at a moment and is not taken yet (bytes)
        self.ending = ""  # why, once it is to end
        self.position: int | None = None
        self.missed = False

    @property
    def hungry(self) -> bool:
        """Whether the client has taken what it was given."""
        return len(self.buffer) < HUNGRY_BYTES


class Streams:
    """All streams of this process: `most` at once, `most_each` of one holder. The first one starts the threads."""

    def __init__(
        self,
        most: int,
        most_each: int,
        make_feed: Callable[[Streams], Step],
        *,
        monotonic: Callable[[], float] = monotonic_s,
    ) -> None:
        self._most = most
        self._most_each = most_each
        self._make_feed = make_feed
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._places: set[Place] = set()
        self._streams: set[Stream] = set()
        self._arriving: deque[Stream] = deque()
        self._dirty: set[Stream] = set()
        self._selector: selectors.BaseSelector | None = None
        self._stop = threading.Event()
        self._stopping = False
        self._threads: dict[str, threading.Thread] = {}
        self._ticked_s = 0.0

    def reserve(self, access: Access) -> Place | None:
        """A place for another stream, to be opened or released within a moment; None where there is no room."""
        now_s = self._monotonic()
        with self._lock:
            # Whatever became of their requests.
            self._places = {place for place in self._places if place.until_s > now_s}
            held = [*(stream.access for stream in self._streams), *(place.access for place in self._places)]
            if self._stopping or not self._has_room(access, held):
                return None
            place = Place(access, now_s + ARRIVES_S)
            self._places.add(place)
            return place

    def _has_room(self, access: Access, held: Sequence[Access]) -> bool:
        """The last tenth is for organizations that have no more than a tenth."""
        left, tenth = self._most - len(held), self._most // 10
        if left <= 0 or sum(one.holder == access.holder for one in held) >= self._most_each:
            return False
        return left > tenth or sum(one.org_id == access.org_id for one in held) < tenth

    def release(self, place: Place) -> None:
        """Give a place back, if it was not taken."""
        with self._lock:
            self._places.discard(place)

    def all(self) -> list[Stream]:
        """Those that are open and stay so."""
        with self._lock:
            return [stream for stream in self._streams if not stream.ending]

    def open(self, sock: socket.socket, beginning: bytes, place: Place, asked: str | None) -> None:
        """Take a connection over, and close it some time: at once when its place is gone, or when this raises."""
        with ExitStack() as undo:
            undo.callback(sock.close)
            undo.callback(self.release, place)
            sock.setblocking(False)
            _notice_the_dead(sock)
            stream = Stream(sock, place.access, asked, self._monotonic())
            stream.buffer += beginning
            with self._lock:
                if self._stopping or place not in self._places:
                    return
                self._begin()
                self._places.discard(place)
                self._streams.add(stream)
                self._arriving.append(stream)
            undo.pop_all()
        telemetry.STREAMS.inc()
        self.flush()

    def send(self, stream: Stream, data: bytes) -> None:
        """Put bytes before a client; `flush` makes them leave."""
        with self._lock:
            stream.buffer += data
            self._dirty.add(stream)

    def end(self, stream: Stream, why: str) -> None:
        """Close a stream once its client has taken what is before it."""
        with self._lock:
            stream.ending = stream.ending or why
            self._dirty.add(stream)

    def flush(self) -> None:
        """Make the thread look."""
        with suppress(BlockingIOError, OSError):  # woken already, or gone
            self._wake_in.send(b"\0")

    def stop(self) -> None:
        """End all streams soon and take no more; may be called by a signal handler."""
        self._stopping = True
        if self._selector is not None:
            self.flush()

    def close(self) -> None:
        """End everything, threads included."""
        self.stop()
        self._stop.set()
        for thread in self._threads.values():
            thread.join(_JOIN_S)
        for stream in list(self._streams):
            self._drop(stream, "stopped")
        if self._selector is not None:
            for file in (self._selector, self._wake_in, self._wake_out):
                file.close()

    def step(self) -> bool:
        """Wait a moment for something to happen, and see to it."""
        assert self._selector is not None
        for key, events in self._selector.select(_TICK_S):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._wake_out.recv(4096)
            elif events & selectors.EVENT_READ:
                self._listen(key.data)
            else:
                self._write(key.data)
        if self._stopping:
            for stream in list(self._streams):
                self._drop(stream, "stopped")
        self._greet()
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        for stream in dirty:
            self._write(stream)
        if self._monotonic() >= self._ticked_s + 1:
            self._tick()
        return True

    def _begin(self) -> None:
        """Start what is not running: after a failure, the next one that opens tries what is missing again."""
        if self._selector is None:
            selector = selectors.DefaultSelector()
            self._wake_in, self._wake_out = socket.socketpair()
            for end in (self._wake_in, self._wake_out):
                end.setblocking(False)
            selector.register(self._wake_out, selectors.EVENT_READ)
            self._selector = selector
        if "streams" not in self._threads:
            self._threads["streams"] = start_loop("streams", self.step, self._stop, idle_s=0)
        if "stream_feed" not in self._threads:
            feed = self._make_feed(self)
            self._threads["stream_feed"] = start_loop("stream_feed", feed, self._stop, idle_s=_FEED_EVERY_S)

    def _greet(self) -> None:
        assert self._selector is not None
        while self._arriving:
            stream = self._arriving.popleft()
            if stream in self._streams:
                self._selector.register(stream.sock, selectors.EVENT_READ, stream)
                self._write(stream)

    def _listen(self, stream: Stream) -> None:
        """Nothing is expected but the end."""
        try:
            said = stream.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        stream.heard += len(said)
        if not said or stream.heard > _MOST_HEARD_BYTES:
            self._drop(stream, "gone" if not said else "talked")

    def _write(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        with self._lock:
            before = len(stream.buffer)
            broken = not _send(stream)
            left = len(stream.buffer)
        if left < before:
            stream.moved_s = self._monotonic()
            stream.owed -= before - left
        if stream.owed <= 0:  # all that was before it then; what came since is due from now on
            stream.owed, stream.owed_s = left, self._monotonic()
        if broken:
            self._drop(stream, "gone")
        elif stream.ending and not left:
            self._drop(stream, stream.ending)
        else:
            self._watch(stream, writing=left > 0)

    def _watch(self, stream: Stream, *, writing: bool) -> None:
        assert self._selector is not None
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        key = self._selector.get_map().get(stream.sock)
        if key is not None and key.events != events:
            self._selector.modify(stream.sock, events, stream)

    def _tick(self) -> None:
        """Once a second: heartbeats, and whoever takes nothing."""
        now_s = self._ticked_s = self._monotonic()
        for stream in list(self._streams):
            silent_s = now_s - stream.moved_s
            if stream.buffer and (silent_s >= STUCK_S or now_s - stream.owed_s >= TAKEN_WITHIN_S):
                self._drop(stream, "slow")
            elif not stream.buffer and silent_s >= HEARTBEAT_S:
                self.send(stream, _HEARTBEAT)
                self._write(stream)

    def _drop(self, stream: Stream, why: str) -> None:
        """Close a connection, once."""
        with self._lock:
            if stream not in self._streams:
                return
            self._streams.discard(stream)
            self._dirty.discard(stream)
            stream.ending = why
        if self._selector is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(stream.sock)
        stream.sock.close()
        telemetry.STREAMS.dec()
        telemetry.STREAMS_ENDED.labels(why).inc()


def _send(stream: Stream) -> bool:
    """Give the client what it takes; whether it is still there."""
    try:
        while stream.buffer:
            del stream.buffer[: stream.sock.send(stream.buffer)]
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _notice_the_dead(sock: socket.socket) -> None:
    """A peer that vanished acknowledges no heartbeat; the kernel would try for a quarter of an hour."""
    if hasattr(socket, "TCP_USER_TIMEOUT") and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STUCK_S * 1000))
