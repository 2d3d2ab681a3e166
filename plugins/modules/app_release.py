#!/usr/bin/python
"""Builds a release of the app on the controller."""

import ast
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import write_atomically
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_release
short_description: build a release of the app from its source and its lock file
description:
  - Installs the locked packages for the node's Python and platform, verified by their hashes, adds the app's own
    source, and packs all of it into one archive, with a software bill of materials (C(sbom.cdx.json)). Nodes need no
    package index.
  - Local packages, which C(pyproject.toml) lists as C(local-packages) in C([tool.anynode]) by their directories, are
    part of the release, too. The lock file has the packages that they need.
  - The id is derived from the content of C(pyproject.toml), C(requirements.lock), C(src/) and the local packages, so
    the same source gives the same release on every node and in every run, and is built once.
  - Runs on the controller.
options:
  source:
    description: Directory with pyproject.toml, requirements.lock and src/.
    type: path
    required: true
  build_dir:
    description: Directory of the archives.
    type: path
    required: true
  python_version:
    description: Python version of the node, such as 3.13.
    type: str
    required: true
  architecture:
    description: Architecture of the node, such as x86_64.
    type: str
    required: true
  python:
    description: A Python interpreter with pip on the controller.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Build the release
  app_release:
    source: app
    build_dir: .build/releases
    python: "{{ ansible_playbook_python }}"
    python_version: "3.13"
    architecture: x86_64
  delegate_to: localhost
"""

RETURN = r"""
id:
  description: The release id, version and digest.
  returned: success
  type: str
  sample: 1.4-0123456789ab
archive:
  description: Path of the archive.
  returned: success
  type: str
"""

# Newest first; a wheel for an older glibc runs on a newer glibc. Debian 12 has glibc 2.36.
GLIBC = ["2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17"]


class BuildError(Exception):
    """A release can't be built; the message has the cause and the fix."""


@dataclass
class Part:
    """The app or a local package: a directory with pyproject.toml and src/.

    files: of which the release id is derived, in a fixed order.
    """

    root: Path
    files: list[Path]

    @property
    def modules(self) -> list[tuple[Path, Path]]:
        """Each file below src/, and its path in a release."""
        source = self.root / "src"
        return [(path, path.relative_to(source)) for path in self.files if path.is_relative_to(source)]


def read_part(root: Path, kind: str, names: Sequence[str]) -> Part:
    """Return a part that needs these files beside src/. Raises BuildError if one is missing."""
    for name in (*names, "src"):
        if not (root / name).exists():
            raise BuildError(f"{root / name} is missing: {kind} is a {', a '.join(names)} and src/")
    found = sorted(p for p in (root / "src").rglob("*") if p.is_file() and not skipped(p.relative_to(root)))
    return Part(root, [*(root / name for name in names), *found])


def sources(root: Path) -> list[Part]:
    """Return the app and its local packages, in a fixed order. Raises BuildError if a part is missing."""
    app = read_part(root, "an app", ("pyproject.toml", "requirements.lock"))
    paths = read_toml(root).get("tool", {}).get("anynode", {}).get("local-packages", [])
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        raise BuildError(f"{root / 'pyproject.toml'}: local-packages must be a list of directories, not {paths!r}")
    kind = f"a local package, which {root / 'pyproject.toml'} lists in local-packages,"
    return [app, *(read_part((root / each).resolve(), kind, ("pyproject.toml",)) for each in paths)]


def skipped(path: Path) -> bool:
    """Return whether a path is a by-product of running the app."""
    return any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)


def digest(part: Part) -> str:
    """Return the SHA-256 of the content of a part, in hexadecimal digits."""
    content = hashlib.sha256()
    for path in part.files:
        content.update(f"{path.relative_to(part.root)}\0".encode())
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def release_id(parts: Sequence[Part]) -> str:
    """Return `<version of the app>-<12 hex digits of the content's SHA-256>`."""
    content = digest(parts[0])
    if parts[1:]:
        content = hashlib.sha256("".join(map(digest, parts)).encode()).hexdigest()
    return f"{project(parts[0].root)['version']}-{content[:12]}"


def read_toml(root: Path) -> dict[str, Any]:
    """Return the content of pyproject.toml. Raises BuildError if it isn't TOML."""
    try:
        return tomllib.loads((root / "pyproject.toml").read_text())
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{root / 'pyproject.toml'}: {error}") from error


def project(root: Path) -> dict[str, str]:
    """Return the name and the version of a part. Raises BuildError if pyproject.toml lacks them."""
    table = read_toml(root).get("project", {})
    if missing := [key for key in ("name", "version") if key not in table]:
        raise BuildError(f"{root / 'pyproject.toml'}: the table [project] needs {' and '.join(missing)}")
    return {key: table[key] for key in ("name", "version")}


def check_source(parts: Sequence[Part]) -> None:
    """Raises BuildError if Python code doesn't parse or if the lock file lacks versions or hashes."""
    for path in (path for part in parts for path in part.files if path.suffix == ".py"):
        try:
            ast.parse(path.read_bytes(), str(path))
        except SyntaxError as error:
            raise BuildError(f"{path}, line {error.lineno}: {error.msg}") from error
    lock = parts[0].root / "requirements.lock"
    text = lock.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line) and ("==" not in line or "--hash=sha256:" not in line):
            raise BuildError(f"{lock}: {line.split()[0]} is not pinned with a hash. Run `make lock`.")


