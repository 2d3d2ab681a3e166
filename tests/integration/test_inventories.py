"""Bad inventories and apps stop site.yml before it touches anything; good ones pass, and secrets are made once."""

import re
import stat

import pytest
from lib.ansible_runs import ansible_playbook, inventory, write_app, write_inventory

SECRETS = {
    "app_demo_password",
    "app_secret_key",
    "nginx_maintenance_bypass_token",
    "redis_admin_password",
    "redis_app_password",
}


def plays(done):
    """Return the names of the plays that began."""
    return re.findall(r"^PLAY \[(.*?)\]", done.stdout, re.MULTILINE)


def words(done):
    """Return the output with each run of white space as one space: Ansible wraps its messages."""
    return re.sub(r"\s+", " ", done.stdout)


def without(group):
    content = inventory()
    del content["all"]["children"][group]
    return content


def same_address():
    content = inventory()
    content["all"]["children"]["app"]["hosts"]["app2"]["ansible_host"] = "192.0.2.31"
    return content


def refused(folder, content, *arguments):
    """Run the real site.yml on an inventory that it must refuse; return what it said."""
    hosts = write_inventory(folder, content)
    done = ansible_playbook("-i", hosts, "site.yml", *arguments)
    assert done.returncode != 0, done.stdout
    assert plays(done) == ["Validate the inventory"], done.stdout
    assert "Build the release" not in done.stdout
    return hosts, done


@pytest.mark.parametrize("content", ["", "all:\n  children: {nginx: , redis: , app: }\n"], ids=["text", "host"])
def test_an_inventory_without_a(tmp_path, content):
    hosts, done = refused(tmp_path, content)
    assert "The inventory lists no host. Is its path right?" in words(done)
    assert [path.name for path in hosts.parent.iterdir()] == ["hosts.yml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("app"), "The group `app` is missing. Add it to the inventory, with at least one host."),
        (same_address(), "app1 and app2 have the same address, 192.0.2.31. Each machine needs its own."),
        (inventory(app_users={"ada": "hunter2"}), "ada has something that is not a hash. `make hash` prints one"),
    ],
    ids=["missing group", "same address", "plain password"],
)
def test_a_bad_inventory(tmp_path, content, message):
    hosts, done = refused(tmp_path, content)
    assert "This inventory can not work; nothing was touched." in done.stdout
    assert message in words(done)
    assert "hunter2" not in done.stdout
    # Not even secrets were made.
    assert [path.name for path in hosts.parent.iterdir()] == ["hosts.yml"]


def test_a_misspelt_option_on_the_command_line(tmp_path):
    _hosts, done = refused(tmp_path, inventory(), "-e", "redis_maxmemroy=1gb")
    assert "`redis_maxmemroy` (seen for lb1) is not an option of any role. Did you mean `redis_maxmemory`?" in words(
        done
    )


def test_a_secret_that_can_be_guessed_is_not_shown(tmp_path):
    _hosts, done = refused(tmp_path, inventory(redis_app_password="hunter2"), "-vvv")
    assert "The secret `redis_app_password` has 7 characters; it needs 16." in words(done)
    assert "hunter2" not in done.stdout


def local(**hosts):
    """Return a good inventory of local machines, of these Debian releases or of the default one."""
    content = inventory(local_nodes_subnet="192.0.2.0/24")
    content["all"]["children"]["local_nodes"] = {"children": {"nginx": None, "redis": None, "app": None}}
    for host, release in hosts.items():
        content["all"]["children"]["app"]["hosts"][host]["local_nodes_debian_release"] = release
    return content


def pythons(app):
    """Return the versions of Python for which there are releases."""
    shape = re.compile(r"2\.5-[0-9a-f]{12}-py(3\.\d+)-\w+\.tar\.gz")
    return {shape.fullmatch(path.name)[1] for path in app.builds.iterdir()}


@pytest.fixture
def content():
    return inventory()


@pytest.fixture
def app(tmp_path, content):
    """A good inventory with a tiny app; gives the app's directory and what runs a playbook on them."""
    source, environment = write_app(tmp_path)
    hosts = write_inventory(tmp_path, content)
    options = ["-e", f"app_source_dir={source}", "-e", f"app_build_dir={tmp_path / 'builds'}"]

    def run(playbook, *arguments):
        return ansible_playbook("-i", hosts, playbook, *options, *arguments, **environment)

    run.builds, run.secrets, run.source = tmp_path / "builds", hosts.parent / ".secrets", source
    return run


def append(path, text):
    path.write_text(path.read_text() + text)


def test_a_syntax_error_in_the_app(app):
    append(app.source / "src" / "shop" / "__init__.py", "def broken(:\n")
    cant_be_built(app, r"shop/__init__\.py, line 3: ")


def test_a_package_without_a_hash(app):
    append(app.source / "requirements.lock", "flask==3.1.3\n")
    cant_be_built(app, r"requirements\.lock: flask==3\.1\.3 is not pinned with a hash\. Run `make lock`\.")


def test_a_package_with_a_wrong_hash(app):
    lock = app.source / "requirements.lock"
    lock.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", lock.read_text()))
    cant_be_built(app, r"THESE PACKAGES DO NOT MATCH THE HASHES.*tiny==1\.0.*Expected sha256 00000000")


def cant_be_built(app, message):
    done = app("site.yml")
    assert done.returncode != 0, done.stdout
    assert plays(done) == ["Validate the inventory"], done.stdout
    assert re.search("The release can't be built.*" + message, words(done)), done.stdout
    assert not app.builds.exists()


def test_a_good_inventory_passes_twice_and_secrets_are_made_once(app):
    first = app("playbooks/internal/validate.yml", "-vvv")
    assert first.returncode == 0, first.stdout
    # Real machines run Debian 12 or 13: which of them, isn't known before one is asked.
    builds = {path.name for path in app.builds.iterdir()}
    assert pythons(app) == {"3.11", "3.13"}
    made = {path.name: path.read_text() for path in app.secrets.iterdir()}
    assert made.keys() == SECRETS
    assert {stat.S_IMODE(path.stat().st_mode) for path in app.secrets.iterdir()} == {0o600}
    assert stat.S_IMODE(app.secrets.stat().st_mode) == 0o700

    # A run that is limited to one host validates the whole inventory all the same.
    second = app("playbooks/internal/validate.yml", "--limit", "app1", "-vvv")
    assert second.returncode == 0, second.stdout
    assert {path.name: path.read_text() for path in app.secrets.iterdir()} == made
    assert {path.name for path in app.builds.iterdir()} == builds
    for name, secret in made.items():
        assert secret.strip() not in first.stdout + second.stdout, name


def test_a_value_of_the_wrong_type(app):
    """Told by the first play, not when half of the machines have changed."""
    done = app("playbooks/internal/validate.yml", "-e", "nginx_port=eighty")
    assert done.returncode != 0
    assert "nginx_port" in words(done)
    assert "we were unable to convert to int" in words(done)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(local(), {"3.13"}), (local(app1="bookworm", app2="trixie"), {"3.11", "3.13"})],
    ids=["default", "mixed"],
)
def test_the_release_is_built_for_the_debian_of_local_machines(app, expected):
    done = app("playbooks/internal/validate.yml")
    assert done.returncode == 0, done.stdout
    assert pythons(app) == expected
