"""The claim, and the proof that the proof can fail."""

import itertools
import secrets

import pytest
from lib.cluster import changed

LIMIT = 10  # app_login_failures


def test_a_login_on_one_node_is_known_on_every_other(cluster):
    """The check says so for each pair of nodes and for the balancer, and changes nothing."""
    done = cluster.playbook("playbooks/verify.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    for here, there in itertools.permutations(cluster.apps, 2):
        assert f"login on {here}, read on {there}: ok" in done.stdout
    assert f"through the balancer, on {', '.join(cluster.apps)}: ok" in done.stdout
    assert set(changed(done.stdout).values()) == {0}


@pytest.fixture
def memory_mode(cluster):
    """Sessions in each node's own memory, as if there were no Redis; put right afterwards."""
    try:
        yield cluster.converge("--tags", "app", "-e", "app_session_store=memory", "-e", "app_workers=1")
    finally:
        cluster.converge("--tags", "app")


def test_the_check_goes_red_when_nodes_keep_sessions_to_themselves(cluster, memory_mode):
    """The negative control: without the shared store the same check fails, in the words of who was logged out."""
    done = cluster.playbook("playbooks/verify.yml")
    assert done.returncode != 0
    first, second = cluster.apps[:2]
    assert f"login on {first}, read on {second}: logged in on {first}, unknown on {second}" in done.stdout
    assert f"login on {second}, read on {first}: logged in on {second}, unknown on {first}" in done.stdout
    assert "through the balancer: logged in on" in done.stdout


def test_the_page_works_for_a_person(cluster):
    """Through the balancer: a form to log in with, and then who is logged in and which node answered."""
    visitor = cluster.visitor()
    page = visitor.get(cluster.balancer, "/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert 'name="password"' in page.text
    visitor = cluster.log_in(cluster.balancer)
    page = visitor.get(cluster.balancer, "/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "demo" in page.text
    assert page.headers["X-Node"] in page.text


def test_who_guesses_is_stopped_on_all_doors_and_nobody_else_is(cluster):
    """The nodes count together: so many tries through different doors, then 429; another account logs in."""
    guess = {"username": f"nobody-{secrets.token_hex(4)}", "password": "wrong"}
    doors = itertools.cycle(cluster.apps)
    answers = [cluster.visitor().post(next(doors), "/api/login", guess) for _ in range(LIMIT)]
    assert [answer.status_code for answer in answers] == [401] * LIMIT
    for host in cluster.doors:
        answer = cluster.visitor().post(host, "/api/login", guess)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 1
        assert answer.json()["error"]
        cluster.log_in(host)
