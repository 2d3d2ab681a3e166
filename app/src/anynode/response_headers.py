"""Says on every response which node answered which request."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from .proxy import REQUEST_ID


class ResponseHeaders:
    """WSGI middleware: adds fixed headers and X-Request-ID to whatever the app answers, errors too."""

    def __init__(self, app: WSGIApplication, headers: Mapping[str, str]):
        self._app = app
        self._headers = list(headers.items())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start_stamped(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            stamp = [*self._headers, ("X-Request-ID", environ[REQUEST_ID])]
            return start_response(status, [*headers, *stamp], exc_info)

        return self._app(environ, start_stamped)
