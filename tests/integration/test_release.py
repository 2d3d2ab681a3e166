"""Releases of the app: their id is derived from their content, and they are built completely or not at all."""

import hashlib
import json
import subprocess
import sys
import tarfile
import time
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lib.ansible_runs import ROOT, load_module, write_app

app_release = load_module("plugins/modules/app_release.py")
BuildError = app_release.BuildError

PYTHON, ARCHITECTURE = "3.13", "x86_64"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return Path(write_app(tmp_path)[0])


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces pip: installs a single file."""

    def install(_python: str, _lock: Path, target: Path, _python_version: str, _architecture: str) -> dict[str, str]:
        (target / "bin").mkdir(parents=True)
        (target / "bin" / "flask").write_text("#!/nowhere")
        (target / "tiny.py").write_text("")
        return {}

    monkeypatch.setattr(app_release, "install_packages", install)


def identity(app: Path) -> str:
    return str(app_release.release_id(app_release.sources(app)))


def build(app: Path, builds: Path) -> tuple[str, Path, bool]:
    name, archive, built = app_release.build(app, builds, sys.executable, PYTHON, ARCHITECTURE)
    return str(name), Path(archive), bool(built)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real pip, with a directory instead of a package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def bill(name: str, archive: Path) -> str:
    """Return the release's bill of materials, as text."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"{name}-py{PYTHON}/sbom.cdx.json")
        assert file
        return file.read().decode()


def test_the_same_source_gives_the_same_id(app: Path, tmp_path: Path) -> None:
    again, _environment = write_app(tmp_path / "elsewhere")
    (again / "requirements.lock").write_bytes((app / "requirements.lock").read_bytes())
    assert identity(app) == identity(again)
    assert identity(app).startswith("2.5-")


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "src/shop/__init__.py"])
def test_a_changed_byte_changes_the_id(app: Path, name: str) -> None:
    before = identity(app)
    (app / name).write_text((app / name).read_text() + "#")
    assert identity(app) != before


def test_a_renamed_file_changes_the_id(app: Path) -> None:
    before = identity(app)
    (app / "src" / "shop" / "__init__.py").rename(app / "src" / "shop" / "main.py")
    assert identity(app) != before


def test_by_products_of_running_the_app_do_not_change_the_id(app: Path) -> None:
    before = identity(app)
    for name in ("src/shop/__pycache__", "src/shop.egg-info"):
        (app / name).mkdir()
        (app / name / "leftover").write_text("1")
    assert identity(app) == before


def test_a_release_holds_packages_and_source(app: Path, tmp_path: Path, no_pip: None) -> None:
    name, archive, built = build(app, tmp_path / "builds")
    assert built
    assert archive.name == f"{name}-py{PYTHON}-{ARCHITECTURE}.tar.gz"
    name += f"-py{PYTHON}"
    assert members(archive) == [
        name,
        f"{name}/RELEASE",
        f"{name}/sbom.cdx.json",
        f"{name}/shop",
        f"{name}/shop/__init__.py",
        f"{name}/tiny.py",
    ]


def test_a_release_is_built_once(app: Path, tmp_path: Path, no_pip: None) -> None:
    assert build(app, tmp_path / "builds")[2] is True
    assert build(app, tmp_path / "builds")[2] is False


def test_the_same_content_gives_the_same_bytes(
    app: Path, tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(app, tmp_path / "one")[1].read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    second = build(app, tmp_path / "two")[1].read_bytes()
    assert first == second


def test_an_archive_that_was_not_written_completely_does_not_exist(
    app: Path, tmp_path: Path, no_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(_descriptor: int) -> None:
        raise OSError("No space left on device")

    builds = tmp_path / "builds"
    with monkeypatch.context() as patch:
        patch.setattr("ansible.module_utils.anynode.files.os.fsync", disk_full)
        with pytest.raises(OSError, match="No space"):
            build(app, builds)
    assert list(builds.iterdir()) == []
    _name, archive, built = build(app, builds)
    assert built
    assert len(members(archive)) == 6


def test_a_syntax_error_is_named_by_file_and_line(app: Path, tmp_path: Path, no_pip: None) -> None:
    (app / "src" / "shop" / "views.py").write_text("x = 1\ndef broken(:\n")
    with pytest.raises(BuildError, match=r"src/shop/views\.py, line 2: "):
        build(app, tmp_path / "builds")
    assert not (tmp_path / "builds").exists()


@pytest.mark.parametrize("line", ["flask==3.1.3", "flask", "flask>=3 --hash=sha256:00"])
def test_a_package_without_version_or_hash_is_named(app: Path, tmp_path: Path, no_pip: None, line: str) -> None:
    with (app / "requirements.lock").open("a") as lock:
        lock.write(line + "\n")
    with pytest.raises(BuildError, match=r"requirements\.lock: flask\S* is not pinned.*make lock"):
        build(app, tmp_path / "builds")


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "src"])
def test_a_missing_part_is_named(app: Path, tmp_path: Path, name: str) -> None:
    (app / name).rename(tmp_path / "away")
    with pytest.raises(BuildError, match=rf"/{name} is missing"):
        build(app, tmp_path / "builds")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project]\nname = 'shop'\n", r"the table \[project\] needs version"),
        ("[project]\nversion = '1'\n", r"the table \[project\] needs name"),
        ("", r"the table \[project\] needs name and version"),
        ("[project", "Expected ']'"),
        ("[tool.anynode]\nlocal-packages = '../lib'\n", "local-packages must be a list of directories, not '../lib'"),
    ],
)
def test_an_invalid_pyproject_is_named(app: Path, tmp_path: Path, text: str, message: str) -> None:
    (app / "pyproject.toml").write_text(text)
    with pytest.raises(BuildError, match=rf"/pyproject\.toml: {message}"):
        build(app, tmp_path / "builds")


