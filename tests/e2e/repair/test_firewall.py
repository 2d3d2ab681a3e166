"""The firewall and the runs that change it: rules that shut the controller out go away."""

from lib.cluster import changed, eventually

TABLE = "nft --stateless list table inet anynode"


def test_rules_that_shut_the_controller_out_go_away_by_themselves(cluster):
    """The run fails and says so; what ran before runs, and what a reboot would load was never touched."""
    host = cluster.apps[0]
    before = cluster.run(host, TABLE), cluster.run(host, "cat /etc/anynode/firewall.nft")
    done = cluster.playbook(
        *("site.yml", "--tags", "firewall", "--limit", host),
        *("-e", "__firewall_ssh_port=2222", "-e", "firewall_confirm_seconds=15"),
    )
    assert done.returncode != 0
    assert "could not prove that it can still connect" in " ".join(done.stdout.split())
    assert eventually(lambda: cluster.run(host, TABLE) == before[0], seconds=30)
    assert cluster.run(host, "cat /etc/anynode/firewall.nft") == before[1]
    assert set(changed(cluster.converge("--tags", "firewall")).values()) == {0}


def test_a_controller_that_is_not_listed_is_refused_before_a_rule_changes(cluster):
    before = cluster.run(cluster.redis, TABLE)
    done = cluster.playbook("site.yml", "--tags", "firewall", "-e", '{"firewall_ssh_sources": ["192.0.2.1"]}')
    assert done.returncode != 0
    assert "would lock this controller out" in " ".join(done.stdout.split())
    assert cluster.run(cluster.redis, TABLE) == before


def test_a_run_notices_that_somebody_flushed_the_rules(cluster):
    host = cluster.apps[0]
    before = cluster.run(host, TABLE)
    cluster.run(host, "nft flush ruleset")
    assert changed(cluster.converge("--tags", "firewall"))[host] > 0
    assert cluster.run(host, TABLE) == before


def test_switched_off_no_rule_is_left_and_none_comes_back(cluster):
    """Not even what a run that was cut off had on probation."""
    host, timer = cluster.apps[0], "anynode-firewall-rollback"
    before = cluster.run(host, TABLE)
    cluster.run(host, f"systemd-run --collect --unit={timer} --on-active=900 true")
    try:
        cluster.converge("--tags", "firewall", "--limit", host, "-e", "firewall_enabled=false")
        assert cluster.run(host, TABLE, check=False) == ""
        assert cluster.run(host, f"systemctl is-active {timer}.timer", check=False) == "inactive"
    finally:
        cluster.converge("--tags", "firewall", "--limit", host)
    assert cluster.run(host, TABLE) == before
