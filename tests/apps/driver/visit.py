"""One visit of an application: what was asked, what came back, what the page showed, as a JSON record.

The same visit is made directly and through the gateway; tests/it/apps compares the two records step by step. So a step
must not hold anything that differs between two visits by nature: times, tokens, ports. The visit's own origin is
written as ORIGIN, everything else that is volatile is named by the driver, in `volatile`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
    WebDriverException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

resolve = socket.getaddrinfo


def loopback(host, *rest, **options):
    """Names below `localhost` are this machine, as for browsers (RFC 6761, 6.3); not every resolver knows."""
    return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **options)


socket.getaddrinfo = loopback

PATIENCE = 60  # seconds; longer than anything that works takes

PASSING = [NoSuchElementException, StaleElementReferenceException, ElementClickInterceptedException]


class Visit:
    """A client, a browser when one is wanted, and the record."""

    def __init__(self, volatile=()):
        parser = argparse.ArgumentParser()
        parser.add_argument("--base", required=True, help="origin of the application, e.g. https://acme.localhost:8443")
        parser.add_argument("--ca", help="certificate authority to trust")
        parser.add_argument("--out", required=True, help="file for the record")
        parser.add_argument("--work", required=True, help="folder for profiles and files of this visit")
        self.options = parser.parse_args()
        self.base = self.options.base
        self.work = Path(self.options.work).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.volatile = [(re.compile(pattern), name) for pattern, name in volatile]
        self.steps = []
        self._browser = None
        self.client = self.speaks(http2=False)
        self.second = self.speaks(http2=self.through)

    def trust(self):
        """A TLS context that trusts the test's authority only."""
        return ssl.create_default_context(cafile=self.options.ca) if self.options.ca else None

    def speaks(self, http2, base=None):
        """A client of one version of HTTP; applications speak HTTP/1.1 only."""
        return httpx.Client(
            base_url=base or self.base,
            http1=not http2,
            http2=http2,
            verify=self.trust() or True,
            timeout=PATIENCE,
            headers={"user-agent": "visit", "accept-encoding": "identity"},
            trust_env=False,
        )

    @property
    def through(self):
        """Whether something stands in front of the application."""
        return self.base.startswith("https:")

    # --- the record ------------------------------------------------------------------------------------------------

    def note(self, name, value):
        """Records what must be the same on every visit."""
        self.steps.append({"name": name, "value": self.settle(value)})

    def settle(self, value):
        """The value without what differs by nature."""
        if isinstance(value, dict):
            return {key: self.settle(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.settle(item) for item in value]
        if isinstance(value, str):
            value = value.replace(self.base, "ORIGIN").replace(self.base.split("://")[1], "AUTHORITY")
            value = value.replace("wss://AUTHORITY", "ws://AUTHORITY")
            value = re.sub(r"https?://(\w+)\.localhost:\d+", r"ORIGIN OF \1", value)
            for pattern, name in self.volatile:
                value = pattern.sub(name, value)
        return value

    def answer(self, name, response, body=None):
        """Records an answer: status, fields, and the body by its hash."""
        if body is None:
            body = response.content
        text = None
        if "text/html" in response.headers.get("content-type", "") or "json" in response.headers.get("content-type", ""):
            if "content-encoding" not in response.headers:
                text = self.settle(body.decode("utf-8", "replace")).encode()
        counted = body if text is None else text
        self.steps.append(
            {
                "name": name,
                "status": response.status_code,
                "headers": [self.field(key.decode().lower(), value.decode("latin-1")) for key, value in response.headers.raw],
                "length": len(counted),
                "sha256": hashlib.sha256(counted).hexdigest(),
            }
        )

    def field(self, name, value):
        # Counted from now, as `Date` is.
        return [name, "DATE" if name == "expires" and value.endswith("GMT") else self.settle(value)]

    def ask(self, method, path, name=None, **options):
        """Sends a request without following redirects, records the answer with the raw body, and returns it.

        What changes nothing is asked twice: through the gateway the second time by HTTP/2.
        """
        name = name or f"{method} {self.settle(path)}"
        response = self._send(self.client, method, path, name, options)
        if method in ("GET", "HEAD"):
            self.second.cookies = self.client.cookies
            self._send(self.second, method, path, f"{name}, again", options)
        return response

    def _send(self, client, method, path, name, options):
        request = client.build_request(method, path, **options)
        response = client.send(request, stream=True)
        body = b"".join(response.iter_raw())
        response.close()
        response._content = body
        self.answer(name, response, body)
        return response

    # --- the browser -----------------------------------------------------------------------------------------------

    @property
    def browser(self):
        """The browser, started when first used; it trusts the test's authority and nothing is ignored."""
        if self._browser is None:
            self._browser = self._start()
        return self._browser

    def _start(self):
        home = Path(tempfile.mkdtemp(dir=self.work))
        if self.options.ca:
            store = home / ".pki" / "nssdb"
            store.mkdir(parents=True)
            database = f"sql:{store}"
            subprocess.run(["certutil", "-N", "-d", database, "--empty-password"], check=True)
            trust = ["certutil", "-A", "-d", database, "-t", "C,,", "-n", "test", "-i", self.options.ca]
            subprocess.run(trust, check=True)
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1400,2200",
            "--lang=en-US",
            "--host-resolver-rules=MAP *.localhost 127.0.0.1",
            f"--user-data-dir={home / 'profile'}",
        ]:
            options.add_argument(flag)
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.work / "downloads"), "credentials_enable_service": False}
        )
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
        browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver", env=environment))
        browser.set_page_load_timeout(PATIENCE * 2)
        browser.set_script_timeout(PATIENCE * 2)
        return browser

    def until(self, condition, what="the page"):
        """Waits for a condition on the browser and returns its value."""
        try:
            # Pages that build themselves replace elements between two looks.
            return WebDriverWait(self.browser, PATIENCE, 0.05, PASSING).until(condition)
        except TimeoutException as error:
            raise AssertionError(f"waited in vain for {what} at {self.browser.current_url}") from error

    def find(self, selector):
        """The element, once it is there."""
        return self.until(lambda b: b.find_element(By.CSS_SELECTOR, selector), selector)

    def shown(self, selector):
        """The element, once it can be seen and used."""

        def usable(b):
            for element in b.find_elements(By.CSS_SELECTOR, selector):
                if element.is_displayed() and element.is_enabled():
                    return element
            return False

        return self.until(usable, selector)

    def open(self, path):
        self.browser.get(self.base + path)

    def page(self, name, selector="body"):
        """Records address, title and visible text of the page, and the cookies with their flags."""
        element = self.find(selector)
        self.note(
            f"page: {name}",
            {"address": self.browser.current_url, "title": self.browser.title, "text": element.text.split("\n")},
        )

    def cookies(self, name):
        """Records the cookies by name and flags; values are nobody's business."""
        jar = {}
        for cookie in self.browser.get_cookies():
            jar[cookie["name"]] = {
                key: cookie.get(key) for key in ["path", "httpOnly", "secure", "sameSite"]
            } | {"lives": "expiry" in cookie}
        self.steps.append({"name": f"cookies: {name}", "cookies": jar})

    def borrow_cookies(self):
        """Lets the client speak in the browser's session."""
        for cookie in self.browser.get_cookies():
            # With its host, or an answer that sets it anew would add a second one.
            self.client.cookies.set(cookie["name"], cookie["value"], domain=httpx.URL(self.base).host)

    def console(self):
        """What the browser complained about so far: errors, warnings, violations of the content security policy."""
        lines = []
        for line in self.browser.get_log("browser"):
            if line["level"] in ("SEVERE", "WARNING"):
                # Places in files move with tokens of other lengths; HTTP/2 has no words after the status.
                message = re.sub(r"^(\S+) [\d:]+ ", r"\1 ", line["message"])
                lines.append(self.settle(re.sub(r"(status of \d+) \([\w ]*\)", r"\1", message)))
        return lines

    def screenshot(self, name):
        self.browser.save_screenshot(str(self.work / f"{name}.png"))

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self):
        Path(self.options.out).write_text(json.dumps({"steps": self.steps}, indent=1))


def run(drive, volatile=()):
    """Makes the visit: `drive` is called with it; its record is written when it ends well."""
    visit = Visit(volatile)
    started = time.monotonic()
    try:
        drive(visit)
        if visit._browser is not None:
            visit.note("console", visit.console())
        visit.finish()
    except BaseException:
        if visit._browser is not None:
            with contextlib.suppress(WebDriverException):
                visit.screenshot("failed")
                print("console:", *visit.console(), sep="\n  ", file=sys.stderr)
                print("shown:", visit.browser.find_element(By.TAG_NAME, "body").text[:3000], file=sys.stderr)
        raise
    finally:
        if visit._browser is not None:
            visit._browser.quit()
    print(f"{len(visit.steps)} steps in {time.monotonic() - started:.1f} s", file=sys.stderr)
