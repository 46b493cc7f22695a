#!/usr/bin/env python3
"""What floods cost: memory and CPU of the gateway under each, and what honest clients get beside them.

    cargo build --release && python3 benches/floods.py target/release/moat [--only NAME] [--units N]

Python's standard library and Linux; all on the loopback network, whose 127.0.0.0/8 lends attackers as many addresses as
they like. Attackers, honest clients and the application share the machine with the gateway: the figures are the
gateway's own (/proc), the times are those of a machine that does all of it.
"""
import argparse
import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = 256 << 20

GATEWAY = """version: 1
server: {state_dir: state, worker_threads: 2, instance: bench-1}
admin: {address: 127.0.0.1:0}
listeners:
  public: {address: 127.0.0.1:0, tls: modern, limits: {connections_per_ip: PER_IP}}
tls: {certificates: certs/, default_certificate: localhost}
upstreams:
  app: {endpoints: [UPSTREAM], http: {first_byte_timeout: 60s}}
policies: {headers: policies/headers.yaml}
logs: {format: json, level: info}
audit: {directory: state/audit}
routes:
  home: {match: {hosts: ["localhost"], paths: ["/**"], methods: [GET, HEAD, POST]}, upstream: app, public: "a bench", headers: plain}
"""
HEADERS = "version: 1\nprofiles:\n  plain: {set: {x-content-type-options: nosniff}}\n"


async def application(reader, writer):
    """`/large` without end, `/wait` never, anything else at once."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /wait"):
                await asyncio.sleep(3600)
            if head.startswith(b"GET /large"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
                piece = bytes(64 << 10)
                for _ in range(LARGE // len(piece)):
                    writer.write(piece)
                    await writer.drain()
            else:
                writer.write(PAGE)
                await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.close()


class Gateway:
    """The gateway as a process."""

    def __init__(self, program, folder, upstream, per_ip):
        (folder / "policies").mkdir()
        (folder / "gateway.yaml").write_text(GATEWAY.replace("UPSTREAM", upstream).replace("PER_IP", str(per_ip)))
        (folder / "policies/headers.yaml").write_text(HEADERS)
        subprocess.run([program, "certs", "dev"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([program, "run"], cwd=folder, stdout=self.log, stderr=self.log)
        self.folder, self.ports = folder, {}
        until = time.monotonic() + 20
        while len(self.ports) < 2 and time.monotonic() < until and self.process.poll() is None:
            text = (folder / "log").read_text()
            for line in text.splitlines():
                name, port = re.search(r'"listener":"(\w+)"', line), re.search(r'"address":"127.0.0.1:(\d+)"', line)
                if '"listening"' in line and name and port:
                    self.ports[name[1]] = int(port[1])
            time.sleep(0.05)
        if len(self.ports) < 2:
            sys.exit((folder / "log").read_text())
        self.context = ssl.create_default_context(cafile=folder / "certs/dev/ca.crt")
        self.context.set_alpn_protocols(["http/1.1"])

    def cpu(self):
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self):
        """Resident memory in KiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def disk(self):
        """Bytes of the audit log."""
        return sum(path.stat().st_size for path in (self.folder / "state/audit").glob("*.jsonl"))

    def counters(self, *names):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics").read().decode()
        lines = [line for line in text.splitlines() if line.startswith(names)]
        return {line.rsplit(" ", 1)[0]: int(float(line.rsplit(" ", 1)[1])) for line in lines if not line.endswith(" 0")}

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def kernel():
    """Pages that TCP sockets of this machine hold, in KiB."""
    found = re.search(r"TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text())
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def connect(gateway, source, tls=True, small=False):
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    sock.bind((source, 0))
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.ports["public"]))
    if not tls:
        return await asyncio.open_connection(sock=sock)
    return await asyncio.open_connection(sock=sock, ssl=gateway.context, server_hostname="localhost", limit=2048)


async def honest(gateway, over, waits):
    """One connection after the other, ten requests on each, fifty a second at the most."""
    while not over.is_set():
        reader, writer = await connect(gateway, "127.99.0.1")
        for _ in range(10):
            begun = time.monotonic()
            writer.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\nok")
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(f"an honest client was refused: {head!r}")
            waits.append(time.monotonic() - begun)
            await asyncio.sleep(0.02)
        writer.close()


def source(n, addresses):
    return f"127.{2 + n % addresses // 250}.0.{1 + n % addresses % 250}"


async def silent(gateway, n, addresses):
    """A connection that says nothing."""
    return await connect(gateway, source(n, addresses), tls=False)


async def kept(gateway, n, addresses):
    """A TLS connection that has asked once and is kept."""
    reader, writer = await connect(gateway, source(n, addresses))
    writer.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\nok")
    return reader, writer


async def half(gateway, n, addresses):
    """Half of a large head."""
    reader, writer = await connect(gateway, source(n, addresses))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Field: " + b"a" * 60_000)
    return reader, writer


