"""Adds headers to every response that identify node, release, deployment and request."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from .proxy import REQUEST_ID


class ResponseHeaders:
    """WSGI middleware: adds fixed headers and X-Request-ID to every response, including errors."""

    def __init__(self, app: WSGIApplication, headers: Mapping[str, str]):
        """app: the WSGI app behind it. headers: values by name."""
        self._app = app
        self._headers = list(headers.items())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            added = [*self._headers, ("X-Request-ID", environ[REQUEST_ID])]
            return start_response(status, [*headers, *added], exc_info)

        return self._app(environ, start)
