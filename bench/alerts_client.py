"""A closed-loop client of POST /v1/alerts: a few connections that each send the next batch when theirs is answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from bench.plan import BenchError
from bench.stack import ApiAccess

CONNECTIONS = 4
#: Alerts in one request, as a collector would send them.
BATCH = 200
_TIMEOUT_S = 120.0


def batches(documents: Iterator[dict[str, Any]], count: int) -> list[bytes]:
    """The next `count` alerts as bodies: made before the clock starts."""
    found = []
    while count > 0:
        found.append(json.dumps(list(islice(documents, min(BATCH, count)))).encode())
        count -= BATCH
    return found


def send(access: ApiAccess, bodies: Sequence[bytes]) -> tuple[float, dict[str, int]]:
    """Send all of them; seconds from the first request to the last answer, and what the answers add up to."""
    waiting = iter(bodies)
    lock = threading.Lock()
    tally: dict[str, int] = {}
    failures: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection(access.host, access.port, timeout=_TIMEOUT_S)
        try:
            while not failures:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                answer = _post(connection, access.key, body)
                with lock:
                    for name, count in answer.items():
                        tally[name] = tally.get(name, 0) + count
        except (OSError, http.client.HTTPException, BenchError) as error:
            failures.append(str(error))
        finally:
            connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchError(f"alerts were not taken: {failures[0]}")
    return time.perf_counter() - began, tally


def _post(connection: http.client.HTTPConnection, key: str, body: bytes) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/alerts", body, headers)
    answer = connection.getresponse()
    told = answer.read()
    if answer.status != 202:
        raise BenchError(f"status {answer.status}: {told[:300].decode(errors='replace')}")
    found: dict[str, int] = json.loads(told)
    return found
