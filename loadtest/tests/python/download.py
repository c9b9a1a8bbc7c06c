"""Downloads a file with requests: whole, then by eight ranges at a time, then as one that resumes.

    download.py URL OUT [AUTHORITY]

All three have to be equal; the last is left in OUT.
"""

import concurrent.futures
import hashlib
import sys

import requests

url, out = sys.argv[1:3]
session = requests.Session()
# An environment that names other authorities, or a proxy, does not mean this.
session.trust_env = False
session.verify = sys.argv[3] if len(sys.argv) > 3 else True

with session.get(url, stream=True, timeout=30) as answer:
    answer.raise_for_status()
    whole = hashlib.sha256()
    size = 0
    for chunk in answer.iter_content(1 << 16):
        whole.update(chunk)
        size += len(chunk)
    etag = answer.headers["ETag"]
    assert size == int(answer.headers["Content-Length"])


def part(span):
    # A session is one thread's; edges differ from request to request, and entity tags do not.
    answer = requests.get(
        url,
        headers={"Range": "bytes=%d-%d" % span, "If-Range": etag},
        verify=session.verify,
        timeout=30,
    )
    assert answer.status_code == 206, answer.status_code
    assert answer.headers["Content-Range"] == "bytes %d-%d/%d" % (*span, size)
    return answer.content


step = size // 32 + 1
spans = [(start, min(start + step, size) - 1) for start in range(0, size, step)]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    parts = b"".join(pool.map(part, spans))
assert hashlib.sha256(parts).digest() == whole.digest(), "the parts differ from the whole"

with open(out, "wb") as file, session.get(url, stream=True, timeout=30) as answer:
    for chunk in answer.iter_content(1 << 16):
        file.write(chunk)
        if file.tell() > size // 3:
            break
with open(out, "ab") as file:
    headers = {"Range": "bytes=%d-" % file.tell(), "If-Range": etag}
    with session.get(url, headers=headers, stream=True, timeout=30) as answer:
        assert answer.status_code == 206, answer.status_code
        for chunk in answer.iter_content(1 << 16):
            file.write(chunk)
with open(out, "rb") as file:
    assert hashlib.sha256(file.read()).digest() == whole.digest(), "resumed, it differs"