@pytest.fixture
def library(app: Path) -> Path:
    """A local package beside the app."""
    folder = app.with_name("library")
    (folder / "src" / "shop_library").mkdir(parents=True)
    (folder / "src" / "shop_library" / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text('[project]\nname = "Shop.Library"\nversion = "3.0"\nlicense = "MIT"\n')
    with (app / "pyproject.toml").open("a") as file:
        file.write('[tool.anynode]\nlocal-packages = ["../library"]\n')
    return folder


def test_a_local_package_is_part_of_the_release(app: Path, library: Path, tmp_path: Path, wheels: Path) -> None:
    """With its metadata, and in the bill of materials by the hash of its content."""
    name, archive, _built = build(app, tmp_path / "builds")
    root = f"{name}-py{PYTHON}"
    assert {f"{root}/shop_library/__init__.py", f"{root}/shop/__init__.py"} <= set(members(archive))
    (component,) = [each for each in json.loads(bill(name, archive))["components"] if each["name"] == "shop-library"]
    assert component["version"] == "3.0"
    assert component["licenses"] == [{"expression": "MIT"}]
    assert component["hashes"] == [{"alg": "SHA-256", "content": app_release.digest(app_release.sources(app)[1])}]


@pytest.mark.parametrize("name", ["pyproject.toml", "src/shop_library/__init__.py"])
def test_a_changed_byte_of_a_local_package_changes_the_id(app: Path, library: Path, name: str) -> None:
    before = identity(app)
    (library / name).write_text((library / name).read_text() + "#")
    assert identity(app) != before


@pytest.mark.parametrize("name", ["pyproject.toml", "src"])
def test_a_missing_part_of_a_local_package_is_named(app: Path, library: Path, tmp_path: Path, name: str) -> None:
    (library / name).rename(tmp_path / "away")
    remedy = "a local package, which .*/pyproject.toml lists in local-packages, is"
    with pytest.raises(BuildError, match=rf"/library/{name} is missing: {remedy}"):
        build(app, tmp_path / "builds")


def test_code_of_a_local_package_that_does_not_parse_is_named(app: Path, library: Path, tmp_path: Path) -> None:
    (library / "src" / "shop_library" / "__init__.py").write_text("def\n")
    with pytest.raises(BuildError, match=r"shop_library/__init__\.py, line 1"):
        build(app, tmp_path / "builds")


def test_pip_installs_the_locked_packages(app: Path, tmp_path: Path, wheels: Path) -> None:
    name, archive, _built = build(app, tmp_path / "builds")
    assert f"{name}-py{PYTHON}/tiny.py" in members(archive)


def test_a_release_has_a_bill_of_materials(app: Path, tmp_path: Path, wheels: Path) -> None:
    name, archive, _built = build(app, tmp_path / "builds")
    text = bill(name, archive)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    assert found["metadata"]["component"] | {"name": "shop", "version": name} == found["metadata"]["component"]
    (tiny,) = found["components"]
    assert (tiny["name"], tiny["version"], tiny["purl"]) == ("tiny", "1.0", "pkg:pypi/tiny@1.0")
    wheel = next(wheels.iterdir()).read_bytes()
    assert tiny["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel).hexdigest()}]
    assert tiny["licenses"] == [{"expression": "MIT"}]
    assert bill(*build(app, tmp_path / "again")[:2]) == text


@pytest.mark.parametrize(
    ("metadata", "licenses"),
    [
        ("License-Expression: MIT OR Apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        (
            "License: MIT\nClassifier: License :: OSI Approved :: MIT License\nClassifier: Framework :: Flask",
            [{"license": {"name": "MIT License"}}],
        ),
        ("License: BSD", [{"license": {"name": "BSD"}}]),
        ("Name: silent", []),
    ],
)
def test_a_license_is_reported_as_in_the_package(metadata: str, licenses: list[Any]) -> None:
    assert app_release.licenses(message_from_string(metadata)) == licenses


def test_a_package_with_another_hash_than_the_locked_one_is_refused(app: Path, tmp_path: Path, wheels: Path) -> None:
    wheel = next(wheels.iterdir())
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(BuildError, match="DO NOT MATCH THE HASHES"):
        build(app, tmp_path / "builds")


def test_the_error_of_pip_is_reported(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no such wheel\n")

    monkeypatch.setattr(app_release.subprocess, "run", fail)
    with pytest.raises(BuildError, match=r"for Python 3\.13 on x86_64:\nERROR: no such wheel\n"):
        build(app, tmp_path / "builds")
    assert not (tmp_path / "builds").exists()


def test_the_source_of_the_demo_app_is_valid() -> None:
    app_release.check_source(app_release.sources(ROOT / "app"))
