"""Reads secrets that are stored in files beside the inventory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: secret
short_description: read secrets that are stored in files
description:
  - Reads files that the module C(secret_files) created. Evaluating it never creates a file.
options:
  _terms:
    required: true
    description: path of each secret
  fallbacks_of:
    type: str
    description:
      - If set, return the values that are accepted beside this value while C(playbooks/rotate_secrets.yml) replaces it,
        from the files C(PATH.new) and C(PATH.old).
      - None if the file has another value, that is, if the inventory defines the secret. Otherwise files that an
        interrupted rotation left would be accepted forever.
"""

EXAMPLES = r"""
redis_app_password: "{{ lookup('secret', topology_secrets_dir ~ '/redis_app_password') }}"
redis_app_password_fallbacks: >-
  {{ query('secret', topology_secrets_dir ~ '/redis_app_password', fallbacks_of=redis_app_password) }}
"""

RETURN = r"""
_raw:
  description: the value of each secret, or all of its fallbacks
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the values. Raises AnsibleLookupError if a secret doesn't exist."""
        self.set_options(var_options=variables, direct=kwargs)
        current = self.get_option("fallbacks_of")
        if current is not None:
            return [value for term in terms for value in fallbacks(Path(term), current)]
        inventory = (variables or {}).get("inventory_file", "INVENTORY")
        try:
            return [read_secret(Path(term)) for term in terms]
        except FileNotFoundError as error:
            raise AnsibleLookupError(
                f"The secret {error.filename} doesn't exist yet. The first run of site.yml creates it:"
                f" ansible-playbook -i {inventory} site.yml"
            ) from None


def read_secret(path: Path) -> str:
    """Return the value in a file. Raises FileNotFoundError."""
    return path.read_text().strip()


def fallbacks(path: Path, current: str) -> list[str]:
    """Return the values of PATH.new and PATH.old if `current` is the value of PATH; without empty values."""
    if not path.exists() or read_secret(path) != current:
        return []
    files = (path.with_name(f"{path.name}.{state}") for state in ("new", "old"))
    return [value for file in files if file.exists() and (value := read_secret(file))]
