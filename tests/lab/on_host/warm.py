"""Runs on a lab host: salt, salt-call and salt-run that start at once.

As a server it loads Salt once and forks for each command; called by one of those names it hands its
arguments, folder, environment and files to the server and ends as the command did.
"""

import array
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

SOCKET = "/run/warm.socket"
MODULES = ("scripts", "cli.salt", "cli.call", "cli.run", "client", "runner", "minion", "state")
PROGRAMS = {"salt": "salt_main", "salt-call": "salt_call", "salt-run": "salt_run"}


def ask(program: str) -> int:
    """The client: the exit code of the command."""
    told = {"program": program, "words": sys.argv[1:], "folder": os.getcwd(), "env": {**os.environ}}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(SOCKET)
        files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
        server.sendmsg([json.dumps(told).encode() + b"\n"], files)
        return int(server.makefile().readline() or 1)


def answer(client: socket.socket, scripts: Any) -> None:
    """In a fork of the server: become the command."""
    text, files, _, _ = socket.recv_fds(client, 1 << 20, 3)
    told = json.loads(text)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.argv = ["/usr/bin/" + told["program"], *told["words"]]
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(it, "w", closefd=False) for it in (1, 2))
    try:
        getattr(scripts, PROGRAMS[told["program"]])()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    with contextlib.suppress(BrokenPipeError):  # who reads it has enough
        sys.stdout.flush()
        sys.stderr.flush()
    client.sendall(f"{code}\n".encode())


def serve() -> None:
    """The server, until it is ended."""
    for name in MODULES:
        importlib.import_module(f"salt.{name}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(SOCKET)
        listening.listen()
        while True:
            client, _ = listening.accept()
            if os.fork():
                client.close()
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            answer(client, sys.modules["salt.scripts"])
            os._exit(0)


if __name__ == "__main__":
    called = os.path.basename(sys.argv[0])
    sys.exit(ask(called) if called in PROGRAMS else serve())
