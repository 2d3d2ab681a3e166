"""The part of ansible.module_utils.common.yaml that the plugins of this project use."""

from typing import Any

def yaml_load(stream: str) -> Any: ...
