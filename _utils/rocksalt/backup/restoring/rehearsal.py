"""Tries out a restored master: the program that a drill starts in namespaces of its own.

It reads one JSON object from standard input and writes a line of JSON for each step that it took,
``{"name", "status", "reason"}``, the first one when it stands on its own stage. Whatever it starts
ends with it, and all of that may be the code of somebody who had the master.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from rocksalt.backup.errors import BackupError
from rocksalt.backup.restoring import stage

OK, FAILED, SKIPPED = "ok", "failed", "skipped"
STAGE = "namespace"
STEPS = ("configuration", "keys", "minions", "canary", "master", "log-in")
WORK = "/run/rocksalt-rehearsal"
PATIENCE = 120.0
"""Seconds for the master to listen, and for the minion to answer."""

_QUESTIONS = """
import json, sys
import salt.config, salt.key, salt.version
opts = salt.config.master_config(sys.argv[1])
keys = salt.key.get_key(opts).key_str("*")
known = ("pki_dir", "gpg_keydir", "config_dir", "default_include", "publish_port", "ret_port",
         "encryption_algorithm", "signing_algorithm", "keysize", "hash_type")
print(json.dumps({"opts": {k: opts[k] for k in known if k in opts},
                  "accepted": keys.get("minions", {}), "salt": salt.version.__version__}))
