"""The part of ansible.template that the plugins of this project use."""

from typing import Any

class Templar:
    available_variables: dict[str, Any]

    def __init__(self, loader: Any = None, variables: dict[str, Any] | None = None) -> None: ...
    def template(self, variable: Any, **options: Any) -> Any: ...

def trust_as_template(value: str) -> str: ...
