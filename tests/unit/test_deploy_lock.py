"""The deploy lock: one operation at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import load_module

deploy_lock = load_module("plugins/modules/deploy_lock.py")

ENDED, ADA, BOB = ({"id": name, "by": f"{name}@desk"} for name in ("ended", "ada", "bob"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "deploy.lock"


def test_the_second_operation_gets_the_holder_of_the_lock(path: Path) -> None:
    assert deploy_lock.acquire(path, ADA, "") == (None, None)
    assert deploy_lock.acquire(path, BOB, "") == (ADA, None)
    assert deploy_lock.acquire(path, ADA, "") == (None, None)
    deploy_lock.release(path, BOB)
    assert deploy_lock.read(path) == ADA
    deploy_lock.release(path, ADA)
    assert deploy_lock.acquire(path, BOB, "") == (None, None)


def test_the_lock_is_taken_over_only_from_the_named_operation(path: Path) -> None:
    deploy_lock.acquire(path, ENDED, "")
    assert deploy_lock.acquire(path, ADA, "another") == (ENDED, None)
    assert deploy_lock.acquire(path, ADA, "ended") == (None, ENDED)
    assert deploy_lock.acquire(path, BOB, "ended") == (ADA, None)


def test_a_partially_written_lock_file_holds_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"id": ')
    assert deploy_lock.acquire(path, ADA, "") == (None, None)


@pytest.mark.parametrize("held", [None, ENDED])
def test_of_two_simultaneous_operations_one_takes_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, held: dict[str, str] | None
) -> None:
    """Without mutual exclusion, both would read the file before either writes it."""
    if held:
        deploy_lock.acquire(path, held, "")
    both_have_read, read = threading.Barrier(2), deploy_lock.read

    def slow_read(path: Path) -> Any:
        found = read(path)
        with suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.5)
        return found

    monkeypatch.setattr(deploy_lock, "read", slow_read)
    with ThreadPoolExecutor() as operations:
        ada, bob = operations.map(lambda holder: deploy_lock.acquire(path, holder, "ended"), [ADA, BOB])
    assert [ada, bob] in ([(None, held), (ADA, None)], [(BOB, None), (None, held)])
