#!/usr/bin/python
"""Proves that a login made on an app node is valid on every other app node."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.anynode.http import Client, HttpError, Response, tls_context, url_of
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: session_check
short_description: log in on each app node and read the session on every other app node
description:
  - Logs in once on each node, writes a note there, and reads the session on every other node. Then the next node
    (in the order of C(nodes), the last is followed by the first) raises the session's counter, and both nodes read it.
    After a logout on the first node the next node must refuse a copy of the session's cookie.
  - So each node is proven to create, write and end a session that others see, to raise the counter of a session from
    another node, and to refuse a session that ended elsewhere; each ordered pair of nodes is proven to share reads.
    Logins grow with the number of nodes, reads with its square; reads run in parallel.
  - Then logs in through the balancer and reads until every node has answered.
  - A step counts only if the intended node has answered, by the header C(X-Node).
  - With a single node, that node plays both roles, and the report states this.
options:
  nodes:
    description: Address of each app node, by name.
    type: dict
    required: true
  node_port:
    description: TCP port of the app on the nodes.
    type: int
    required: true
  balancer_url:
    description: URL of the balancer as clients use it, C(https://name:port).
    type: str
    required: true
  balancer_address:
    description: Address of the balancer, independent of DNS.
    type: str
    required: true
  ca_file:
    description: Certificates that the balancer's certificate is verified with; may be the balancer's own.
    type: path
    required: true
  balancer_cookie:
    description: Cookie for the balancer alone, C(name=value), such as the cookie that bypasses maintenance mode.
    type: str
    default: ""
  username:
    description: User to log in as.
    type: str
    required: true
  password:
    description: Password of the user.
    type: str
    required: true
  timeout:
    description: Seconds to wait for each response.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: Check that the app nodes share logins
  session_check:
    nodes: {app1: 192.0.2.31, app2: 192.0.2.32}
    node_port: 8000
    balancer_url: https://shop.example
    balancer_address: 192.0.2.10
    ca_file: /etc/anynode/tls/ca.crt
    username: demo
    password: "{{ app_demo_password }}"
"""

RETURN = r"""
report:
  description: A line for each node and a line for the balancer; each ends with C(ok) or with the failure.
  returned: always
  type: list
  elements: str
  sample: ["app1: login, read on 1 other node: ok", "through the balancer, on app1, app2: ok"]
requests:
  description: Number of requests sent to the nodes, and how many of them were logins.
  returned: always
  type: dict
  sample: {logins: 2, all: 14}
"""

BALANCER_SECONDS = 15  # nginx sends no requests to a failed node for nginx_fail_timeout, 5 s
READERS = 8  # parallel reads; more don't help against nodes with two cores
NAMED_NODES = 8  # a longer list of nodes is shortened in the report
SESSION_COOKIES = ("session", "__Host-session")


class SessionCheckError(Exception):
    """A step failed; the message is the failure as a user would notice it."""


class NodeClient:
    """Requests of a single user to the app nodes; logs in with one session at a time.

    The device cookie is kept between logins: while the login limiter delays unknown devices, a known device isn't
    delayed at each login. One session at a time, because the app may allow a user no more.
    """

    def __init__(self, urls: dict[str, str], timeout: float) -> None:
        self.urls, self.timeout = urls, timeout
        self.cookies: dict[str, str] = {}
        self.sent: list[str] = []  # the path of each request

    def request(self, node: str, method: str, path: str, body: Any = None) -> Response:
        """Send a request to a node. Raises SessionCheckError if no response comes, or if it comes from elsewhere."""
        self.sent.append(path)
        # Reads run in parallel and leave the cookies alone: a node that doesn't know the session may delete its cookie.
        cookies = dict(self.cookies) if method == "GET" else self.cookies
        try:
            response = Client(self.timeout, cookies).request(method, self.urls[node] + path, body)
        except HttpError as error:
            raise SessionCheckError(str(error)) from error
        answered = response.headers.get("X-Node", "")
        if answered != node:
            raise SessionCheckError(f"{node} was expected, but {answered or 'a server other than the app'} answered")
        return response

    def assert_ok(self, node: str, method: str, path: str, body: Any = None) -> Any:
        """Return the data of the response. Raises SessionCheckError unless its status is 200."""
        response = self.request(node, method, path, body)
        if response.status != 200:
            text = f"expected 200, got {response.status} ({response.reason})"
            raise SessionCheckError(f"{method} {self.urls[node]}{path}: {text}")
        return response.data

    def login(self, node: str, credentials: dict[str, str]) -> None:
        """Log in with a new session."""
        for name in SESSION_COOKIES:
            self.cookies.pop(name, None)
        self.assert_ok(node, "POST", "/api/login", credentials)

    def read(self, origin: str, node: str, expected: dict[str, Any]) -> None:
        """Read the session that `origin` created, on a node. Raises SessionCheckError if it isn't as expected."""
        response = self.request(node, "GET", "/api/session")
        if response.status == 401:
            raise SessionCheckError(f"logged in on {origin}, unknown on {node}")
        if response.status != 200:
            raise SessionCheckError(
                f"logged in on {origin}, then status {response.status} on {node} ({response.reason})"
            )
        seen = {name: response.data.get(name) for name in expected} if isinstance(response.data, dict) else {}
        if seen != expected:
            raise SessionCheckError(f"logged in on {origin}, but {node} shows {seen} instead of {expected}")


