"""The provider of `docs/examples/other_provider.py`, on a local port."""

import itertools
import json
import random
import socket
import struct
import threading
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Call:
    id: str
    to: str
    code: str
    ref: str


class OtherProvider:
    """Takes calls, chooses their codes, and does as it is told."""

    def __init__(self, key):
        self.key = key
        self.calls = []
        self.turns = []
        self._ids = itertools.count(1001)
        self._lock = threading.Lock()

    def __enter__(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = provider.answer(self.headers["Authorization"], json.loads(body))
                if answer is None:
                    self.close_connection = True
                    linger = struct.pack("ii", 1, 0)  # the close is a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.rfile.close()
                    self.connection.close()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/calls"
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def clear(self):
        with self._lock:
            self.calls.clear()
            self.turns.clear()

    def script(self, *turns):
        """Do this with the next requests: a reason to refuse, bytes to answer, None to hang up.

        All but a reason place the call.
        """
        with self._lock:
            self.turns.extend(turns)

    def answer(self, authorization, content):
        with self._lock:
            turn = self.turns.pop(0) if self.turns else "ok"
            if authorization != f"Bearer {self.key}":
                return refusal("bad_key")
            if isinstance(turn, dict):
                return json.dumps(turn).encode()
            if turn not in ("ok", None) and isinstance(turn, str):
                return refusal(turn)
            digits = content["digits"]
            call = Call(
                f"c-{next(self._ids)}",
                content["to"],
                f"{random.randrange(10**digits):0{digits}}",
                content["ref"],
            )
            self.calls.append(call)
            if turn != "ok":
                return turn
            return json.dumps({"ok": True, "call": call.id, "code": call.code}).encode()

    @staticmethod
    def query(call, state, cause=""):
        return {
            "call": call.id,
            "ref": call.ref,
            "state": state,
            **({"cause": cause} if cause else {}),
        }

    def report(self, url, call, state, cause=""):
        """Report by GET, and return the status of the answer."""
        query = urllib.parse.urlencode(self.query(call, state, cause))
        with urllib.request.urlopen(f"{url}?{query}") as response:
            return response.status


def refusal(reason, text="Sorry"):
    return json.dumps({"ok": False, "reason": reason, "text": text}).encode()
