"""Makes `ansible.module_utils.anynode` importable before any test module is collected."""

import lib  # noqa: F401
