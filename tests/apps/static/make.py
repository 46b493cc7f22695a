"""Makes a documentation tree as generators do: thousands of pages that link to each other, assets, archives.

Usage: make.py FOLDER. The same bytes and times on every run.
"""

import gzip
import hashlib
import os
import shutil
import sys
from pathlib import Path

PAGES = 3000
BIG = 300 << 20  # a sparse file, as disk images and archives are
WHEN = 1_700_000_000

root = Path(sys.argv[1])
shutil.rmtree(root, ignore_errors=True)


def write(name, data):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def address(number):
    return f"/reference/{number % 40:02}/page-{number:04}.html"


for number in range(PAGES):
    links = sorted({(number * 7 + step) % PAGES for step in (1, 2, 3)} | {(number + 1) % PAGES})
    words = " ".join(hashlib.md5(f"{number}/{word}".encode()).hexdigest()[:7] for word in range(150))
    items = "".join(f'<li><a href="{address(link)}">Page {link}</a></li>' for link in links)
    write(
        address(number)[1:],
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page {number}</title>'
        f'<link rel="stylesheet" href="/assets/style.css"><script src="/assets/search.js" defer></script></head>'
        f"<body><h1>Page {number}</h1><p>{words}</p><ul>{items}</ul></body></html>\n",
    )
names = ["a file with spaces.html", "größe.html", "100%.html", "a+b,c=d@e.html", "q'uote(s)!.html", "日本語.html", "tilde~.html"]
for name in names:
    write(f"names/{name}", f"<!doctype html><title>{name}</title><p>{name}</p>\n")
links = "".join(f'<li><a href="{address(number)}">Page {number}</a></li>' for number in range(0, PAGES, 50))
write(
    "index.html",
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Handbook</title>'
    '<link rel="icon" href="/assets/icon.svg"><link rel="stylesheet" href="/assets/style.css">'
    '<script src="/assets/search.js" defer></script></head>'
    f'<body><h1>Handbook</h1><input id="search"><p id="found"></p><ul>{links}</ul></body></html>\n',
)
write("assets/style.css", "body { font: 16px sans-serif; max-width: 60rem; margin: auto }\n" * 400)
write("assets/icon.svg", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4"/></svg>')
write(
    "assets/search.js",
    """// Finds a page in the index, which is fetched when it is first needed.
addEventListener("DOMContentLoaded", () => {
  const field = document.getElementById("search");
  field?.addEventListener("input", async () => {
    const pages = await (await fetch("/assets/index.json")).json();
    const found = pages.filter((page) => page.includes(field.value));
    document.getElementById("found").textContent = `${found.length} found`;
  });
});
"""
    + "// padding that compresses well\n" * 500,
)
write("assets/index.json", "[" + ",".join(f'"Page {number}"' for number in range(PAGES)) + "]")
write("assets/photo.jpg", hashlib.shake_256(b"photo").digest(700_000))
write("downloads/empty.bin", b"")
write("downloads/one.bin", b"1")
with open(root / "downloads" / "image.img", "wb") as image:
    image.truncate(BIG)
    for place in (0, BIG // 2, BIG - 1_000_000):
        image.seek(place)
        image.write(hashlib.shake_256(str(place).encode()).digest(1_000_000))
# Compressed once, as deployments do.
for path in [*root.glob("assets/*.css"), *root.glob("assets/*.js"), *root.glob("assets/*.json")]:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=WHEN))
for path in root.rglob("*"):
    os.utime(path, (WHEN, WHEN))
