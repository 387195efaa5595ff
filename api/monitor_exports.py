"""All monitors as one document, written to a file first: the transaction is short, and memory stays small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from flask import Response
from werkzeug.wsgi import FileWrapper

from api.context import caller, services
from api.monitor_settings import written
from api.monitor_writes import open_secrets
from common.store import monitor_plans

_IN_MEMORY_BYTES = 1024 * 1024


def export(labels: Mapping[str, str] | None) -> Response:
    """The same state gives the same bytes."""
    org_id = caller().org_id
    file: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by the answer, when it is sent
    with services().database.begin(org_id) as connection:
        for part in _parts(monitor_plans.stream(connection, org_id=org_id, labels=labels)):
            file.write(part.encode())
    size = file.tell()
    file.seek(0)
    response = Response(FileWrapper(file), 200, content_type="application/json", direct_passthrough=True)
    response.content_length = size
    return response


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each monitor, so that a version control system shows what changed."""
    location = services().settings.location
    comma, without_key = "", []
    yield '{"monitors":['
    for row in rows:
        if row["key"] is None:
            without_key.append(_dumps({"id": row["id"], "name": row["name"]}))
            continue
        yield f"{comma}\n{_dumps(written(row, open_secrets(row), location))}"
        comma = ","
    listed = ",".join(f"\n{one}" for one in without_key)
    yield f'\n],"without_key":[{listed}\n]}}\n'


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
