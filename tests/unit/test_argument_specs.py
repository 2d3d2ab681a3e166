"""Every role says what it takes, and its defaults agree with what it says."""

import re

import pytest
import yaml
from lib.ansible_runs import ROOT

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# The wiring: what it gives defaults to are the inputs of the other roles.
OTHER_ROLES = [role for role in ROLES if role != "topology"]
TYPES = {"str", "int", "float", "bool", "list", "dict", "path"}
SECRET = re.compile(r"password|secret_key|token")


def load(path):
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role):
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return next(iter(specs.values()))["options"]


def defaults(role):
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_typed_and_described(role):
    for name, option in options(role).items():
        assert option.get("type") in TYPES, name
        assert option.get("description"), name
        assert option["type"] != "list" or "elements" in option, name
        assert name.startswith(f"{role}_"), name


@pytest.mark.parametrize("role", OTHER_ROLES)
def test_defaults_are_what_the_spec_says(role):
    stated = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert defaults(role) == stated


@pytest.mark.parametrize("role", OTHER_ROLES)
def test_an_option_is_required_or_has_a_default(role):
    for name, option in options(role).items():
        assert option.get("required", False) != ("default" in option), name


def test_no_play_looks_at_the_wiring_again():
    """Ansible validates `main` wherever a role is listed, on each host: a second or two of each run."""
    assert "main" not in load(ROOT / "roles" / "topology" / "meta" / "argument_specs.yml")["argument_specs"]


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_never_logged_and_have_no_default(role):
    for name, option in options(role).items():
        if SECRET.search(name):
            assert option.get("no_log") is True, name
            assert "default" not in option, name


def test_the_wiring_names_real_options():
    known = {name for role in ROLES for name in options(role)}
    assert defaults("topology").keys() <= known


def test_the_wiring_gives_no_second_default():
    for role in OTHER_ROLES:
        assert defaults("topology").keys().isdisjoint(defaults(role)), role


def test_every_required_option_is_wired():
    wired = defaults("topology") | load(ROOT / "group_vars" / "local_nodes.yml")
    required = {name for role in ROLES for name, option in options(role).items() if option.get("required")}
    assert required <= wired.keys()
