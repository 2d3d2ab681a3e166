"""The login check comes to the balancer over HTTPS as a visitor would: by its name, and verifies it."""

import ssl

import pytest
from lib.ansible_runs import load_module
from lib.certificates import Authority
from lib.rendered_nginx import Node

check = load_module("plugins/modules/session_check.py")
URL = "https://shop.example:{}"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def balancer():
    """Something on loopback that answers over TLS with a pair: balancer(pair)."""
    nodes = []

    def start(pair):
        node = Node()
        nodes.append(node)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.certificate, pair.key)
        node.socket = tls.wrap_socket(node.socket, server_side=True)
        return node.server_port

    yield start
    for node in nodes:
        node.close()


def ask(port, ca_file):
    visitor = check.Visitor(10, address="127.0.0.1", tls=check.trust(ca_file))
    return visitor.ask(URL.format(port), "GET", "/")[0]


def test_by_name_wherever_that_leads(balancer, authority):
    """Verified by the CA, or by the very certificate where its CA is not ours."""
    pair = authority.issue("shop.example")
    port = balancer(pair)
    assert ask(port, pair.ca) == 200
    assert ask(port, pair.certificate) == 200


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [(["other.example"], {}, "mismatch"), (["shop.example"], {"begins": -2, "days": -1}, "has expired")],
)
def test_a_certificate_that_visitors_would_be_warned_of(balancer, authority, names, options, said):
    pair = authority.issue(*names, **options)
    port = balancer(pair)
    for ca_file in (pair.ca, pair.certificate):
        with pytest.raises(check.CheckFailed, match=said):
            ask(port, ca_file)


def test_a_certificate_of_somebody_else(balancer, authority, tmp_path):
    port = balancer(Authority(tmp_path, "other").issue("shop.example"))
    with pytest.raises(check.CheckFailed, match="certificate verify failed"):
        ask(port, authority.issue("shop.example").ca)


def test_a_login_makes_the_next_ones_those_of_a_known_browser(monkeypatch):
    """While the account is attacked strangers wait half a minute for each login, and there is one for each pair."""
    monkeypatch.setattr(check.Visitor, "browser", None)
    node = Node(headers={"Set-Cookie": "__Host-device=known; Secure"})
    try:
        for _ in range(2):
            check.Visitor(10).ask(f"http://{node.address}", "POST", "/api/login", {})
    finally:
        node.close()
    assert [headers["Cookie"] for _, headers in node.heads] == [None, "__Host-device=known"]
