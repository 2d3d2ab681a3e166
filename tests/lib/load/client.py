"""An HTTP client like a browser for a single user that hides nothing: it counts retries and names each failure."""

import asyncio
import errno
import json
import ssl
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp


class Response(NamedTuple):
    """A complete response. body: its JSON object, {} without any."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


class RequestFailed(Exception):
    """There is no complete response. kind: the failure; "closed" and "reset" if no byte of a response arrived."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class Client:
    """Sends the requests of a user sequentially.

    A server may close a kept connection at the moment a request is sent on it (RFC 9112, 9.5). Chromium and Firefox
    then send the request again on a new connection, with any method, if the connection was reused and no byte of a
    response arrived. So does this client; `retried` counts it by method. Sending a POST again violates RFC 9110, 9.2.2,
    as the server might have processed it; the user would notice a counter that rises by two.
    """

    def __init__(self, url: str, keep_alive: bool, tls: ssl.SSLContext | None, timeout: float):
        """keep_alive: use the same connection for all requests. timeout: seconds for a request with its retry."""
        self.cookie: str | None = None
        self.retried: Counter[str] = Counter()
        self._url = url
        self._timeout = timeout
        self._is_reused = False
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._record_reuse)
        # like browsers, this keeps an idle connection for minutes: the server closes it first
        options: dict[str, Any] = {"keepalive_timeout": 300} if keep_alive else {"force_close": True}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=tls or True, **options),
            cookie_jar=aiohttp.DummyCookieJar(),  # a real jar would not send a Secure cookie, or to an IP address
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
            middlewares=[_name_failure],
        )

    async def close(self) -> None:
        await self._session.close()

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Response:
        """Send a request and return the response. Raises RequestFailed."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._send(method, path, body)
                except RequestFailed as failure:
                    if not self._is_reused or failure.kind not in ("closed", "reset"):
                        raise
                self.retried[method] += 1
                return await self._send(method, path, body)
        except TimeoutError as error:
            raise RequestFailed("timeout") from error

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Response:
        headers = {"Accept": "application/json"}
        if self.cookie:
            headers["Cookie"] = self.cookie
        self._is_reused = False
        try:
            async with self._session.request(
                method, self._url + path, json=body, headers=headers, allow_redirects=False
            ) as response:
                raw = await response.read()
        except aiohttp.ClientError as error:
            raise RequestFailed("truncated") from error
        for cookie in response.cookies.values():
            if not cookie.key.endswith("session"):
                continue  # the device cookie, used only for a login after a logout
            self.cookie = f"{cookie.key}={cookie.coded_value}" if cookie.value else None
        return Response(response.status, response.headers, _parse(raw))

    async def _record_reuse(self, *_: Any) -> None:
        self._is_reused = True


async def _name_failure(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware that replaces aiohttp's errors: with its own errors, aiohttp would retry any GET by itself."""
    try:
        return await handler(request)
    except aiohttp.ServerDisconnectedError as error:
        has_head = not isinstance(error.message, str)  # then it is the head of a response
        raise RequestFailed("truncated" if has_head else "closed") from error
    except aiohttp.ClientResponseError as error:
        raise RequestFailed("not HTTP") from error
    except (aiohttp.ClientError, OSError) as error:
        raise RequestFailed(_kind(error)) from error


def _kind(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TLS"
    number = getattr(error, "errno", None)
    if number == errno.ECONNREFUSED:
        return "refused"
    if isinstance(error, ConnectionResetError) or number in (errno.ECONNRESET, errno.EPIPE):
        return "reset"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "unreachable"
    # if aiohttp could not send the whole request, its error has no number, but its cause has
    return _kind(error.__cause__) if error.__cause__ else type(error).__name__


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
