"""Each thing that can be wrong with an inventory has a message that names the culprit and the remedy."""

import importlib.util
import secrets
import string

import pytest
from lib.ansible_runs import ROOT, inventory

path = ROOT / "plugins/filter/inventory_errors.py"
spec = importlib.util.spec_from_file_location("inventory_errors", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

HASH = "scrypt:32768:8:1$0123456789abcdef$00ff"
LOCAL = {"local_nodes_subnet": "10.77.0.0/24"}


class Inventory:
    """A good inventory as Ansible's filters see it."""

    def __init__(self, network="192.0.2.{}"):
        tiers = inventory(network=network)["all"]["children"]
        self.hostvars = {host: options for tier in tiers.values() for host, options in dict(tier["hosts"]).items()}
        self.groups = {name: list(tier["hosts"]) for name, tier in tiers.items()}
        self.groups["all"] = list(self.hostvars)

    def local(self):
        """Make all hosts containers on this computer."""
        self.groups["local_nodes"] = self.groups["all"]
        for options in self.hostvars.values():
            options |= LOCAL
        return self

    def errors(self, users=None, demo_user="demo"):
        return module.inventory_errors(self.hostvars, self.groups, users or {}, demo_user)


def only(errors):
    """Return the single message that there must be."""
    assert len(errors) == 1, errors
    return errors[0]


@pytest.fixture
def good():
    return Inventory()


@pytest.mark.parametrize("network", ["192.0.2.{}", "2001:db8::{}"])
def test_a_good_inventory_has_no_errors(network):
    assert Inventory(network).errors(users={"ada": HASH}) == []


def test_a_good_local_inventory_has_no_errors():
    assert Inventory("10.77.0.{}").local().errors() == []


@pytest.mark.parametrize("group", ["nginx", "redis", "app"])
def test_a_missing_group(good, group):
    del good.groups[group]
    assert only(good.errors()) == (f"The group `{group}` is missing. Add it to the inventory, with at least one host.")


@pytest.mark.parametrize("group", ["nginx", "redis", "app"])
def test_an_empty_group(good, group):
    good.groups[group] = []
    assert only(good.errors()) == f"The group `{group}` is empty. List at least one host in it."


def test_two_redis_hosts(good):
    good.hostvars["redis2"] = {"ansible_host": "192.0.2.21"}
    good.groups["redis"].append("redis2")
    message = only(good.errors())
    assert "`redis` has 2 hosts (redis1, redis2)" in message
    assert message.endswith("Keep one.")


def test_a_host_in_two_groups(good):
    good.groups["app"].append("lb1")
    message = only(good.errors())
    assert message.startswith("lb1 is in the groups nginx and app: ")
    assert message.endswith("Keep it in one of them.")


def test_a_host_without_an_address(good):
    del good.hostvars["app2"]["ansible_host"]
    assert only(good.errors()) == ("app2 has no ansible_host. Give it the address at which it can be reached.")


@pytest.mark.parametrize("address", ["app2.example.net", "192.0.2.300", "192.0.2.32/24", ""])
def test_an_address_that_is_none(good, address):
    good.hostvars["app2"]["ansible_host"] = address
    message = only(good.errors())
    assert message.startswith(f"app2: ansible_host is {address!r}, which is not an IP address.")
    assert "topology_address" in message


def test_ssh_may_go_to_a_name_if_the_nodes_have_an_address(good):
    good.hostvars["app2"] = {"ansible_host": "app2.example.net", "topology_address": "192.0.2.32"}
    assert good.errors() == []
    good.hostvars["app2"]["topology_address"] = "app2.internal"
    assert "app2: topology_address is 'app2.internal', which is not an IP address." in only(good.errors())


def test_an_address_that_two_hosts_have(good):
    good.hostvars["app2"]["ansible_host"] = "192.0.2.31"
    assert only(good.errors()) == ("app1 and app2 have the same address, 192.0.2.31. Each machine needs its own.")


def test_an_address_in_two_spellings():
    twice = Inventory("2001:db8::{}")
    twice.hostvars["app2"]["ansible_host"] = "2001:0db8:0::31"
    assert "app1 and app2 have the same address" in only(twice.errors())


def test_ssh_may_reach_several_machines_through_one_address(good):
    """Behind a jump host or a forwarder, ports differ; what counts is where the nodes reach each other."""
    for number, host in enumerate(("app1", "app2"), 31):
        good.hostvars[host] = {"ansible_host": "203.0.113.9", "topology_address": f"192.0.2.{number}"}
    assert good.errors() == []


def test_a_local_address_outside_the_subnet():
    local = Inventory("10.77.0.{}").local()
    local.hostvars["app2"]["ansible_host"] = "10.78.0.32"
    assert only(local.errors()) == (
        "app2: 10.78.0.32 is not in local_nodes_subnet, 10.77.0.0/24. Change one of the two."
    )


@pytest.mark.parametrize("address", ["10.77.0.0", "10.77.0.1", "10.77.0.255"])
def test_a_local_address_that_the_network_itself_has(address):
    local = Inventory("10.77.0.{}").local()
    local.hostvars["app2"]["ansible_host"] = address
    message = only(local.errors())
    assert message.startswith(f"app2: {address} belongs to the network 10.77.0.0/24 itself")
    assert message.endswith("Choose another.")


def test_a_subnet_that_is_none():
    local = Inventory("10.77.0.{}").local()
    for options in local.hostvars.values():
        options["local_nodes_subnet"] = "10.77.0.7/24"
    assert only(local.errors()) == ("local_nodes_subnet: 10.77.0.7/24 has host bits set. An example: 10.77.0.0/24.")


def test_a_misspelt_option(good):
    good.hostvars["redis1"]["redis_maxmemroy"] = "1gb"
    assert only(good.errors()) == (
        "`redis_maxmemroy` (seen for redis1) is not an option of any role. Did you mean `redis_maxmemory`?"
    )


def test_an_option_that_resembles_none(good):
    good.hostvars["app1"]["nginx_qqqqqqqqqqqqqqqqqqqqqqqq"] = 1
    message = only(good.errors())
    assert "`nginx_qqqqqqqqqqqqqqqqqqqqqqqq` (seen for app1) is not an option of any role." in message
    assert "argument_specs.yml" in message


@pytest.mark.parametrize("options", [{"app_login_threads": 8}, {"app_threads": "4"}])
def test_logins_that_may_take_all_threads(good, options):
    good.hostvars["app1"] |= options
    message = only(good.errors())
    assert message.startswith("app1: app_login_threads is ")
    assert message.endswith("Set app_login_threads lower, or app_threads higher.")


def test_a_thread_is_enough_for_the_others(good):
    good.hostvars["app1"] |= {"app_login_threads": 1, "app_threads": 2}
    assert good.errors() == []


def test_variables_of_other_people_are_none_of_our_business(good):
    good.hostvars["app1"] |= {"application_name": "shop", "backup_hour": 3}
    assert good.errors() == []


@pytest.mark.parametrize("users", ["ada", ["ada"]])
def test_users_of_a_wrong_type(good, users):
    assert only(good.errors(users=users)).startswith("app_users must be a dictionary, name: hash.")


def test_a_user_whose_password_is_written_down(good):
    message = only(good.errors(users={"ada": "correct horse"}))
    assert message.startswith("app_users: ada has something that is not a hash.")
    assert "make hash" in message
    assert "correct horse" not in message


@pytest.mark.parametrize(
    ("method", "is_weak"),
    [
        ("scrypt:16384:8:5", False),
        ("scrypt:131072:8:1", False),
        ("pbkdf2:sha256:1000000", False),
        ("scrypt:32768:8:1", True),
        ("scrypt:16384:8:4", True),
        ("pbkdf2:sha256:599999", True),
        ("scrypt:2:1:1", True),
    ],
)
def test_a_weak_hash_is_told_of_and_accepted(good, method, is_weak):
    users = {"ada": f"{method}$0123456789abcdef$00ff"}
    warnings = list(module.weak_hashes(users))
    assert good.errors(users=users) == []
    assert bool(warnings) == is_weak
    assert all("app_users: ada" in each and method in each and "`make hash`" in each for each in warnings)
    assert not any("00ff" in each or "0123456789abcdef" in each for each in warnings)


@pytest.mark.parametrize("name", ["ada l", "ada:l", ""])
def test_a_user_with_an_impossible_name(good, name):
    assert only(good.errors(users={name: HASH})).startswith(f"app_users: {name!r} is not a name")


def test_a_user_with_the_name_of_the_checks_account(good):
    message = only(good.errors(users={"probe": HASH}, demo_user="probe"))
    assert message.startswith("app_users has probe, which is the name of the demo account.")


def test_users_that_only_some_hosts_have_are_looked_at_too(good):
    good.hostvars["app2"]["app_users"] = {"bob": "in clear"}
    assert only(good.errors()).startswith("app_users: bob has something that is not a hash.")


def test_a_secret_that_only_some_hosts_have(good):
    errors = module.FilterModule().filters()["secret_errors"]
    secrets_here = {"redis_app_password": SECRET, "app_secret_key": SECRET * 2}
    assert errors(secrets_here, good.hostvars, good.groups) == []
    good.hostvars["app1"]["redis_app_password"] = SECRET
    assert errors(secrets_here, good.hostvars, good.groups) == []
    good.hostvars["app2"]["redis_app_password"] = "short"
    message = only(errors(secrets_here, good.hostvars, good.groups))
    assert message.startswith("The secret `redis_app_password` that is defined for app2 is not what other hosts have.")
    assert "short" not in message


def test_all_errors_are_told_at_once(good):
    good.groups["app"] = []
    good.hostvars["lb1"]["nginx_prot"] = 80
    assert len(good.errors(users={"ada": "plain"})) == 3


@pytest.mark.parametrize("names", [[], None, ""])
def test_nobody_to_serve(good, names):
    good.hostvars["lb1"]["nginx_server_names"] = names
    message = only(good.errors())
    assert message.startswith("nginx_server_names is empty: ")
    assert "List the names" in message


@pytest.mark.parametrize(
    "name", ["shop.example:8443", "https://shop.example", "shop.example/", "[2001:db8::1]", "a b", ""]
)
def test_a_name_that_is_more_than_a_name(good, name):
    good.hostvars["lb1"]["nginx_server_names"] = ["shop.example", name]
    message = only(good.errors())
    assert message.startswith(f"nginx_server_names has {name!r}, which is neither")
    assert "nginx_public_tls_port" in message


def test_names_that_can_be_served(good):
    good.hostvars["lb1"]["nginx_server_names"] = [
        "shop.example",
        "*.Shop.example",
        "localhost",
        "192.0.2.1",
        "2001:db8::1",
    ]
    assert good.errors() == []


@pytest.mark.parametrize("option", module.LIMITS)
def test_a_limit_that_lets_nobody_in_or_that_nginx_does_not_take(good, option):
    most = module.LIMITS[option]
    for value in (0, "0", -5, most + 1):
        good.hostvars["lb1"][option] = value
        assert only(good.errors()).startswith(f"{option} is {value}. It needs 1 at least, and takes {most} at most")
    for value in ("1", most):
        good.hostvars["lb1"][option] = value
        assert good.errors() == []


@pytest.mark.parametrize(
    ("source", "remedy"), [("10.0.0.5/24", "10.0.0.0/24 or 10.0.0.5."), ("bastion", "192.0.2.7 or 192.0.2.0/24.")]
)
def test_a_source_that_the_firewall_can_not_take(good, source, remedy):
    for host in good.hostvars.values():
        host["firewall_ssh_sources"] = ["192.0.2.0/24", source]
    message = only(good.errors())
    assert message.startswith(
        f"firewall_ssh_sources: {source!r}" if "/" not in source else f"firewall_ssh_sources: {source}"
    )
    assert message.endswith(remedy)
    good.hostvars["app1"]["firewall_extra_ports"] = [{"port": 9464, "sources": [source]}]
    assert any(each.startswith("firewall_extra_ports: ") for each in good.errors())


SECRET = "q8Zr2LmW0vTn5XcBy7Kd"


def secret_errors(value):
    return list(module.secret_errors({"redis_app_password": value}))


def test_a_good_secret_has_no_errors():
    assert secret_errors(SECRET) == []


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_secret(value):
    assert only(secret_errors(value)) == (
        "The secret `redis_app_password` is missing. Define it, or remove the empty definition and one is made."
    )


@pytest.mark.parametrize(
    "value",
    [
        "changeme",
        "change-me-please-1234",
        "CHANGE_ME_CHANGE_ME",
        "<your secret here>",
        "your-secret-key-here",
        "Password123!Password",
        "secretsecretsecret",
        "placeholder-placeholder",
        "xxxxxxxxxxxxxxxxxxxx",
        "TODO: put your secret here",
    ],
)
def test_a_placeholder(value):
    message = only(secret_errors(value))
    assert message.startswith("The secret `redis_app_password` looks like a placeholder.")
    assert value not in message


def test_a_short_secret():
    message = only(secret_errors(SECRET[:15]))
    assert message.startswith("The secret `redis_app_password` has 15 characters; it needs 16.")
    assert SECRET[:15] not in message


@pytest.mark.parametrize("character", ["'", '"', " ", "\\", "\n", "é"])
def test_a_secret_that_a_file_can_not_hold(character):
    message = only(secret_errors(SECRET + character + SECRET))
    assert message.startswith("The secret `redis_app_password` has characters that a file of environment")


def test_no_random_secret_is_refused():
    letters = string.ascii_letters + string.digits
    for number in range(10_000):
        made = "".join(secrets.choice(letters) for _ in range(24 + number % 41))
        assert secret_errors(made) == [], made


@pytest.mark.parametrize("word", ["xxx", "todo", "secret", "ChangeMe", "password"])
def test_a_random_secret_may_contain_any_word(word):
    assert secret_errors(SECRET + word + SECRET) == []


def test_a_name_that_nearly_is_an_option_is_misspelt_too(good):
    """Also where the slip is in the role's name; a name of the user's own is left alone."""
    good.hostvars["app1"] |= {"ngnix_port": 80, "application_name": "shop", "backup_port": 80}
    assert "Did you mean `nginx_port`?" in only(good.errors())


def test_the_apps_key_is_as_long_as_the_app_wants_it():
    """What the app refuses is refused here, before a machine is touched."""
    assert "it needs 32" in only(list(module.secret_errors({"app_secret_key": "k3" * 10})))


def test_the_key_of_maintenance_is_part_of_an_address():
    assert list(module.secret_errors({"nginx_maintenance_bypass_token": SECRET + "_-"})) == []
    message = only(list(module.secret_errors({"nginx_maintenance_bypass_token": SECRET + "/;"})))
    assert message.startswith("The secret `nginx_maintenance_bypass_token` is part of an address")
