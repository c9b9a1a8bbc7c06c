"""The API server that the coordinator replaces: FastAPI on uvicorn, one process, tokens by python-jose.

    reference_server.py plain|tuned PORT KEYS EDGE-URL ...

Plain, uvicorn runs as it comes: on asyncio and h11, with its access log, as the coordinator has one. Tuned, it has what
makes it faster without being another program: uvloop, httptools, no log. Its key is the current one of the file KEYS.
"""

import base64
import json
import random
import sys
import time

import fastapi
import uvicorn
from jose import jwe

TOKEN_TTL_SECONDS = 900
MANNERS = {
    "plain": {"loop": "asyncio", "http": "h11"},
    "tuned": {"loop": "uvloop", "http": "httptools", "access_log": False},
}


def current_key(path):
    with open(path, encoding="utf-8") as file:
        keys = json.load(file)["keys"]
    key = next(key for key in keys if key.get("state", "current") == "current")
    return base64.urlsafe_b64decode(key["k"] + "=" * (-len(key["k"]) % 4))


def application(key, edges):
    app = fastapi.FastAPI()

    @app.get("/api/request-download")
    async def request_download(file_id: str, user_id: str):
        claims = {"file_id": file_id, "user_id": user_id, "exp": int(time.time()) + TOKEN_TTL_SECONDS}
        token = jwe.encrypt(json.dumps(claims), key, algorithm="dir", encryption="A256GCM")
        return {"download_url": f"{random.choice(edges)}/download?token={token.decode()}"}

    return app


def main():
    manner, port, keys, *edges = sys.argv[1:]
    app = application(current_key(keys), edges)
    uvicorn.run(app, host="127.0.0.1", port=int(port), **MANNERS[manner])


main()