"""
_REPLACED: Mapping[str, Any] = {
    "interface": "127.0.0.1",
    "ipv6": False,
    "user": "root",
    "fileserver_backend": ["roots"],
    "ext_pillar": [],
    "engines": [],
    "reactor": [],
    "schedule": {},
}
"""Settings of the restored master for the rehearsal: it has one address, and nobody to talk to."""

_MESSAGE = re.compile(r"-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----", re.DOTALL)


class Skipped(Exception):
    """A step cannot be taken here; the text says why."""


class Rehearsal:
    """The steps, each of which returns what it found and raises :class:`Skipped` or
    :class:`BackupError`.
    """

    def __init__(self, plan: Mapping[str, Any]):
        self.config = str(plan["config"])
        self.canary = str(plan.get("canary", ""))
        self.minion: Mapping[str, str] = plan.get("minion") or {}
        self.salt = str(plan.get("salt", ""))
        self.programs = str(plan.get("programs", ""))
        self.opts: dict[str, Any] = {"pki_dir": "/etc/salt/pki/master"}
        self.accepted: dict[str, str] | None = None
        self.running = False

    def configuration(self) -> str:
        """Lets the Salt of this host read the restored configuration."""
        if not os.path.exists(self.config):
            raise BackupError(f"{self.config} was not restored")
        done = _run(self._python(), "-c", _QUESTIONS, self.config)
        if done.returncode:
            raise BackupError(f"{self.config} cannot be loaded: {_last(done.stderr)}")
        found = json.loads(done.stdout.splitlines()[-1])
        self.opts, self.accepted = found["opts"], found["accepted"]
        of = f", and was of Salt {self.salt}" if self.salt not in ("", found["salt"]) else ""
        return f"{self.config} is loaded by Salt {found['salt']}{of}"

    def keys(self) -> str:
        """Compares the two halves of the master's key pair."""
        folder = Path(self.opts["pki_dir"])
        try:
            private = serialization.load_pem_private_key(
                (folder / "master.pem").read_bytes(), password=None
            )
            public = serialization.load_pem_public_key((folder / "master.pub").read_bytes())
        except TypeError:
            raise Skipped(f"{folder}/master.pem has a passphrase") from None
        except (OSError, ValueError) as error:
            raise BackupError(f"the key pair in {folder} cannot be read: {error}") from None
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if private.public_key().public_bytes(*form) != public.public_bytes(*form):
            raise BackupError(f"{folder}/master.pub does not belong to {folder}/master.pem")
        return f"master.pem and master.pub in {folder} are a pair"

    def minions(self) -> str:
        """Counts the minions whose keys are accepted."""
        if self.accepted is None:
            raise Skipped("the configuration was not loaded")
        if not self.accepted:
            raise BackupError(f"no minion is accepted in {self.opts['pki_dir']}")
        return f"{len(self.accepted)} accepted"

    def decryption(self) -> str:
        """Decrypts the canary with a copy of the restored GPG home, and looks at none of it."""
        if not self.canary:
            raise Skipped("hardening:backup:drill:canary names no pillar file")
        if not shutil.which("gpg"):
            raise Skipped("gpg is not installed on this host")
        config_dir = self.opts.get("config_dir", os.path.dirname(self.config))
        home = self.opts.get("gpg_keydir") or os.path.join(config_dir, "gpgkeys")
        try:
            text = Path(self.canary).read_text(encoding="utf-8", errors="replace")
            # Short, for the names of sockets in it may have no more than 107 characters.
            copy = shutil.copytree(
                home, f"{WORK}/gpg", ignore=shutil.ignore_patterns("S.*", "*.lock")
            )
            os.chmod(copy, 0o700)
        except (OSError, shutil.Error) as error:
            raise BackupError(f"the canary or the GPG home cannot be read: {error}") from None
        message = _MESSAGE.search(text)
        if not message:
            raise BackupError(f"{self.canary} has no PGP message")
        lines = "\n".join(line.strip() for line in message[0].splitlines()) + "\n"
        done = _run("gpg", "--homedir", copy, "--batch", "--no-tty", "--decrypt", text=lines)
        if done.returncode:
            raise BackupError(
                f"{self.canary} cannot be decrypted with {home}: {_last(done.stderr)}"
            )
        return f"{self.canary} is decrypted with {home}"

    def master(self) -> str:
        """Starts the master until it listens."""
        if self.accepted is None:
            raise Skipped("the configuration was not loaded")
        folder, pattern = os.path.split(str(self.opts.get("default_include", "")))
        if not pattern.endswith("*.conf"):
            raise Skipped(f"default_include is {pattern!r}: there is no place for a drop-in")
        folder = os.path.join(os.path.dirname(self.config), folder)
        os.makedirs(folder, exist_ok=True)
        _write(Path(folder, "zz-rehearsal.conf"), json.dumps(_REPLACED), 0o644)
        port = int(self.opts["ret_port"])
        self._start("salt-master", os.path.dirname(self.config), lambda: _listening(port))
        self.running = True
        return f"salt-master listens on port {port}"

    def log_in(self) -> str:
        """Lets a minion with its old key log in, and asks it."""
        if not self.running:
            raise Skipped("the master does not run")
        if not self.minion:
            raise Skipped("hardening:backup:drill:minion names no folder with a key pair")
        assert self.accepted is not None
        mine = self.minion["pub"].strip()
        name = next((it for it, key in self.accepted.items() if key.strip() == mine), "")
        if not name:
            raise BackupError("the minion's public key is none of those that the master accepted")
        folder = self._minion(name)
        self._start("salt-minion", folder, lambda: self._answers(name))
        known = Path(folder, "pki/minion_master.pub").read_text().strip()
        if known != Path(self.opts["pki_dir"], "master.pub").read_text().strip():
            raise BackupError(f"{name} was answered by a master with another key")
        return f"{name} logged in with its old key and answered test.ping"

    def _minion(self, name: str) -> str:
        """Configures a minion that has nothing but its key pair."""
        folder = f"{WORK}/minion"
        os.makedirs(f"{folder}/pki", mode=0o700)
        for file, text in (("pem", self.minion["pem"]), ("pub", self.minion["pub"])):
            _write(Path(folder, f"pki/minion.{file}"), text)
        options = {
            "id": name,
            "master": "127.0.0.1",
            "master_port": self.opts["ret_port"],
            "publish_port": self.opts["publish_port"],
            "user": "root",
            "root_dir": folder,
            "pki_dir": f"{folder}/pki",
            "schedule": {},
        }
        for key in ("encryption_algorithm", "signing_algorithm", "hash_type"):
            if key in self.opts:
                options[key] = self.opts[key]
        _write(Path(folder, "minion"), json.dumps(options))
        return folder

    def _answers(self, name: str) -> bool:
        folder = os.path.dirname(self.config)
        command = ("--out=json", "--static", "-t", "10", "-L", name, "test.ping")
        try:
            done = _run(self._program("salt"), "-c", folder, *command, patience=30)
        except BackupError:  # it waits for a master that is not up to it yet
            return False
        return f'"{name}": true' in done.stdout

    def _start(self, program: str, config: str, ready: Callable[[], bool]) -> None:
        """Runs a daemon until it is ready; :class:`BackupError` has the last that it told."""
        with tempfile.TemporaryFile() as log:  # nothing else can be in the place of a nameless file
            process = subprocess.Popen(
                [self._program(program), "-c", config, "-l", "warning"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            deadline = time.monotonic() + PATIENCE
            while not ready():
                told = _last(_tail(log.fileno()))
                if process.poll() is not None:
                    raise BackupError(f"{program} ended with status {process.returncode}: {told}")
                if time.monotonic() > deadline:
                    raise BackupError(f"{program} was not ready after {PATIENCE:.0f} s: {told}")
                time.sleep(0.3)

    def _program(self, name: str) -> str:
        path = shutil.which(name, path=self.programs or None)
        if not path:
            raise Skipped(f"{name} is not installed on this host")
        return path

    def _python(self) -> str:
        """The Python that Salt runs in: beside its programs, below them, or in their first line."""
        program = os.path.realpath(self._program("salt-master"))
        folder = os.path.dirname(program)
        with open(program, "rb") as file:
            first = file.readline(4096).decode(errors="replace").removeprefix("#!").strip()
        for path in (f"{folder}/bin/python3", f"{folder}/python3", first):
            if os.access(path, os.X_OK) and not _run(path, "-c", "import salt").returncode:
                return path
        raise Skipped(f"{program} is there, and no Python beside it that knows Salt")


def _run(
    *command: str, text: str = "", patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise BackupError(f"{command[0]} did not end within {patience:.0f} s") from None


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file that is new: not through a link that the restored master left there."""
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)


def _tail(fd: int) -> str:
    """The end of a log, whose writer goes on at the place that it shares with this."""
    size = os.fstat(fd).st_size
    return os.pread(fd, 65536, max(0, size - 65536)).decode(errors="replace")


def _last(text: str) -> str:
    """The last line in which a program says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _listening(port: int) -> bool:
    with socket.socket() as handle:
        handle.settimeout(1)
        return handle.connect_ex(("127.0.0.1", port)) == 0


def steps(rehearsal: Rehearsal) -> Sequence[tuple[str, Callable[[], str]]]:
    """The steps in their order."""
    taken = (
        rehearsal.configuration,
        rehearsal.keys,
        rehearsal.minions,
        rehearsal.decryption,
        rehearsal.master,
        rehearsal.log_in,
    )
    return list(zip(STEPS, taken, strict=True))


def outcome(name: str, take: Callable[[], str]) -> dict[str, str]:
    """One step taken: whatever happens is its outcome."""
    try:
        return {"name": name, "status": OK, "reason": take()}
    except Skipped as reason:
        return {"name": name, "status": SKIPPED, "reason": str(reason)}
    except BackupError as error:
        return {"name": name, "status": FAILED, "reason": str(error)}
    except Exception as error:  # a damaged tree must not end the drill without a report
        return {"name": name, "status": FAILED, "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Plays what standard input describes: the keys are those that ``drill`` gives."""
    plan = json.load(sys.stdin)

    def enter() -> str:
        stage.loopback()
        root = stage.build(plan["scratch"], stage.programs(plan["programs"]), plan["hidden"])
        os.makedirs(root + WORK, mode=0o700)
        stage.enter(root, plan["tree"], plan["tops"])
        del os.environ["PYTHONPATH"]
        return "a root folder and a network of its own"

    _tell(entered := outcome(STAGE, enter))
    if entered["status"] == OK:
        rehearsal = Rehearsal(plan)
        for name, take in steps(rehearsal):
            _tell(outcome(name, take))


def _tell(step: Mapping[str, str]) -> None:
    print(json.dumps(step), flush=True)


if __name__ == "__main__":
    main()
