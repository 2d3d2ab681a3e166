"""Changes that the role redis applies to a running server: ACL users and certificate, without closing connections."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import load_module
from lib.certificates import Authority
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD, RedisServer
from redis import Redis, RedisError

client = load_module("plugins/module_utils/anynode/redis.py")
reconfigure = load_module("plugins/modules/redis_reconfigure.py")
status = load_module("plugins/modules/redis_status.py")
OLD, NEW = REDIS_PASSWORD, "8d1e33a02b5c"


class Server:
    """A server, its file of ACL users, and the functions of the module that apply it."""

    def __init__(self, server: RedisServer, acl_file: Path) -> None:
        self.server, self.acl_file = server, acl_file

    def write(self, app: tuple[str, ...] = (OLD,), admin: tuple[str, ...] = (OLD,), more: str = "") -> None:
        """Write the file, with these passwords."""
        apps, admins = (" ".join(f">{password}" for password in each) for each in (app, admin))
        self.acl_file.write_text(
            f"user default off ~* &* +@all\nuser admin on {admins} ~* &* +@all\n"
            f"user app on {apps} ~{PREFIX}* resetchannels -@all {ACL_COMMANDS}\n{more}"
        )

    def run(self, function: Callable[..., Any], *passwords: str) -> Any:
        """Run a function of the module as the admin."""
        with client.Redis(self.server.port, "admin", passwords or [OLD]) as redis:
            return function(redis, self.acl_file)

    def load(self, *passwords: str, **users: Any) -> bool:
        """Write the file and apply it; return whether that changed anything."""
        self.write(**users)
        return bool(self.run(reconfigure.apply_acl, *passwords))

    def connect(self, password: str = OLD, user: str = "app") -> Redis:
        """Return a client with a single, open connection."""
        redis = Redis(port=self.server.port, username=user, password=password, single_connection_client=True)
        redis.exists(f"{PREFIX}x")
        return redis

    def refuses(self, password: str, user: str = "app") -> bool:
        try:
            self.connect(password, user).close()
        except RedisError as error:
            assert "invalid username-password" in str(error), error
            return True
        return False


@pytest.fixture
def server(own_redis: RedisServer, tmp_path: Path) -> Server:
    return Server(own_redis, tmp_path / "users")


def address(redis: Redis) -> Any:
    """Return the local address of the connection; it changes with a reconnection."""
    connection: Any = redis.connection
    return connection._sock.getsockname()


@pytest.mark.every_server
def test_a_password_is_replaced_and_no_connection_is_closed(server: Server) -> None:
    early = server.connect()
    before = address(early)
    assert server.load(app=[NEW, OLD])
    late = server.connect(NEW)
    assert not server.refuses(OLD)
    assert server.load(app=[NEW])
    assert server.refuses(OLD)
    for redis in (early, late):
        assert redis.exists(f"{PREFIX}x") == 0
    assert address(early) == before


@pytest.mark.every_server
def test_unchanged_users_are_reported_as_unchanged(server: Server) -> None:
    assert server.load(app=[OLD, NEW])
    assert not server.load(app=[OLD, NEW])


@pytest.mark.every_server
def test_a_user_that_is_not_in_the_file_is_deleted(server: Server) -> None:
    server.load(more=f"user other on >{OLD} ~* +@all\n")
    other = server.connect(user="other")
    assert server.load()
    assert server.refuses(OLD, "other")
    with pytest.raises(RedisError):
        other.ping()


def test_removed_permissions_are_revoked(server: Server) -> None:
    server.load()
    server.write()
    server.acl_file.write_text(server.acl_file.read_text().replace("+exists", ""))
    assert server.run(reconfigure.apply_acl)
    with pytest.raises(RedisError, match="exists"):
        server.connect()


def test_the_admin_password_is_replaced(server: Server) -> None:
    """The client tries the new password first, then the old one."""
    assert server.load(NEW, OLD, admin=[NEW, OLD])
    assert server.load(NEW, OLD, admin=[NEW])
    assert server.refuses(OLD, "admin")
    assert not server.load(NEW, OLD, admin=[NEW])


def test_a_server_that_accepts_no_password_is_an_error(server: Server) -> None:
    server.write()
    with pytest.raises(client.RedisError, match="^Redis accepts none of the passwords of admin$"):
        server.run(reconfigure.apply_acl, NEW)


def test_users_that_the_server_rejects_are_an_error(server: Server) -> None:
    server.write(more="user other on +nonsense\n")
    with pytest.raises(client.RedisError, match="nonsense"):
        server.run(reconfigure.apply_acl)


def test_stale_connections_are_closed(server: Server) -> None:
    stale = server.connect()
    other_admin = server.connect(user="admin")
    time.sleep(1.1)  # Redis reports ages in whole seconds
    server.load(app=[NEW])
    time.sleep(1.1)
    fresh = server.connect(NEW)
    before = address(fresh)
    assert server.run(reconfigure.close_stale_connections) >= 2  # and that of the fixture
    for each in (stale, other_admin):
        with pytest.raises(RedisError):
            connection: Any = each.connection
            connection.send_command("PING", check_health=False)
            connection.read_response()
    fresh.exists(f"{PREFIX}x")
    assert address(fresh) == before
    assert server.run(reconfigure.close_stale_connections) == 0


def test_replies_of_all_kinds_are_read(own_redis: RedisServer) -> None:
    with client.Redis(own_redis.port, "admin", [OLD]) as redis:
        assert redis.query("SET", "key", 'a "b"\n\\ c', "PX", 60000) == "OK"
        assert redis.query("GET", "key") == 'a "b"\n\\ c'
        assert redis.query("GET", "other") is None
        assert redis.query("DBSIZE") == 1
        assert redis.query("CONFIG", "GET", "appendfsync") == ["appendfsync", "no"]
        assert "\nredis_version:" in redis.query("INFO")
        with pytest.raises(client.RedisError, match="unknown command 'NONSENSE'"):
            redis.query("NONSENSE")
        assert redis.query("ACL", "WHOAMI") == "admin"


def test_the_password_is_in_no_command_line(own_redis: RedisServer) -> None:
    """redis-cli would hide an option with the password, but only after its start."""
    with client.Redis(own_redis.port, "admin", [OLD]) as redis:
        assert str(own_redis.port) in redis._process.args
        assert OLD not in redis._process.args


def test_a_server_that_does_not_reply_is_an_error(own_redis: RedisServer) -> None:
    own_redis.pause()
    try:
        with pytest.raises(client.RedisError, match=r"did not reply within 0.3 s"):
            client.Redis(own_redis.port, "admin", [OLD], timeout=0.3)
    finally:
        own_redis.resume()
    own_redis.kill()
    with pytest.raises(client.RedisError, match="Connection refused"):
        client.Redis(own_redis.port, "admin", [OLD])


@pytest.fixture
def tls(tmp_path: Path) -> Any:
    """A server that speaks TLS, its CA and its certificate."""
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    server = RedisServer(tmp_path, tls=pair).start()
    yield server, authority, pair
    server.kill()


def test_a_replaced_certificate_is_presented(tls: Any) -> None:
    """Once; an unchanged certificate is not applied again."""
    server, authority, pair = tls
    new = authority.issue("127.0.0.1", title="new")
    with client.Redis(server.port, "admin", [OLD], ca_file=str(authority.file)) as redis:
        assert not reconfigure.apply_certificate(redis, server.port, pair.certificate, str(pair.key))
        assert reconfigure.apply_certificate(redis, server.port, new.certificate, str(new.key))
        assert not reconfigure.apply_certificate(redis, server.port, new.certificate, str(new.key))
    with pytest.raises(client.RedisError, match="certificate verify failed"):
        client.Redis(server.port, "admin", [OLD], ca_file=str(Authority(authority.folder, "other").file))


def test_the_status_of_a_server_is_reported(tls: Any) -> None:
    server, authority, _ = tls
    for number in range(3):
        server.admin.set(f"{PREFIX}session:{number}", "x", ex=60)
    args = {"port": server.port, "ca_file": str(authority.file), "username": "admin", "passwords": [OLD]}
    args |= {"sessions": f"{PREFIX}session:", "keys": 1000, "seconds": 3.0}
    found = status.status(args, lambda: ["the cause"])
    assert (found["state"], found["sessions"], found["sessions_counted"]) == ("ready", 3, True)
    assert (found["aof_enabled"], found["appendfsync"], found["rdb_last_bgsave_status"]) == (True, "no", "ok")
    found = status.status(args | {"passwords": [NEW]}, lambda: ["the cause"])
    assert found["reason"] == "Redis accepts none of the passwords of admin"
    server.kill()
    found = status.status(args, lambda: ["the cause"])
    assert found["state"] == "not ready"
    assert found["reason"].endswith("; the cause")
