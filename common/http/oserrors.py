"""What an operating system's error number says about a target, for every protocol that connects."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType

from common.domain.checks import Reason

#: errno → reason and words that fit before "{where}". What is our own machine's fault is INTERNAL, never "down".
OS_ERRORS: Mapping[int, tuple[Reason, str]] = MappingProxyType(
    {
        errno.ECONNREFUSED: (Reason.CONNECT_REFUSED, "connection refused by"),
        errno.ECONNRESET: (Reason.CONNECTION_RESET, "connection reset by"),
        errno.EPIPE: (Reason.CONNECTION_RESET, "connection closed by"),
        errno.ECONNABORTED: (Reason.CONNECTION_RESET, "connection aborted by"),
        errno.ETIMEDOUT: (Reason.CONNECT_TIMEOUT, "no answer to the connection attempt from"),
        errno.ENETUNREACH: (Reason.UNREACHABLE, "network unreachable:"),
        errno.EHOSTUNREACH: (Reason.UNREACHABLE, "host unreachable:"),
        errno.ENETDOWN: (Reason.UNREACHABLE, "network down:"),
        errno.EHOSTDOWN: (Reason.UNREACHABLE, "host down:"),
        # A firewall of our own says these; a family that this machine lacks the last two.
        errno.EACCES: (Reason.UNREACHABLE, "this machine may not connect to"),
        errno.EPERM: (Reason.UNREACHABLE, "this machine may not connect to"),
        errno.EAFNOSUPPORT: (Reason.UNREACHABLE, "this machine has no IPv6 to reach"),
        errno.EADDRNOTAVAIL: (Reason.INTERNAL, "this worker has no free local port for"),
        errno.EMFILE: (Reason.INTERNAL, "this worker has too many open files for"),
        errno.ENFILE: (Reason.INTERNAL, "this machine has too many open files for"),
        errno.ENOBUFS: (Reason.INTERNAL, "this machine is out of network memory for"),
        errno.ENOMEM: (Reason.INTERNAL, "this machine is out of memory for"),
    }
)
