"""The part of ansible.utils.display that the plugins of this project use."""

class Display:
    def display(
        self,
        msg: str,
        color: str | None = None,
        stderr: bool = False,
        screen_only: bool = False,
        log_only: bool = False,
    ) -> None: ...
    def warning(self, msg: str, formatted: bool = False) -> None: ...
