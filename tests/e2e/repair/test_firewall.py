"""Runs that change the firewall: rules that lock the controller out are rolled back."""

from lib.cluster import Cluster, eventually

TABLE = "nft --stateless list table inet anynode"


def test_rules_that_lock_the_controller_out_are_rolled_back(cluster: Cluster) -> None:
    """The run fails with a message. The rules from before apply, and the file that is loaded at boot never changed."""
    host = cluster.apps[0]
    before = cluster.run(host, TABLE), cluster.run(host, "cat /etc/anynode/firewall.nft")
    run = cluster.playbook(
        *("site.yml", "--tags", "firewall", "--limit", host),
        *("-e", "__firewall_ssh_port=2222", "-e", "firewall_confirm_seconds=15"),
    )
    assert not run.ok
    assert "could not prove that it can still connect" in run.words
    assert eventually(lambda: cluster.run(host, TABLE) == before[0], seconds=30)
    assert cluster.run(host, "cat /etc/anynode/firewall.nft") == before[1]


def test_a_controller_that_is_not_listed_is_refused_before_a_rule_changes(cluster: Cluster) -> None:
    before = cluster.run(cluster.redis, TABLE)
    run = cluster.playbook("site.yml", "--tags", "firewall", "-e", '{"firewall_ssh_sources": ["192.0.2.1"]}')
    assert not run.ok
    assert "would lock this controller out" in run.words
    assert cluster.run(cluster.redis, TABLE) == before


def test_rules_are_removed_when_disabled_and_loaded_again_when_missing(cluster: Cluster) -> None:
    """Disabled on one host, with a rollback pending from an interrupted run; flushed on another host.

    The next run loads both, and changes no other host.
    """
    (disabled, flushed), timer = cluster.apps[:2], "anynode-firewall-rollback"
    before = {host: cluster.run(host, TABLE) for host in (disabled, flushed)}
    cluster.run(disabled, f"systemd-run --collect --unit={timer} --on-active=900 true")
    try:
        cluster.converge("--tags", "firewall", "--limit", disabled, "-e", "firewall_enabled=false")
        assert cluster.run(disabled, TABLE, check=False) == ""
        assert cluster.run(disabled, f"systemctl is-active {timer}.timer", check=False) == "inactive"
        cluster.run(flushed, "nft flush ruleset")
    finally:
        run = cluster.converge("--tags", "firewall")
    assert {host for host, count in run.changed.items() if count} == {disabled, flushed}
    assert {host: cluster.run(host, TABLE) for host in (disabled, flushed)} == before
