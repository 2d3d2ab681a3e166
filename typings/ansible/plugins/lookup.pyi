"""The part of ansible.plugins.lookup that the plugins of this project use."""

from collections.abc import Mapping
from typing import Any

class LookupBase:
    _templar: Any
    _loader: Any

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]: ...
    def get_option(self, option: str) -> Any: ...
    def set_options(self, var_options: Any = None, direct: Any = None) -> None: ...
    def find_file_in_search_path(
        self, myvars: Mapping[str, Any] | None, subdir: str, needle: str, ignore_missing: bool = False
    ) -> str | None: ...
