"""A real web server on this machine, with the faults that real ones have."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 16384


@dataclass(frozen=True)
class Answer:
    """How the server meets one request; by default it does as it is asked.

    `status` sends only that status; `headers` replace or, with None, remove the usual ones;
    `cut_after` closes the connection after so many bytes of the body, `reset` breaks it there;
    `wait` says nothing at all, `hold` keeps the connection after the body, `pause_s` rests before
    each block.
    """

    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None
    reset: bool = False
    ignore_range: bool = False
    chunked: bool = False
    wait: bool = False
    hold: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True)
class Seen:
    """One request, and the status it was met with."""

    path: str
    range: str | None
    if_range: str | None
    status: int


class WebServer(ThreadingHTTPServer):
    """Serves `content` at every path; meets the first requests with `answers`, in their order."""

    def __init__(self, content: bytes, tls=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.content = content
        self.etag = '"first"'
        self.answers: list[Answer] = []
        self.always = Answer()
        self.seen: list[Seen] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/weights.pkl"

    def handle_error(self, request, client_address):
        """A client that hangs up is none of the server's business."""

    def __enter__(self):
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *_):
        """Quiet; the tests read `seen`."""

    def do_GET(self):
        answer = self.server.answers.pop(0) if self.server.answers else self.server.always
        if answer.wait:
            self.server.closing.wait(10)
            return
        content = self.server.content if answer.body is None else answer.body
        start = 0 if answer.ignore_range else self._start()
        status = answer.status or (200 if start == 0 else 416 if start >= len(content) else 206)
        self.server.seen.append(
            Seen(self.path, self.headers.get("Range"), self.headers.get("If-Range"), status)
        )
        body = content[start:] if status in (200, 206) or answer.body is not None else b""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(body)),
            "ETag": self.server.etag,
            "Connection": "close",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if answer.chunked:
            headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        self.send_response(status)
        for name, value in (headers | answer.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self._send(body[: answer.cut_after], answer)
        if answer.hold:
            self.wfile.flush()
            self.server.closing.wait(10)
        if answer.reset:
            self.wfile.flush()
            time.sleep(0.05)  # let the bytes arrive before the reset overtakes them
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    def _start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        return int(found[1]) if found and condition in (None, self.server.etag) else 0

    def _send(self, body: bytes, answer: Answer) -> None:
        for k in range(0, len(body), BLOCK):
            time.sleep(answer.pause_s)
            block = body[k : k + BLOCK]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if answer.chunked else block)
        if answer.chunked and answer.cut_after is None:
            self.wfile.write(b"0\r\n\r\n")
