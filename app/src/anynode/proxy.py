"""Accepts forwarding headers from trusted proxies (the balancers) only."""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Set
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.middleware.proxy_fix import ProxyFix

REQUEST_ID = "anynode.request_id"  # key of the request id in the WSGI environ
_ID_SHAPE = re.compile(r"[A-Za-z0-9._-]{8,64}")
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_X_REQUEST_ID")


class TrustedProxy:
    """WSGI middleware: takes client address (the last of X-Forwarded-For), scheme, host and request id from the headers
    of a trusted proxy. It removes these headers from other requests, which get a new id.
    """

    def __init__(self, app: WSGIApplication, proxies: Set[str]):
        """app: the WSGI app behind it. proxies: the IP addresses to trust."""
        self._app = app
        self._fixed_app = ProxyFix(app, x_for=1, x_proto=1, x_host=1)
        self._proxies = proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_trusted = _address(environ.get("REMOTE_ADDR", "")) in self._proxies
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not (is_trusted and _ID_SHAPE.fullmatch(request_id)):
            request_id = uuid.uuid4().hex
        environ[REQUEST_ID] = request_id
        if is_trusted:
            return self._fixed_app(environ, start_response)
        for name in [name for name in environ if name.startswith(_FORWARDED)]:
            del environ[name]
        return self._app(environ, start_response)


def _address(text: str) -> str | None:
    """The IP address in canonical form, None if it is invalid. IPv4-mapped IPv6 addresses become IPv4 addresses."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
