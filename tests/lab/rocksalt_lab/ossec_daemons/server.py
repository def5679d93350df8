"""The server for the stand-in's agents: enrols them, listens to them, and lets a test order."""

from __future__ import annotations

import json
import re
import secrets
import selectors
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

from . import wire
from .wire import Key, Message

_ASKED = re.compile(r"(?:OSSEC PASS: (?P<password>.*?) )?OSSEC A:'(?P<name>[^']*)'\n")
_NAME = re.compile(r"[A-Za-z0-9_.-]{2,128}")


def main(arguments: Sequence[str]) -> int:
    """``ADDRESS FOLDER``: serves on that address, for ever.

    In the folder are ``server.pem`` and ``server.key``, ``authd.pass`` (with its line end),
    ``shared/`` (what is handed out), ``agents`` (lines of client.keys), ``events`` (JSON, a line
    each: number, kind and text), and the socket ``orders``: what is sent there goes to all agents.
    """
    server = Server(arguments[0], Path(arguments[1]))
    threading.Thread(target=server.enrol, daemon=True).start()
    server.listen()
    return 0


class Server:
    """The agents that are known, and where they were heard from last."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.heard: dict[str, tuple[str, int]] = {}

    def keys(self) -> dict[str, Key]:
        """Number -> key; a test may remove a line."""
        path = self.folder / "agents"
        found = (Key.of(line) for line in path.read_text().splitlines()) if path.exists() else ()
        return {key.number: key for key in found if key}

    # Enrolment -----------------------------------------------------------------------------------

    def enrol(self) -> None:
        """Gives out keys, for ever."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_server((self.address, 1515), backlog=16) as listening:
            while True:
                plain, _ = listening.accept()
                plain.settimeout(5)
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        self.answer(secure)
                except OSError:
                    continue

    def answer(self, secure: ssl.SSLSocket) -> None:
        """Gives one a key; who has not the password is left without a word."""
        match = _ASKED.fullmatch(secure.recv(4096).decode(errors="replace"))
        password = (self.folder / "authd.pass").read_text()[:-1]
        if match is None or match["password"] != password:
            return
        if not _NAME.fullmatch(match["name"]):
            secure.sendall(f"ERROR: Invalid agent name: {match['name']}\n".encode())
            return
        known = self.keys()
        names = {key.name for key in known.values()}
        free = [match["name"], *(f"{match['name']}{number}" for number in range(2, 257))]
        name = next(name for name in free if name not in names)
        number = max([1023, *map(int, known)]) + 1
        key = Key(str(number), name, secrets.token_hex(32))
        with (self.folder / "agents").open("a") as file:
            file.write(key.line + "\n")
        secure.sendall(f"OSSEC K:'{key.line}'\n\n".encode())

    # What agents say -----------------------------------------------------------------------------

    def listen(self) -> None:
        """Hears agents and orders, for ever."""
        agents = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        agents.bind((self.address, 1514))
        orders = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (self.folder / "orders").unlink(missing_ok=True)
        orders.bind(str(self.folder / "orders"))
        with selectors.DefaultSelector() as ready:
            ready.register(agents, selectors.EVENT_READ)
            ready.register(orders, selectors.EVENT_READ)
            while True:
                for which, _ in ready.select():
                    if which.fileobj is agents:
                        self.hear(agents)
                    else:
                        self.order(agents, orders.recv(65536).decode())

    def hear(self, agents: socket.socket) -> None:
        """Answers an agent that is known; others get no answer."""
        data, address = agents.recvfrom(65536)
        number = wire.sender(data)
        key = self.keys().get(number)
        message = wire.unpacked(data, key) if key else None
        if key is None or message is None:
            return
        self.heard[number] = address
        with (self.folder / "events").open("a") as file:
            file.write(json.dumps([number, message.kind, message.text]) + "\n")
        if message.kind in (wire.START, wire.ALIVE):
            agents.sendto(Message(wire.ACK).packed(key), address)
        if message.kind == wire.START:
            for path in sorted((self.folder / "shared").glob("*")):
                handed = Message(wire.FILE, path.read_text(), path.name)
                agents.sendto(handed.packed(key), address)

    def order(self, agents: socket.socket, text: str) -> None:
        """Sends an order to every agent that was heard."""
        known = self.keys()
        for number, address in self.heard.items():
            if number in known:
                agents.sendto(Message(wire.ORDER, text).packed(known[number]), address)
