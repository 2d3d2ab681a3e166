"""The HTTP client of the modules: JSON bodies, cookies, a timeout, TLS verified for a name at a given address."""

import http.client
import json
import socket
import ssl
import time
import urllib.parse
from dataclasses import dataclass
from email.message import Message
from typing import Any

MAX_RETRY_SECONDS = 60


class HttpError(Exception):
    """The server sent no complete response; the message has the method, the URL and the cause."""


@dataclass(frozen=True)
class Response:
    """A response. `data`: the parsed JSON body, None if it isn't JSON; `seconds`: the time until its last byte."""

    status: int
    headers: Message
    data: Any
    seconds: float

    @property
    def reason(self) -> str:
        """The cause of an error as the app reports it (`error` or `status` in the body), or the HTTP status."""
        data = self.data if isinstance(self.data, dict) else {}
        return str(data.get("error") or data.get("status") or f"status {self.status}")


class Client:
    """A client that opens a connection for each request and returns the server's cookies with the next requests.

    timeout: seconds that connecting, or a single read, may take. cookies: by name; the client changes this dictionary.
    address: where https URLs lead, in place of the address of their host name. tls: verifies servers of https URLs.
    """

    def __init__(
        self,
        timeout: float,
        cookies: dict[str, str] | None = None,
        address: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self.cookies = {} if cookies is None else cookies
        self.address = address
        self.tls = tls

    def request(self, method: str, url: str, body: Any = None) -> Response:
        """Send a request and return the response, of any status.

        body: sent as JSON; a method other than GET without a body sends {}. A response 429 is retried once, after the
        seconds of its Retry-After header (1 without it, 60 at most). Raises HttpError.
        """
        response = self._request(method, url, body)
        if response.status == 429:
            retry_after = response.headers.get("Retry-After", "")
            time.sleep(min(int(retry_after), MAX_RETRY_SECONDS) if retry_after.isdecimal() else 1)
            response = self._request(method, url, body)
        return response

    def _request(self, method: str, url: str, body: Any) -> Response:
        parts = urllib.parse.urlsplit(url)
        headers = {"Accept": "application/json"}
        content = None
        if method != "GET":
            headers["Content-Type"] = "application/json"
            content = json.dumps({} if body is None else body)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        start = time.monotonic()
        connection = self._connection(parts)
        try:
            connection.request(method, parts.path or "/", content, headers)
            response = connection.getresponse()
            text = response.read()
        except TimeoutError as error:
            raise HttpError(f"{method} {url}: no response within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(f"{method} {url}: no response ({error or type(error).__name__})") from error
        finally:
            connection.close()
        self._store_cookies(response.headers)
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        return Response(response.status, response.headers, data, time.monotonic() - start)

    def _connection(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        if parts.scheme != "https":
            return http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        return _PinnedConnection(host, parts.port, self.timeout, self.address or host, self.tls)

    def _store_cookies(self, headers: Message) -> None:
        for line in headers.get_all("Set-Cookie", []):
            name, _, value = line.split(";", 1)[0].partition("=")
            if value:
                self.cookies[name] = value
            else:  # the server deletes the cookie
                self.cookies.pop(name, None)


class _PinnedConnection(http.client.HTTPSConnection):
    """Connects to an address and verifies the certificate for the name in the URL, without DNS."""

    def __init__(self, host: str, port: int | None, timeout: float, address: str, tls: ssl.SSLContext | None) -> None:
        self.tls = tls or ssl.create_default_context()
        super().__init__(host, port, timeout=timeout, context=self.tls)
        self.address = address

    def connect(self) -> None:
        plain = socket.create_connection((self.address, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file alone.

    A certificate that no CA of the file has issued, such as the server's own, is trusted as it is (partial chain).
    Raises OSError if the file can't be read.
    """
    tls = ssl.create_default_context(cafile=ca_file)
    tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return tls


def url_of(address: str, port: int) -> str:
    """Return `http://address:port`, with brackets around an IPv6 address."""
    return f"http://{'[' + address + ']' if ':' in address else address}:{port}"
