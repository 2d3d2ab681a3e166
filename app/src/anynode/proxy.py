"""Whom to believe about the client: the balancer, and nobody else."""

import ipaddress
import re
import uuid
from collections.abc import Iterable, Set
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.middleware.proxy_fix import ProxyFix

REQUEST_ID = "anynode.request_id"  # where the WSGI environ has the id of the request
_ID_SHAPE = re.compile(r"[A-Za-z0-9._-]{8,64}")
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP", "HTTP_X_REQUEST_ID")


class TrustedProxy:
    """WSGI middleware: believes a trusted proxy's headers about client address (the last of X-Forwarded-For),
    scheme, host and request id. Anyone else's are removed, and the request gets a new id.
    """

    def __init__(self, app: WSGIApplication, proxies: Set[str]):
        """proxies: the IP addresses to trust."""
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
    """An IP address in its usual spelling; an IPv4 client of an IPv6 socket by its IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
