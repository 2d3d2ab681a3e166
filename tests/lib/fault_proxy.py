"""A TCP proxy between clients and a server on loopback that injects faults."""

import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class FaultProxy(socketserver.ThreadingTCPServer):
    """Forwards data between clients, which connect to `port`, and the server at the port `target`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: int):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.port: int = self.server_address[1]
        self.delay = 0.0  # seconds, before each reply
        self.drops_data = False
        self.garbage: bytes | None = None  # sent to clients instead of replies
        self._interruption: tuple[str, int] | None = None
        self._remaining = 0
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def interrupt(self, kind: str, after: int) -> None:
        """Close a client's connection once, after so many bytes of requests or replies.

        kind: "request" or "reply". after: bytes; with an odd number the proxy sends RST, with an even number FIN.
        """
        self._interruption, self._remaining = (kind, after), after

    @property
    def has_interrupted(self) -> bool:
        """Whether the interruption has happened."""
        return self._interruption is None

    @contextmanager
    def ignoring_connections(self) -> Iterator[None]:
        """New connections get no answer, as if a firewall dropped their packets."""
        self.shutdown()
        self.socket.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", self.port))
        yield
        for each in waiting:
            each.close()
        self.socket.listen(self.request_queue_size)
        self._serve()

    def forward(self, kind: str, data: bytes, client: socket.socket, sink: socket.socket) -> bool:
        """Forward data to the sink. Returns whether the connection stays open."""
        if self.drops_data:
            return True
        if kind == "reply":
            time.sleep(self.delay)
            data = self.garbage or data
        interruption = self._interruption
        if interruption is None or interruption[0] != kind or len(data) <= self._remaining:
            if interruption and interruption[0] == kind:
                self._remaining -= len(data)
            sink.sendall(data)
            return True
        self._interruption = None
        sink.sendall(data[: self._remaining])
        if interruption[1] % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        return False


class _Connection(socketserver.BaseRequestHandler):
    server: FaultProxy

    def handle(self) -> None:
        client = self.request
        with socket.create_connection(("127.0.0.1", self.server.target)) as server:
            ends = {client: ("request", server), server: ("reply", client)}
            while True:
                for source in select.select([*ends], [], [])[0]:
                    kind, sink = ends[source]
                    try:
                        data = source.recv(65536)
                        if not data or not self.server.forward(kind, data, client, sink):
                            return
                    except OSError:  # the other end has closed the connection
                        return
