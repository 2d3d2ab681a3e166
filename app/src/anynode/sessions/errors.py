"""What an app may want to catch: both are HTTP answers, so an app without a handler still answers rightly."""

from werkzeug.exceptions import ServiceUnavailable, Unauthorized

RETRY_AFTER_SECONDS = 1


class SessionStoreError(ServiceUnavailable):
    """The session store can't be asked right now: 503 with Retry-After, and never "logged out".

    Catch it with `@app.errorhandler(SessionStoreError)`; that also works when the session could not be saved
    after the view had returned.
    """

    description = "Sessions can't be reached right now. Nothing is lost: please try again in a moment."

    def __init__(self) -> None:
        super().__init__(retry_after=RETRY_AFTER_SECONDS)


class SessionEnded(Unauthorized):
    """The session ended elsewhere (logout, login, expiry) while this request wanted to write to it: 401."""

    description = "This session has ended, nothing was written. Please log in again."
