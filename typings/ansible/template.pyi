"""The part of ansible.template that the plugins of this project use."""

from collections.abc import Mapping
from typing import Any

class Templar:
    def __init__(self, loader: Any = None, variables: Mapping[str, Any] | None = None) -> None: ...
    def template(self, variable: Any) -> Any: ...
