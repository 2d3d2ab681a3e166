#!/usr/bin/python
"""Proves that a login made on one app node is known on every other one."""

import http.client
import json
import socket
import ssl
import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: session_check
short_description: log in on each app node and be known on every other one
description:
  - For each pair of nodes, logs in on the first, reads on the second, writes on the first and reads that on the second,
    logs out on the first and must be refused on the second. One node alone is paired with itself.
  - Then does the same through the balancer, which must have used every node.
  - A step counts only if the node that was meant has answered, by the C(X-Node) header.
options:
  nodes: {type: dict, required: true, description: address by name of the app nodes}
  node_port: {type: int, required: true, description: port of the app on the nodes}
  balancer_url: {type: str, required: true, description: "where visitors ask the balancer, C(https://name:port)"}
  balancer_address: {type: str, required: true, description: its address}
  ca_file: {type: path, required: true, description: "what its certificate is verified with, perhaps that one itself"}
  balancer_cookie: {type: str, default: "", description: "cookie for the balancer alone, C(name=value)"}
  username: {type: str, required: true, description: an account of the app}
  password: {type: str, required: true, description: its password}
  timeout: {type: float, default: 10, description: seconds to wait for one answer}
"""

PATIENCE = 15  # seconds; nginx leaves a node out for nginx_fail_timeout, 5 s
COOKIES = ("session", "__Host-session")
BROWSERS = ("device", "__Host-device")


class CheckFailed(Exception):
    """What a visitor would have noticed."""


class Secured(http.client.HTTPSConnection):
    """A connection to an address, whatever the name in the URL leads to; the certificate must be for that name."""

    def __init__(self, *place, address, tls, **options):
        super().__init__(*place, context=tls, **options)
        self.address, self.tls = address, tls

    def connect(self):
        """As http.client does, but to that address."""
        plain = socket.create_connection((self.address, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)


def trust(ca_file):
    """Return what verifies a server with these certificates alone, of which one may be the server's own."""
    tls = ssl.create_default_context(cafile=ca_file)
    tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return tls


