"""The directories of a balancer for the modules nginx_*, without nginx and systemd."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

nginx = import_module("ansible.module_utils.anynode.nginx")


class Host:
    """Directories for CONFIG and STATE. `commands` lists the commands, `failing` is the command that fails."""

    def __init__(self, directory: Path, config: Path | None = None) -> None:
        self.config, self.state = config or directory / "nginx", directory / "state"
        self.sandbox = directory / "sandbox.conf"
        self.config.mkdir(exist_ok=True)
        self.commands: list[str] = []
        self.failing = ""
        self.unit_state = "active"
        self.reloads = 0

    def patch(self, monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
        """Let the modules work on this host."""
        for module in (nginx, *modules):
            for name, value in {"run": self.run, "CONFIG": self.config, "STATE": self.state}.items():
                monkeypatch.setattr(module, name, value, raising=False)
            if hasattr(module, "SANDBOX"):
                monkeypatch.setattr(module, "SANDBOX", self.sandbox)

    def run(self, *command: str) -> tuple[int, str]:
        """Stand in for nginx.run()."""
        action = f"{Path(command[0]).name} {command[1]}"
        self.commands.append(action)
        self.reloads += action == "systemctl reload"
        if action == self.failing:
            return 1, "unknown directive"
        # Each reload replaces the worker process.
        return 0, {"ps --ppid": f"{self.reloads} nginx: worker process", "systemctl show": self.unit_state}.get(
            action, ""
        )

    def files(self) -> dict[Path, str]:
        """Return the content of all files by path."""
        paths = [*self.config.glob("*"), *self.state.glob("*"), *self.sandbox.parent.glob(self.sandbox.name)]
        return {path: path.read_text() for path in paths}
