"""What hangs: takes every connection and never says a word. `python -m bench.silent_target PORT`."""

from __future__ import annotations

import asyncio
import resource
import sys

import uvloop

from bench.asyncio_target import ADDRESSES


class Silent(asyncio.Protocol):
    """One connection: whatever comes is taken."""


async def serve(port: int) -> None:
    """Serve on all addresses until the process is ended."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65_536, most), most))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Silent, list(ADDRESSES), port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
