"""A notice board on Node as its users and their programs use it: pages, forms, events, sockets, uploads, downloads."""

import hashlib
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "driver"))
from visit import run  # noqa: E402

VOLATILE = [(r"(?<=connect\.sid=)[^;]+", "SECRET"), (r"(?<=Expires=)[^;]+ GMT", "DATE")]


def drive(visit):
    browser, note = visit.browser, visit.note

    def page(call):
        """Runs a function of the page and records what it resolves with."""
        wait = "const done = arguments[arguments.length - 1];"
        script = f"{wait} board.{call}.then(done, (error) => done({{error: String(error)}}))"
        note(f"page: {call[:80]}", browser.execute_async_script(script))

    # --- pages, sessions, cookies
    visit.open("/account")
    visit.page("sent home")
    visit.find("body[data-ready]")
    visit.shown("[name=user]").send_keys("ada")
    visit.shown("form button").click()
    visit.until(lambda b: b.current_url.endswith("/account"), "the account")
    visit.page("the account")
    visit.cookies("signed in")
    note("cookies that scripts read", browser.execute_script("return document.cookie"))
    visit.open("/account")
    visit.page("the account again")

    # --- events and sockets
    visit.open("/")
    visit.find("body[data-ready]")
    page("events()")
    page("echo(['one', 'zwei ä', 100, 'x'.repeat(1000000), 300000, 'burst 500', '', 'close'])")
    page("chat(['polling', 'websocket'])")
    page("chat(['polling'], true)")
    page("chat(['websocket'], true)")
    page("poll()")
    page("upload(1 << 20)")
    page("download(16)")
    visit.page("the board")

    # --- what programs send
    client = visit.client
    seen = client.get("/seen?a=1&b[]=2&c=%2F%20").json()
    note("what Express knows", seen | {"secure": seen["secure"] == visit.through, "protocol": seen["protocol"] == visit.base.split(":")[0], "ips": len(seen["ips"]) == visit.through})
    for method, path, body in [
        ("POST", "/notices", {"text": "größer"}),
        ("POST", "/notices", {"text": "y" * 500_000}),
        ("GET", "/notices/1", None),
        ("PUT", "/notices/2", {"text": "put"}),
        ("PATCH", "/notices/2", {"more": [1, 2]}),
        ("GET", "/notices", None),
        ("DELETE", "/notices/2", None),
        ("GET", "/notices/2", None),
        ("OPTIONS", "/notices/1", None),
        ("HEAD", "/notices/1", None),
        ("GET", "/fails", None),
        ("GET", "/missing", None),
        ("GET", "/by-name/with%20space", None),
        ("GET", "/by-name/caf%C3%A9", None),
        ("GET", "/by-name/a+b@c:d,e=f", None),
        ("GET", "/by-name/50%25", None),
        ("GET", "/account", None),
        ("POST", "/sign-out", None),
    ]:
        visit.ask(method, path, **({"json": body} if body else {}))
    visit.ask("POST", "/notices", "a body that is no JSON", content=b"{", headers={"content-type": "application/json"})

    # --- compression, conditions, ranges
    for encoding in ["gzip", "br", "deflate", "gzip;q=0, identity", "zstd"]:
        visit.ask("GET", "/text", f"text in {encoding}", headers={"accept-encoding": encoding})
    first = visit.ask("GET", "/style.css")
    visit.ask("GET", "/style.css", "not modified", headers={"if-none-match": first.headers["etag"]})
    visit.ask("GET", "/style.css", "a part", headers={"range": "bytes=5-9"})
    visit.ask("GET", "/style.css", "two parts", headers={"range": "bytes=0-1,5-9"})
    visit.ask("GET", "/style.css", "no such part", headers={"range": "bytes=90000-"})
    visit.ask("GET", "/style.css", "a part, if it is the same", headers={"range": "bytes=0-3", "if-range": '"other"'})
    visit.ask("GET", "/early")
    visit.ask("GET", "/trailers")

    # --- large bodies, with and without a length
    contents = hashlib.shake_256(b"upload").digest(8 << 20)
    visit.ask("PUT", "/raw", "upload with a length", content=contents)
    visit.ask("PUT", "/raw", "upload in pieces", content=(contents[i : i + 70_000] for i in range(0, len(contents), 70_000)))
    visit.ask("PUT", "/raw", "upload with an expectation", content=contents[:5000], headers={"expect": "100-continue"})
    visit.ask("POST", "/upload", "a form with two files", files=[("a", ("a.txt", b"a" * 5, "text/plain")), ("b", ("b.bin", contents))], data={"x": "1"})
    visit.ask("GET", "/download/32")
    visit.ask("GET", "/download/8?length=1")
    visit.ask("HEAD", "/download/8?length=1")
    upload = visit.work / "upload.bin"
    upload.write_bytes(contents)
    for version in ["--http1.1", "--http2"]:
        curl = ["curl", "-sS", version if visit.through else "--http1.1", "--max-time", "60"]
        curl += ["--resolve", f"{visit.base.split('://')[1]}:127.0.0.1"]
        curl += ["--cacert", visit.options.ca] if visit.options.ca else []

        def said(*options):
            return subprocess.run([*curl, *options], check=True, capture_output=True, text=True).stdout

        note(f"curl {version}", said("-T", str(upload), f"{visit.base}/raw", "-H", "expect: 100-continue"))
        for path in ["/trailers", "/early"]:
            lines = [re.sub(r"^HTTP/[\d.]+ (\d+).*", r"\1", line).lower() for line in said("-D", "-", f"{visit.base}{path}").splitlines()]
            note(f"curl {version} {path}", [line for line in lines if line[:3].isdigit() or line.startswith(("x-checksum", "link"))])

    # --- events with a client that reads as they come, from where it was; each version of HTTP
    for http, client in [("first", visit.client), ("second", visit.second)]:
        with client.stream("GET", "/events", headers={"accept": "text/event-stream", "last-event-id": "41"}) as stream:
            arrived = [(time.time(), line) for line in stream.iter_lines() if line.startswith("data: {\"next")]
        sent = [int(line.split('"at":')[1].rstrip("}")) / 1000 for _, line in arrived]
        note(f"events of the {http} client", {
            "order": [int(line.split('"next":')[1].split(",")[0]) for _, line in arrived],
            "streamed": all(arrival < following for (arrival, _), following in zip(arrived, sent[1:])),
        })

    # --- a client that leaves in the middle of a download and one in the middle of an upload
    for request in ["GET /download/500 HTTP/1.1", "PUT /raw HTTP/1.1\r\nContent-Length: 9999"]:
        host, port = visit.base.split("://")[1].split(":")
        with socket.create_connection(("127.0.0.1", int(port))) as plain:
            connection = visit.trust().wrap_socket(plain, server_hostname=host) if visit.through else plain
            connection.sendall(f"{request}\r\nHost: {host}:{port}\r\n\r\n".encode())
            if request.startswith("GET"):
                note("a beginning", connection.recv(15).decode())
    visit.ask("GET", "/notices", "alive")


run(drive, VOLATILE)