def check_node(client: NodeClient, origin: str, credentials: dict[str, str], pool: ThreadPoolExecutor) -> list[str]:
    """Check the session of a login on `origin` on every other node; return the failures."""
    names = list(client.urls)
    others = [name for name in names if name != origin] or [origin]
    successor = names[(names.index(origin) + 1) % len(names)]
    expected = {"user": credentials["username"], "started_on": origin, "note": f"written on {origin}"}

    def failure_of_read(node: str) -> str:
        try:
            client.read(origin, node, expected)
        except SessionCheckError as error:
            return str(error)
        return ""

    try:
        client.login(origin, credentials)
        client.assert_ok(origin, "PUT", "/api/note", {"note": expected["note"]})
        if failures := [failure for failure in pool.map(failure_of_read, others) if failure]:
            return failures
        client.assert_ok(successor, "POST", "/api/counter")
        for node in (successor, origin):
            client.read(origin, node, expected | {"counter": 1})
        stolen = dict(client.cookies)  # an attacker's copy of the cookie
        client.assert_ok(origin, "POST", "/api/logout")
        client.cookies = stolen
        status = client.request(successor, "GET", "/api/session").status
        if status != 401:
            return [f"logged out on {origin}, still known on {successor} (status {status})"]
    except SessionCheckError as error:
        return [str(error)]
    return []


def check_balancer(
    url: str, nodes: list[str], credentials: dict[str, str], client: Client, seconds: float = BALANCER_SECONDS
) -> None:
    """Log in through the balancer and read until every node has answered, for at most `seconds` plus 0.1 s per node.

    Raises SessionCheckError if a node doesn't know the session or doesn't answer, or if an unknown node answers.
    """

    def request(method: str, path: str, body: Any = None) -> tuple[Response, str]:
        try:
            response = client.request(method, url + path, body)
        except HttpError as error:
            raise SessionCheckError(str(error)) from error
        return response, response.headers.get("X-Node", "")

    response, origin = request("POST", "/api/login", credentials)
    if response.status != 200:
        raise SessionCheckError(f"POST {url}/api/login: expected 200, got {response.status} ({response.reason})")
    seen = {origin}
    # Round robin reaches N nodes in about N requests.
    end = time.monotonic() + seconds + 0.1 * len(nodes)
    while not seen >= set(nodes) and time.monotonic() < end:
        response, node = request("GET", "/api/session")
        if response.status == 401:
            raise SessionCheckError(f"logged in on {origin}, unknown on {node}, through the balancer")
        if response.status != 200:
            raise SessionCheckError(f"status {response.status} through the balancer ({response.reason})")
        seen.add(node)
        time.sleep(0.05)  # below nginx's request limit
    if missing := sorted(set(nodes) - seen):
        raise SessionCheckError(f"the balancer never used {', '.join(missing)}")
    if unknown := sorted(seen - set(nodes)):
        raise SessionCheckError(f"the balancer uses {', '.join(unknown)}, which the inventory doesn't list")
    response, _node = request("POST", "/api/logout")
    if response.status != 200:
        raise SessionCheckError(f"POST {url}/api/logout: expected 200, got {response.status} ({response.reason})")


def shorten(failures: list[str], limit: int = 3) -> str:
    """Return the first failures as one text, with the number of the others."""
    text = "; ".join(failures[:limit])
    return text if len(failures) <= limit else f"{text}; and {len(failures) - limit} more failures"


def check_nodes(client: NodeClient, credentials: dict[str, str]) -> tuple[list[str], list[str]]:
    """Check each node after the other; return the report's lines and the failures."""
    report, failures = [], []
    others = len(client.urls) - 1
    done = f"login, read on {others} other node{'' if others == 1 else 's'}: ok"
    with ThreadPoolExecutor(READERS) as pool:
        for name in client.urls:
            found = check_node(client, name, credentials, pool)
            failures += found
            report.append(f"{name}: {shorten(found) or (done if others else 'login, read on the same node: ok')}")
    if not others:
        report.append("a single app node: nothing is proven about a second one")
    return report, failures


def main() -> None:
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
        supports_check_mode=False,  # it logs in
    )
    args = module.params
    credentials = {"username": args["username"], "password": args["password"]}
    names = list(args["nodes"])
    node_client = NodeClient({name: url_of(args["nodes"][name], args["node_port"]) for name in names}, args["timeout"])
    report, failures = check_nodes(node_client, credentials)
    requests = {"logins": node_client.sent.count("/api/login"), "all": len(node_client.sent)}
    try:
        cookies = {name: value for name, value in node_client.cookies.items() if name not in SESSION_COOKIES}
        if args["balancer_cookie"]:
            bypass, _, value = args["balancer_cookie"].partition("=")
            cookies[bypass] = value
        client = Client(args["timeout"], cookies, args["balancer_address"], tls_context(args["ca_file"]))
        check_balancer(args["balancer_url"], names, credentials, client)
        nodes = ", ".join(names) if len(names) <= NAMED_NODES else f"all {len(names)} nodes"
        report.append(f"through the balancer, on {nodes}: ok")
    except (SessionCheckError, OSError) as error:
        report.append(f"through the balancer: {error}")
        failures.append(str(error))
    if failures:
        text = shorten(list(dict.fromkeys(failures)))
        module.fail_json(msg=f"The login is not shared: {text}", report=report, requests=requests)
    module.exit_json(changed=False, report=report, requests=requests)


if __name__ == "__main__":
    main()
