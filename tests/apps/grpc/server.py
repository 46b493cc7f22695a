"""A gRPC service with every kind of call. It speaks bytes, so that nothing has to be generated; h2c on loopback."""

import hashlib
import struct
import sys
import time
from concurrent import futures

import grpc


def echo(request, context):
    """One message for one; metadata both ways."""
    sent = sorted((key, value) for key, value in context.invocation_metadata() if key.startswith("x-app-"))
    context.send_initial_metadata((("x-initial", "first"), ("x-blob-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-seen", repr(sent)), ("x-trail-bin", b"\x01\xfe")))
    return request


def known(request, context):
    """What the gateway tells of the caller's side."""
    told = dict(context.invocation_metadata())
    names = ("x-forwarded-proto", "x-forwarded-host", "x-tenant-id")
    return "|".join(f"{name}={told.get(name, '')}" for name in names).encode()


def count(request, context):
    """Many messages for one, a while apart, each with the time of its sending."""
    for number in range(int(request)):
        yield struct.pack("!qd", number, time.time())
        time.sleep(0.05)


def gather(messages, context):
    """One message for many."""
    hash, number = hashlib.sha256(), 0
    for message in messages:
        hash.update(message)
        number += 1
    return f"{number} {hash.hexdigest()}".encode()


def talk(messages, context):
    """An answer to each message, as soon as it is there."""
    for message in messages:
        yield message[::-1]


def fail(request, context):
    """Ends with a status, a message with more than ASCII in it, and details."""
    context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05\x12\x07details"), ("x-retry", "no")))
    context.abort(getattr(grpc.StatusCode, request.decode()), "nicht möglich: 100%\nreally")


def fail_late(request, context):
    """Two messages, then a status."""
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


cancelled = []


def endless(request, context):
    """Goes on until the client leaves."""
    context.add_callback(lambda: cancelled.append(1))
    while context.is_active():
        yield b"more"
        time.sleep(0.02)


def slow(request, context):
    """Slower than any deadline here; says how much of it the client gave."""
    context.send_initial_metadata((("x-remaining", str(round(context.time_remaining()))),))
    while context.is_active():
        time.sleep(0.02)
    return b""


def left(request, context):
    """How many clients have left `endless`."""
    return str(len(cancelled)).encode()


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Known": grpc.unary_unary_rpc_method_handler(known),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Gather": grpc.stream_unary_rpc_method_handler(gather),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Left": grpc.unary_unary_rpc_method_handler(left),
}
size = 64 << 20
server = grpc.server(
    futures.ThreadPoolExecutor(32),
    options=[("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size)],
    compression=grpc.Compression.Gzip if "gzip" in sys.argv else None,
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("notices.v1.Board", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"serving on 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
