#!/usr/bin/env python3
"""What a request costs by step, out of a dump of callgrind: steps.py DUMP REQUESTS

A function that names a step belongs to it; any other (copies, allocations, header maps) belongs to the steps of its callers,
by what it costs each of them."""
import collections, re, sys

STEPS = [
    ("the chain's hash, and the writer", r"record::chain|audit::writer|audit::segment|audit::queue::Queue::take"),
    ("the entry", r"decide::record|Context::entry|store::audit"),
    ("the access line", r"serve::logs"),
    ("the token and its memory", r"serve::keys|serve::tokens|TokenKey|serve::ways|store::revocations|Answering"),
    ("limits", r"store::quota|quota::|ratelimit|limit_fields"),
    ("facts, route, guards", r"gather|request::Request|decide::(rules|router|guards|deliberation|site|path|authority|forwarded|fields|policy|cors::Preflight)"),
    ("metrics", r"serve::metrics|route_metrics|prometheus"),
    ("edits of the request", r"edit_request|headers::request|headers::trace|serve::assertion|trace_"),
    ("dressing of the answer", r"dress|headers::(profile|known|csp|hsts|cookies|permissions)|decide::cors|respond"),
    ("the request's head", r"serve::head|head::check|head::request_line|ask::Ask|carry.*take_head"),
    ("the answer's head", r"decide::reply|next_head|lane::download"),
    ("heads written", r"lane::serialize"),
    ("endpoint and its connection", r"serve::upstream|lane::(idle|conn)|forward::lease|lane::forward|lane::upload|lane::body|carry_to"),
    ("TLS", r"rustls|TlsStream"),
    ("runtime, sockets, timers", r"^<?(tokio|mio)|scheduler|std::sys::pal|std::sys::net|std::thread|clock_gettime|socket2"),
    ("the request's own task", r"lane::(?!ask)|serve::(admit|context|live|accept|http1|stream|shares|active|gateway|drain)|Context"),
]


def read(path):
    """Self cost by function, and inclusive cost by (caller, callee)."""
    names, own, edges = {}, collections.Counter(), collections.Counter()
    here = callee = None
    call = False
    for line in open(path, errors="replace"):
        if found := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?$", line):
            kind, number, name = found.groups()
            if name:
                names[number] = re.sub(r"::h[0-9a-f]{16}", "", name)
            if kind == "fn":
                here = number
            else:
                callee = number
        elif line.startswith("calls="):
            call = True
        elif re.match(r"[+\-*\d]", line):
            cost = int((line.split() + ["0"])[1])
            if call:
                edges[here, callee] += cost * (here != callee)
            else:
                own[here] += cost
            call = False
    return names, own, edges


def main(path, requests):
    names, own, edges = read(path)
    step = {f: next((s for s, pattern in STEPS if re.search(pattern, name)), None) for f, name in names.items()}
    callers = collections.defaultdict(list)
    for (caller, callee), cost in edges.items():
        callers[callee].append((caller, cost))
    shares = {f: {s: 1.0} if s else {} for f, s in step.items()}
    for _ in range(40):  # callers of callers; cycles settle
        for f in (f for f, s in step.items() if not s):
            total = sum(cost for _, cost in callers[f]) or 1
            mixed = collections.Counter()
            for caller, cost in callers[f]:
                for s, share in shares[caller].items():
                    mixed[s] += share * cost / total
            shares[f] = mixed
    sums, whole = collections.Counter(), sum(own.values())
    for f, cost in own.items():
        for s, share in shares[f].items():
            sums[s] += cost * share
    for s, cost in sums.most_common():
        print(f"{cost / requests:9.0f}  {100 * cost / whole:5.1f} %  {s}")
    print(f"{whole / requests:9.0f}  accounted for: {100 * sum(sums.values()) / whole:.1f} %")


main(sys.argv[1], float(sys.argv[2]))
