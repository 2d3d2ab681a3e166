"""Each error of an inventory has a message that names the culprit and the remedy."""

import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.anynode import renamed
from ansible.module_utils.anynode.validation import formats
from ansible.module_utils.anynode.validation import inventory as checks
from ansible.module_utils.anynode.validation.options import load_specs
from ansible.module_utils.anynode.validation.secrets import secret_errors, secret_problem
from lib.ansible_runs import ROOT, inventory, load_module

HASH = "scrypt:32768:8:1$0123456789abcdef$00ff"
LOCAL = {"local_nodes_subnet": "10.77.0.0/24"}
SECRET = "q8Zr2LmW0vTn5XcBy7Kd"
SPECS, ROLES = load_specs(ROOT / "roles")
TABLE = yaml.safe_load((ROOT / "roles/topology/vars/main/secrets.yml").read_text())["topology_secrets"]


class Inventory:
    """A good inventory, as the checks get it."""

    def __init__(self, network: str = "192.0.2.{}") -> None:
        tiers = inventory(network=network)["all"]["children"]
        self.hosts: dict[str, dict[str, Any]] = {
            host: options for tier in tiers.values() for host, options in dict(tier["hosts"]).items()
        }
        self.groups = {name: list(tier["hosts"]) for name, tier in tiers.items()}
        self.groups["all"] = list(self.hosts)

    def local(self) -> "Inventory":
        """Make all hosts containers on this computer."""
        self.groups["local_nodes"] = self.groups["all"]
        for options in self.hosts.values():
            options |= LOCAL
        return self

    def errors(self, users: object = None, tags: tuple[str, ...] = ("all",), demo_user: str = "demo") -> list[str]:
        if users is not None:
            for options in self.hosts.values():
                options["app_users"] = users
        return checks.inventory_errors(self.groups, self.hosts, SPECS, ROLES, tags, demo_user)


def only(errors: list[str]) -> str:
    """Return the single message that there must be."""
    assert len(errors) == 1, errors
    return errors[0]


@pytest.fixture
def good() -> Inventory:
    return Inventory()


@pytest.mark.parametrize("network", ["192.0.2.{}", "2001:db8::{}"])
def test_a_good_inventory_has_no_errors(network: str) -> None:
    assert Inventory(network).errors(users={"ada": HASH}) == []


def test_a_good_local_inventory_has_no_errors() -> None:
    assert Inventory("10.77.0.{}").local().errors() == []


def test_an_inventory_without_hosts() -> None:
    message = only(checks.inventory_errors({"all": []}, {}, SPECS, ROLES, [], "demo"))
    assert message.startswith("The inventory lists no host. Is its path right?")


@pytest.mark.parametrize("group", ["nginx", "redis", "app"])
def test_a_missing_group(good: Inventory, group: str) -> None:
    del good.groups[group]
    assert only(good.errors()) == f"The group `{group}` is missing. Add it to the inventory, with at least one host."


@pytest.mark.parametrize("group", ["nginx", "redis", "app"])
def test_an_empty_group(good: Inventory, group: str) -> None:
    good.groups[group] = []
    assert only(good.errors()) == f"The group `{group}` is empty. List at least one host in it."


def test_two_redis_hosts(good: Inventory) -> None:
    good.hosts["redis2"] = {"ansible_host": "192.0.2.21"}
    good.groups["redis"].append("redis2")
    message = only(good.errors())
    assert "`redis` has 2 hosts (redis1, redis2)" in message
    assert message.endswith("Keep one host.")


def test_a_host_in_two_groups(good: Inventory) -> None:
    good.groups["app"].append("lb1")
    message = only(good.errors())
    assert message.startswith("lb1 is in the groups nginx and app. Keep it in one of them")


def test_a_host_without_an_address(good: Inventory) -> None:
    del good.hosts["app2"]["ansible_host"]
    assert only(good.errors()) == "app2 has no ansible_host. Set it to the address that Ansible connects to."