class Visitor:
    """A visitor with one session, who may talk to any node with it."""

    browser = None  # of all visitors: while somebody attacks the account, one that is known needn't wait for each login

    def __init__(self, timeout, extra_cookie="", **secured):
        self.timeout = timeout
        self.extra_cookie = extra_cookie
        self.secured = secured
        self.cookie = None

    def ask(self, url, method, path, body=None, may_wait=True):
        """Send one request on a connection of its own; return (status, JSON, name of the node that answered).

        If it is refused with 429, wait as told, a minute at most, and ask again.
        """
        parts = urllib.parse.urlsplit(url)
        kind, options = (Secured, self.secured) if parts.scheme == "https" else (http.client.HTTPConnection, {})
        connection = kind(parts.hostname, parts.port, timeout=self.timeout, **options)
        headers = {"Accept": "application/json"}
        if method != "GET":
            headers["Content-Type"] = "application/json"
        if cookies := [cookie for cookie in (self.cookie, Visitor.browser, self.extra_cookie) if cookie]:
            headers["Cookie"] = "; ".join(cookies)
        try:
            connection.request(method, path, json.dumps(body or {}) if method != "GET" else None, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CheckFailed(f"{method} {url}{path}: no answer ({error})") from error
        finally:
            connection.close()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie" and value.split("=", 1)[0] in COOKIES:
                self.cookie = value.split(";", 1)[0]
            if name.lower() == "set-cookie" and value.split("=", 1)[0] in BROWSERS:
                Visitor.browser = value.split(";", 1)[0]
        if response.status == 429 and may_wait:
            told = response.getheader("Retry-After", "")
            time.sleep(min(int(told), 60) if told.isdecimal() else 1)
            return self.ask(url, method, path, body, may_wait=False)
        try:
            data = json.loads(text)
        except ValueError:
            data = {}
        return response.status, data, response.getheader("X-Node", "")

    def must(self, url, method, path, body=None, status=200):
        """Ask, and insist on a status."""
        got, data, node = self.ask(url, method, path, body)
        if got != status:
            raise CheckFailed(f"{method} {url}{path}: expected {status}, got {got} ({reason(data)})")
        return data, node


def reason(data):
    """What an answer says about its error."""
    return data.get("error", "no reason given") if isinstance(data, dict) else "no reason given"


def check_pair(first, second, account, timeout):
    """Follow a visitor from node `first` to node `second`, each (name, url); CheckFailed at the first surprise."""
    (here, here_url), (there, there_url) = first, second
    visitor = Visitor(timeout)
    _data, node = visitor.must(here_url, "POST", "/api/login", account)
    insist(node, here)
    status, data, node = visitor.ask(there_url, "GET", "/api/session")
    insist(node, there)
    if status == 401:
        raise CheckFailed(f"logged in on {here}, unknown on {there}")
    if status != 200:
        raise CheckFailed(f"logged in on {here}, then status {status} on {there} ({reason(data)})")
    if data.get("user") != account["username"] or data.get("started_on") != here:
        raise CheckFailed(f"logged in on {here}, but {there} shows somebody else's session")
    visitor.must(here_url, "PUT", "/api/note", {"note": f"written on {here}"})
    visitor.must(there_url, "POST", "/api/counter")
    for name, url in ((there, there_url), (here, here_url)):
        data, _node = visitor.must(url, "GET", "/api/session")
        if data.get("note") != f"written on {here}" or data.get("counter") != 1:
            raise CheckFailed(
                f"note written on {here}, counter raised on {there}:"
                f" {name} shows {data.get('note')!r}, {data.get('counter')!r}"
            )
    kept = visitor.cookie
    visitor.must(here_url, "POST", "/api/logout")
    visitor.cookie = kept  # a thief's copy of the cookie must be worth nothing now
    status, _data, _node = visitor.ask(there_url, "GET", "/api/session")
    if status != 401:
        raise CheckFailed(f"logged out on {here}, still known on {there} (status {status})")


def check_balancer(url, nodes, account, visitor):
    """Log in through the balancer and stay known until every node has answered; return the nodes seen."""
    _data, node = visitor.must(url, "POST", "/api/login", account)
    home, seen = node, {node}
    # Round robin reaches N nodes in about N requests; a node that was just away is left out for a few seconds more.
    end = time.monotonic() + PATIENCE
    while seen < set(nodes) and time.monotonic() < end:
        status, data, node = visitor.ask(url, "GET", "/api/session")
        if status == 401:
            raise CheckFailed(f"logged in on {home}, unknown on {node}, through the balancer")
        if status != 200:
            raise CheckFailed(f"status {status} through the balancer ({reason(data)})")
        seen.add(node)
        if len(seen) < len(nodes):
            time.sleep(0.05)
    missing = sorted(set(nodes) - seen)
    if missing:
        raise CheckFailed(f"the balancer never used {', '.join(missing)}")
    if seen - set(nodes):
        raise CheckFailed(f"the balancer uses {', '.join(sorted(seen - set(nodes)))}, which the inventory doesn't list")
    visitor.must(url, "POST", "/api/logout")
    return seen


def insist(node, expected):
    """A proof that another node gave is no proof."""
    if node != expected:
        raise CheckFailed(f"{expected} was asked, but {node or 'something that is not the app'} answered")


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "dict", "required": True},
            "node_port": {"type": "int", "required": True},
            "balancer_url": {"type": "str", "required": True},
            "balancer_address": {"type": "str", "required": True},
            "ca_file": {"type": "path", "required": True},
            "balancer_cookie": {"type": "str", "default": "", "no_log": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=False,  # it logs in for real
    )
    args = module.params
    account = {"username": args["username"], "password": args["password"]}
    urls = {
        name: f"http://{'[' + address + ']' if ':' in address else address}:{args['node_port']}"
        for name, address in args["nodes"].items()
    }
    pairs = [(a, b) for a in urls.items() for b in urls.items() if a != b] or [(a, a) for a in urls.items()]
    report, failures = [], []
    for first, second in pairs:
        try:
            check_pair(first, second, account, args["timeout"])
            report.append(f"login on {first[0]}, read on {second[0]}: ok")
        except CheckFailed as failure:
            report.append(f"login on {first[0]}, read on {second[0]}: {failure}")
            failures.append(str(failure))
    if len(urls) == 1:
        report.append("only one app node: nothing is proven about a second one")
    try:
        secured = {"address": args["balancer_address"], "tls": trust(args["ca_file"])}
        visitor = Visitor(args["timeout"], args["balancer_cookie"], **secured)
        seen = check_balancer(args["balancer_url"], args["nodes"], account, visitor)
        report.append(f"through the balancer, on {', '.join(sorted(seen))}: ok")
    except CheckFailed as failure:
        report.append(f"through the balancer: {failure}")
        failures.append(str(failure))
    if failures:
        module.fail_json(msg="The login is not shared: " + "; ".join(dict.fromkeys(failures)), report=report)
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
