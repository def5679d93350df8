"""The daemon that speaks with the server: sends what the others find, passes on what it orders."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import conf, wire
from .common import HOME, KEYS, LOCK, ORDERS, QUEUE, SHARED, Program, Refused, connected, listening
from .wire import Key, Message

ANSWER_WITHIN = 5.0
"""Seconds until the next server is tried; OSSEC takes 20."""
COUNTER = HOME / "queue/rids/sender_counter"
_NO_CLIENT = (1215, "No client configured. Exiting.")
_TEXTS = ("server-hostname", "config-profile")


@dataclass
class Settings:
    """What the section ``client`` says."""

    servers: list[str] = field(default_factory=list)
    port: int = 1514
    notify: int = 600
    reconnect: int = 0
    responses: bool = True


def settings(path: Path) -> Settings:
    """Reads them; raises :class:`Refused`."""
    found = Settings()
    sections = conf.read(path, (_NO_CLIENT,))
    try:
        for element in conf.within(sections, "client"):
            _take(found, element)
    except Refused as refused:
        raise Refused(*refused.complaints, conf.wrong(path), _NO_CLIENT) from None
    if not found.servers:
        raise Refused((4105, "No valid server IP found."), _NO_CLIENT)
    if found.reconnect <= found.notify:
        found.reconnect = 3 * found.notify
    return found


def _take(found: Settings, element: conf.Element) -> None:
    if element.name == "server-ip":
        found.servers.append(conf.address(element))
    elif element.name == "local_ip":
        conf.address(element)
    elif element.name == "port":
        found.port = conf.number(element)
        if not 1 <= found.port <= 65535:
            raise Refused(conf.value(element))
    elif element.name == "notify_time":
        found.notify = conf.number(element)
    elif element.name == "time-reconnect":
        found.reconnect = conf.number(element)
    elif element.name == "disable-active-response":
        found.responses = not conf.yes_or_no(element)
    elif element.name == "crypto_method":
        if element.text not in ("aes", "blowfish"):
            raise Refused(conf.value(element))
    elif element.name not in _TEXTS:
        raise Refused(conf.invalid(element.name))


class Agent:
    """The conversation with the servers, one after the other until one answers."""

    def __init__(self, program: Program, known: Settings, key: Key) -> None:
        self.program, self.known, self.key = program, known, key
        self.now = self.answered = self.tried = self.alive = 0.0
        self.connected = self.lost = False
        self.count, self.server = 0, -1
        self.orders: socket.socket | None = None
        self.wire = socket.socket()

    def work(self) -> None:
        """Listens to the other daemons and to the server, for ever."""
        local = listening(QUEUE)
        self.orders = connected(ORDERS) if self.known.responses else None
        LOCK.write_text("l")
        self.tick()
        while True:
            with selectors.DefaultSelector() as ready:
                ready.register(local, selectors.EVENT_READ)
                ready.register(self.wire, selectors.EVENT_READ)
                for which, _ in ready.select(0.2):
                    if which.fileobj is local:
                        event = local.recv(65536).decode(errors="replace")
                        self.send(Message(wire.EVENT, event))
                    else:
                        self.hear()
            self.tick()

    def tick(self) -> None:
        """What is to be done now: say that it lives, or look for a server that answers."""
        self.now = time.monotonic()
        if self.connected:
            if self.now - self.answered > self.known.reconnect:
                self.program.say("Server unavailable. Setting lock.", "WARN")
                LOCK.write_text("l")
                self.connected, self.lost = False, True
            elif self.now - self.alive >= self.known.notify:
                self.alive = self.now
                self.send(Message(wire.ALIVE))
        elif self.server < 0 or self.now - self.tried > ANSWER_WITHIN:
            self.next_server()

    def next_server(self) -> None:
        """Tries another one."""
        tried = self.known.servers[self.server]
        if self.server >= 0:
            said = f"Waiting for server reply (not started). Tried: '{tried}'."
            self.program.say(said, "WARN", 4101)
            self.wire.close()
        self.server = (self.server + 1) % len(self.known.servers)
        address = self.known.servers[self.server]
        if len(self.known.servers) > 1 and self.count:
            self.program.say(f"Trying next server in the line: '{address}'.")
        self.program.say(f"Trying to connect to server {address}, port {self.known.port}.")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.wire = socket.socket(family, socket.SOCK_DGRAM)
        self.wire.setblocking(False)  # an error that wakes us may be gone when we ask for it
        self.tried = self.alive = self.now
        try:
            self.wire.connect((address, self.known.port))
        except OSError:
            return
        self.send(Message(wire.START))

    def send(self, message: Message) -> None:
        """Sends something, and counts it."""
        with contextlib.suppress(OSError):
            self.wire.send(message.packed(self.key))
        self.count += 1
        COUNTER.write_text(f"0:{self.count}:")

    def hear(self) -> None:
        """Takes what the server says; anything that it says is a sign of life."""
        try:
            data = self.wire.recv(65536)
        except OSError:  # nothing listens there
            return
        message = wire.unpacked(data, self.key)
        if message is None:
            return
        self.answered = time.monotonic()
        if not self.connected:
            self.connected = True
            server = self.known.servers[self.server]
            said = f"Connected to server {server}, port {self.known.port}."
            self.program.say(said, "INFO", 4102)
            if self.lost:
                self.program.say("Server responded. Releasing lock.")
            LOCK.unlink(missing_ok=True)
        if message.kind == wire.FILE and "/" not in message.name:
            (SHARED / message.name).write_text(message.text)
        elif message.kind == wire.ORDER and self.orders is not None:
            try:
                self.orders.send(message.text.encode())
            except OSError:
                self.program.say("Error communicating with execd", "ERROR")


def main(arguments: Sequence[str]) -> int:
    """Runs it; the exit code."""
    program = Program("ossec-agentd", arguments)
    known = Settings()

    def test() -> None:
        nonlocal known
        known = settings(program.conf)
        said = f"Using notify time: {known.notify} and max time to reconnect: {known.reconnect}"
        program.say(said)
        _user()
        if not KEYS.exists():
            raise Refused(*_no_keys())

    def work() -> None:
        program.say("Reading authentication keys file.", "INFO", 1410)
        key = Key.of(KEYS.read_text())
        if key is None:
            raise Refused(_no_keys()[1])
        user, group = _user()
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        program.say(f"Assigning counter for agent {key.name}: '0:0'.")
        (HOME / "queue/ossec/.agent_info").write_text(f"{key.name}\n-\n{key.number}\n--\n")
        program.started()
        for number, server in enumerate(known.servers, 1):
            program.say(f"Server {number}: {server}")
        Agent(program, known, key).work()

    return program.run(test, work)


def _user() -> tuple[int, int]:
    try:
        return pwd.getpwnam("ossec").pw_uid, grp.getgrnam("ossec").gr_gid
    except KeyError:
        raise Refused((1203, "Invalid user 'ossec' or group 'ossec' given.")) from None


def _no_keys() -> tuple[tuple[int, str], ...]:
    return (
        (1402, f"Authentication key file '{KEYS}' not found."),
        (1751, "File client.keys not found or empty."),
        (4109, "Unable to start without auth keys. Exiting."),
    )
