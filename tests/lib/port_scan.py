"""Allowed network flows, and a port scan that finds the flows that are possible."""

import json
import shlex
from collections.abc import Callable, Iterable

from lib.ansible_runs import load_module

topology = load_module("plugins/filter/topology.py")
ANYWHERE = topology.ANYWHERE

# Runs on the scanning host and prints the result of each port, "open" or "refused"; silent ports are omitted.
# Arguments: source address ("" for any), highest source port, counted from 1 (0 for any), scanned address,
# "first-last" or "port,port", timeout in seconds.
PROBE = """
import errno, json, resource, select, socket, struct, sys, time
own, sources, address, ports, timeout = sys.argv[1:]
first, dash, last = ports.partition("-")
ports = range(int(first), int(last) + 1) if dash else [int(port) for port in ports.split(",")]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
family, kind, _, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
results = {}
size = min(8000, most - 50)
for begin in range(0, len(ports), size):
    poll, probes = select.epoll(), {}
    for port in ports[begin:begin + size]:
        probe = socket.socket(family, kind)
        probe.setblocking(False)
        if int(sources):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # to use the port again
            probe.bind((own, port % int(sources) + 1))
        elif own:
            probe.bind((own, 0))
        probe.connect_ex((where[0], port, *where[2:]))
        probes[probe.fileno()] = port, probe
        poll.register(probe, select.EPOLLOUT)
    end = time.monotonic() + float(timeout)
    while probes and (left := end - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, probe = probes.pop(number)
            error = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error in (0, errno.ECONNREFUSED):  # others are of the scanning host, such as a lookup that failed
                results[port] = "refused" if error else "open"
            probe.close()
    for _, probe in probes.values():
        probe.close()
    poll.close()
print(json.dumps(results))
"""


def scan(
    run: Callable[[str], str],
    address: str,
    ports: str | Iterable[int] = "1-65535",
    own: str = "",
    sources: int = 0,
    timeout: float = 0.5,
) -> dict[int, str]:
    """Scan the ports of an address; return "open" or "refused" by port, without silent ports.

    run: runs a shell command on the scanning host and returns its output. own: source address.
    sources: highest source port. timeout: in seconds.
    """
    words = [own, sources, address, ports if isinstance(ports, str) else ",".join(map(str, sorted(ports))), timeout]
    command = shlex.join(["python3", "-c", PROBE, *map(str, words)])
    return {int(port): result for port, result in json.loads(run(command)).items()}


def documented() -> dict[tuple[str, int], str]:
    """Return the allowed flows: {(group, port): the group that may connect, or ANYWHERE}."""
    return {(group, flow["port"]): flow["from"] for flow in topology.default_flows() for group in flow["to"]}
