"""Logged-in users send requests through the balancer at a steady rate; each response is verified.

Each user sends its requests sequentially: 30 % are POST /api/counter, which must return the counter plus 1, the
others GET /api/session, which must return the same counter. Half of the users keep their connection, the others open a
new connection for each request. Prints failures by kind, the longest wait, lost and doubled writes and lost sessions.

If the server closes a kept connection without a byte of a response, the request is sent again on a new connection, even
a POST, as Chromium and Firefox do. Retries are counted separately. If the server had processed the first request, the
retry shows as a doubled write.

Ends when the --requests were made or the --seconds have passed. Ctrl-C ends it at once and prints the result so far.
With --until-sigterm it continues until SIGTERM, and until the --requests were made. Exit status: 0 without failures; 1
with failures, or with too few requests; 2 if it could not start.
"""

import argparse
import asyncio
import ipaddress
import json
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .report import summary
from .run import Plan, Run, StartError

PRIVATE = [
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
]


def number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """An argparse type with hard limits."""

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}")
        return value

    read.__name__ = "number"  # argparse prints it for an invalid value
    return read


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lib.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("url", help="of the balancer, such as https://10.10.0.2")
    add("--password-file", required=True, type=Path, help="file with the user's password")
    add("--username", default="demo", help="all sessions log in as this user (%(default)s)")
    add("--users", type=number(int, 1, 500), default=20, help="number of sessions (%(default)s)")
    add("--rate", type=number(float, 0.1, 2000), default=150, help="requests/s, of all together (%(default)s)")
    add("--requests", type=number(int, 1, 10_000_000), default=20_000, help="at least (%(default)s)")
    add("--seconds", type=number(float, 1, 7200), default=900, help="at most (%(default)s)")
    add("--until-sigterm", action="store_true", help="continue after the requests were made, until SIGTERM")
    add("--timeout", type=number(float, 0.1, 60), default=10, help="seconds for each request (%(default)s)")
    add("--ca", type=Path, help="CA certificates to trust, PEM, for https")
    add("--allow-host", metavar="HOST", help="the URL's host again, required if its address isn't private")
    add("--json", action="store_true", help="print the result as JSON")
    add("--timeline", type=Path, metavar="FILE", help="write a row for each second, for python -m lib.load.figure")
    return parser.parse_args(arguments)


def is_private(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(each) for each in PRIVATE)


def make_plan(options: argparse.Namespace) -> Plan:
    """Convert the options. Raises StartError."""
    url = urlsplit(options.url)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
        raise StartError(f"{options.url} must be http:// or https://, a host, perhaps a port, and nothing else.")
    try:
        found = socket.getaddrinfo(url.hostname, url.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise StartError(f"{options.url} can't be resolved ({error}): fix the URL or the name.") from error
    foreign = [address for *_, (address, *_) in found if not is_private(str(address))]
    if foreign and options.allow_host != url.hostname:
        raise StartError(
            f"{url.hostname} is {foreign[0]}, which is neither loopback nor private: load harms hosts of others. "
            f"If it is yours, use --allow-host {url.hostname}"
        )
    tls = None
    try:
        password = options.password_file.read_text().strip()
        if options.ca:
            tls = ssl.create_default_context(cafile=options.ca)
    except OSError as error:
        raise StartError(f"{error.filename or options.ca}: {error.strerror}. Use a file that can be read.") from error
    return Plan(
        url=f"{url.scheme}://{url.netloc}",
        account={"username": options.username, "password": password},
        users=options.users,
        rate=options.rate,
        requests=options.requests,
        seconds=options.seconds,
        until_sigterm=options.until_sigterm,
        timeout=options.timeout,
        tls=tls,
    )


async def go(plan: Plan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run = Run(plan)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, run.finish)
    loop.add_signal_handler(signal.SIGINT, run.stop)
    return await run.go()


def main(arguments: list[str] | None = None) -> int:
    options = read_arguments(arguments)
    try:
        result, timeline = asyncio.run(go(make_plan(options)))
    except StartError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    if options.timeline:
        options.timeline.write_text(json.dumps(timeline))
    print(json.dumps(result) if options.json else summary(result))
    return 1 if result["failed"] or not result["complete"] else 0


if __name__ == "__main__":
    sys.exit(main())
