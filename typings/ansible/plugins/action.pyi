"""The part of ansible.plugins.action that the plugins of this project use."""

from typing import Any

from ansible.utils.display import Display

class ActionBase:
    _display: Display
    _loader: Any
    _task: Any
    _templar: Any

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]: ...
