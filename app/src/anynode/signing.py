"""Signs values that clients store and send back. Every node accepts the signatures of all nodes."""

from flask import current_app
from itsdangerous import URLSafeTimedSerializer


def signer(purpose: str) -> URLSafeTimedSerializer:
    """Return a serializer that signs and verifies values.

    purpose: a signature is valid for this purpose only. While SECRET_KEY is rotated, both keys are accepted.
    """
    config = current_app.config
    keys = [*config["SECRET_KEY_FALLBACKS"], config["SECRET_KEY"]]  # the last key signs
    return URLSafeTimedSerializer(keys, salt=purpose)
