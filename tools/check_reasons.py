"""What each failure reason means, for docs/checks.md: a test holds that none is missing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from common.domain.checks import Reason

ABOUT: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.DNS_NOT_FOUND: "the name does not exist",
        Reason.DNS_TIMEOUT: "no name server answered in time",
        Reason.DNS_FAILED: "a name server answered with an error",
        Reason.DNS_UNREACHABLE: "no name server of ours could be reached",
        Reason.DNS_NO_ANSWER: "dns: the name exists, without a record of this type",
        Reason.CONNECT_REFUSED: "nobody listens there",
        Reason.CONNECT_TIMEOUT: "no answer to the attempt to connect",
        Reason.UNREACHABLE: "no way to the host or network",
        Reason.CONNECTION_RESET: "the connection broke before the answer was complete",
        Reason.NO_REPLY: "icmp: no echo request was answered",
        Reason.TLS_HANDSHAKE: "the handshake failed",
        Reason.TLS_CERTIFICATE_EXPIRED: "the certificate has expired",
        Reason.TLS_CERTIFICATE_UNTRUSTED: "the certificate is self-signed, of an unknown authority or lacks its chain",
        Reason.TLS_HOSTNAME_MISMATCH: "the certificate is for another host",
        Reason.TLS_VERSION_WEAK: "no version of TLS that is recent enough",
        Reason.TLS_NOT_OFFERED: "TLS is wanted, and the server does not offer it",
        Reason.TIMEOUT: "connected, but not finished in time",
        Reason.PROTOCOL_ERROR: "what was said is not the protocol",
        Reason.EMPTY_REPLY: "the connection was closed without a word",
        Reason.BODY_TOO_LARGE: "the answer is beyond all bounds (http 10 MiB, others 256 KiB)",
        Reason.HEADERS_TOO_LARGE: "the response header is beyond all bounds",
        Reason.TOO_MANY_REDIRECTS: "more redirects than the monitor allows",
        Reason.REDIRECT_INVALID: "a redirect that leads nowhere",
        Reason.AUTH_FAILED: "the login was refused, or cannot be made safely",
        Reason.QUERY_FAILED: "the query or command was answered with an error",
        Reason.PROXY_FAILED: "the proxy opened no tunnel",
        Reason.STATUS_MISMATCH: "another status than expected",
        Reason.BODY_MISMATCH: "another body than expected",
        Reason.HEADER_MISMATCH: "another header than expected",
        Reason.LATENCY_EXCEEDED: "slower than expected",
        Reason.ANSWER_MISMATCH: "another answer than expected",
        Reason.VALUE_MISMATCH: "another value than expected",
        Reason.CERTIFICATE_EXPIRING: "the certificate expires too soon",
        Reason.PACKET_LOSS: "icmp: too many requests unanswered",
        Reason.EGRESS_DENIED: "the egress policy does not allow the address",
        Reason.INVALID_TARGET: "the target cannot be understood",
        Reason.INTERNAL: "our own fault: nothing is said about the target",
        Reason.WORKER_NETWORK: "our own network fails",
        Reason.WORKER_STALLED: "this worker stood still",
        Reason.WORKER_NOT_PERMITTED: "this worker may not send ICMP",
        Reason.HEARTBEAT_MISSED: "heartbeat: no ping, or too few successes, came by the deadline",
        Reason.HEARTBEAT_FAILED: "heartbeat: the ping says that it failed",
        Reason.RUN_TOO_LONG: "heartbeat: a run began and did not end within the grace",
        Reason.HEARTBEAT_UNHEARD: "heartbeat: no API of ours was there to hear it",
    }
)

#: Reasons that are never held against the target: their verdict is unknown.
OURS = frozenset(
    {
        Reason.INTERNAL,
        Reason.WORKER_NETWORK,
        Reason.WORKER_STALLED,
        Reason.WORKER_NOT_PERMITTED,
        Reason.HEARTBEAT_UNHEARD,
    }
)
