"""Formats of options: which numbers, and which texts or elements of a list, are accepted.

Each option with the type str, path, int or list of str has a format: that of the tables below, else that of its type.
Addresses of hosts, networks, server names, users and secrets have checks of their own, in the other files. A value
that passes has the same meaning in every file and command that uses it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from ansible.module_utils.anynode.validation.groups import is_address

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_LONGEST = 4096
DAY = 24 * 3600


class Format(NamedTuple):
    """A set of texts. accepts: whether a text belongs to it. expected: the set in words, for messages."""

    accepts: Callable[[str], object]
    expected: str


class Range(NamedTuple):
    """Whole numbers, both ends included."""

    least: int
    most: int


def _is_line(text: str) -> bool:
    return not _CONTROL.search(text) and len(text) <= _LONGEST


def _pattern(pattern: str, expected: str) -> Format:
    return Format(lambda text: _is_line(text) and re.fullmatch(pattern, text), expected)


LINE = Format(_is_line, "a text of one line")
ADDRESS = Format(is_address, "an IP address")
NAME = _pattern(r"[a-z][a-z0-9_-]{0,30}", "a name: a lower-case letter, then letters, digits, - and _, 31 at most")
PACKAGE = _pattern(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+~:-]+)?", "a Debian package, as NAME or NAME=VERSION")
DURATION = _pattern(r"[1-9][0-9]{0,8}(ms|s|m|h|d)", "a duration with its unit, such as 1500ms, 30s or 5m")
PREFIX = _pattern(r"[^\s{}*?\[\]\\\"']{1,100}", "a prefix without blanks, quotes, braces and * ? [ ] \\")
PATH = _pattern(r"/[^\s\"'$%\\{};]*", "a path that begins with /, without blanks, quotes and $ % \\ { } ;")
# On the controller: relative paths and blanks are usual there.
FILE = Format(lambda text: _is_line(text) and text.strip() == text, "the path of a file or directory")

FORMATS = {
    "app_batch_size": _pattern(r"[1-9][0-9]{0,3}|([1-9][0-9]?|100)%", "a number of nodes, or a part such as 25%"),
    "app_deployment_suffix": _pattern(r"[A-Za-z0-9-]{0,40}", "letters, digits and -"),
    "app_listen_address": ADDRESS,
    "app_metrics_address": ADDRESS,
    "app_name": NAME,
    "app_release": _pattern(r"[A-Za-z0-9._+-]{0,200}", "the id of a release"),
    "app_root": PATH,
    "app_session_prefix": PREFIX,
    "app_demo_user": _pattern(r"[A-Za-z0-9._@+-]{1,64}", "a user name: 1 to 64 letters, digits, or one of . _ @ + -"),
    "app_trusted_proxies": ADDRESS,
    "app_wsgi": _pattern(r"[A-Za-z0-9_.]+:[A-Za-z0-9_.]+(\([^\"$%\\]*\))?", "MODULE:APP or MODULE:FACTORY()"),
    "certificates_acme_directory": _pattern(r"https://[^\s\"'$\\]+", "a URL that begins with https://"),
    "certificates_acme_email": _pattern(r"[^\s@\"'$\\]+@[^\s@\"'$\\]+", "an address such as admin@example.net"),
    "common_packages": PACKAGE,
    "common_reboot_time": _pattern(r"([01][0-9]|2[0-3]):[0-5][0-9]", 'a time of day in quotes, such as "03:30"'),
    "common_role_packages": PACKAGE,
    "deploy_lock_take_over": _pattern(r"[A-Za-z0-9._:+-]{0,200}", "the id of an operation"),
    "firewall_packages": PACKAGE,
    "local_nodes_prefix": _pattern(r"[a-z][a-z0-9-]{0,30}", "a name: a lower-case letter, then letters, digits and -"),
    "nginx_client_timeout": DURATION,
    "nginx_connect_timeout": DURATION,
    "nginx_content_security_policy": _pattern(
        r"[ -#%-~]{1,4000}", "a header value of printable ASCII characters other than $"
    ),
    "nginx_fail_timeout": DURATION,
    "nginx_keepalive_timeout": DURATION,
    "nginx_login_paths": PATH,
    "nginx_packages": PACKAGE,
    "nginx_read_retry_timeout": DURATION,
    "nginx_read_timeout": DURATION,
    "redis_admin_commands": _pattern(r"[a-z]+([|-][a-z]+)*", "the name of a command, such as get or script|load"),
    "redis_admin_user": NAME,
    "redis_app_commands": _pattern(r"[a-z]+([|-][a-z]+)*", "the name of a command, such as get or script|load"),
    "redis_app_user": NAME,
    "redis_bind_address": ADDRESS,
    "redis_key_prefix": PREFIX,
    "redis_maxmemory": _pattern(
        r"(?i)[1-9][0-9]{0,15}([kmg]b?)?", "bytes, or a number with kb, mb or gb, such as 256mb"
    ),
    "redis_packages": PACKAGE,
    "topology_packages": PACKAGE,
}
PATHS = ["certificates_dir", "nginx_acme_dir", "nginx_certificate_file", "nginx_certificate_key_file", "redis_ca_file"]
PATHS += ["redis_certificate_file", "redis_certificate_key_file", "app_redis_ca_file"]
FORMATS |= dict.fromkeys(PATHS, PATH)

# Texts that may be empty, beside those whose default is.
MAY_BE_EMPTY = {"app_redis_ca_file", "certificates_key_group", "certificates_revoked_url"}

# The app refuses others, too, see app/src/anynode/config.py; nginx doesn't start with more connections or a rate of 0.
RANGES = {
    "app_login_account_failures": Range(1, 1000),
    "app_login_address_failures": Range(1, 1000),
    "app_login_failures": Range(1, 1000),
    "app_login_pause_seconds": Range(1, 60),
    "app_login_threads": Range(1, 1000),
    "app_login_window_seconds": Range(60, DAY),
    "app_max_body_bytes": Range(1, 2**31),
    "app_metrics_port": Range(0, 65_535),
    "app_session_idle_seconds": Range(1, 365 * DAY),
    "app_session_lifetime_seconds": Range(1, 365 * DAY),
    "app_sessions_per_user": Range(1, 1000),
    "app_soak_seconds": Range(0, DAY),
    "app_drain_seconds": Range(0, DAY),
    "nginx_connections_per_client": Range(1, 65_535),
    "nginx_drain_seconds": Range(0, DAY),
    "nginx_hsts_seconds": Range(0, 10 * 365 * DAY),
    "nginx_logins_burst": Range(1, 1_000_000),
    "nginx_logins_per_minute": Range(1, 1_000_000),
    "nginx_max_body_bytes": Range(1, 2**40),
    "nginx_max_fails": Range(0, 1000),
    "nginx_max_temp_file_bytes": Range(0, 2**40),
    "nginx_requests_burst": Range(1, 1_000_000),
    "nginx_requests_per_second": Range(1, 1_000_000),
    "topology_certificate_warn_days": Range(0, 3650),
    "topology_drain_seconds": Range(0, DAY),
}
PORT = Range(1, 65_535)
COUNT = Range(1, 1_000_000_000)


def range_of(name: str) -> Range:
    """Return the accepted numbers of an option with the type int."""
    return RANGES.get(name, PORT if name.endswith("_port") else COUNT)


def format_of(name: str, kind: str) -> Format:
    """Return the format of an option with the type str or path, or of the elements of a list."""
    return FORMATS.get(name, FILE if kind == "path" else LINE)
