"""Checks recorded requests with the library that receivers use, as verify.mjs does."""

import json
import sys

from standardwebhooks import Webhook

OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def accepts(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except Exception:
        return False


failures = 0
checked = 0
for line in sys.stdin:
    request = json.loads(line)
    if request["scheme"] != "standard":
        continue
    headers, body = request["headers"], request["body"]
    expected = [
        ("refuses another body", not accepts(request["secrets"][0], headers, body + " ")),
        ("refuses another secret", not accepts(OTHER, headers, body)),
    ]
    for place, secret in enumerate(request["secrets"], 1):
        expected.append((f"accepts secret {place}", accepts(secret, headers, body)))
    for what, fine in expected:
        checked += 1
        failures += not fine
        print(f"{'ok' if fine else 'NOT OK'}: standardwebhooks {what}")
sys.exit(0 if checked and not failures else 1)
