"""Real servers for vaults on loopback: an S3 server, an sshd with a receiver behind it, and a proxy
that is slow or breaks off. Each ends what it started.
"""

from __future__ import annotations

import contextlib
import getpass
import http.client
import http.server
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.config
import botocore.exceptions

from conftest import REPOSITORY, program
from rocksalt.backup import config
from rocksalt.backup.crypto import sshsig
from rocksalt.backup.vaults.file import MARKER

HERE = "127.0.0.1"
PATIENCE = 30.0


class Keys(NamedTuple):
    """What a client of an S3 server has, in the form of the setting ``s3_credentials``."""

    access_key: str
    secret_key: str


ADMIN, WRITER, READER = (Keys(f"AK{name}", f"SK{name}") for name in ("ADMIN", "WRITER", "READER"))
ACTIONS = {
    ADMIN: ["Admin", "Read", "Write", "List"],
    WRITER: ["Write", "GetBucketObjectLockConfiguration"],
    READER: ["Read", "List"],
}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HERE, 0))
        return [one.getsockname()[1] for one in sockets]


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((HERE, port)) == 0


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


class S3Server(NamedTuple):
    """A server with buckets; ``endpoint`` is its address."""

    endpoint: str
    port: int

    def client(self, keys: Keys = ADMIN) -> Any:
        """Without retries, for what a test does itself."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
            ),
        )

    def bucket(self, name: str, mode: str = "COMPLIANCE") -> str:
        """A new bucket with Object Lock and that default retention; without, for an empty mode."""
        client = self.client()
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=bool(mode))
        if mode:
            rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
            lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
            client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)

        def takes() -> bool:
            with contextlib.suppress(
                botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
            ):
                client.put_object(Bucket=name, Key="first", Body=b"")
                client.put_object(Bucket=name, Key="second", Body=b"x")
                return True
            return False

        # The first object of a bucket waits for the server to make a place for it.
        wait(takes, f"the bucket {name} to take objects")
        return name


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """``weed server`` of SeaweedFS, with Object Lock and keys for an administrator, a writer and a
    reader.
    """
    identities = [
        {
            "name": keys.access_key.lower(),
            "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
            "actions": actions,
        }
        for keys, actions in ACTIONS.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    parts = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = free_ports(2 * len(parts))
    words = [
        f"-{part}{suffix}={port}"
        for (part, suffix), port in zip(
            ((part, suffix) for part in parts for suffix in ("", ".grpc")), ports, strict=True
        )
    ]
    command = [
        program("weed"), "server", f"-ip={HERE}", f"-ip.bind={HERE}", f"-dir={folder}/data",
        *words, "-s3", f"-s3.config={folder}/s3.json", f"-s3.localSocket={folder}/s3.sock",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={folder}/filer.sock",
        "-volume.max=300", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
    ]  # fmt: skip
    server = S3Server(f"http://{HERE}:{ports[-2]}", ports[-2])

    def answers() -> bool:
        with contextlib.suppress(Exception):
            server.client().list_buckets()
            return True
        return False

    with running(command, folder / "weed.log"):
        wait(answers, "weed to answer")
        yield server


RECEIVE = """
import json, os, sys
sys.path.insert(0, {library!r})
from rocksalt.backup import config
from rocksalt.backup.vaults import receiver
config.SIGNING_KEY = {signing!r}
with open({pid!r}, "w") as file:
    file.write(str(os.getpid()))
with open({settings!r}) as file:
    settings = json.load(file)
receiver.serve(settings, sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)
"""


class VaultHost:
    """An sshd of its own, for the user of the tests, whose keys may only run the receiver.

    ``settings(...)`` is what a client has below ``vaults``, ``transport(client)`` its key.
    """

    def __init__(self, folder: Path):
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir(mode=0o700)
        (self.store / MARKER).touch()
        (self.port,) = free_ports(1)
        self.host_key = sshsig.generate(folder / "host")
        self.public = sshsig.generate(folder / "signing")
        self.receiver: dict[str, Any] = {
            "path": str(self.store), "allow_unencrypted": True, "clients": {}
        }  # fmt: skip
        self._lines: list[str] = []
        self._pid = folder / "receive.pid"
        self._script = folder / "receive.py"
        words = {"signing": folder / "signing", "pid": self._pid, "settings": folder / "config"}
        self._script.write_text(
            RECEIVE.format(
                library=str(REPOSITORY / "_utils"), **{key: str(it) for key, it in words.items()}
            )
        )
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {HERE}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )

    def transport(self, client: str) -> str:
        return str(self.folder / f"transport-{client}")

    def client(self, name: str, **settings: Any) -> None:
        """Lets a client in, with its settings below ``receiver:clients``."""
        key = sshsig.generate(self.transport(name))
        command = f"{sys.executable} {self._script} {name}"
        self._lines.append(f'restrict,command="{command}" {key}\n')
        (self.folder / "authorized_keys").write_text("".join(self._lines))
        self.receiver["clients"][name] = {"key": key, **settings}
        self.configure()

    def configure(self, **settings: Any) -> None:
        (self.folder / "config").write_text(json.dumps({"receiver": self.receiver, **settings}))

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {
            "type": "ssh", "host": HERE, "port": self.port, "user": getpass.getuser(),
            "host_key": self.host_key, "receiver": self.public, "timeout": 10,
            "location": "there", "admin_domain": "them", **changes,
        }  # fmt: skip

    def kill_receiver(self) -> None:
        os.kill(int(self._pid.read_text()), signal.SIGKILL)

    @contextlib.contextmanager
    def sshd(self) -> Iterator[VaultHost]:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        sshd = next(path for path in ("/usr/sbin/sshd", "/usr/bin/sshd") if os.path.exists(path))
        command = [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with running(command, self.folder / "sshd.log"):
            wait(lambda: listens(self.port), "sshd to listen")
            yield self


@contextlib.contextmanager
def transport_key(path: str) -> Iterator[None]:
    """Which key this host logs in with."""
    before, config.TRANSPORT_KEY = config.TRANSPORT_KEY, path
    try:
        yield
    finally:
        config.TRANSPORT_KEY = before


class Proxy:
    """Passes connections on to a port; once the client has sent ``limit`` bytes through it, it
    resets them (``reset``), or passes nothing more on (``stall``).
    """

    def __init__(self, target: int):
        self._target, self._listener = target, socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        self.limit, self.mode = 1 << 62, "reset"
        self._open: list[socket.socket] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def fails(self, mode: str, limit: int) -> None:
        self.mode, self.limit = mode, limit

    def heal(self) -> None:
        """Ends what was stalled; new connections are passed on."""
        self.limit = 1 << 62
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HERE, self._target))
                self._open += [client, server]
                for words in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._pass_on, args=words)
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    self.limit -= len(data)
                if self.limit < 0 and self.mode == "stall":
                    self._end.wait()
                    return
                if self.limit < 0:
                    for one in (source, target):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        # Wakes the other thread, which would keep it open.
                        one.shutdown(socket.SHUT_RD)
                        one.close()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.heal()
        for one in (self._listener, *self._open):
            one.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def failing_server(status: int, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """An HTTP server that has one answer; gives its address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response_only(status, http.client.responses[status])
            for name, value in {"Content-Length": "0", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_PUT = do_POST = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((HERE, 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{HERE}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
