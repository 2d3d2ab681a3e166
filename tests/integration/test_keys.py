"""Rotation of the app's key, node after node, while clients have open forms."""

import pytest
from lib.demo_app import PASSWORD, USER, make_app, session_cookie, token
from lib.redis_server import RedisServer

OLD, NEW = "old-" * 10, "new-" * 10
# The settings of playbooks/rotate_secrets.yml: each step is deployed on all nodes before the next step.
STEPS = [
    {"APP_SECRET_KEY": OLD},
    {"APP_SECRET_KEY": OLD, "APP_SECRET_KEY_FALLBACKS": NEW},
    {"APP_SECRET_KEY": NEW, "APP_SECRET_KEY_FALLBACKS": OLD},
    {"APP_SECRET_KEY": NEW},
]


def status_of_login(redis: RedisServer, made_by: dict[str, str], sent_to: dict[str, str]) -> int:
    """The status of a login with the form of a node with the settings made_by, sent to a node with sent_to."""
    one, other = (make_app(redis.port, **settings).test_client() for settings in (made_by, sent_to))
    csrf = token(one)
    other.set_cookie("login-form", session_cookie(one, "login-form") or "")
    return other.post("/login", data={"csrf": csrf, "username": USER, "password": PASSWORD}).status_code


@pytest.mark.parametrize("step", range(1, len(STEPS)))
def test_nodes_of_consecutive_steps_accept_each_others_forms(redis: RedisServer, step: int) -> None:
    before, after = STEPS[step - 1 : step + 1]
    assert status_of_login(redis, before, after) == 303
    assert status_of_login(redis, after, before) == 303


def test_control_skipping_a_step_refuses_forms(redis: RedisServer) -> None:
    assert status_of_login(redis, STEPS[2], STEPS[0]) == 403


def test_the_old_key_is_refused_after_the_last_step(redis: RedisServer) -> None:
    assert status_of_login(redis, STEPS[1], STEPS[3]) == 403
