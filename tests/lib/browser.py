"""A browser: a set of cookies for several apps, as behind a balancer."""

from collections.abc import Mapping
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse


class Browser:
    """Sends requests over HTTPS and stores cookies, with the rules that browsers apply to the prefix __Host-."""

    def __init__(self, cookies: Mapping[str, str] | None = None, agent: str = "browser"):
        """cookies: values by name. agent: the User-Agent."""
        self.cookies = dict(cookies or {})
        self.agent = agent

    def fork(self) -> "Browser":
        """A browser with a copy of the current cookies: for a request that is sent before later cookies arrive."""
        return Browser(self.cookies, self.agent)

    def get(self, app: Flask, path: str, **options: Any) -> TestResponse:
        return self.request(app, "GET", path, **options)

    def post(self, app: Flask, path: str, **form: str) -> TestResponse:
        return self.request(app, "POST", path, data=form)

    def request(self, app: Flask, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request to the app, and store the cookies of the response."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "User-Agent": self.agent}
        client = app.test_client(use_cookies=False)
        response = client.open(path, method=method, base_url="https://shop.test", headers=headers, **options)
        for line in response.headers.getlist("Set-Cookie"):
            self.store(line)
        return response

    def store(self, line: str) -> None:
        """Apply a Set-Cookie header; a __Host- cookie is neither set nor deleted without Secure and Path=/."""
        (name, value), *parts = (part.split("=", 1) for part in line.split("; "))
        attributes = {each[0]: each[-1] for each in parts}
        if name.startswith("__Host-") and ("Secure" not in attributes or attributes.get("Path") != "/"):
            return
        if name.startswith("__Host-") and "Domain" in attributes:
            return
        if attributes.get("Max-Age") == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value
