"""A wire between two programs that scripts can hold and cut."""

import socket
import threading


class Wire:
    """A proxy that can be cut: nothing passes, and nobody is told; or everything ends."""

    def __init__(self, target):
        self.target, self.open, self.links = target, True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.guard = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.link, args=(client,), daemon=True).start()

    def link(self, client):
        with self.guard:
            self.guard.wait_for(lambda: self.open)
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.links += [client, server]
        threading.Thread(target=self.carry, args=(client, server), daemon=True).start()
        self.carry(server, client)

    def carry(self, source, sink):
        try:
            while data := source.recv(65536):
                with self.guard:
                    self.guard.wait_for(lambda: self.open)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hold(self):
        with self.guard:
            self.open = False

    def heal(self):
        with self.guard:
            self.open = True
            self.guard.notify_all()

    def cut(self):
        """Ends every connection."""
        for end in self.links:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.links = []
