#!/usr/bin/python
"""Sees an app node become ready, logs in on it, and watches it for a while: before visitors are let in."""

import http.client
import json
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_health_check
short_description: see that the app on this node works, and goes on working
description:
  - Waits until C(/readyz) answers 200, as the release that is meant, looks at the page C(/), logs in, reads the
    session, looks at C(/) again, logs out. Then asks C(/readyz) once a second for C(soak_seconds); it may not fail
    once, nor be restarted, nor take its time.
options:
  host: {type: str, required: true, description: address of the app}
  port: {type: int, required: true, description: its port}
  unit: {type: str, required: true, description: the service}
  release: {type: str, required: true, description: what must answer, as C(X-Release) says}
  username: {type: str, required: true, description: an account of the app}
  password: {type: str, required: true, description: its password}
  start_seconds: {type: int, default: 30, description: how long it may take to become ready}
  slow_seconds: {type: float, default: 2, description: how long one answer may take}
  soak_seconds: {type: int, default: 0, description: how long to watch it afterwards}
"""


class Unwell(Exception):
    """What a visitor would have noticed."""


class Visitor:
    """Asks the app, on a connection of its own each time."""

    def __init__(self, host, port, slow_seconds):
        self.host, self.port, self.slow_seconds = host, port, slow_seconds
        self.cookies = {}

    def ask(self, method, path, body=None, may_wait=True):
        """Return (status, headers, JSON); Unwell if no answer comes in time.

        If it is 429, wait as told, a minute at most, and ask again.
        """
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.slow_seconds)
        began = time.monotonic()
        try:
            connection.request(method, path, None if method == "GET" else json.dumps(body or {}), headers)
            answer = connection.getresponse()
            text = answer.read()
        except TimeoutError as error:
            raise Unwell(f"{method} {path}: no answer within {self.slow_seconds:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unwell(f"{method} {path}: no answer ({error!r})") from error
        finally:
            connection.close()
        if (took := time.monotonic() - began) > self.slow_seconds:
            raise Unwell(f"{method} {path} took {took:.1f} s, more than {self.slow_seconds:g} s")
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.split(";", 1)[0].partition("=")
            self.cookies[name] = value
        if answer.status == 429 and may_wait:  # while somebody attacks the account, strangers wait before they log in
            time.sleep(retry_seconds(answer))
            return self.ask(method, path, body, may_wait=False)
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        return answer.status, answer.headers, data

    def must(self, method, path, body=None):
        """Ask, and insist on 200."""
        status, headers, data = self.ask(method, path, body)
        if status != 200:
            raise Unwell(f"{method} {path}: {status} ({json.dumps(data)})")
        return headers, data

    def must_show(self, path):
        """Ask for a page, and insist that it is not the app that fails: an app need not have this one."""
        status, _headers, data = self.ask("GET", path)
        if status >= 500:
            raise Unwell(f"GET {path}: {status} ({json.dumps(data)})")


def retry_seconds(answer):
    """Return how long an answer says to wait; a minute at most."""
    told = answer.getheader("Retry-After", "")
    return min(int(told), 60) if told.isdecimal() else 1


def starts(unit):
    """Return a text that changes whenever the unit is started anew."""
    command = ["systemctl", "show", "--property=MainPID,NRestarts,ActiveState", unit]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def insist_on_release(headers, release):
    """What another release says proves nothing."""
    if (seen := headers.get("X-Release")) != release:
        raise Unwell(f"release {seen} answers, not {release}")


def watch(args):
    """Go through all steps; Unwell at the first surprise."""
    visitor = Visitor(args["host"], args["port"], args["slow_seconds"])
    end = time.monotonic() + args["start_seconds"]
    while True:
        try:
            headers, _data = visitor.must("GET", "/readyz")
            insist_on_release(headers, args["release"])
            break
        except Unwell as unwell:
            if time.monotonic() > end:
                raise Unwell(f"not ready after {args['start_seconds']} s: {unwell}") from unwell
            time.sleep(0.5)
    before = starts(args["unit"])
    visitor.must_show("/")
    headers, _data = visitor.must("POST", "/api/login", {"username": args["username"], "password": args["password"]})
    insist_on_release(headers, args["release"])
    _headers, data = visitor.must("GET", "/api/session")
    if not isinstance(data, dict) or data.get("user") != args["username"]:
        raise Unwell(f"logged in as {args['username']}, but /api/session says {json.dumps(data)}")
    visitor.must_show("/")
    visitor.must("POST", "/api/logout")
    began = time.monotonic()
    while (age := time.monotonic() - began) < args["soak_seconds"]:
        time.sleep(min(1, args["soak_seconds"] - age))
        try:
            visitor.must("GET", "/readyz")
            if starts(args["unit"]) != before:
                raise Unwell("it was started anew")
        except Unwell as unwell:
            raise Unwell(f"{time.monotonic() - began:.0f} s after it worked: {unwell}") from unwell


def main():
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
    try:
        watch(module.params)
    except Unwell as unwell:
        module.fail_json(msg=str(unwell))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
