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
from importlib.metadata import distributions
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_release
short_description: build a release of the app from its source and its lock file
description:
  - Installs the locked packages for the node's Python and platform, hash-checked, adds the app's own source, and packs
    all of it into one archive, with a software bill of materials (C(sbom.cdx.json)). Nodes then need no package index.
  - The id follows the content of C(pyproject.toml), C(requirements.lock) and C(src/), so the same source gives the same
    release on every node and at every run, and is built once.
options:
  source: {type: path, required: true, description: the directory that holds pyproject.toml, requirements.lock and src/}
  build_dir: {type: path, required: true, description: where archives are kept}
  python_version: {type: str, required: true, description: "the node's Python, such as 3.13"}
  architecture: {type: str, required: true, description: "the node's machine type, such as x86_64"}
  python: {type: path, required: true, description: a Python with pip on the controller}
"""

# Newest first; a wheel for an older glibc runs on a newer one. Debian 12 has glibc 2.36.
GLIBC = ["2_36", "2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17"]


class BuildError(Exception):
    """A release can't be built; the message names the culprit and the remedy."""


def sources(root):
    """Return the files that make up the app, in a fixed order."""
    for name in ("pyproject.toml", "requirements.lock", "src"):
        if not (root / name).exists():
            raise BuildError(f"{root / name} is missing: an app is a pyproject.toml, a requirements.lock and src/")
    files = [root / "pyproject.toml", root / "requirements.lock"]
    files += sorted(p for p in (root / "src").rglob("*") if p.is_file() and not skipped(p.relative_to(root)))
    return files


def skipped(path):
    """Tell whether a path is a by-product of running the app here."""
    return any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)


def release_id(root, files):
    """Return `<version>-<12 hex digits of the content's SHA-256>`."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{project(root)['version']}-{digest.hexdigest()[:12]}"


def project(root):
    """Return the name and the version that the app gives itself."""
    try:
        table = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        return {key: table[key] for key in ("name", "version")}
    except (tomllib.TOMLDecodeError, KeyError) as error:
        words = f"needs a [project] table with a name and a version ({error!r})"
        raise BuildError(f"{root / 'pyproject.toml'}: {words}") from error


def check_source(files):
    """Refuse Python that does not parse and a lock file without hashes."""
    for path in files:
        if path.suffix == ".py":
            try:
                ast.parse(path.read_bytes(), str(path))
            except SyntaxError as error:
                raise BuildError(f"{path}, line {error.lineno}: {error.msg}") from error
    lock = next(path for path in files if path.name == "requirements.lock")
    text = lock.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if re.match(r"[A-Za-z0-9]", line) and ("==" not in line or "--hash=sha256:" not in line):
            raise BuildError(f"{lock}: {line.split()[0]} is not pinned with a hash. Run `make lock`.")


def install_packages(python, lock, target, python_version, architecture):
    """Install the locked wheels for another machine's Python into `target`; return the SHA-256 of each, by name."""
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


def canonical(name):
    """Return a package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials(target, hashes, app, archive_name):
    """Return a CycloneDX document of the packages in `target`: JSON, the same for the same release.

    By hand, since a library for it brings six packages to the controller; a test holds the result against the schema.
    """
    packages = {canonical(package.metadata["Name"]): package for package in distributions(path=[str(target)])}
    components = []
    for name, package in sorted(packages.items()):
        purl = f"pkg:pypi/{name}@{package.version}"
        component = {"type": "library", "name": name, "version": package.version, "purl": purl, "bom-ref": purl}
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


def licenses(metadata):
    """Return what a package says of its license, as CycloneDX puts it."""
    if expression := metadata["License-Expression"]:
        return [{"expression": expression}]
    classifiers = [each for each in metadata.get_all("Classifier", []) if each.startswith("License ::")]
    names = [each.rpartition(" :: ")[2] for each in classifiers] or (metadata["License"] or "").splitlines()[:1]
    return [{"license": {"name": name}} for name in names]


def pack(directory, archive, name):
    """Pack `directory` as `name` into `archive`, at once or not at all; the same content gives the same bytes."""

    def plain(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    archive.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(directory, arcname=name, filter=plain)
    partial = archive.with_suffix(f".{os.getpid()}.partial")  # another run may be packing the same release
    partial.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0))
    partial.rename(archive)


def build(root, build_dir, python, python_version, architecture):
    """Return (id, archive, whether it was built now)."""
    files = sources(root)
    identity = release_id(root, files)
    archive = build_dir / f"{identity}-py{python_version}-{architecture}.tar.gz"
    if archive.exists():
        return identity, archive, False
    check_source(files)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, identity)
        hashes = install_packages(python, root / "requirements.lock", target, python_version, architecture)
        shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that name the controller's Python
        for path in files[2:]:
            destination = target / path.relative_to(root / "src")
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)
        (target / "RELEASE").write_text(identity + "\n")
        app = project(root) | {"version": identity}
        (target / "sbom.cdx.json").write_text(bill_of_materials(target, hashes, app, archive.name))
        pack(target, archive, f"{identity}-py{python_version}")
    return identity, archive, True


def main():
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
