"""A fixed address for a server that comes and goes."""

from __future__ import annotations

import contextlib
import socket
import threading


class Forwarder:
    """A fixed address in front of a server that comes back at another one; refuses while there is no server."""

    def __init__(self, target: str) -> None:
        self.target: int | None = int(target.rsplit(":", 1)[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._open = True
        self._ends: list[socket.socket] = []
        self.uri = f"bolt://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target or 1))
            except OSError:
                client.close()
                continue
            client.settimeout(None)
            self._ends += [client, server]
            for a, b in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._pump, args=(a, b)))
                self._threads[-1].start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._open = False
        self._threads[0].join()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for end in (*self._ends, self._listener):
            end.close()
