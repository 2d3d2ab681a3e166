"""What several tests share: servers, nodes, clients, load, and the running cluster."""

from pathlib import Path

import ansible.module_utils

# Modules import `ansible.module_utils.anynode`; on a host, Ansible ships it with them.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils"))
