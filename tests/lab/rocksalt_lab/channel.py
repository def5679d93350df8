"""Run commands inside a lab machine without its network: both ends of its virtio-serial ports.

    channel.py serve                         inside: do what is asked for on any port
    channel.py call PORTS SECONDS REQUEST    outside: have one command run; its input, output and
                                             exit code are those of this process

PORTS is the folder of the ports' sockets, of which a call takes a free one; SECONDS is how long it
waits for the machine to begin; REQUEST is a JSON object with "argv" and "env". Each message is one
line: a JSON object with the id of its call. What is left of a call whose caller was killed has
another id, or is half a line and no JSON; it is skipped. This needs the standard library alone.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PREFIX = "rocksalt-lab."  # of the ports' names inside
PORTS = 6  # commands that can run at the same time
CHUNK = 16 * 1024  # bytes in a message; the kernel takes 32 KiB at once
AHEAD = 16 * CHUNK  # input that a command has not read yet and that is kept for it
GRACE = 2.0  # seconds: a caller that just came may look absent for a moment
INIT_SCOPE = Path("/sys/fs/cgroup/init.scope/cgroup.procs")
LOST = 255  # the exit code of a call whose machine went down or does not answer
Message = dict[str, Any]


class Lines:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and "call" in message:
                    yield message


def encode(call: str, **content: Any) -> bytes:
    """One message; bytes in it as base64. A newline first ends what somebody left unfinished."""
    text = {
        key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in content.items()
    }
    return b"\n" + json.dumps({"call": call, **text}).encode() + b"\n"


# -- inside -------------------------------------------------------------------------------------


class CallerGone(Exception):
    """Nobody listens outside any more."""


class Port:
    """The inside end of a port."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._lines = Lines()
        self._wakes = select.epoll()
        # The kernel reports "no caller" for as long as it lasts: be told of changes only.
        self._wakes.register(self.fd, select.EPOLLIN | select.EPOLLET)

    def receive(self) -> list[Message]:
        """The messages that have come."""
        return list(self._lines.feed(self._read()))

    def _read(self) -> bytes:
        try:
            return os.read(self.fd, 2 * CHUNK)
        except BlockingIOError:
            return b""

    def wait(self) -> list[Message]:
        """The next messages, whenever they come."""
        while True:
            if messages := list(self._lines.feed(data := self._read())):
                return messages
            if not data:
                self._wakes.poll()

    def check_caller(self) -> None:
        """Raise CallerGone if there is no caller, also after a moment."""
        poll, end = select.poll(), time.monotonic() + GRACE
        poll.register(self.fd, 0)
        while any(events & select.POLLHUP for _, events in poll.poll(0)):
            if time.monotonic() > end:
                raise CallerGone
            time.sleep(0.05)

    def send(self, message: bytes) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while message:
            poll.poll()
            self.check_caller()
            with contextlib.suppress(BlockingIOError):
                message = message[os.write(self.fd, message) :]


