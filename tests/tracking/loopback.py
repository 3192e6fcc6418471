"""`backend` over HTTP on this machine's loopback, and everything that can go wrong on the way."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from wandb_backend import Backend, Refused, operation_of


@dataclass(frozen=True)
class Fault:
    """What happens to requests.

    Attributes:
        kind: `slow`: the answer comes late. `hang`: it never comes. `status`: an HTTP error. `html`, `json`:
            200 with a page, or with JSON that breaks off; nothing is kept of the request. `cut`: the request
            is carried out, but the connection is closed in the middle of the answer.
        seconds: How late.
        status: Which error.
        every: Which requests it meets: each, each second one …
        only: Part of the operation's name, of those that it meets: `file_stream`, `UpsertBucket`.
    """

    kind: Literal["slow", "hang", "status", "html", "json", "cut"]
    seconds: float = 1.0
    status: int = 500
    every: int = 1
    only: str = ""


PAGE = b"<html><head><title>Welcome to the hotel</title></head><body>Please sign in.</body></html>"
BROKEN = b'{"data": {"upsertBucket": {"bucket": {"id": '


class Loopback(Backend):
    """A backend that answers on a port of its own, which stays the same when it is stopped and started again.

    Attributes:
        fault: What happens to requests from now on; None: nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault | None = None
        self._lock = threading.Lock()
        self._met = 0
        self._stopped = threading.Event()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    def start(self) -> None:
        """Answer again, on the same port."""
        self._stopped.clear()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Die: connections break off, new ones are refused."""
        self._stopped.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server.break_off()
        self._server = None

    def meets(self, operation: str) -> Fault | None:
        """Count a request, and tell what happens to it."""
        with self._lock:
            self.asked.append(operation)
            fault = self.fault
            if fault is None or fault.only not in operation:
                return None
            self._met += 1
            return fault if self._met % fault.every == 0 else None

    def carry_out(self, verb: str, path: str, body: bytes, key: str) -> dict[str, Any]:
        """What the request asks for; the answer's JSON."""
        with self._lock:
            if path.startswith("/upload/"):
                self.upload(unquote(path.removeprefix("/upload/")), body)
                return {}
            if key not in self.keys:
                raise Refused(401, "user is not logged in")
            if path.endswith("/file_stream"):
                entity, project, run = path.split("/")[2:5]
                return self.stream(entity, project, run, json.loads(body))
            if path.startswith("/graphql"):
                asked = json.loads(body)
                return {"data": self.answer(asked["query"], asked.get("variables") or {})}
            self.unknown.append(f"{verb} {path}")
            return {}

    def rest(self, seconds: float | None = None) -> None:
        """Pass time, but no longer than until the backend is stopped."""
        self._stopped.wait(seconds)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    """With socketserver's 5, those who come at once are turned away and come back a second later."""

    def __init__(self, address: tuple[str, int], backend: Loopback):
        self.backend = backend
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to talk about."""

    def break_off(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def handle_any(self) -> None:
        backend, path, body = self.server.backend, urlsplit(self.path).path, self._body()
        fault = backend.meets(self._operation(path, body))
        if fault and fault.kind == "hang":
            backend.rest()
            self.close_connection = True
        elif fault and fault.kind == "status":
            self._send(fault.status, b'{"errors": [{"message": "something broke"}]}')
        elif fault and fault.kind in ("html", "json"):
            page = fault.kind == "html"
            self._send(200, PAGE if page else BROKEN, "text/html" if page else "application/json")
        else:
            if fault and fault.kind == "slow":
                backend.rest(fault.seconds)
            self._answer(path, body, cut=bool(fault and fault.kind == "cut"))

    do_GET = do_POST = do_PUT = handle_any

    def _answer(self, path: str, body: bytes, cut: bool) -> None:
        try:
            answer = self.server.backend.carry_out(self.command, path, body, self._key())
            self._send(200, json.dumps(answer).encode(), cut=cut)
        except Refused as refused:
            error = {"message": refused.message, "path": [], "extensions": {"code": "PERMISSION_ERROR"}}
            self._send(refused.status, json.dumps({"errors": [error], "data": None}).encode())

    def _operation(self, path: str, body: bytes) -> str:
        if path.startswith("/graphql"):
            return operation_of(json.loads(body)["query"])
        return "upload" if path.startswith("/upload/") else path.rsplit("/", 1)[-1]

    def _key(self) -> str:
        """The key, which is the password of the user `api`."""
        _, _, coded = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(coded).decode().partition(":")[2]

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status: int, body: bytes, kind: str = "application/json", cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


@contextmanager
def silent_socket() -> Iterator[str]:
    """The address of a socket that takes connections and never answers, as some proxies do."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