@pytest.mark.parametrize("value", [True, "true", "yes", 1])
def test_sudo_for_all_tasks(good: Inventory, value: object) -> None:
    for options in good.hosts.values():
        options["ansible_become"] = value
    message = only(good.errors())
    assert message.startswith(
        "`ansible_become` (set for lb1, redis1, app1, app2) makes tasks on the controller use sudo"
    )


@pytest.mark.parametrize(
    "options", [{"ansible_become": False}, {"ansible_become_user": "root"}, {"ansible_connection": "ssh"}]
)
def test_connections_as_they_are_without_a_definition(good: Inventory, options: dict[str, Any]) -> None:
    good.hosts["app1"] |= options
    assert good.errors() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ansible_become_user": "deploy"}, "`ansible_become_user` (set for app1) isn't root. Remove it"),
        ({"ansible_connection": "local"}, "app1: ansible_connection is 'local', expected ssh"),
        ({"ansible_connection": "community.docker.docker"}, "app1: ansible_connection is 'community.docker.docker'"),
    ],
)
def test_a_host_that_is_not_reached_by_ssh_as_root(good: Inventory, options: dict[str, Any], message: str) -> None:
    good.hosts["app1"] |= options
    assert only(good.errors()).startswith(message)


def test_the_controller_is_no_host(good: Inventory) -> None:
    good.groups["all"].append("localhost")
    good.hosts["localhost"] = {"ansible_connection": "local"}
    message = only(good.errors())
    assert message.startswith("localhost is in the inventory, where it replaces Ansible's own definition")
    assert message.endswith("Remove it; the playbooks need no entry for the controller.")


@pytest.mark.parametrize("address", ["app2.example.net", "192.0.2.300", "192.0.2.32/24", ""])
def test_an_invalid_address(good: Inventory, address: str) -> None:
    good.hosts["app2"]["ansible_host"] = address
    message = only(good.errors())
    assert message.startswith(f"app2: ansible_host is {address!r}, not an IP address.")
    assert "topology_address" in message


def test_ssh_may_use_a_name_if_the_node_has_an_address(good: Inventory) -> None:
    good.hosts["app2"] = {"ansible_host": "app2.example.net", "topology_address": "192.0.2.32"}
    assert good.errors() == []
    good.hosts["app2"]["topology_address"] = "app2.internal"
    assert "app2: topology_address is 'app2.internal', not an IP address." in only(good.errors())


def test_an_address_of_two_hosts(good: Inventory) -> None:
    good.hosts["app2"]["ansible_host"] = "192.0.2.31"
    assert only(good.errors()) == "app1 and app2 have the same address, 192.0.2.31. Give each host its own."


def test_an_address_in_two_notations() -> None:
    twice = Inventory("2001:db8::{}")
    twice.hosts["app2"]["ansible_host"] = "2001:0db8:0::31"
    assert "app1 and app2 have the same address" in only(twice.errors())


def test_several_hosts_may_share_an_address_for_ssh(good: Inventory) -> None:
    """Behind a jump host or a forwarder, ports differ; only the addresses between nodes must differ."""
    for number, host in enumerate(("app1", "app2"), 31):
        good.hosts[host] = {"ansible_host": "203.0.113.9", "topology_address": f"192.0.2.{number}"}
    assert good.errors() == []


def test_a_local_address_outside_the_subnet() -> None:
    local = Inventory("10.77.0.{}").local()
    local.hosts["app2"]["ansible_host"] = "10.78.0.32"
    assert only(local.errors()) == (
        "app2: 10.78.0.32 is not in local_nodes_subnet, 10.77.0.0/24. Change either of them."
    )


@pytest.mark.parametrize("address", ["10.77.0.0", "10.77.0.1", "10.77.0.255"])
def test_a_local_address_that_the_network_itself_has(address: str) -> None:
    local = Inventory("10.77.0.{}").local()
    local.hosts["app2"]["ansible_host"] = address
    message = only(local.errors())
    assert message.startswith(f"app2: {address} is the network, gateway or broadcast address of 10.77.0.0/24.")
    assert message.endswith("Choose another.")


