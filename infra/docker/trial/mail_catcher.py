#!/usr/bin/python3.11 -IS
"""A mail catcher as small as can be, for a trial: SMTP on 1025, what came as JSON on 8025; nothing is kept."""

from __future__ import annotations

import email
import json
import socketserver
import sys
import threading
import urllib.request
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MESSAGES: list[dict[str, Any]] = []


class Smtp(socketserver.StreamRequestHandler):
    """One session, by the book of RFC 5321, with no extensions."""

    def handle(self) -> None:
        """Answer until QUIT."""
        self._say("220 mail catcher")
        recipients: list[str] = []
        while line := self.rfile.readline():
            verb = line.strip().upper()
            if verb.startswith(b"RCPT TO:"):
                recipients.append(line.strip()[8:].decode().strip("<>"))
            if verb == b"DATA":
                self._say("354 go on")
                self._keep(recipients)
                recipients = []
            self._say("221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"QUIT":
                return

    def _keep(self, recipients: list[str]) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        parsed = email.message_from_bytes(b"".join(lines), policy=policy.default)
        body = parsed.get_body(("plain",))
        MESSAGES.append(
            {
                "ID": parsed["Message-ID"],
                "From": parsed["From"],
                "To": recipients,
                "Subject": parsed["Subject"],
                "Text": body.get_content() if body else "",
            }
        )

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Inbox(BaseHTTPRequestHandler):
    """What came, newest first."""

    def do_GET(self) -> None:
        """`/readyz` or everything."""
        body = b"ok" if self.path == "/readyz" else json.dumps({"messages": MESSAGES[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def main() -> int:
    """Serve both; `readyz` asks another one."""
    if sys.argv[1:] == ["readyz"]:
        return 0 if urllib.request.urlopen("http://127.0.0.1:8025/readyz", timeout=2).status == 200 else 1
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    smtp = socketserver.ThreadingTCPServer(("", 1025), Smtp)
    smtp.daemon_threads = True
    threading.Thread(target=smtp.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 8025), Inbox).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
