"""Exceptions for apps to handle. Both are HTTP errors, so an app without a handler responds correctly, too."""

from werkzeug.exceptions import ServiceUnavailable, Unauthorized

RETRY_AFTER_SECONDS = 1


class SessionStoreError(ServiceUnavailable):
    """The session store is unavailable: 503 with Retry-After, never a logout.

    Handle it with `@app.errorhandler(SessionStoreError)`, which also works if the session couldn't be saved after the
    view had returned.
    """

    description = (
        "The session store is temporarily unavailable. If you were logged in, you are still logged in: "
        "please try again in a moment."
    )

    def __init__(self) -> None:
        super().__init__(retry_after=RETRY_AFTER_SECONDS)


class SessionTooLarge(ValueError):
    """The values of a session have more bytes than the store accepts; nothing was saved. An error of the app."""


class SessionEnded(Unauthorized):
    """The session ended elsewhere (logout, login, expiry) while this request wanted to write to it: 401."""

    description = "This session has ended. Nothing was saved. Please log in again."


class SessionMoved(SessionEnded):
    """The session got another id (login, rotation) while a request with the old id wanted to write to it: 409.

    The client keeps its cookie, which has the new id by then.
    """

    code = 409
    description = "Your session has changed meanwhile, as at a login. Nothing was saved. Please try again."
