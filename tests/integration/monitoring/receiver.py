"""A receiver of Alertmanager's messages on the loopback, which appends each to a file as a line of JSON."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT, FILE = int(sys.argv[1]), Path(sys.argv[2])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with FILE.open("ab") as file:
            file.write(body.replace(b"\n", b"") + b"\n")
        self.send_response(204)
        self.end_headers()


HTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
