"""A wire between clients and a server on loopback, and what can go wrong on it."""

import select
import socket
import socketserver
import struct
import threading
import time
from contextlib import contextmanager


class Wire(socketserver.ThreadingTCPServer):
    """Passes on what clients and the server at `target` say to each other; clients connect to `port`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: int):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.port = self.server_address[1]
        self.delay = 0.0  # seconds, before each reply
        self.is_dead = False  # nothing is passed on
        self.garbage = None  # what clients hear in place of replies
        self._cut = None
        self._serve()

    def _serve(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def cut(self, kind: str, after: int):
        """Once, so many bytes of requests or replies later: end the client's connection, with RST or FIN by turns."""
        self._cut = [kind, after, after % 2]

    def has_cut(self) -> bool:
        return self._cut is None

    @contextmanager
    def swallowing_connections(self):
        """New connections aren't answered, as if their packets were dropped."""
        self.shutdown()
        self.socket.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(self.server_address)
        yield
        for each in waiting:
            each.close()
        self.socket.listen(self.request_queue_size)
        self._serve()

    def pass_on(self, kind: str, data: bytes, client: socket.socket, sink: socket.socket) -> bool:
        """Whether the connection goes on."""
        if self.is_dead:
            return True
        if kind == "reply":
            time.sleep(self.delay)
            data = self.garbage or data
        cut = self._cut
        if cut is None or cut[0] != kind or len(data) <= cut[1]:
            if cut and cut[0] == kind:
                cut[1] -= len(data)
            sink.sendall(data)
            return True
        self._cut = None
        sink.sendall(data[: cut[1]])
        if cut[2]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        return False


class _Connection(socketserver.BaseRequestHandler):
    def handle(self):
        client = self.request
        with socket.create_connection(("127.0.0.1", self.server.target)) as server:
            ends = {client: ("request", server), server: ("reply", client)}
            while True:
                for source in select.select([*ends], [], [])[0]:
                    kind, sink = ends[source]
                    try:
                        data = source.recv(65536)
                        if not data or not self.server.pass_on(kind, data, client, sink):
                            return
                    except OSError:  # one of them is gone
                        return
