"""A large static site as readers, mirrors and caches use it: every page by its links, conditions, ranges, big files."""

import hashlib
import re
import sys
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "driver"))
from visit import run  # noqa: E402


def drive(visit):
    note = visit.note

    # --- a reader: the page, its style, its search
    visit.open("/")
    visit.page("the handbook", "h1")
    visit.shown("#search").send_keys("Page 29")
    visit.until(lambda b: "found" in visit.find("#found").text, "what the search finds")
    note("found", visit.until(lambda b: visit.find("#found").text == "111 found" and "111 found"))
    note("background", visit.browser.execute_script("return getComputedStyle(document.body).maxWidth"))
    visit.shown("a[href$='page-0050.html']").click()
    visit.until(lambda b: b.title == "Page 50", "the page")
    visit.page("a page")

    # --- a mirror: every address that a link leads to, by both versions of HTTP in turn
    seen, queue, number = {"/"}, ["/", "/names/"], 0
    pages = hashlib.sha256()
    fields = set()
    while queue:
        path = queue.pop(0)
        answer = [visit.client, visit.second][number % 2].get(path)
        number += 1
        if answer.status_code != 200:
            note(f"mirror: {path}", answer.status_code)
        pages.update(f"{path} {answer.status_code} {answer.headers.get('etag')} {len(answer.content)}".encode())
        pages.update(answer.content)
        fields.update(answer.headers)
        if "html" in answer.headers["content-type"]:
            for link in re.findall(r'(?:href|src)="([^"#?]+)"', answer.text):
                link = path + link if path.endswith("/") and not link.startswith("/") else link
                if link not in seen and ".." not in link:
                    seen.add(link)
                    queue.append(link)
    note("the mirror", {"addresses": len(seen), "requests": number, "sha256": pages.hexdigest()})
    assert len(seen) > 3000, len(seen)

    # --- names that need encoding
    for name in ["a file with spaces", "größe", "100%", "a+b,c=d@e", "q'uote(s)!", "日本語", "tilde~"]:
        visit.ask("GET", f"/names/{quote(name)}.html", f"name: {name}")

    # --- caches and resumed downloads
    style = "/assets/style.css"
    first = visit.ask("GET", style)
    etag, when = first.headers["etag"], first.headers["last-modified"]
    for name, headers in {
        "same tag": {"if-none-match": etag},
        "one of several tags": {"if-none-match": f'"x", {etag}'},
        "any tag": {"if-none-match": "*"},
        "another tag": {"if-none-match": '"x"'},
        "not since": {"if-modified-since": when},
        "since long ago": {"if-modified-since": "Sat, 01 Jan 2000 00:00:00 GMT"},
        "if it is the same": {"if-match": etag},
        "if it is another": {"if-match": '"x"'},
        "unmodified since long ago": {"if-unmodified-since": "Sat, 01 Jan 2000 00:00:00 GMT"},
        "a range": {"range": "bytes=10-19"},
        "the end": {"range": "bytes=-5"},
        "from a place": {"range": "bytes=1000-"},
        "two ranges": {"range": "bytes=0-1,10-19"},
        "behind the end": {"range": "bytes=9999999-"},
        "no range at all": {"range": "lines=1-2"},
        "a range of the same": {"range": "bytes=0-9", "if-range": etag},
        "a range of another": {"range": "bytes=0-9", "if-range": '"x"'},
        "gzip": {"accept-encoding": "gzip"},
        "gzip or br": {"accept-encoding": "br, gzip;q=0.5"},
        "a range of gzip": {"accept-encoding": "gzip", "range": "bytes=0-9"},
    }.items():
        answer = visit.ask("GET", style, f"style: {name}", headers=headers)
        if "two" in name:
            # The boundary is a number that nginx counts up.
            for step in visit.steps[-2:]:
                step["sha256"] = "multipart"
                step["headers"] = [[n, re.sub(r"boundary=\d+", "boundary=N", v)] for n, v in step["headers"]]
    for method, path in [
        ("HEAD", style),
        ("HEAD", "/"),
        ("HEAD", "/downloads/image.img"),
        ("GET", "/assets/photo.jpg"),
        ("GET", "/downloads/empty.bin"),
        ("GET", "/downloads/one.bin"),
        ("GET", "/reference/01"),
        ("GET", "/reference/01/"),
        ("GET", "/missing"),
        ("GET", "/old"),
        ("GET", "/?query=%2F&a[]=1"),
        ("GET", "/index.html"),
    ]:
        visit.ask(method, path)

    # --- a file that no memory should hold
    for place in ["0-99", "157286300-157286500", "314572700-", "-100"]:
        visit.ask("GET", "/downloads/image.img", f"image: {place}", headers={"range": f"bytes={place}"})
    for name, client in [("first", visit.client), ("second", visit.second)]:
        image = hashlib.sha256()
        with client.stream("GET", "/downloads/image.img") as answer:
            length = sum(image.update(piece) or len(piece) for piece in answer.iter_raw(1 << 20))
        note(f"image by the {name} client", [length, image.hexdigest(), answer.headers["content-length"]])


run(drive)
