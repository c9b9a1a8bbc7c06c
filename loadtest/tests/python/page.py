"""Opens a page in a headless Chromium as it is read by day and by night, without a network.

    page.py CHROMIUM URL FOLDER

Leaves FOLDER/light.png and FOLDER/dark.png, the whole page each, and prints for each scheme one JSON line: the page's
background, the text's colour, what the page asked for besides itself, what the console said, what reaches past the
right edge at the width of a telephone.
"""

import base64
import json
import os
import sys
import tempfile

from chromium import Browser

WIDTH = 1200
TELEPHONE = 400
LOOK = """
(() => {
  const style = getComputedStyle(document.body);
  const root = getComputedStyle(document.documentElement);
  const seen = [style, root].map((style) => style.backgroundColor).find((colour) => colour !== "rgba(0, 0, 0, 0)");
  return { background: seen ?? "none", text: style.color, height: document.documentElement.scrollHeight };
})()
"""
# What scrolls by itself may be as wide as it likes.
BEYOND = "Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)"


def main():
    program, url, folder = sys.argv[1:4]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for scheme in ("light", "dark"):
                print(json.dumps(look(browser, url, scheme, folder)), flush=True)
        finally:
            browser.process.kill()
            browser.process.wait()


def look(browser, url, scheme, folder):
    page = browser.open("about:blank")
    for domain in ("Page", "Network", "Runtime", "Log"):
        browser.call(domain + ".enable", page)
    browser.call(
        "Network.emulateNetworkConditions", page, offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )
    browser.call("Emulation.setEmulatedMedia", page, features=[{"name": "prefers-color-scheme", "value": scheme}])
    resize(browser, page, WIDTH, 900)
    browser.events.clear()
    browser.call("Page.navigate", page, url=url)
    browser.event("Page.loadEventFired")
    seen = browser.evaluate(page, LOOK)
    shot = browser.call("Page.captureScreenshot", page, format="png", captureBeyondViewport=True)
    with open(os.path.join(folder, scheme + ".png"), "wb") as file:
        file.write(base64.b64decode(shot["data"]))
    resize(browser, page, TELEPHONE, 800)
    seen["beyond"] = browser.evaluate(page, BEYOND)
    seen["scheme"] = scheme
    seen["requests"] = [url_of(event) for event in browser.events if url_of(event) not in (None, url)]
    seen["console"] = [event["params"] for event in browser.events if is_said(event)]
    return seen


def resize(browser, page, width, height):
    browser.call("Emulation.setDeviceMetricsOverride", page, width=width, height=height, deviceScaleFactor=1, mobile=False)


def url_of(event):
    if event.get("method") != "Network.requestWillBeSent":
        return None
    return event["params"]["request"]["url"]


def is_said(event):
    return event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


main()
