"""A receiver that verifies signatures (Standard Webhooks), with Python's standard library alone.

    WALHOOK_SECRET=whsec_… python3 examples/receiver.py
"""

import base64
import gzip
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 5 * 60
KEY = base64.b64decode(os.environ.get("WALHOOK_SECRET", "").removeprefix("whsec_"))
if not KEY:
    raise SystemExit("set WALHOOK_SECRET to the secret of the endpoint")


def verify(headers, body: bytes) -> bool:
    """Whether the request comes from whoever knows the secret, unaltered and within five minutes."""
    event_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not event_id or not timestamp.isdecimal():
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    # The exact bytes that were sent, not JSON that was parsed and written again.
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    # Several signatures, separated by spaces, while a secret is rotated.
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(signature.encode(), expected.encode()) for signature in given)


# Keep these in your database, in the transaction that does the work: an event may come again.
seen = set()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not verify(self.headers, body):
            return self.answer(401)
        # With `compress`, the compressed bytes are what is signed: unpack after verifying.
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        content = json.loads(body)
        # With `batch`, a request holds a list of events.
        for event in content if isinstance(content, list) else [content]:
            if event["id"] not in seen:
                seen.add(event["id"])
                print(event["timestamp"], event["event"], json.dumps(event["data"]), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8401))), Receiver).serve_forever()
