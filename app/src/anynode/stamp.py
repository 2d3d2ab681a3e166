"""Says on every response which node answered which request."""

from collections.abc import Mapping

from .proxy import REQUEST_ID


class Stamp:
    """WSGI middleware: adds fixed headers and X-Request-ID to whatever the app answers, errors too."""

    def __init__(self, app, headers: Mapping[str, str]):
        self._app = app
        self._headers = list(headers.items())

    def __call__(self, environ, start_response):
        def start_stamped(status, headers, exc_info=None):
            stamp = [*self._headers, ("X-Request-ID", environ[REQUEST_ID])]
            return start_response(status, [*headers, *stamp], exc_info)

        return self._app(environ, start_stamped)
