"""Visitors who are logged in, at a steady pace, through the balancer; each notices what they shouldn't.

Each visitor's requests are sent one after another: 30 % POST /api/counter, which must answer with exactly one more than
before, else GET /api/session, which must answer with exactly what it was. Half of them keep their connection, half open
a new one for each request. Prints failures by kind, the worst wait, lost and doubled writes and lost sessions.

A request on a kept connection that is closed without a byte of an answer is sent once more on a new connection, POST
too, as Chromium and Firefox do; those are counted apart, and they'd show as doubled writes if the server had begun.

Ends when the --requests are made, or the --seconds over. Ctrl-C ends it at once, with what there is. SIGTERM, with
--until-told: ends it as soon as the --requests are made. Exit status: 0 if nothing failed; 1 if something did, or the
requests were too few; 2 if it could not start.
"""

import argparse
import asyncio
import ipaddress
import json
import signal
import socket
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from .report import summary
from .run import CannotStart, Plan, Run

PRIVATE = [
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
]


def number(kind: type, least: float, most: float):
    """An argparse type with a hard cap."""

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    read.__name__ = "number"  # argparse names it, if it isn't one
    return read


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lib.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("url", help="of the balancer, such as https://10.10.0.2")
    add("--password-file", required=True, type=Path, help="the account's password, in a file")
    add("--user", default="demo", help="the account's name (%(default)s)")
    add("--visitors", type=number(int, 1, 500), default=20, help="each has a session of their own (%(default)s)")
    add("--rate", type=number(float, 0.1, 2000), default=150, help="requests/s, of all together (%(default)s)")
    add("--requests", type=number(int, 1, 10_000_000), default=20_000, help="at least (%(default)s)")
    add("--seconds", type=number(float, 1, 7200), default=900, help="at most (%(default)s)")
    add("--until-told", action="store_true", help="go on after the requests are made, until SIGTERM")
    add("--timeout", type=number(float, 0.1, 60), default=10, help="seconds for each request (%(default)s)")
    add("--ca", type=Path, help="certificates of the authority to trust, PEM, for https")
    add("--host-is-mine", metavar="HOST", help="the URL's host again, if its address isn't private: load harms others")
    add("--json", action="store_true", help="print the result as JSON")
    add("--timeline", type=Path, metavar="FILE", help="write a row for each second, for python -m lib.load.figure")
    return parser.parse_args(arguments)


def is_private(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(each) for each in PRIVATE)


def make_plan(said: argparse.Namespace) -> Plan:
    """Raises CannotStart."""
    url = urlsplit(said.url)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
        raise CannotStart(f"{said.url} must be http:// or https://, a host, perhaps a port, and nothing else.")
    try:
        found = socket.getaddrinfo(url.hostname, url.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise CannotStart(f"{said.url} leads nowhere ({error}): mend it, or the name.") from error
    foreign = [address for *_, (address, *_) in found if not is_private(address)]
    if foreign and said.host_is_mine != url.hostname:
        raise CannotStart(
            f"{url.hostname} is {foreign[0]}, which is neither loopback nor private: load harms who didn't ask for it. "
            f"If it is yours, say --host-is-mine {url.hostname}"
        )
    tls = None
    try:
        password = said.password_file.read_text().strip()
        if said.ca:
            tls = ssl.create_default_context(cafile=said.ca)
    except OSError as error:
        raise CannotStart(f"{error.filename or said.ca}: {error.strerror}. Name a file that can be read.") from error
    return Plan(
        url=f"{url.scheme}://{url.netloc}",
        account={"username": said.user, "password": password},
        visitors=said.visitors,
        rate=said.rate,
        requests=said.requests,
        seconds=said.seconds,
        until_told=said.until_told,
        timeout=said.timeout,
        tls=tls,
    )


async def go(plan: Plan) -> tuple[dict, list[dict]]:
    run = Run(plan)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, run.tell)
    loop.add_signal_handler(signal.SIGINT, run.stop)
    return await run.go()


def main(arguments: list[str] | None = None) -> int:
    said = read_arguments(arguments)
    try:
        result, timeline = asyncio.run(go(make_plan(said)))
    except CannotStart as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    if said.timeline:
        said.timeline.write_text(json.dumps(timeline))
    print(json.dumps(result) if said.json else summary(result))
    return 1 if result["failed"] or not result["complete"] else 0


if __name__ == "__main__":
    sys.exit(main())