def test_an_invalid_subnet() -> None:
    local = Inventory("10.77.0.{}").local()
    for options in local.hosts.values():
        options["local_nodes_subnet"] = "10.77.0.7/24"
    message = only(local.errors())
    assert message.startswith("local_nodes_subnet is invalid: 10.77.0.7/24 has host bits set. ")
    assert message.endswith("10.77.0.0/24.")


def test_a_misspelt_option(good: Inventory) -> None:
    good.hosts["redis1"]["redis_maxmemroy"] = "1gb"
    assert only(good.errors()) == (
        "`redis_maxmemroy` (set for redis1) is not an option of any role. Did you mean `redis_maxmemory`?"
    )


def test_an_option_that_resembles_none(good: Inventory) -> None:
    good.hosts["app1"]["nginx_qqqqqqqqqqqqqqqqqqqqqqqq"] = 1
    message = only(good.errors())
    assert "`nginx_qqqqqqqqqqqqqqqqqqqqqqqq` (set for app1) is not an option of any role." in message
    assert "argument_specs.yml" in message


def test_a_name_that_resembles_an_option_is_misspelt_too(good: Inventory) -> None:
    """Also if the typo is in the role's name; the operator's own names are accepted."""
    good.hosts["app1"] |= {"ngnix_port": 80, "application_name": "shop", "backup_port": 80}
    assert "Did you mean `nginx_port`?" in only(good.errors())


def test_the_operators_own_variables_are_accepted(good: Inventory) -> None:
    good.hosts["app1"] |= {"application_name": "shop", "backup_hour": 3}
    assert good.errors() == []


@pytest.mark.parametrize(("old", "new"), (renamed.OPTIONS | renamed.EXTRA_VARIABLES).items())
def test_a_renamed_option_is_refused_with_its_new_name(good: Inventory, old: str, new: str) -> None:
    good.hosts["app1"][old] = "1"
    good.hosts["app2"][old] = "1"
    assert only(good.errors()) == f"`{old}` (set for app1, app2) was renamed: use `{new}`."


def test_new_names_exist_and_old_ones_do_not() -> None:
    of_other_entry_points = {"nginx_maintenance_reason"}  # SPECS has the options of the first of each role
    assert set(renamed.OPTIONS.values()) <= SPECS.keys() | of_other_entry_points
    assert renamed.OPTIONS.keys().isdisjoint(SPECS)


@pytest.mark.parametrize(("old", "new"), renamed.TAGS.items())
def test_a_renamed_tag_is_refused_with_its_new_name(good: Inventory, old: str, new: str) -> None:
    assert only(good.errors(tags=("nginx", old))) == f"The tag `{old}` was renamed: use `--tags {new}`."


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("nginx_port", "eighty", "a whole number from 1 to 65535"),
        ("nginx_port", "80\n", "a whole number from 1 to 65535"),
        ("nginx_port", True, "a whole number from 1 to 65535"),
        ("nginx_port", 70_000, "a whole number from 1 to 65535"),
        ("nginx_requests_per_second", 0, "a whole number from 1 to 1000000"),
        ("nginx_tls_profile", "old", "one of intermediate, modern"),
        ("nginx_trusted_proxies", {"a": 1}, "a list; on the command line, -e '{\"nginx_trusted_proxies\": [...]}'"),
        ("nginx_login_paths", "/login", "a list; on the command line, -e '{\"nginx_login_paths\": [...]}'"),
        ("nginx_login_paths", ["/login", "log in"], "a list, each element a path that begins with /"),
        ("nginx_login_paths", ["/login", None], "a list, each element a path that begins with /"),
        ("nginx_login_paths", None, "a list, not null; without the line, the default applies"),
        ("session_check_nodes", "app1", "a dictionary; on the command line, -e '{\"session_check_nodes\": {...}}'"),
        ("firewall_extra_ports", [{"port": "80"}], "list: missing required arguments: sources"),
        ("firewall_extra_ports", [{"port": "80", "sources": [], "protcol": "tcp"}], "protcol"),
        ("app_slow_seconds", "2s", "a number greater than 0"),
        ("app_slow_seconds", 0, "a number greater than 0"),
        ("common_ssh", "maybe", "true or false"),
        ("common_ssh", 1.0, "true or false"),
        ("app_release", 1.1, "the id of a release; YAML reads this as float: write it in quotes"),
        ("app_name", False, "write it in quotes"),
        ("app_batch_size", "", "a number of nodes, or a part such as 25%"),
        ("common_reboot_time", 750, 'a time of day in quotes, such as "03:30"'),
        ("nginx_read_timeout", 30, "a duration with its unit"),
        ("nginx_read_timeout", "30s;", "a duration with its unit"),
        ("redis_maxmemory", "256 mb", "such as 256mb"),
        ("app_metrics_address", "localhost", "an IP address"),
        ("app_build_dir", "/tmp/a\nb", "the path of a file or directory"),
    ],
)
def test_a_value_of_the_wrong_type_or_format(good: Inventory, name: str, value: object, expected: str) -> None:
    good.hosts["app1"][name] = value
    message = only(good.errors())
    assert message.startswith(f"`{name}` is {value!r} (set for app1), expected ")
    assert expected in message
    assert f". Correct it: {SPECS[name]['description']}" in message


