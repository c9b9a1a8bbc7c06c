"""A headless Chromium, spoken to by a pipe: what the scripts beside this one have in common."""

import json
import os
import select
import subprocess
import time

LIMIT_SECONDS = 60


class Browser:
    """Spoken to by a pipe (the DevTools protocol): a JSON text each, ended by a zero."""

    def __init__(self, program, profile):
        to_browser, self.out = os.pipe()
        self.back, from_browser = os.pipe()

        def arrange():
            os.dup2(to_browser, 3)
            os.dup2(from_browser, 4)

        self.process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-proxy-server",
                "--lang=en-US",
                # The test's own authority.
                "--ignore-certificate-errors",
                "--remote-debugging-pipe",
                "--user-data-dir=" + profile,
            ],
            preexec_fn=arrange,
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.calls = 0
        self.received = b""
        self.events = []
        self.until = time.monotonic() + LIMIT_SECONDS

    def message(self):
        while b"\0" not in self.received:
            left = self.until - time.monotonic()
            if left <= 0 or not select.select([self.back], [], [], left)[0]:
                raise TimeoutError("the browser does not answer in time")
            more = os.read(self.back, 1 << 16)
            if not more:
                raise EOFError("the browser has ended")
            self.received += more
        text, _, self.received = self.received.partition(b"\0")
        return json.loads(text)

    def call(self, method, session=None, **params):
        self.calls += 1
        request = {"id": self.calls, "method": method, "params": params}
        if session:
            request["sessionId"] = session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.calls:
                if "error" in message:
                    raise RuntimeError("%s: %s" % (method, message["error"]))
                return message["result"]
            self.events.append(message)

    def event(self, method, wanted=lambda params: True):
        while True:
            for place, message in enumerate(self.events):
                if message.get("method") == method and wanted(message["params"]):
                    return self.events.pop(place)["params"]
            self.events.append(self.message())

    def open(self, url):
        target = self.call("Target.createTarget", url=url)["targetId"]
        return self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def evaluate(self, session, script):
        result = self.call(
            "Runtime.evaluate", session, expression=script, userGesture=True, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")
