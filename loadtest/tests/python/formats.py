"""The formats of callers' libraries, for the tests to compare with. Texts come and go as JSON.

    formats.py timed-sign SECRET PAYLOAD      itsdangerous: JSON -> timed token
    formats.py timed-open SECRET TOKEN        itsdangerous: timed token -> JSON
    formats.py call KEY,API_SECRET TEXT       cryptography: text -> data, timestamp and signature of a sealed call
    formats.py fernet-open KEY TOKEN          cryptography: Fernet token -> text
    formats.py canonical - TEXTS              json: list of JSON texts -> list of their canonical forms
"""

import hashlib
import hmac
import json
import sys
import time

from cryptography.fernet import Fernet
from itsdangerous import URLSafeTimedSerializer


def canonical(text):
    return json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def call(secrets, text):
    key, api_secret = secrets.split(",")
    data = Fernet(key).encrypt(text.encode()).decode()
    timestamp = str(int(time.time() * 1000))
    signature = hmac.new(api_secret.encode(), (data + timestamp).encode(), hashlib.sha256).hexdigest()
    return {"data": data, "timestamp": timestamp, "signature": signature}


def main():
    action, key, argument = sys.argv[1:]
    answer = {
        "timed-sign": lambda: URLSafeTimedSerializer(key).dumps(json.loads(argument)),
        "timed-open": lambda: URLSafeTimedSerializer(key).loads(argument, max_age=600),
        "call": lambda: call(key, argument),
        "fernet-open": lambda: Fernet(key).decrypt(argument).decode(),
        "canonical": lambda: [canonical(text) for text in json.loads(argument)],
    }[action]()
    json.dump(answer, sys.stdout)


main()