TEXTS = [
    "text", "yes", "0x10", "1_000", "1e3", "1:30", "1.10", " 8", "8 ", "8\n", "a\nb", "a\rb", "a\0b", "", "x" * 100_000,
    "it's", 'a "b"', "a;b", "a}b", "$(id)", "${a}", "%n", "a\\", "{{ 7 * 7 }}", "{% raw %}", "\u2028", "\ud800", "~",
]  # fmt: skip
VALUES: list[Any] = [
    *TEXTS,
    0,
    1,
    -1,
    8,
    10**30,
    0.5,
    float("nan"),
    True,
    False,
    None,
    [],
    [[]],
    [None],
    ["a\nb"],
    {},
    {"a": None},
]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_any_value_is_refused_by_name_or_means_the_same_everywhere(good: Inventory, name: str) -> None:
    """What is accepted, roles write as it is: it has its type, or it is a text with the same meaning, on one line."""
    spec = SPECS[name]
    if spec.get("no_log"):
        return  # see test_secret_rules.py
    for value in VALUES:
        good.hosts["app1"][name] = value
        errors = good.errors()
        if errors:
            assert all(name in each for each in errors), (value, errors)
            continue
        assert isinstance(
            value, dict if spec["type"] == "dict" else list if spec["type"] == "list" else str | int | float
        )
        for each in value if isinstance(value, list) else [value]:
            assert each is not None
            assert not set(str(each)) & set("\n\r\0\u2028"), (value, name)
        if spec["type"] == "int":
            assert re.fullmatch("[0-9]{1,10}", str(value)) and not isinstance(value, bool)
        if spec["type"] == "bool":
            assert str(value).lower() in ("true", "false", "yes", "no", "on", "off", "0", "1")
        if spec["type"] in ("str", "path"):
            assert isinstance(value, str | int) and not isinstance(value, bool)


def test_each_host_is_checked_with_its_own_value(good: Inventory) -> None:
    good.hosts["redis1"]["redis_maxmemory"] = "1gb"
    good.hosts["app1"]["app_threads"] = "8"
    good.hosts["app2"]["app_threads"] = "many"
    message = only(good.errors())
    assert message.startswith("`app_threads` is 'many' (set for app2), expected a whole number")


def test_a_value_of_many_hosts_is_one_message(good: Inventory) -> None:
    for number in range(3, 100):
        good.hosts[f"app{number}"] = {"ansible_host": f"192.0.2.{100 + number}"}
        good.groups["app"].append(f"app{number}")
    for host in good.groups["app"]:
        good.hosts[host]["app_threads"] = "many"
    assert "(set for app1, app2, app3 and 96 more)" in only(good.errors())


