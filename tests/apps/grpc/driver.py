"""A gRPC service as its clients use it: every kind of call, metadata, errors, deadlines, cancellation, large messages."""

import hashlib
import struct
import sys
import threading
import time
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "driver"))
from visit import PATIENCE, run  # noqa: E402

SIZE = 64 << 20
# What is of one connection, or what the gateway was told to add; the names of all other metadata are compared.
WORN = (
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "content-security-policy",
    "x-request-id",
    "ratelimit",
    "ratelimit-policy",
    "server",
    "date",
)


def drive(visit):
    host, port = visit.base.split("://")[1].split(":")
    options = [
        ("grpc.max_receive_message_length", SIZE),
        ("grpc.max_send_message_length", SIZE),
        ("grpc.default_authority", f"{host}:{port}"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    if visit.through:
        options.append(("grpc.ssl_target_name_override", host))
        trust = grpc.ssl_channel_credentials(Path(visit.options.ca).read_bytes())
        channel = grpc.secure_channel(f"127.0.0.1:{port}", trust, options)
    else:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)

    def method(name, kind="unary_unary"):
        return getattr(channel, kind)(f"/notices.v1.Board/{name}")

    def metadata(items):
        return sorted((key, repr(value)) for key, value in items or () if key not in WORN)

    def note(name, call, value):
        """What a call ended with, as the client's library sees it."""
        visit.note(name, {
            "value": value,
            "initial": metadata(call.initial_metadata()),
            "trailing": metadata(call.trailing_metadata()),
            "code": str(call.code()),
            "details": call.details(),
        })

    def refused(name, call):
        try:
            call.result()
        except grpc.RpcError:
            pass
        note(name, call, None)

    # --- one for one
    echo = method("Echo")
    sent = (("x-app-name", "grpc"), ("x-app-twice", "1"), ("x-app-twice", "2"), ("x-app-blob-bin", bytes(range(256))))
    for size in [0, 1, 16_384, 4 << 20, 40 << 20]:
        message = hashlib.shake_256(str(size).encode()).digest(size)
        answer, call = echo.with_call(message, metadata=sent, timeout=PATIENCE)
        note(f"echo of {size}", call, answer == message)
    answer, call = echo.with_call(b"z" * 1_000_000, compression=grpc.Compression.Gzip, timeout=PATIENCE)
    note("echo, compressed", call, len(answer))
    told = method("Known")(b"", timeout=PATIENCE).decode()
    wanted = f"x-forwarded-proto=https|x-forwarded-host={host}:{port}|x-tenant-id=acme"
    visit.note("what the service is told", told == (wanted if visit.through else "x-forwarded-proto=|x-forwarded-host=|x-tenant-id="))

    # --- many for one: the first is here before the second is sent
    call = method("Count", "unary_stream")(b"8", timeout=PATIENCE)
    arrived = [(time.time(), *struct.unpack("!qd", message)) for message in call]
    order = [number for _, number, _ in arrived]
    streamed = all(here < after for (here, _, _), (_, _, after) in zip(arrived, arrived[1:]))
    note("count", call, [order, streamed])
    # --- one for many
    pieces = [hashlib.shake_256(bytes([n])).digest(100_000) for n in range(200)]
    answer, call = method("Gather", "stream_unary").with_call(iter(pieces), timeout=PATIENCE)
    note("gather", call, answer.decode())
    answer, call = method("Gather", "stream_unary").with_call(iter([]), timeout=PATIENCE)
    note("gather of nothing", call, answer.decode())

    # --- many for many: the client waits for each answer before it says more
    heard = threading.Semaphore(1)

    def lines():
        for number in range(50):
            heard.acquire(timeout=PATIENCE)
            yield f"line {number}".encode()

    call = method("Talk", "stream_stream")(lines(), timeout=PATIENCE)
    answers = []
    for answer in call:
        answers.append(answer.decode())
        heard.release()
    note("talk", call, answers)
    call = method("Talk", "stream_stream")(iter(pieces), timeout=PATIENCE)
    note("much talk", call, [answer[::-1] for answer in call] == pieces)

    # --- errors
    for code in ["NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"]:
        refused(f"fails with {code}", method("Fail").future(code.encode(), timeout=PATIENCE))
    call = method("FailLate", "unary_stream")(b"", timeout=PATIENCE)
    said = []
    try:
        for message in call:
            said.append(message.decode())
    except grpc.RpcError:
        pass
    note("fails late", call, said)
    refused("no such method", method("Nothing").future(b"", timeout=PATIENCE))

    # --- deadlines and cancellation
    began = time.monotonic()
    call = method("Slow").future(b"", timeout=1.0)
    # Client and server both watch it; which of them is first decides the words.
    visit.note("too slow", [str(call.exception().code()), 0.9 < time.monotonic() - began < 20])
    call = method("Endless", "unary_stream")(b"", timeout=PATIENCE)
    visit.note("endless", [next(call).decode() for _ in range(5)])
    call.cancel()
    deadline = time.monotonic() + PATIENCE
    while (left := method("Left")(b"", timeout=PATIENCE)) == b"0" and time.monotonic() < deadline:
        pass
    visit.note("the service heard that the client left", left.decode())

    # --- many calls at once on one connection
    calls = [echo.future(str(number).encode(), timeout=PATIENCE) for number in range(300)]
    visit.note("at once", [call.result() for call in calls] == [str(number).encode() for number in range(300)])
    channel.close()


run(drive)
