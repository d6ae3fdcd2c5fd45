"""A server that speaks `POST /ocr/stream?format=pages` and says what it is told to; for the client's tests."""

import base64
import email
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Upload:
    path: str
    file_name: str
    content: bytes
    fields: dict[str, list[str]]


@dataclass
class Answer:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False
    """Keep the connection open after `body`, until the client closes it."""


def page(number: int, **parts: Any) -> dict[str, Any]:
    result = {"page": number, "width": 90, "height": 120, "finish_reason": "stop"} | parts
    return {"type": "page", "page": number, "result": result}


def failed_page(number: int, message: str) -> dict[str, Any]:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_value"}
    return {"type": "page", "page": number, "result": {"page": number, "error": error}}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def failed(message: str, kind: str = "server_error") -> bytes:
    """The event that ends a stream that fails."""
    error = {"message": message, "type": kind, "param": None, "code": "some_code"}
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"


def events(pages: Sequence[dict[str, Any]], *, num_pages: int | None = None, done: bool = True) -> bytes:
    """A whole answer; the usage and a kind of event that the client does not know are in it too."""
    start = {"type": "start", "id": "ocr-1", "model": "deepseek-ocr", "pages": num_pages or len(pages)}
    usage = {"type": "usage", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    body = [start]
    for one in pages:
        body += [{"type": "news", "page": one["page"], "text": "some\u2028piece"}, one]
    lines = [json.dumps(event, ensure_ascii=False).encode() for event in ([*body, usage] if done else body)]
    return b"".join(b"data: " + line + b"\n\n" for line in [*lines, b"[DONE]"][: None if done else -1])


def texts(*pages: str) -> Answer:
    return Answer(events([page(number, text=text) for number, text in enumerate(pages, 1)]))


def error(status: int, message: str, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": "file", "code": "invalid_value"}}
    return Answer(json.dumps(body).encode(), status, {name.replace("_", "-"): value for name, value in headers.items()})


class OcrServerFake:
    """Answers each upload by its file's name: the answers told for it in turn, the last one again and again."""

    def __init__(self) -> None:
        self.seen: list[Upload] = []
        self.answers: dict[str, list[Answer]] = {}
        self.arrived = threading.Event()
        self.holding = threading.Event()
        self.client_gone = threading.Event()
        self.before: dict[str, threading.Event] = {}
        """What an upload's answer waits for."""
        self.answered: dict[str, threading.Event] = {}
        """Set when the answer to an upload has been sent."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fake.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def tell(self, file_name: str, *answers: Answer) -> None:
        self.answers[file_name] = list(answers)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        upload = _parse(handler)
        self.seen.append(upload)
        self.arrived.set()
        if upload.file_name in self.before:
            assert self.before[upload.file_name].wait(10)
        answers = self.answers[upload.file_name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(answer.body)
        handler.wfile.flush()
        if answer.hold:
            self.holding.set()
            handler.connection.settimeout(10)
            handler.rfile.read(1)
            self.client_gone.set()
        if upload.file_name in self.answered:
            self.answered[upload.file_name].set()


def _parse(handler: BaseHTTPRequestHandler) -> Upload:
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
    fields: dict[str, list[str]] = {}
    file_name, content = "", b""
    for part in email.message_from_bytes(head + body).get_payload():
        value = part.get_payload(decode=True)
        if part.get_filename() is None:
            fields.setdefault(part.get_param("name", header="content-disposition"), []).append(value.decode())
        else:
            assert part.get_param("name", header="content-disposition") == "file"
            file_name, content = part.get_filename(), value
    return Upload(handler.path, file_name, content, fields)


@contextmanager
def serving() -> Iterator[OcrServerFake]:
    fake = OcrServerFake()
    thread = threading.Thread(target=fake.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.http.shutdown()
        thread.join()
        fake.http.server_close()
