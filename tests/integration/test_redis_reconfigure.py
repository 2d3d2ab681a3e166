"""What the role redis tells a running server: its accounts change, and no connection is closed for it."""

import subprocess
import time

import pytest
from lib.cluster import ROOT
from lib.redis_server import ACL_COMMANDS, PREFIX, REDIS_PASSWORD
from redis import Redis, RedisError

SCRIPT = ROOT / "roles/redis/files/redis-reconfigure.sh"
OLD, NEW = REDIS_PASSWORD, "8d1e33a02b5c"


class Server:
    """A server, its file of accounts, and the script that brings them together."""

    def __init__(self, server, accounts):
        self.server, self.accounts = server, accounts

    def write(self, app=(OLD,), admin=(OLD,), more=""):
        """Write the file, with these passwords."""
        app, admin = (" ".join(f">{password}" for password in each) for each in (app, admin))
        self.accounts.write_text(
            f"user default off ~* &* +@all\nuser admin on {admin} ~* &* +@all\n"
            f"user app on {app} ~{PREFIX}* resetchannels -@all {ACL_COMMANDS}\n{more}"
        )

    def run(self, call, *passwords):
        """Run a function of the script, as its tasks do; return what it printed."""
        settings = f"port={self.server.port} options= admin=admin accounts='{self.accounts}'"
        return subprocess.run(
            ["bash", "-c", f"{settings}\n{SCRIPT.read_text()}\nlog_in && {call}"],
            input="\n".join(passwords or [OLD]) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )

    def load(self, *passwords, **accounts):
        """Write the file and let the server have it; return whether that changed anything."""
        self.write(**accounts)
        done = self.run("load_accounts", *passwords)
        assert done.returncode == 0, done.stderr
        return done.stdout == "changed\n"

    def connect(self, password=OLD, user="app"):
        """One connection, open from now on."""
        client = Redis(port=self.server.port, username=user, password=password, single_connection_client=True)
        client.exists(f"{PREFIX}x")
        return client

    def refuses(self, password, user="app"):
        try:
            self.connect(password, user).close()
        except RedisError as error:
            assert "invalid username-password" in str(error), error
            return True
        return False


@pytest.fixture
def server(own_redis, tmp_path):
    return Server(own_redis, tmp_path / "accounts")


def address(client):
    """The connection's own end of the socket: another one after it was closed and opened anew."""
    return client.connection._sock.getsockname()


@pytest.mark.every_server
def test_a_password_is_replaced_and_no_connection_is_closed(server):
    early = server.connect()
    was = address(early)
    assert server.load(app=[NEW, OLD])
    late = server.connect(NEW)
    assert not server.refuses(OLD)
    assert server.load(app=[NEW])
    assert server.refuses(OLD)
    for client in (early, late):
        assert client.exists(f"{PREFIX}x") == 0
    assert address(early) == was


@pytest.mark.every_server
def test_what_the_server_has_is_not_loaded_again(server):
    assert server.load(app=[OLD, NEW])
    assert not server.load(app=[OLD, NEW])


@pytest.mark.every_server
def test_an_account_that_is_not_in_the_file_is_gone(server):
    server.load(more=f"user other on >{OLD} ~* +@all\n")
    other = server.connect(user="other")
    assert server.load()
    assert server.refuses(OLD, "other")
    with pytest.raises(RedisError):
        other.ping()


def test_rights_that_were_taken_away_are_gone(server):
    server.load()
    server.write()
    server.accounts.write_text(server.accounts.read_text().replace("+exists", ""))
    assert server.run("load_accounts").stdout == "changed\n"
    with pytest.raises(RedisError, match="exists"):
        server.connect()


def test_the_admins_own_password_is_replaced(server):
    """By who tries the new one first, and then the old one."""
    assert server.load(NEW, OLD, admin=[NEW, OLD])
    assert server.load(NEW, OLD, admin=[NEW])
    assert server.refuses(OLD, "admin")
    assert not server.load(NEW, OLD, admin=[NEW])


def test_a_server_that_takes_no_password_is_said_to(server):
    server.write()
    done = server.run("load_accounts", NEW)
    assert done.returncode != 0
    assert done.stderr == "Redis takes none of the passwords of admin\n"


def test_accounts_that_the_server_refuses_are_told(server):
    server.write(more="user other on +nonsense\n")
    done = server.run("load_accounts")
    assert done.returncode != 0
    assert "nonsense" in done.stderr


def test_who_logged_in_before_the_accounts_changed_is_hung_up_on(server):
    stray = server.connect()
    other_admin = server.connect(user="admin")
    time.sleep(1.1)  # Redis tells ages in whole seconds
    server.load(app=[NEW])
    time.sleep(1.1)
    client = server.connect(NEW)
    was = address(client)
    assert server.run("end_strays").stdout.startswith("changed\n")
    for each in (stray, other_admin):
        with pytest.raises(RedisError):
            each.connection.send_command("PING", check_health=False)
            each.connection.read_response()
    client.exists(f"{PREFIX}x")
    assert address(client) == was
    assert server.run("end_strays").stdout == ""
