"""Watches a coordinator's status page in a headless Chromium, and does to it what it is told.

    status_page.py CHROMIUM URL FOLDER

Reads commands from its standard input, one JSON object a line, and answers each with one:

    {"do": "open", "scheme": "dark", "width": 1200}   a page of its own, shown so
    {"do": "evaluate", "script": "…"}                 what the script comes to
    {"do": "until", "script": "…"}                    as soon as the script comes to something that is true: that
    {"do": "key", "key": "Tab"}                       pressed
    {"do": "type", "text": "…"}                       typed
    {"do": "shoot", "name": "light.png"}              the whole page, in FOLDER
    {"do": "said"}                                    what was asked for, and what the console said, since it was opened
"""

import base64
import json
import os
import sys
import tempfile
import time

from chromium import Browser

KEYS = {"Tab": ("Tab", 9), "Enter": ("Enter", 13), "Space": (" ", 32)}


def main():
    program, url, folder = sys.argv[1:4]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        # The limit is of the browser's answers, each for itself: a cluster is waited for in between.
        watch = Watch(browser, url, folder)
        try:
            for line in sys.stdin:
                browser.until = time.monotonic() + 120
                command = json.loads(line)
                answer = getattr(watch, command.pop("do"))(**command)
                print(json.dumps({"answer": answer}), flush=True)
        finally:
            browser.process.kill()
            browser.process.wait()


class Watch:
    def __init__(self, browser, url, folder):
        self.browser, self.url, self.folder, self.page = browser, url, folder, None

    def open(self, scheme="light", width=1200):
        browser = self.browser
        self.page = page = browser.open("about:blank")
        for domain in ("Page", "Network", "Runtime", "Log"):
            browser.call(domain + ".enable", page)
        browser.call("Emulation.setEmulatedMedia", page, features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.call(
            "Emulation.setDeviceMetricsOverride", page, width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        browser.events.clear()
        browser.call("Page.navigate", page, url=self.url)
        browser.event("Page.loadEventFired")

    def evaluate(self, script):
        return self.browser.evaluate(self.page, script)

    def until(self, script):
        limit = time.monotonic() + 60
        while True:
            result = self.evaluate(script)
            if result or time.monotonic() > limit:
                return result
            time.sleep(0.1)

    def key(self, key):
        name, code = KEYS[key]
        text = {"Tab": "", "Enter": "\r", "Space": " "}[key]
        common = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.browser.call("Input.dispatchKeyEvent", self.page, type="keyDown", text=text, **common)
        self.browser.call("Input.dispatchKeyEvent", self.page, type="keyUp", **common)

    def type(self, text):
        self.browser.call("Input.insertText", self.page, text=text)

    def shoot(self, name):
        shot = self.browser.call("Page.captureScreenshot", self.page, format="png", captureBeyondViewport=True)
        with open(os.path.join(self.folder, name), "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def said(self):
        events = self.browser.events
        asked = [event["params"]["request"]["url"] for event in events if event.get("method") == "Network.requestWillBeSent"]
        heard = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded")
        return {"requests": asked, "console": [event["params"] for event in events if event.get("method") in heard]}


main()