class Command:
    """A running command of a call."""

    def __init__(self, request: Message) -> None:
        self.call, self._input, self._ended = request["call"], bytearray(), False
        self._terminal = -1
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        if request.get("window"):
            self._terminal, theirs = pty.openpty()
            rows, columns = request["window"]
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            pipes = dict.fromkeys(pipes, theirs)
        self._child = subprocess.Popen(
            request["argv"],
            **pipes,
            env=request["env"],
            cwd="/",
            start_new_session=True,
            preexec_fn=self._leave_the_agent,
        )
        if self._terminal >= 0:
            os.close(theirs)
            self.stdin, self.outputs = self._terminal, {self._terminal: "out"}
            return
        out, err = self._file(self._child.stdout), self._file(self._child.stderr)
        self.stdin, self.outputs = self._file(self._child.stdin), {out: "out", err: "err"}
        os.set_blocking(self.stdin, False)

    @staticmethod
    def _file(pipe: IO[bytes] | None) -> int:
        assert pipe is not None
        return pipe.fileno()

    def _leave_the_agent(self) -> None:
        """Be one of the host's own processes for systemd too, as a command in a container is."""
        with contextlib.suppress(OSError):
            INIT_SCOPE.write_text("0")
        if self._terminal >= 0:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    @property
    def wants_input(self) -> bool:
        return len(self._input) < AHEAD

    @property
    def has_input(self) -> bool:
        return self.stdin >= 0 and (bool(self._input) or self._ended)

    def take_input(self, messages: list[Message]) -> None:
        """Keep input that has come for the command; no bytes are its end."""
        for message in messages:
            if message["call"] == self.call and "in" in message and self.stdin >= 0:
                self._input += (data := base64.b64decode(message["in"]))
                self._ended |= not data

    def feed(self) -> None:
        """Give the command what it can take."""
        try:
            while self._input:
                del self._input[: os.write(self.stdin, self._input[:CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self._input.clear()  # it does not read any more
            self._ended = True
        if self._ended and self._terminal < 0:
            assert self._child.stdin is not None
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            self.stdin = -1
        self._ended = False

    def read(self, fd: int) -> bytes:
        """Output that waits; no bytes are its end."""
        try:
            data = os.read(fd, CHUNK)
        except OSError:
            data = b""  # the end of a terminal
        if not data:
            del self.outputs[fd]
        return data

    def finish(self) -> int:
        """The exit code, as a shell gives it."""
        code = self._child.wait()
        self._close()
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """End the command and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(GRACE)
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._terminal >= 0:
            os.close(self._terminal)


def converse(port: Port, command: Command) -> list[Message]:
    """Carry input and output until the command ends, or a newer call comes: its messages."""
    while command.outputs:
        poll = select.poll()
        poll.register(port.fd, select.POLLIN if command.wants_input else 0)
        for fd in command.outputs:
            poll.register(fd, select.POLLIN)
        if command.has_input:
            both = select.POLLIN if command.stdin in command.outputs else 0
            poll.register(command.stdin, select.POLLOUT | both)
        ready = dict(poll.poll())
        if ready.get(port.fd, 0) & select.POLLHUP:
            port.check_caller()
        if port.fd in ready:
            waiting = port.receive()
            if any("argv" in message for message in waiting):
                command.kill()
                return waiting
            command.take_input(waiting)
        if command.has_input and command.stdin in ready:
            command.feed()
        for fd in [fd for fd in command.outputs if ready.get(fd, 0) & ~select.POLLOUT]:
            name = command.outputs[fd]
            if data := command.read(fd):
                port.send(encode(command.call, **{name: data}))
    port.send(encode(command.call, code=command.finish()))
    return []


def attend(path: str) -> None:
    """Serve one port for ever."""
    port = Port(path)
    waiting: list[Message] = []
    while True:
        request, *waiting = waiting or port.wait()
        if "argv" not in request:
            continue
        try:
            command = Command(request)
        except OSError as error:
            code, text = (127, f"{error.strerror}: {error.filename}\n")
            with contextlib.suppress(CallerGone):
                port.send(encode(request["call"], started=0, err=text.encode(), code=code))
            continue
        command.take_input(waiting)
        try:
            port.send(encode(command.call, started=1))
            waiting = converse(port, command)
        except CallerGone:
            command.kill()
            waiting = []


def serve() -> None:
    """Serve every port; each has a process of its own."""
    names: list[Path] = []
    while len(names) < PORTS:
        time.sleep(0.1)
        found = Path("/sys/class/virtio-ports").glob("*/name")
        names = [path for path in found if path.read_text().startswith(PREFIX)]
    for name in names:
        if not os.fork():
            attend(f"/dev/{name.parent.name}")
    os.wait()


# -- outside ------------------------------------------------------------------------------------


def connect(ports: Path) -> tuple[socket.socket, IO[bytes]]:
    """Take a free port. The file is its lock, for as long as it is open."""
    while True:
        for path in sorted(ports.glob("port*.lock")):
            lock = path.open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path.with_suffix("")))
            return connection, lock
        time.sleep(0.05)


def call(ports: Path, patience: float, request: Message) -> int:
    """Have a command run; its exit code."""
    id = uuid.uuid4().hex
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if on_terminal:
        size = os.get_terminal_size()
        request = {**request, "window": [size.lines, size.columns]}
    try:
        connection, lock = connect(ports)
    except OSError:
        return give_up("the machine is not running")
    with lock, connection, raw_terminal(on_terminal):
        connection.sendall(encode(id, **request))
        threading.Thread(target=send_input, args=(connection, id), daemon=True).start()
        if not select.select([connection], [], [], patience)[0]:
            return give_up("the machine does not answer")
        return receive_output(connection, id)


@contextlib.contextmanager
def raw_terminal(wanted: bool) -> Iterator[None]:
    """Hand every key to the other side while this lasts."""
    if not wanted:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead counts
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def send_input(connection: socket.socket, id: str) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, CHUNK):
            connection.sendall(encode(id, **{"in": data}))
        connection.sendall(encode(id, **{"in": b""}))


def receive_output(connection: socket.socket, id: str) -> int:
    lines = Lines()
    try:
        while data := connection.recv(4 * CHUNK):
            for message in lines.feed(data):
                if message["call"] != id:
                    continue
                for fd, name in ((1, "out"), (2, "err")):
                    write_all(fd, base64.b64decode(message.get(name, "")))
                if "code" in message:
                    return int(message["code"])
    except ConnectionError:
        pass  # the same as an end
    return give_up("the machine went down")


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def give_up(why: str) -> int:
    print(f"lab: {why}", file=sys.stderr)
    return LOST


def main(arguments: list[str]) -> int:
    if arguments == ["serve"]:
        serve()
        return 1
    verb, ports, patience, request = arguments
    assert verb == "call"
    return call(Path(ports), float(patience), json.loads(request))


if __name__ == "__main__":
    # Threads that wait for input must not hold up the end.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
