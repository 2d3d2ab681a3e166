"""The part of ansible.module_utils.basic that the modules of this project use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

class AnsibleModule:
    params: dict[str, Any]
    check_mode: bool
    _diff: bool
    tmpdir: str
    run_command_environ_update: dict[str, str]

    def __init__(
        self,
        argument_spec: Mapping[str, Mapping[str, Any]],
        supports_check_mode: bool = False,
        mutually_exclusive: Sequence[Sequence[str]] | None = None,
        required_together: Sequence[Sequence[str]] | None = None,
        required_one_of: Sequence[Sequence[str]] | None = None,
        required_if: Sequence[Sequence[Any]] | None = None,
        required_by: Mapping[str, str | Sequence[str]] | None = None,
        no_log: bool = False,
    ) -> None: ...
    def exit_json(self, **kwargs: Any) -> NoReturn: ...
    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn: ...
    def warn(self, warning: str) -> None: ...
    def debug(self, msg: str) -> None: ...
    def log(self, msg: str, log_args: Mapping[str, Any] | None = None) -> None: ...
    def add_cleanup_file(self, path: str) -> None: ...
    def atomic_move(self, src: str, dest: str, unsafe_writes: bool = False, keep_dest_attrs: bool = True) -> None: ...
    def set_mode_if_different(self, path: str, mode: int | str, changed: bool) -> bool: ...
    def set_owner_if_different(self, path: str, owner: int | str | None, changed: bool) -> bool: ...
    def set_group_if_different(self, path: str, group: int | str | None, changed: bool) -> bool: ...
    def get_bin_path(self, arg: str, required: bool = False, opt_dirs: Sequence[str] | None = None) -> str: ...
    def run_command(
        self,
        args: str | Sequence[str],
        check_rc: bool = False,
        data: str | bytes | None = None,
        cwd: str | None = None,
        environ_update: Mapping[str, str] | None = None,
        encoding: str | None = "utf-8",
        before_communicate_callback: Callable[..., None] | None = None,
    ) -> tuple[int, str, str]: ...
