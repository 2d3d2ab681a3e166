"""Who is behind the balancer: the decisions of the module that keeps nginx's upstream."""

import pytest
from lib.ansible_runs import load_module

upstream = load_module("plugins/modules/nginx_upstream.py")

TWO = {"app1": "192.0.2.31:8000", "app2": "[2001:db8::32]:8000"}
NOTE = {"by": "ada@desk", "reason": 'new disk; {"quoted"}', "kind": "drain"}


@pytest.fixture
def both():
    return upstream.change({}, TWO, "max_fails=2")[0]


def test_what_is_written_is_read_again(both):
    after, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    assert upstream.parse(upstream.render(after)) == after
    assert after["app2"]["drained"] == NOTE


def test_a_node_that_is_out_stays_out_whatever_else_changes(both):
    out, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    after, _alone = upstream.change(out, TWO | {"app3": "192.0.2.33:8000"}, "max_fails=9")
    assert after["app2"]["drained"] == NOTE
    assert after["app3"] == {"address": "192.0.2.33:8000", "server_options": "max_fails=9", "drained": None}
    back, _alone = upstream.change(after, undrain=["app2"])
    assert back["app2"]["drained"] is None


def test_a_run_puts_back_only_what_a_run_took_out(both):
    out, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    assert upstream.change(out, undrain=["app2"], undrain_kinds=["deployment"])[0] == out
    assert upstream.change(out, undrain=["app2"], undrain_kinds=["deployment", "drain"])[0] == both


def test_a_node_that_is_put_back_may_have_moved(both):
    out, _alone = upstream.change(both, drain=["app2"], reason={})
    back, _alone = upstream.change(out, undrain=["app2"], addresses={"app1": "192.0.2.1:1", "app2": "192.0.2.2:2"})
    assert back["app2"] == {"address": "192.0.2.2:2", "server_options": "max_fails=2", "drained": None}
    assert back["app1"] == both["app1"]


def test_what_is_in_flight_to_a_node_that_is_out_already_is_waited_for_again(both):
    out, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    for before, after in ((both, out), (out, out)):
        assert upstream.gone(before, after, ["app2"]) == [TWO["app2"]]
    assert upstream.gone(out, out, []) == []
    assert upstream.gone(both, {"app1": both["app1"]}, []) == [TWO["app2"]]


def test_a_line_that_is_nobodys_is_refused():
    with pytest.raises(upstream.Refused, match="192.0.2.31:8000 down; Let it end"):
        upstream.parse("# by hand\nserver 192.0.2.31:8000 down;")


def test_who_took_a_node_out_first_is_remembered(both):
    out, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    assert upstream.change(out, drain=["app2"], reason={"by": "eve"})[0] == out


def test_a_node_that_is_in_alone_is_never_taken_for_failed(both):
    out, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    assert "server 192.0.2.31:8000 max_fails=2 max_fails=0;  # app1\n" in upstream.render(out)
    assert upstream.parse(upstream.render(out)) == out
    assert "max_fails=0;" not in upstream.render(both)


def test_the_last_node_is_never_taken_out(both):
    out, alone = upstream.change(both, drain=["app1", "app2"], reason=NOTE)
    assert alone == ["app2"]
    assert out["app2"]["drained"] is None
    with pytest.raises(upstream.Refused, match="undrain.yml"):
        upstream.change(out, {"app1": TWO["app1"]}, "max_fails=2")


def test_unknown_nodes_are_nobodys_business(both):
    assert upstream.change(both, drain=["app9"], undrain=["app8"], reason=NOTE) == (both, [])


def test_nodes_that_are_not_listed_leave_unless_nobody_would_be_left(both):
    assert list(upstream.change(both, keep=["app1", "app3"])[0]) == ["app1"]
    assert upstream.change(both, keep=["app3"])[0] == both
    out, _alone = upstream.change(both, drain=["app1"], reason=NOTE)
    assert upstream.change(out, keep=["app1"])[0] == out


def test_who_is_alone_is_not_asked_in_haste_and_nobody_takes_its_place(both):
    assert "GET @hasty;\nHEAD @hasty;\n" in upstream.render_reads(both)
    assert upstream.render(both).count(" backup;") == 2
    alone, _alone = upstream.change(both, drain=["app2"], reason=NOTE)
    assert "@hasty" not in upstream.render_reads(alone)
    assert " backup;" not in upstream.render(alone)


def test_who_is_out_is_asked_by_nobody():
    three, _alone = upstream.change({}, TWO | {"app3": "192.0.2.33:8000"}, "max_fails=2")
    out, _alone = upstream.change(three, drain=["app2"], reason=NOTE)
    assert [line for line in upstream.render(out).splitlines() if TWO["app2"] in line and " down;" not in line] == []


def test_files_that_nginx_refuses_are_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(upstream, "run", lambda *_command: (1, "unknown directive"))
    old, new = tmp_path / "upstream.conf", tmp_path / "upstream-reads.conf"
    old.write_text("as it was")
    with pytest.raises(upstream.Refused, match="unknown directive"):
        upstream.land({old: "banana", new: "banana"})
    assert old.read_text() == "as it was"
    assert not new.exists()
