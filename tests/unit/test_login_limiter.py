"""Parts of the login limiter that need no Redis, see docs/explanation/login-limiter.md."""

import pytest
from anynode.hash_queue import HashQueue
from anynode.login_limiter import network_of
from werkzeug.exceptions import ServiceUnavailable


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_the_addresses_of_a_client_count_together(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_slot_is_released_after_an_error() -> None:
    queue = HashQueue(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), queue.slot():
            raise ZeroDivisionError
    with queue.slot(), pytest.raises(ServiceUnavailable), queue.slot():
        pass
