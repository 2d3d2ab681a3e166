"""Who may reach which port: by docs/firewall.md, and in truth."""

import json
import re
import shlex
from pathlib import Path

ROW = re.compile(r"^\| ([a-z, ]+) \| (\d+) \| (\w+) \|$", re.MULTILINE)
ANYWHERE = "anywhere"

# Runs on the machine that knocks: prints what each port says, "open" or "refused". Those that say nothing are left out.
# Arguments: the address to knock from ("" for any), up to which port, from 1 on (0 for any), the address to knock at,
# "first-last" or "port,port", seconds to wait.
PROBE = """
import json, resource, select, socket, struct, sys, time
own, sources, address, ports, patience = sys.argv[1:]
first, dash, last = ports.partition("-")
ports = range(int(first), int(last) + 1) if dash else [int(port) for port in ports.split(",")]
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
family, kind, _, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
heard = {}
size = min(8000, most - 50)
for begin in range(0, len(ports), size):
    poll, knocks = select.epoll(), {}
    for port in ports[begin:begin + size]:
        knock = socket.socket(family, kind)
        knock.setblocking(False)
        if int(sources):
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            knock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it may come again at once
            knock.bind((own, port % int(sources) + 1))
        elif own:
            knock.bind((own, 0))
        knock.connect_ex((where[0], port, *where[2:]))
        knocks[knock.fileno()] = port, knock
        poll.register(knock, select.EPOLLOUT)
    end = time.monotonic() + float(patience)
    while knocks and (left := end - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, knock = knocks.pop(number)
            heard[port] = "refused" if knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "open"
            knock.close()
    for _, knock in knocks.values():
        knock.close()
    poll.close()
print(json.dumps(heard))
"""


def knock(run, address, ports="1-65535", own="", sources=0, patience=0.5):
    """Return what the ports at an address say, by number; run(command) runs a shell command where it is to be tried."""
    words = [own, sources, address, ports if isinstance(ports, str) else ",".join(map(str, sorted(ports))), patience]
    command = shlex.join(["python3", "-c", PROBE, *map(str, words)])
    return {int(port): said for port, said in json.loads(run(command)).items()}


def documented():
    """Return who may reach what: {(group, port): the group that may, or ANYWHERE}."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "firewall.md").read_text()
    return {(group, int(port)): source for groups, port, source in ROW.findall(text) for group in groups.split(", ")}
