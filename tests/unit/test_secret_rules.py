"""Preflight and the app refuse the same placeholders, so Redis never gets a password that the app refuses."""

import json

import pytest
import yaml
from ansible.module_utils.anynode.validation.secrets import secret_problem
from anynode.config import Config, ConfigError
from lib.ansible_runs import ROOT

TABLE = yaml.safe_load((ROOT / "roles/topology/vars/main/secrets.yml").read_text())["topology_secrets"]
RANDOM = "q8Zr2LmW0vTn5XcBy7Kdq8Zr2LmW0vTn5XcBy7Kd"
PLACEHOLDERS = [
    "changeme",
    "change-me-please-1234",
    "CHANGE_ME_CHANGE_ME",
    "please-CHANGE-ME-please-CHANGE-ME-please-CHANGE-ME",
    "<your secret here>",
    "<q8Zr2LmW0vTn5XcBy7Kd>",
    "your-secret-key-here",
    "your-password",
    "replace-this-with-your-secret",
    "Password123!Password",
    "secretsecretsecret",
    "placeholder-placeholder",
    "example-secret-key-example-secret-key",
    "xxxxxxxxxxxxxxxxxxxx",
    "TODO: put your secret here",
]
SECRETS = [RANDOM, *(f"{RANDOM}{word}{RANDOM}" for word in ("xxx", "todo", "secret", "ChangeMe", "example", "your-"))]


def app_refuses(value: str) -> bool:
    """Return whether the app refuses a password of Redis as a placeholder."""
    environment = {
        "APP_NODE": "app1",
        "APP_SECRET_KEY": RANDOM,
        "APP_USERS": json.dumps({"ada": "scrypt:16384:8:5$0123456789abcdef$00ff"}),
        "APP_REDIS_HOST": "192.0.2.20",
        "APP_REDIS_PASSWORD": value,
    }
    try:
        Config.from_environ(environment)
    except ConfigError as error:
        assert "APP_REDIS_PASSWORD is a placeholder" in str(error)
        assert value not in str(error)
        return True
    return False


@pytest.mark.parametrize("value", PLACEHOLDERS)
def test_a_placeholder_is_refused_by_both(value: str) -> None:
    assert secret_problem(value, TABLE["redis_app_password"]) == "looks like a placeholder"
    assert app_refuses(value)


@pytest.mark.parametrize("value", SECRETS)
def test_a_random_secret_may_contain_any_word(value: str) -> None:
    assert secret_problem(value, TABLE["redis_app_password"]) is None
    assert not app_refuses(value)


def test_the_app_requires_the_length_that_preflight_requires() -> None:
    with pytest.raises(ConfigError, match=f"APP_SECRET_KEY is shorter than {TABLE['app_secret_key']['min_length']} "):
        Config.from_environ({"APP_SECRET_KEY": RANDOM[:31]})
