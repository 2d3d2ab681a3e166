#!/usr/bin/python
"""Checks the app on a node: readiness, a login, and a soak time, before the balancers send requests to the node."""

import subprocess
import time
from typing import Any

from ansible.module_utils.anynode.http import Client, HttpError, Response, url_of
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_health_check
short_description: check that the app on this node is ready and stays ready
description:
  - Waits until C(/readyz) answers 200 from the expected release, requests the page C(/), logs in, reads the session,
    requests C(/) again and logs out.
  - Then requests C(/readyz) once a second during the soak time. A single failure, a slow response or a restart of the
    unit fails the check.
  - A login that is answered with 429 is retried once, after the time in its Retry-After header.
options:
  host:
    description: Address of the app.
    type: str
    required: true
  port:
    description: TCP port of the app.
    type: int
    required: true
  unit:
    description: The systemd service of the app.
    type: str
    required: true
  release:
    description: Release id that must answer, as the header C(X-Release) has it.
    type: str
    required: true
  username:
    description: User to log in as.
    type: str
    required: true
  password:
    description: Password of the user.
    type: str
    required: true
  start_seconds:
    description: Seconds until the app must be ready.
    type: int
    default: 30
  slow_seconds:
    description: Seconds that a single response may take.
    type: float
    default: 2
  soak_seconds:
    description: Seconds during which the app must stay ready after the login.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Check the app before undraining the node
  app_health_check:
    host: 192.0.2.31
    port: 8000
    unit: anynode.service
    release: 1.4-0123456789ab
    username: demo
    password: "{{ app_demo_password }}"
    soak_seconds: 75
"""

RETURN = r"""
msg:
  description: The step that failed, with the status or error seen.
  returned: failure
  type: str
  sample: "not ready after 30 s: GET /readyz: 503 (session store unavailable)"
"""


class HealthCheckError(Exception):
    """A step failed; the message names the request and the response."""


class HealthCheck:
    """Requests to the app at a URL, each of which must be answered within `slow_seconds`."""

    def __init__(self, url: str, slow_seconds: float) -> None:
        self.url, self.slow_seconds = url, slow_seconds
        self.client = Client(slow_seconds)

    def request(self, method: str, path: str, body: Any = None) -> Response:
        """Return the response, of any status. Raises HealthCheckError if it doesn't arrive in time."""
        try:
            response = self.client.request(method, self.url + path, body)
        except HttpError as error:
            raise HealthCheckError(str(error)) from error
        if response.seconds > self.slow_seconds:
            took = f"took {response.seconds:.1f} s, more than {self.slow_seconds:g} s"
            raise HealthCheckError(f"{method} {path} {took}")
        return response

    def assert_ok(self, method: str, path: str, body: Any = None) -> Response:
        """Return the response. Raises HealthCheckError unless its status is 200."""
        response = self.request(method, path, body)
        if response.status != 200:
            raise HealthCheckError(f"{method} {path}: {response.status} ({response.reason})")
        return response

    def assert_page(self, path: str) -> None:
        """Raises HealthCheckError if the app fails at a page. An app without this page (404) passes."""
        response = self.request("GET", path)
        if response.status >= 500:
            raise HealthCheckError(f"GET {path}: {response.status} ({response.reason})")


def assert_release(response: Response, release: str) -> None:
    """Raises HealthCheckError if another release answered."""
    if (seen := response.headers.get("X-Release")) != release:
        raise HealthCheckError(f"release {seen} answers, not {release}")


def unit_starts(unit: str) -> str:
    """Return a text that changes whenever systemd starts the unit again."""
    command = ["systemctl", "show", "--property=MainPID,NRestarts,ActiveState", unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_until_ready(check: HealthCheck, release: str, seconds: float) -> None:
    """Wait until /readyz answers 200 from the release. Raises HealthCheckError after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            assert_release(check.assert_ok("GET", "/readyz"), release)
            return
        except HealthCheckError as error:
            if time.monotonic() > end:
                raise HealthCheckError(f"not ready after {seconds:g} s: {error}") from error
            time.sleep(0.5)


def check_login(check: HealthCheck, username: str, password: str, release: str) -> None:
    """Log in, read the session, log out. Raises HealthCheckError at the first unexpected response."""
    check.assert_page("/")
    assert_release(check.assert_ok("POST", "/api/login", {"username": username, "password": password}), release)
    data = check.assert_ok("GET", "/api/session").data
    if not isinstance(data, dict) or data.get("user") != username:
        raise HealthCheckError(f"logged in as {username}, but /api/session answers {data}")
    check.assert_page("/")
    check.assert_ok("POST", "/api/logout")


def soak(check: HealthCheck, unit: str, starts: str, seconds: float) -> None:
    """Request /readyz once a second. Raises HealthCheckError at a failure or if the unit was started again."""
    start = time.monotonic()
    while (age := time.monotonic() - start) < seconds:
        time.sleep(min(1, seconds - age))
        try:
            check.assert_ok("GET", "/readyz")
            if unit_starts(unit) != starts:
                raise HealthCheckError(f"{unit} was restarted")
        except HealthCheckError as error:
            raise HealthCheckError(f"{time.monotonic() - start:.0f} s after the first success: {error}") from error


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "unit": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "start_seconds": {"type": "int", "default": 30},
            "slow_seconds": {"type": "float", "default": 2},
            "soak_seconds": {"type": "int", "default": 0},
        },
    )
    args = module.params
    check = HealthCheck(url_of(args["host"], args["port"]), args["slow_seconds"])
    try:
        wait_until_ready(check, args["release"], args["start_seconds"])
        starts = unit_starts(args["unit"])
        check_login(check, args["username"], args["password"], args["release"])
        soak(check, args["unit"], starts, args["soak_seconds"])
    except HealthCheckError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
