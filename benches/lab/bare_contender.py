"""pingora without filters in the gateway laboratory. BARE_BIN names the binary of `cargo build --release --example bare_pingora`."""
import os
from pathlib import Path

FEATURES = {"tls"}
PROTOCOLS = {"h1", "h2"}
NOTE = "pingora's own listener and HttpProxy, no filters: what Moat pays for its foundation"


def available():
    found = os.environ.get("BARE_BIN") or str(Path("target/release/examples/bare_pingora").absolute())
    return "0.9.1" if os.access(found, os.X_OK) else None


def write(c):
    pass


def argv(c):
    found = os.environ.get("BARE_BIN") or str(Path("target/release/examples/bare_pingora").absolute())
    return [found, f"127.0.0.1:{c.port}", c.backend] + ([c.cert, c.key] if c.on("tls") else [])
