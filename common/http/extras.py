"""What few requests need of libcurl: a version of HTTP, a private authority, a client certificate, a proxy."""

from __future__ import annotations

from dataclasses import dataclass

import pycurl

from common.domain.checks import Reason
from common.domain.options import HttpExtras
from common.http.curlerrors import Scene, explain
from common.http.redirects import Hop

#: CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name: the proxy's header is no part of the response's.
_SUPPRESS_CONNECT_HEADERS = 265


@dataclass(frozen=True, slots=True)
class Via:
    """A proxy at the address that was judged."""

    host: str
    address: str
    port: int


def apply_extras(curl: pycurl.Curl, hop: Hop, extras: HttpExtras, via: Via | None) -> None:
    """Set options beside the usual ones; the next user of the handle starts from a reset."""
    setopt = curl.setopt
    if extras.http_version == "1.1":
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    elif extras.http_version == "2":
        secure = hop.target.scheme == "https"
        known = pycurl.CURL_HTTP_VERSION_2TLS if secure else pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
        setopt(pycurl.HTTP_VERSION, known)
    if extras.ca_certificates:
        setopt(pycurl.CAINFO_BLOB, extras.ca_certificates.encode("ascii", "replace"))
    if extras.client_certificate and hop.first_origin:
        setopt(pycurl.SSLCERT_BLOB, extras.client_certificate.encode("ascii", "replace"))
        setopt(pycurl.SSLKEY_BLOB, (extras.client_key or "").encode("ascii", "replace"))
    if via is not None:
        _go_via(curl, extras, via)


def _go_via(curl: pycurl.Curl, extras: HttpExtras, via: Via) -> None:
    place = f"[{via.address}]" if ":" in via.address else via.address
    curl.setopt(pycurl.PROXY, f"http://{place}:{via.port}")
    # Always a tunnel, and CONNECT_TO names its end: the proxy resolves nothing that we have not judged.
    curl.setopt(pycurl.HTTPPROXYTUNNEL, 1)
    curl.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
    if extras.proxy_username is not None:
        curl.setopt(pycurl.PROXYUSERNAME, extras.proxy_username)
        curl.setopt(pycurl.PROXYPASSWORD, extras.proxy_password or "")


def explain_proxy(curl: pycurl.Curl, code: int, text: str, scene: Scene, via: Via) -> tuple[Reason, str] | None:
    """What went wrong at the proxy, None when it was beyond it."""
    if not curl.getinfo(pycurl.CONNECT_TIME_T):
        reason, message = explain(curl, code, text, Scene(via.host, via.address, via.port, False, scene.timeout_s))
        return reason, f"the proxy: {message}"
    answer = curl.getinfo(pycurl.HTTP_CONNECTCODE)
    if 200 <= answer < 300:
        return None
    said = f"it answered {answer}" if answer else "it gave no answer"
    return Reason.PROXY_FAILED, f"the proxy {via.host} opened no tunnel to {scene.where}: {said}"


def version_problem(extras: HttpExtras, spoken: str) -> str | None:
    """What is wrong with the version of the answer, when a certain one is wanted."""
    if extras.http_version == "2" and spoken != "2":
        return f"speaks HTTP/{spoken}, and HTTP/2 is wanted"
    return None
