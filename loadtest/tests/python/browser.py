"""Clicks on a link in a headless Chromium, and waits until the file behind it is saved.

    browser.py CHROMIUM URL FOLDER [pause]

With "pause", the download is paused on its way, as a person does on the page of downloads, and resumed when this
program is told so by a line on its standard input; it says "paused" before. Prints the name that the browser gave.
"""

import json
import os
import sys
import tempfile
import time

from chromium import Browser

# What a person clicks on at the page of downloads: the button that says so. It has had other names.
CLICK = """
(() => {
  const manager = document.querySelector("downloads-manager");
  const item = manager?.shadowRoot?.querySelector("downloads-item");
  const button = item?.shadowRoot?.querySelector("#pause-or-resume, #pauseOrResume");
  const isThere = button && !button.hidden && button.textContent.trim() === "LABEL";
  if (isThere) { button.click(); }
  return Boolean(isThere);
})()
"""


def main():
    program, url, folder = sys.argv[1:4]
    pauses = sys.argv[4:] == ["pause"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            run(browser, url, folder, pauses)
        finally:
            browser.process.kill()
            browser.process.wait()


def run(browser, url, folder, pauses):
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder, eventsEnabled=True)
    page = browser.open("about:blank")
    browser.evaluate(page, "document.body.innerHTML = '<a>a file</a>'")
    link = "document.querySelector('a')"
    browser.evaluate(page, "%s.href = %s; %s.click()" % (link, json.dumps(url), link))
    begun = browser.event("Browser.downloadWillBegin")
    if pauses:
        browser.event("Browser.downloadProgress", lambda params: params["receivedBytes"] > 1 << 20)
        downloads = browser.open("chrome://downloads")
        while not browser.evaluate(downloads, CLICK.replace("LABEL", "Pause")):
            time.sleep(0.05)
        print("paused", flush=True)
        sys.stdin.readline()
        # What was cut on its way is found out only now, and wants another click.
        saved = os.path.join(folder, begun["suggestedFilename"])
        while not os.path.exists(saved):
            browser.evaluate(downloads, CLICK.replace("LABEL", "Resume"))
            time.sleep(0.05)
    else:
        ended = browser.event("Browser.downloadProgress", lambda params: params["state"] != "inProgress")
        assert ended["state"] == "completed", ended
    print(begun["suggestedFilename"], flush=True)


main()
