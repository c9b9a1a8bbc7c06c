"""A caller of the API in Python, with nothing but the standard library.

    caller.py COORDINATOR SECRET APP_SECRET FILE_ID     prints a URL a line: signed GET, signed POST, app key with a JWT
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import urllib.parse
import urllib.request
import uuid


def signature_headers(secret, method, path, query, body):
    headers = {
        "Auth-Access-Key": "python",
        "Auth-Nonce": str(uuid.uuid4()),
        "Auth-Timestamp": str(int(time.time())),
    }
    content_md5 = ""
    if body is not None:
        canonical = json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        content_md5 = base64.b64encode(hashlib.md5(canonical.encode()).digest()).decode()
        headers["Content-MD5"] = content_md5
    signed_headers = "\n".join(f"{name}:{headers[name]}" for name in sorted(headers) if name != "Content-MD5")
    if query:
        path += "?" + "&".join(sorted(query.split("&")))
    text = "\n".join([method, content_md5, signed_headers, path])
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    headers["Auth-Signature"] = base64.b64encode(mac).decode()
    return headers


def jwt(secret, claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = {"alg": "HS256", "typ": "JWT"}
    signed = ".".join(part(json.dumps(value).encode()) for value in (header, claims))
    return signed + "." + part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())


def call(url, headers, body=None):
    data = None
    if body is not None:
        # Spaces, and escapes for what is not ASCII: not the form that was signed.
        data = json.dumps(body, indent=2).encode()
        headers["Content-Type"] = "application/json"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)


def main():
    coordinator, secret, app_secret, file_id = sys.argv[1:]
    path = "/api/request-download"
    query = urllib.parse.urlencode({"user_id": "jürgen müller", "file_id": file_id})
    url = f"{coordinator}{path}?{query}"

    print(call(url, signature_headers(secret, "GET", path, query, None))["download_url"])

    body = {"user_id": "jürgen müller", "file_id": file_id, "ttl": 600, "filename": "年度 報告.bin"}
    headers = signature_headers(secret, "POST", "/api/links", "", body)
    print(call(coordinator + "/api/links", headers, body)["link"])

    token = jwt(app_secret, {"iat": int(time.time()), "exp": 3600})
    print(call(url, {"AppKey": "python-app", "Authorization": token})["download_url"])


main()
