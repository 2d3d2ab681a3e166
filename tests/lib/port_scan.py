"""Allowed network flows, and a port scan that finds the flows that are possible."""

import json
import shlex
from collections.abc import Callable, Iterable

from lib.ansible_runs import load_module

topology = load_module("plugins/filter/topology.py")
ANYWHERE = topology.ANYWHERE

SOURCE = 7  # source port of all scans

# Runs as root on the scanning host: sends a SYN to each port and prints the answers, "open" or "refused"; silent ports
# are omitted. Without a socket for each port, all ports take a second. The kernel resets connections that it didn't
# open. Arguments: source address ("" for any), source port, scanned address, "first-last" or "port,port", seconds to
# wait for the last answers.
PROBE = """
import errno, json, socket, struct, sys, time
own, source, address, ports, timeout = sys.argv[1:]
first, dash, last = ports.partition("-")
ports = range(int(first), int(last) + 1) if dash else [int(port) for port in ports.split(",")]
family, _, _, _, where = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
probe = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
if own:
    probe.bind((own, 0))
probe.connect((where[0], 0, *where[2:]))  # other addresses are not received
probe.setblocking(False)

def words(data):
    return sum(struct.unpack(f"!{len(data) // 2}H", data))

def segment(port, checksum):
    return struct.pack("!HHLLBBHHH", int(source), port, 1, 0, 5 << 4, 2, 1024, checksum, 0)

if family == socket.AF_INET:
    ends = [socket.inet_aton(end) for end in (probe.getsockname()[0], where[0])]
    constant = words(b"".join(ends)) + socket.IPPROTO_TCP + 20 + words(segment(0, 0))
else:
    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 16)  # the kernel adds it

def syn(port):
    if family != socket.AF_INET:
        return segment(port, 0)
    total = constant + port
    total = (total & 0xFFFF) + (total >> 16)
    return segment(port, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)

results = {}

def receive():
    try:
        while True:
            answer = probe.recv(200)
            header = (answer[0] & 15) * 4 if family == socket.AF_INET else 0
            port, mine, flags = struct.unpack_from("!HH9xB", answer, header)
            if mine == int(source):
                results[port] = "refused" if flags & 4 else "open"
    except BlockingIOError:
        pass

for _ in range(2):  # a packet may get lost
    for number, port in enumerate(ports):
        while True:
            try:
                probe.send(syn(port))
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                    raise
                time.sleep(0.001)
        if number % 200 == 0:
            receive()
end = time.monotonic() + float(timeout)
while time.monotonic() < end:
    receive()
    time.sleep(0.01)
print(json.dumps(results))
"""


def scan(
    run: Callable[[str], str], address: str, ports: str | Iterable[int] = "1-65535", own: str = "", timeout: float = 0.5
) -> dict[int, str]:
    """Scan the ports of an address; return "open" or "refused" by port, without silent ports.

    run: runs a shell command as root on the scanning host and returns its output. own: source address.
    timeout: seconds to wait for the last answers.
    """
    words = [own, SOURCE, address, ports if isinstance(ports, str) else ",".join(map(str, sorted(ports))), timeout]
    command = shlex.join(["python3", "-c", PROBE, *map(str, words)])
    return {int(port): result for port, result in json.loads(run(command)).items()}


def documented() -> dict[tuple[str, int], str]:
    """Return the allowed flows: {(group, port): the group that may connect, or ANYWHERE}."""
    return {(group, flow["port"]): flow["from"] for flow in topology.default_flows() for group in flow["to"]}
