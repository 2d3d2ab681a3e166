#!/usr/bin/python
"""Install configuration files that are tested before they replace the installed files."""

import grp
import shlex
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import directives, text_diff, write_atomically
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: config_files
short_description: install configuration files that are tested before they replace the installed files
description:
  - Installs the files one after the other, first C(files), then C(secret_files). A file that its test rejects fails the
    task; the installed file stays, and the files before it are installed.
  - Does not replace a file if only comments and empty lines differ, since a new file may call for a restart. A comment
    is a line whose first word is C(#), C(;) or C(//).
  - Creates missing directories. Supports check mode, which doesn't run the tests, and diff.
options:
  files:
    type: list
    elements: dict
    default: []
    description: the files to install
    suboptions: &suboptions
      dest: {type: path, required: true, description: path of the file}
      content: {type: str, required: true, description: text of the file}
      mode: {type: str, default: "0644", description: permissions of the file}
      group: {type: str, default: root, description: group of the file}
      test: {type: str, default: "", description: "command that tests the file; C(%s) is a path with the new content"}
  secret_files:
    type: list
    elements: dict
    default: []
    description: like C(files); results, logs and diffs don't show the content, but the output of a failed test is shown
    suboptions: *suboptions
author: Anynode
"""

EXAMPLES = r"""
- name: Configure sshd
  config_files:
    files:
      - dest: /etc/ssh/sshd_config.d/00-anynode.conf
        content: "{{ lookup('ansible.builtin.template', 'sshd.conf.j2') }}"
        test: /usr/sbin/sshd -t -f %s
"""

RETURN = r"""
installed: {type: list, elements: str, returned: success, description: paths of the files that were replaced}
"""

FILE = {
    "dest": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "group": {"type": "str", "default": "root"},
    "test": {"type": "str", "default": ""},
}
SECRET_FILE = FILE | {"content": {"type": "str", "required": True, "no_log": True}}


def is_current(file: dict[str, Any]) -> bool:
    """Return whether the installed file has these directives, permissions and group."""
    path = Path(file["dest"])
    if not path.is_file():
        return False
    status = path.stat()
    return (
        stat.S_IMODE(status.st_mode) == int(file["mode"], 8)
        and status.st_gid == grp.getgrnam(file["group"]).gr_gid
        and directives(path.read_text()) == directives(file["content"])
    )


def diff(file: dict[str, Any], secret: bool) -> dict[str, str]:
    """Return the difference in Ansible's format."""
    path = Path(file["dest"])
    if secret:
        return {"prepared": f"{path}: the secrets changed; they are not shown\n"}
    before = path.read_text() if path.is_file() else ""
    return text_diff(path, before, file["content"])


def rejection(module: AnsibleModule, file: dict[str, Any]) -> str:
    """Return the output of the file's test if it rejects the new content, else an empty string."""
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
        new = Path(folder) / Path(file["dest"]).name
        write_atomically(new, file["content"], int(file["mode"], 8))
        status, output, errors = module.run_command(
            [word.replace("%s", str(new)) for word in shlex.split(file["test"])]
        )
    return (errors or output or f"exit status {status}").strip() if status else ""


def install(module: AnsibleModule, file: dict[str, Any]) -> None:
    """Test a file and replace it. Fails the task if the test rejects the new content."""
    path = Path(file["dest"])
    if file["test"] and (error := rejection(module, file)):
        module.fail_json(msg=f"{path} was not changed, since `{file['test']}` rejects the new content: {error}")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, file["content"], int(file["mode"], 8), grp.getgrnam(file["group"]).gr_gid)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "options": FILE, "default": []},
            "secret_files": {"type": "list", "elements": "dict", "options": SECRET_FILE, "default": []},
        },
        supports_check_mode=True,
    )
    outdated = [
        (file, secret)
        for secret, files in ((False, module.params["files"]), (True, module.params["secret_files"]))
        for file in files
        if not is_current(file)
    ]
    diffs = [diff(*each) for each in outdated]
    for file, _ in outdated if not module.check_mode else []:
        install(module, file)
    module.exit_json(changed=bool(outdated), installed=[file["dest"] for file, _ in outdated], diff=diffs)


if __name__ == "__main__":
    main()