def add_local_package(part: Part, target: Path) -> tuple[str, str]:
    """Add a local package's metadata to a release, as an installation does; return its name and its digest."""
    about = project(part.root)
    info = target / f"{canonical(about['name']).replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    license_name = read_toml(part.root)["project"].get("license")
    license_line = f"License-Expression: {license_name}\n" if isinstance(license_name, str) else ""
    header = f"Metadata-Version: 2.4\nName: {about['name']}\nVersion: {about['version']}\n{license_line}"
    (info / "METADATA").write_text(header)
    return canonical(about["name"]), digest(part)


def install_packages(python: str, lock: Path, target: Path, python_version: str, architecture: str) -> dict[str, str]:
    """Install the locked wheels for the node's Python into `target`; return the SHA-256 of each, by name."""
    platforms = [f"--platform=manylinux_{glibc}_{architecture}" for glibc in GLIBC]
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--target={target}"]
    command += [f"--python-version={python_version}", "--implementation=cp", *platforms]
    command += [f"--platform=manylinux2014_{architecture}", f"--requirement={lock}", "--report=-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "WARNING" not in line]
        raise BuildError(
            f"The packages of {lock} can't be installed for Python {python_version} on {architecture}:\n"
            + "\n".join(errors[-12:])
            + "\nIs the package index reachable, and is there a wheel for this Python? `make lock` renews the file."
        )
    return {
        canonical(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"]["sha256"]
        for each in json.loads(done.stdout)["install"]
    }


def canonical(name: str) -> str:
    """Return the normalized name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials(target: Path, hashes: dict[str, str], app: dict[str, str], archive_name: str) -> str:
    """Return a CycloneDX document of the packages in `target`: JSON, the same for the same release.

    Without a library, which would need six more packages on the controller; a test validates the result by the schema.
    """
    packages = {canonical(package.metadata["Name"]): package for package in distributions(path=[str(target)])}
    components = []
    for name, package in sorted(packages.items()):
        purl = f"pkg:pypi/{name}@{package.version}"
        component: dict[str, Any] = {
            "type": "library",
            "name": name,
            "version": package.version,
            "purl": purl,
            "bom-ref": purl,
        }
        component["hashes"] = [{"alg": "SHA-256", "content": hashes[name]}]
        if known := licenses(package.metadata):
            component["licenses"] = known
        components.append(component)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, archive_name).urn,
        "metadata": {"component": {"type": "application", "bom-ref": archive_name} | app},
        "components": components,
    }
    return json.dumps(document, indent=1) + "\n"


def licenses(metadata: Any) -> list[dict[str, Any]]:
    """Return the licenses of a package's metadata (an email.message.Message) in the form of CycloneDX."""
    if expression := metadata["License-Expression"]:
        return [{"expression": expression}]
    classifiers = [each for each in metadata.get_all("Classifier", []) if each.startswith("License ::")]
    names = [each.rpartition(" :: ")[2] for each in classifiers] or (metadata["License"] or "").splitlines()[:1]
    return [{"license": {"name": name}} for name in names]


def pack(directory: Path, archive: Path, name: str) -> None:
    """Pack `directory` as `name` into `archive` in one rename; the same content gives the same bytes."""

    def normalize(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    archive.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(directory, arcname=name, filter=normalize)
    write_atomically(archive, gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0))


def build(root: Path, build_dir: Path, python: str, python_version: str, architecture: str) -> tuple[str, Path, bool]:
    """Build a release unless its archive exists; return its id, the archive, and whether it was built now."""
    parts = sources(root)
    identity = release_id(parts)
    archive = build_dir / f"{identity}-py{python_version}-{architecture}.tar.gz"
    if archive.exists():
        return identity, archive, False
    check_source(parts)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, identity)
        hashes = install_packages(python, root / "requirements.lock", target, python_version, architecture)
        shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that name the controller's Python
        for path, name in (each for part in reversed(parts) for each in part.modules):
            destination = target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)
        hashes |= dict(add_local_package(part, target) for part in parts[1:])
        (target / "RELEASE").write_text(identity + "\n")
        app = project(root) | {"version": identity}
        (target / "sbom.cdx.json").write_text(bill_of_materials(target, hashes, app, archive.name))
        pack(target, archive, f"{identity}-py{python_version}")
    return identity, archive, True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "build_dir": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "python_version": {"type": "str", "required": True},
            "architecture": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        identity, archive, built = build(
            Path(os.path.realpath(args["source"])),
            Path(os.path.realpath(args["build_dir"])),
            args["python"],
            args["python_version"],
            args["architecture"],
        )
    except BuildError as error:
        module.fail_json(msg=f"The release can't be built. {error}")
    module.exit_json(changed=built, id=identity, archive=str(archive))


if __name__ == "__main__":
    main()
