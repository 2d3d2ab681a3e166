"""Sessions in memory aren't shared: the negative control of the tests with two nodes."""

from lib.demo_app import log_in, make_app, session_cookie


def test_control_sessions_in_memory_are_unknown_on_the_other_node() -> None:
    settings = {"APP_SESSION_STORE": "memory", "APP_REDIS_HOST": None, "APP_REDIS_PASSWORD": None}
    a, b = (make_app(1, APP_NODE=name, **settings).test_client() for name in ("a", "b"))
    log_in(a)
    assert a.get("/api/session").status_code == 200
    cookie = session_cookie(a)
    assert cookie
    b.set_cookie("session", cookie)
    assert b.get("/api/session").status_code == 401
    assert b.get("/readyz").status_code == 200