async def waiting(gateway, n, addresses):
    """A request that the application never answers."""
    reader, writer = await connect(gateway, source(n, addresses))
    writer.write(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


async def unread(gateway, n, addresses):
    """A large answer that nobody reads."""
    reader, writer = await connect(gateway, source(n, addresses), small=True)
    writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.transport.pause_reading()
    return reader, writer


async def handshake(gateway, n, addresses):
    """A full handshake, and away."""
    _, writer = await connect(gateway, source(n, addresses))
    writer.transport.abort()


async def garbage(gateway, n, addresses):
    """Bytes that are no ClientHello."""
    reader, writer = await connect(gateway, source(n, addresses), tls=False)
    writer.write(b"\x16\x03\x01\x02\x00" + bytes(512))
    await reader.read()
    writer.close()


async def broken(gateway, n, addresses):
    """A head that breaks the grammar, on a connection of its own."""
    reader, writer = await connect(gateway, source(n, addresses))
    writer.write(b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n")
    await reader.read()
    writer.close()


KEPT = {}


async def unknown(gateway, n, addresses):
    """A request for a host that nobody serves, on a connection that goes on."""
    key = n % (addresses * 4)
    if key not in KEPT:
        KEPT[key] = await connect(gateway, source(n, addresses))
    reader, writer = KEPT[key]
    writer.write(b"GET /none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))


# name, attack, units, addresses, whether its connections are held
FLOODS = [
    ("silent connections", silent, 4000, 20, True),
    ("kept connections", kept, 2000, 20, True),
    ("half heads of 60 KB", half, 1000, 20, True),
    ("requests never answered", waiting, 2000, 20, True),
    ("answers never read", unread, 500, 5, True),
    ("TLS handshakes", handshake, 3000, 20, False),
    ("no ClientHello", garbage, 3000, 20, False),
    ("broken heads", broken, 3000, 20, False),
    ("refused requests", unknown, 20000, 5, False),
]


async def measure(program, flood, units):
    name, attack, usual, addresses, held = flood
    units = units or usual
    server = await asyncio.start_server(application, "127.0.0.1", 0, backlog=4096)
    upstream = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(program, Path(folder), upstream, -(-units // addresses))
        KEPT.clear()
        try:
            over, waits, open_now = asyncio.Event(), [], []
            client = asyncio.create_task(honest(gateway, over, waits))
            await asyncio.sleep(2)
            alone = sorted(waits)
            before = gateway.rss(), gateway.cpu(), gateway.disk(), kernel(), time.monotonic(), len(waits)
            gate, failed = asyncio.Semaphore(4 if attack is unknown else 64), 0

            async def one(n):
                nonlocal failed
                async with gate:
                    try:
                        open_now.append(await asyncio.wait_for(attack(gateway, n, addresses), 30))
                    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                        failed += 1

            if attack is unknown:
                async def series(lane):
                    for n in range(lane, units, addresses * 4):
                        await one(n)
                gate = asyncio.Semaphore(addresses * 4)
                await asyncio.gather(*(series(lane) for lane in range(addresses * 4)))
            else:
                await asyncio.gather(*(one(n) for n in range(units)))
            await asyncio.sleep(1)
            seconds = time.monotonic() - before[4]
            rss, cpu, disk, tcp = gateway.rss() - before[0], gateway.cpu() - before[1], gateway.disk() - before[2], kernel() - before[3]
            over.set()
            await client
            beside = sorted(waits[before[5]:])
            if client.done() and client.exception():
                raise client.exception()
            own = max(0.0, cpu - len(beside) * 0.0002)
            row = [name, f"{units} of {addresses}", f"{rss / units:.1f}" if held else "-", f"{tcp / units:.1f}" if held else "-",
                   f"{own * 1000 / units:.3f}", f"{disk / units:.0f}", f"{len(beside)} in {seconds:.1f} s",
                   f"{1000 * beside[len(beside) // 2]:.1f} / {1000 * beside[-1]:.0f}", f"{1000 * alone[len(alone) // 2]:.1f}", str(failed)]
            print("| " + " | ".join(row) + " |", flush=True)
            if os.environ.get("COUNTERS"):
                print(gateway.counters("moat_connections_rejected", "moat_refusals", "moat_audit", "moat_unread", "moat_tls"))
        finally:
            gateway.end()
            server.close()
            for connection in open_now:
                if connection:
                    connection[1].transport.abort()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("program", type=Path)
    options.add_argument("--only")
    options.add_argument("--units", type=int)
    options = options.parse_args()
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
    print("| flood | units, addresses | KiB resident each | KiB of sockets each, both ends | CPU s per 1,000 | audit bytes each "
          "| honest answers beside | their wait, median / longest ms | before, ms | not served |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for flood in FLOODS:
        if not options.only or options.only in flood[0]:
            asyncio.run(measure(options.program.absolute(), flood, options.units))


if __name__ == "__main__":
    main()