def test_numbers_as_the_command_line_has_them_are_accepted(good: Inventory) -> None:
    good.hosts["app1"] |= {"app_threads": "8", "app_batch_size": 2, "nginx_ipv6": "no", "app_slow_seconds": "0.5"}
    assert good.errors() == []


class Templates:
    """Evaluates `{{ NAME }}` with a host's variables, and counts."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self.evaluated: list[str] = []

    def __call__(self, raw: Any) -> Any:
        self.evaluated.append(str(raw))
        if not str(raw).startswith("{{"):
            return raw
        name = str(raw).strip("{ }")
        if name not in self.variables:
            raise AnsibleError(f"'{name}' is undefined")
        return self.variables[name]


def evaluate(
    hosts: dict[str, dict[str, Any]], **context: Any
) -> tuple[dict[str, dict[str, Any]], list[str], dict[str, Templates]]:
    templates = {host: Templates(context | raw) for host, raw in hosts.items()}
    both = {host: (raw, templates[host]) for host, raw in hosts.items()}
    values, errors = checks.evaluate(both, {"nginx_port", "redis_app_password"}, {"redis_app_password"})
    return values, errors, templates


def test_options_are_evaluated_once_and_other_variables_never() -> None:
    hosts = {host: {"nginx_port": "{{ port }}", "port": port, "backup": "{{ x }}"} for port, host in enumerate("ab")}
    values, errors, templates = evaluate(hosts)
    assert (values["a"]["nginx_port"], values["b"]["nginx_port"], errors) == (0, 1, [])
    assert values["a"]["backup"] is None
    assert [each.evaluated for each in templates.values()] == [["{{ port }}"], ["{{ port }}"]]


def test_a_value_may_refer_to_a_default_of_a_role() -> None:
    values, errors, _ = evaluate({"a": {"nginx_port": "{{ app_port }}"}}, app_port=8000)
    assert (values["a"]["nginx_port"], errors) == (8000, [])


def test_a_value_that_cannot_be_evaluated() -> None:
    values, errors, _ = evaluate({"a": {"nginx_port": "{{ prot }}"}, "b": {"nginx_port": "{{ prot }}"}})
    assert "nginx_port" not in values["a"]
    assert only(errors) == (
        "`nginx_port` can't be evaluated: 'prot' is undefined (set for a, b). Correct the definition."
    )


def test_a_value_that_needs_facts_is_not_evaluated_yet() -> None:
    values, errors, _ = evaluate({"a": {"nginx_port": "{{ ansible_facts.port }}"}})
    assert ("nginx_port" in values["a"], errors) == (False, [])


def test_a_secret_that_a_lookup_reads_is_read_once_for_all_hosts() -> None:
    text = "{{ lookup('vault', 'x') }}"
    context = {text.strip("{ }"): SECRET}
    hosts = {host: {"redis_app_password": text} for host in "ab"}
    values, errors, templates = evaluate(hosts, **context)
    assert (values["a"], values["b"], errors) == ({"redis_app_password": SECRET},) * 2 + ([],)
    assert sum(len(each.evaluated) for each in templates.values()) == 1


def test_an_error_of_a_secret_shows_no_details() -> None:
    _, errors, _ = evaluate({"a": {"redis_app_password": "{{ lookup('pipe', 'token=abc') }}"}})
    assert "`redis_app_password` can't be evaluated" in only(errors)
    assert "abc" not in errors[0]


@pytest.mark.parametrize("options", [{"app_login_threads": 8}, {"app_threads": "4"}])
def test_logins_that_may_occupy_all_threads(good: Inventory, options: dict[str, Any]) -> None:
    good.hosts["app1"] |= options
    message = only(good.errors())
    assert message.startswith("app1: app_login_threads is ")
    assert message.endswith("Set app_login_threads lower, or app_threads higher.")


def test_one_thread_is_enough_for_other_requests(good: Inventory) -> None:
    good.hosts["app1"] |= {"app_login_threads": 1, "app_threads": 2}
    assert good.errors() == []


@pytest.mark.parametrize("users", ["ada", ["ada"]])
def test_users_of_a_wrong_type(good: Inventory, users: object) -> None:
    assert any(each.startswith("app_users must be a dictionary, name: hash.") for each in good.errors(users=users))


def test_a_user_with_a_plain_password(good: Inventory) -> None:
    message = only(good.errors(users={"ada": "correct horse"}))
    assert message.startswith("app_users: the value of ada is not a hash.")
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
def test_a_weak_hash_is_accepted_with_a_warning(good: Inventory, method: str, is_weak: bool) -> None:
    assert good.errors(users={"ada": f"{method}$0123456789abcdef$00ff"}) == []
    warnings = checks.inventory_warnings(good.hosts)
    assert len(warnings) == int(is_weak)
    assert all("app_users: the hash of ada" in each and method in each and "`make hash`" in each for each in warnings)
    assert not any("00ff" in each or "0123456789abcdef" in each for each in warnings)


@pytest.mark.parametrize("name", ["ada l", "ada:l", ""])
def test_a_user_with_an_invalid_name(good: Inventory, name: str) -> None:
    assert only(good.errors(users={name: HASH})).startswith(f"app_users: {name!r} is not a name")


def test_a_user_with_the_name_of_the_demo_account(good: Inventory) -> None:
    message = only(good.errors(users={"probe": HASH}, demo_user="probe"))
    assert message.startswith("app_users has probe, which is the name of the demo account.")


def test_users_that_only_some_hosts_have_are_checked_too(good: Inventory) -> None:
    good.hosts["app2"]["app_users"] = {"bob": "in clear"}
    assert only(good.errors()).startswith("app_users: the value of bob is not a hash.")


def test_all_errors_are_listed_at_once(good: Inventory) -> None:
    good.groups["app"] = []
    good.hosts["lb1"]["nginx_prot"] = 80
    assert len(good.errors(users={"ada": "plain"})) == 3


def test_no_name_to_serve(good: Inventory) -> None:
    good.hosts["lb1"]["nginx_server_names"] = []
    message = only(good.errors())
    assert message.startswith("nginx_server_names is empty, ")
    assert "List the names" in message


@pytest.mark.parametrize(
    "name", ["shop.example:8443", "https://shop.example", "shop.example/", "[2001:db8::1]", "a b", ""]
)
def test_a_name_with_more_than_a_name(good: Inventory, name: str) -> None:
    good.hosts["lb1"]["nginx_server_names"] = ["shop.example", name]
    message = only(good.errors())
    assert message.startswith(f"nginx_server_names has {name!r}, which is neither")
    assert "nginx_public_tls_port" in message


def test_valid_names(good: Inventory) -> None:
    good.hosts["lb1"]["nginx_server_names"] = [
        "shop.example",
        "*.Shop.example",
        "localhost",
        "192.0.2.1",
        "2001:db8::1",
    ]
    assert good.errors() == []


@pytest.mark.parametrize("option", formats.RANGES)
def test_the_ends_of_each_range(good: Inventory, option: str) -> None:
    least, most = formats.RANGES[option]
    for value in (least - 1, str(least - 1), most + 1):
        good.hosts["lb1"][option] = value
        assert f"expected a whole number from {least} to {most}." in only(good.errors())
    for value in (str(least), most):
        good.hosts["lb1"][option] = value
        assert good.errors() == []


def test_the_tables_have_options_only() -> None:
    assert {*formats.RANGES, *formats.FORMATS, *formats.MAY_BE_EMPTY} <= SPECS.keys()


@pytest.mark.parametrize(
    ("source", "remedy"), [("10.0.0.5/24", "10.0.0.0/24 or 10.0.0.5."), ("bastion", "192.0.2.7 or 192.0.2.0/24.")]
)
def test_a_source_that_the_firewall_cannot_use(good: Inventory, source: str, remedy: str) -> None:
    for host in good.hosts.values():
        host["firewall_ssh_sources"] = ["192.0.2.0/24", source]
    message = only(good.errors())
    assert message.startswith(
        f"firewall_ssh_sources: {source!r}" if "/" not in source else f"firewall_ssh_sources: {source}"
    )
    assert message.endswith(remedy)
    good.hosts["app1"]["firewall_extra_ports"] = [{"port": 9464, "sources": [source]}]
    assert any(each.startswith("firewall_extra_ports: ") for each in good.errors())


def errors_of(name: str, value: object) -> list[str]:
    """Return the errors of a secret that the whole inventory defines."""
    return list(secret_errors(TABLE, {"app1": {name: value}}, {}, "/secrets"))


def test_a_good_secret_has_no_errors() -> None:
    assert errors_of("redis_app_password", SECRET) == []


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_secret(value: object) -> None:
    assert only(errors_of("redis_app_password", value)) == (
        "The secret `redis_app_password` (set for app1) is empty. Undefine it to get a random value."
    )


def test_a_short_secret() -> None:
    message = only(errors_of("redis_app_password", SECRET[:15]))
    assert message.startswith("The secret `redis_app_password` (set for app1) has 15 characters; it needs 16.")
    assert SECRET[:15] not in message


@pytest.mark.parametrize("character", ["'", '"', " ", "\\", "\n", "é"])
def test_a_secret_that_a_file_cannot_hold(character: str) -> None:
    message = only(errors_of("redis_app_password", SECRET + character + SECRET))
    assert "has characters that a file of environment" in message
    assert SECRET not in message


def test_no_random_secret_is_refused() -> None:
    letters = string.ascii_letters + string.digits
    for number in range(10_000):
        value = "".join(secrets.choice(letters) for _ in range(24 + number % 41))
        assert secret_problem(value, TABLE["redis_app_password"]) is None, value


def test_the_apps_key_is_as_long_as_the_app_requires() -> None:
    """Preflight refuses each key that the app would refuse."""
    assert "it needs 32" in only(errors_of("app_secret_key", "k3" * 10))


def test_the_bypass_token_is_part_of_a_url() -> None:
    assert errors_of("nginx_maintenance_bypass_token", SECRET + "_-") == []
    message = only(errors_of("nginx_maintenance_bypass_token", SECRET + "/;"))
    assert "has characters that can't be part of a URL" in message


def test_fallbacks_are_checked_like_the_secret() -> None:
    assert "is not a list" in only(errors_of("app_secret_key_fallbacks", SECRET * 2))
    assert "it needs 32" in only(errors_of("app_secret_key_fallbacks", [SECRET * 2, SECRET]))


def test_a_secret_that_only_some_hosts_have(good: Inventory) -> None:
    stored = {"redis_app_password": SECRET, "app_secret_key": SECRET * 2}

    def errors(stored: dict[str, str] = stored) -> list[str]:
        return list(secret_errors(TABLE, good.hosts, stored, "/secrets"))

    assert errors() == []
    good.hosts["app1"]["redis_app_password"] = SECRET
    assert errors() == []
    assert "set for app1 differs" in only(errors({}))
    good.hosts["app2"]["redis_app_password"] = SECRET + "2"
    message = only(errors())
    assert message.startswith("The secret `redis_app_password` that is set for app2 differs from the value of")
    assert SECRET not in message


def test_a_stored_secret_is_checked_too(good: Inventory) -> None:
    message = only(list(secret_errors(TABLE, good.hosts, {"app_secret_key": "changeme"}, "/secrets")))
    assert message.startswith("The secret `app_secret_key` in /secrets/app_secret_key looks like a placeholder.")


@pytest.mark.parametrize("name", TABLE)
def test_a_created_secret_is_accepted(name: str) -> None:
    create = load_module("plugins/modules/secret_files.py").random_value
    assert secret_problem(create(TABLE[name]["length"]).strip(), TABLE[name]) is None


def test_the_table_has_every_secret_with_a_fallback() -> None:
    fallbacks = {name.removesuffix("_fallbacks") for name in SPECS if name.endswith("_fallbacks")}
    assert fallbacks < TABLE.keys() <= SPECS.keys()
    assert all(TABLE[name]["rotated"] for name in fallbacks)
