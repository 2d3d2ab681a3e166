"""HTTP as a browser speaks it for one visitor, with nothing hidden: each retry is counted, each failure has a name."""

import asyncio
import errno
import json
import ssl
from collections import Counter
from typing import NamedTuple

import aiohttp


class Answer(NamedTuple):
    """A whole answer. body: the JSON object in it, {} if there is none."""

    status: int
    headers: dict[str, str]
    body: dict


class Broken(Exception):
    """There is no whole answer. kind: why, in a word or two; "closed" and "reset" if nothing of it has come."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class Client:
    """One visitor's requests, to be sent one after another.

    A kept connection may be closed by the server at the very moment a request is sent on it (RFC 9112, 9.5). Chromium
    and Firefox then send it once more on a new connection, if it was a reused one and no byte of an answer has come,
    whatever the method. So does this; `retried` says how often, by method. That a POST is sent twice goes against
    RFC 9110, 9.2.2 (a server might have begun it), and a visitor would see it: the counter would rise by two.
    """

    def __init__(self, url: str, keeps: bool, tls: ssl.SSLContext | None, timeout: float):
        """keeps: one connection for all requests, else one for each. timeout: seconds for a request, with its retry."""
        self.cookie: str | None = None
        self.retried: Counter[str] = Counter()
        self._url = url
        self._timeout = timeout
        self._is_reused = False
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._note_reuse)
        # the server is the one that closes an idle connection, not this: browsers keep one for minutes
        habit = {"keepalive_timeout": 300} if keeps else {"force_close": True}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=tls or True, **habit),
            cookie_jar=aiohttp.DummyCookieJar(),  # a jar would keep a Secure cookie, or an address's, from being sent
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
            middlewares=[_name_failure],
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: dict | None = None) -> Answer:
        """Raises Broken."""
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._send(method, path, body)
                except Broken as broken:
                    if not self._is_reused or broken.kind not in ("closed", "reset"):
                        raise
                self.retried[method] += 1
                return await self._send(method, path, body)
        except TimeoutError as error:
            raise Broken("timeout") from error

    async def _send(self, method: str, path: str, body: dict | None) -> Answer:
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
            raise Broken("cut short") from error
        for cookie in response.cookies.values():
            if not cookie.key.endswith("session"):
                continue  # it is for who comes back after a logout, which nobody here does
            self.cookie = f"{cookie.key}={cookie.coded_value}" if cookie.value else None
        return Answer(response.status, response.headers, _parse(raw))

    async def _note_reuse(self, *_) -> None:
        self._is_reused = True


async def _name_failure(request, handler):
    """A middleware: if a GET ends in an error of aiohttp's own, aiohttp sends it again, whatever the connection was."""
    try:
        return await handler(request)
    except aiohttp.ServerDisconnectedError as error:
        has_come = not isinstance(error.message, str)  # it is the head of an answer then
        raise Broken("cut short" if has_come else "closed") from error
    except aiohttp.ClientResponseError as error:
        raise Broken("not HTTP") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Broken(_kind(error)) from error


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
    # where aiohttp could not send the whole request, its error has no number, but a cause that has one
    return _kind(error.__cause__) if error.__cause__ else type(error).__name__


def _parse(raw: bytes) -> dict:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
