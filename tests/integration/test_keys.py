"""The app's key is replaced, node after node, while visitors have forms open."""

import pytest
from anynode.config import ConfigError
from lib.demo_app import PASSWORD, USER, make_app, token

OLD, NEW = "old-" * 10, "new-" * 10
# What a node has in turn, as playbooks/rotate_secrets.yml brings it: each step on all nodes before the next.
STEPS = [
    {"APP_SECRET_KEY": OLD},
    {"APP_SECRET_KEY": OLD, "APP_SECRET_KEY_FALLBACKS": NEW},
    {"APP_SECRET_KEY": NEW, "APP_SECRET_KEY_FALLBACKS": OLD},
    {"APP_SECRET_KEY": NEW},
]


def answer(redis, made_by, sent_to):
    """The status of a login with a form that one node has made and another one gets."""
    one, other = (make_app(redis.port, **settings).test_client() for settings in (made_by, sent_to))
    return other.post("/login", data={"csrf": token(one), "username": USER, "password": PASSWORD}).status_code


@pytest.mark.parametrize("step", range(1, len(STEPS)))
def test_nodes_of_two_steps_understand_each_other(redis, step):
    before, after = STEPS[step - 1 : step + 1]
    assert answer(redis, before, after) == 303
    assert answer(redis, after, before) == 303


def test_a_step_less_would_turn_visitors_away(redis):
    assert answer(redis, STEPS[2], STEPS[0]) == 403


def test_the_old_key_is_worth_nothing_in_the_end(redis):
    assert answer(redis, STEPS[1], STEPS[3]) == 403


def test_a_key_that_is_only_accepted_must_be_long_too():
    with pytest.raises(ConfigError, match="APP_SECRET_KEY_FALLBACKS is shorter than 32 characters"):
        make_app(APP_SECRET_KEY_FALLBACKS=f"{OLD} short")
