"""What a target must be like, by the type of its monitor: read here exactly as the probe will read it."""

from __future__ import annotations

from api.schemas import web_target
from api.schemas_options import DnsIn, OptionsIn
from common.http.endpoints import PORTS, parse_endpoint, parse_question, parse_websocket
from common.http.target import Host, parse_host

_NOBODY = Host("")


def target_host(type_: str, target: str, options: OptionsIn) -> Host | str:
    """The host that a target names (one without an address where none is connected to), or what is wrong with it."""
    if type_ == "heartbeat":
        return "must be absent: a heartbeat waits to be pinged" if target else _NOBODY
    return _host_of(type_, target, options)


def _host_of(type_: str, target: str, options: OptionsIn) -> Host | str:
    if type_ == "http":
        web = web_target(target)
        return web if isinstance(web, str) else web.host
    if type_ == "websocket":
        socket = parse_websocket(target)
        if isinstance(socket, str):
            return socket
        return "must not hold credentials: they belong in a header" if socket.authorization else socket.host
    if type_ == "icmp":
        return parse_host(target)
    if isinstance(options, DnsIn):
        question = parse_question(target, options.record_type)
        return _NOBODY if question is not None else "must be a name that DNS can be asked for"
    endpoint = parse_endpoint(type_, target)
    return endpoint if isinstance(endpoint, str) else endpoint.host


def origin_of(type_: str, target: str) -> tuple[str, str, int]:
    """Scheme, host and port that secrets go to; ports that go without saying are said."""
    if type_ in PORTS:
        endpoint = parse_endpoint(type_, target)
        return (type_, target, 0) if isinstance(endpoint, str) else (type_, endpoint.host.name, endpoint.port)
    web = parse_websocket(target) if type_ == "websocket" else web_target(target)
    return (type_, target, 0) if isinstance(web, str) else web.origin
