"""Signs what browsers keep for us and bring back; any node accepts what another one signed."""

from flask import current_app
from itsdangerous import URLSafeTimedSerializer


def signer(purpose: str) -> URLSafeTimedSerializer:
    """What is signed for one purpose is worth nothing for another. While the key changes, both keys are good."""
    config = current_app.config
    keys = [*config["SECRET_KEY_FALLBACKS"], config["SECRET_KEY"]]  # the last one signs
    return URLSafeTimedSerializer(keys, salt=purpose)
