"""Finds the primary by a query to all Sentinels, for each new connection.

redis-py's Sentinel client takes the answer of the first that answers, from SENTINEL MASTERS, which needs a permission
for all services, and its pool doesn't wait for a free connection.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redis import Connection, ConnectionPool, Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError

Address = tuple[str, int]


class Sentinels:
    """The Sentinels of a service.

    hosts: names or addresses with ports. service: the name by which they know the primary. options: of redis-py's
    connection pool, such as timeouts and TLS.
    """

    def __init__(self, hosts: Sequence[Address], service: str, **options: Any):
        self._hosts = hosts
        self._service = service
        self._options = options

    def primary(self) -> Address:
        """Return the address that most Sentinels report: one that lost the others may know the primary of before only.

        Takes as long as the slowest of them, at most the time limits of `options`. Raises redis' ConnectionError.
        """
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            answers = [answer for answer in pool.map(self._query, self._hosts) if answer]
        if not answers:
            names = ", ".join(f"{host}:{port}" for host, port in self._hosts)
            raise NoConnection(f"no Sentinel of {names} knows a primary of {self._service}")
        (address, _votes), *_others = Counter(answers).most_common()
        return address

    def _query(self, host: Address) -> Address | None:
        pool = ConnectionPool(host=host[0], port=host[1], **self._options)
        try:
            answer = Redis(connection_pool=pool).execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._service)
        except RedisError:
            return None
        finally:
            pool.disconnect()
        if not answer:
            return None
        name, port = (part.decode() if isinstance(part, bytes) else str(part) for part in answer)
        return name, int(port)


def primary_connection(base: type[Connection], sentinels: Sentinels) -> type[Connection]:
    """Return a class of connections that lead to the primary at the time of connecting.

    base: the class for plain TCP or TLS. The ACL user needs the command ROLE.
    """

    class PrimaryConnection(base):  # type: ignore[misc, valid-type] # chosen at run time
        def _connect(self) -> Any:
            self.host, self.port = sentinels.primary()
            return super()._connect()

        def on_connect_check_health(self, check_health: bool = True) -> None:
            super().on_connect_check_health(check_health=check_health)
            self.send_command("ROLE")
            role = self.read_response()[0]
            if role not in (b"master", "master"):
                raise NoConnection(f"{self.host}:{self.port} is no primary: its role is {role!r}")

    return PrimaryConnection
