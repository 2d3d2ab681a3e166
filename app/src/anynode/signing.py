"""Signs what browsers keep for us and bring back; any node accepts what another one signed."""

from flask import current_app
from itsdangerous import URLSafeTimedSerializer


def signer(purpose: str) -> URLSafeTimedSerializer:
    """What is signed for one purpose is worth nothing for another."""
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt=purpose)
