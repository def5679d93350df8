"""What every lab host can do: a Debian system with systemd as PID 1."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from .system import REPO, LabError, sh

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from .lab import Lab

ENVIRONMENT = {
    "PATH": "/opt/salt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
Command = str | Sequence[str]
Finished = subprocess.CompletedProcess[str]


class SaltResult(NamedTuple):
    """What one salt-call gave: the function's return value, its exit code, and its log."""

    value: Any
    retcode: int
    stderr: str


class Host(ABC):
    """A host of a lab run. Made by `Lab`; `name` and `ip` are how others reach it."""

    PATIENCE: ClassVar[float] = 60  # seconds for booting, or for going down

    def __init__(self, lab: Lab, name: str, ip: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", name):
            raise LabError(f"{name!r} is no host name: use up to 12 letters, digits and hyphens.")
        self.lab, self.name, self.ip = lab, name, ip
        self.failed_units: list[str] = []
        self._state = lab.state / name
        self._disk = lab.disk / name
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ip} of lab {self.lab.id}>"

    # -- what kinds of hosts do differently -----------------------------------------------------

    @abstractmethod
    def _power_on(self) -> None:
        """Start the host on its disk, which is made if it is new."""

    @abstractmethod
    def _power_off(self) -> None:
        """Ask the host to shut down."""

    @abstractmethod
    def _inside(self, words: list[str], env: Mapping[str, str]) -> list[str]:
        """The command line of this machine that runs `words` inside the host, which is running."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the host is up far enough to be asked something."""

    # -- life -----------------------------------------------------------------------------------

    def boot(self, timeout: float | None = None) -> None:
        """Boot and wait until systemd says that the system is running (or degraded)."""
        timeout = timeout or self.PATIENCE
        if self.running:
            raise LabError(f"{self.name} is running already; reboot or stop it first.")
        self._power_on()
        deadline, state = time.monotonic() + timeout, ""
        while state not in ("running", "degraded"):
            if self._process and self._process.poll() is not None:
                raise LabError(f"{self.name} did not boot: {self.console()[-1500:]}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is still {state!r} after {timeout:.0f} s of booting.")
            time.sleep(0.05)
            if self.running:
                state = self.run(["systemctl", "is-system-running", "--wait"], False).stdout.strip()
        failed = self.run("systemctl list-units --failed --plain --no-legend").stdout
        self.failed_units = [line.split()[0] for line in failed.splitlines()]

    def _launch(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Start what the host runs in: in a control group of its own, away from our terminal."""
        self._cgroup.mkdir(parents=True, exist_ok=True)
        with (self._state / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self._cgroup, *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def _cgroup(self) -> Path:
        return self.lab.cgroup / self.name

    def reboot(self, timeout: float | None = None) -> None:
        """Reboot for real: services stop, the system ends and boots again on the same disk."""
        self.run("systemctl reboot", check=False)
        self.wait_down(timeout)
        self.boot(timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Shut down cleanly; the disk stays and `boot` starts the host again."""
        if self.running:
            self._power_off()
        self.wait_down(timeout)

    def kill(self) -> None:
        """Cut the power: every process of the host ends at once."""
        kill_cgroup(self._cgroup)
        self.wait_down(10)

    def wait_down(self, timeout: float | None = None) -> None:
        """Wait until the host has gone down."""
        timeout = timeout or self.PATIENCE
        deadline = time.monotonic() + timeout
        while occupied(self._cgroup):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not go down within {timeout:.0f} s.")
            time.sleep(0.05)
        if self._process:
            self._process.wait(10)
            self._process = None

    def console(self) -> str:
        """What the host wrote to its console since it was made."""
        return (self._state / "console.log").read_text(errors="replace")

    # -- commands and files ---------------------------------------------------------------------

    def argv(self, cmd: Command, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `cmd` (a shell line or a list) as root inside the host."""
        if not self.running:
            raise LabError(f"{self.name} is not running; boot it first.")
        words = ["bash", "-c", cmd] if isinstance(cmd, str) else [str(word) for word in cmd]
        return self._inside(words, {**ENVIRONMENT, **(env or {})})

    def run(
        self,
        cmd: Command,
        check: bool = True,
        timeout: float | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a command as root; a failure is a LabError unless `check` is false.

        A command still running after `timeout` seconds is killed, and that is always an error.
        """
        timeout = timeout or 2 * self.PATIENCE
        words = ["bash", "-c", cmd] if isinstance(cmd, str) else [str(word) for word in cmd]
        limit = ["timeout", "--kill-after=5", str(timeout)]
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        shown = cmd if isinstance(cmd, str) else shlex.join(words)
        feed["timeout"] = timeout + self.PATIENCE  # for a host that hangs as a whole
        overdue = LabError(f"{self.name}: `{shown}` did not end within {timeout} s.")
        try:
            argv = self.argv([*limit, *words], env)
            done = subprocess.run(argv, capture_output=True, text=True, **feed)
        except subprocess.TimeoutExpired:
            raise overdue from None
        if done.returncode in (124, 137):
            raise overdue
        if check and done.returncode:
            output = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}".strip()
            raise LabError(f"{self.name}: `{shown}` failed ({done.returncode}):\n{output}")
        return done

    def start(self, cmd: Command, **kwargs: Any) -> subprocess.Popen[str]:
        """Start a command and return at once; keyword arguments go to Popen."""
        kwargs = {"stdin": subprocess.DEVNULL, "text": True, **kwargs}
        return subprocess.Popen(self.argv(cmd), **kwargs)

    def write(self, path: str, text: str, mode: str = "0644", owner: str = "root:root") -> None:
        """Write a file, its folder made if missing."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1" && chown "$3" "$1"'
        self.run(["sh", "-c", script, "write", path, mode, owner], input=text)

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run(["cat", path]).stdout

    def copy_tree(self, source: Path, target: str, files: Sequence[str] = (".",)) -> None:
        """Replace the folder `target` of the host by a folder of the machine (or some of it)."""
        script = 'rm -rf "$1" && mkdir -p "$1" && tar -C "$1" --no-same-owner -xf -'
        pack = ["tar", "-C", str(source), "--null", "--no-recursion", "-T", "-", "-cf", "-"]
        if files == (".",):
            pack.remove("--no-recursion")
        tar = subprocess.run(pack, input="\0".join(files).encode(), capture_output=True, check=True)
        unpack = self.argv(["sh", "-c", script, "copy", target])
        subprocess.run(unpack, input=tar.stdout, capture_output=True, check=True)

    def copy_repo(self, target: str = "/srv/rocksalt") -> None:
        """Replace `target` by the repository as it is now: tracked and new files, not ignored."""
        git = (
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            REPO,
            "ls-files",
            "-coz",
            "--exclude-standard",
        )
        names = [name for name in sh(*git).stdout.split("\0") if name]
        self.copy_tree(REPO, target, [name for name in names if os.path.lexists(REPO / name)])

    def wait_for(self, cmd: Command, timeout: float = 30, every: float = 0.2) -> Finished:
        """Repeat a command until it succeeds; after `timeout` seconds that is a LabError."""
        deadline = time.monotonic() + timeout
        while (done := self.run(cmd, check=False)).returncode:
            if time.monotonic() > deadline:
                said = (done.stderr or done.stdout).strip()[-1000:]
                raise LabError(f"{self.name}: waited {timeout:.0f} s in vain for `{cmd}`: {said}")
            time.sleep(every)
        return done

    def salt_call(
        self,
        fun: str,
        *args: Any,
        local: bool = False,
        config: str = "/etc/salt",
        timeout: float = 300,
        **kwargs: Any,
    ) -> SaltResult:
        """Run a Salt function with salt-call; other keyword arguments go to the function."""
        words = ["salt-call", f"--config-dir={config}", "--out=json", "--retcode-passthrough"]
        words += ["--local"] if local else []
        words += [fun, *(arg if isinstance(arg, str) else json.dumps(arg) for arg in args)]
        words += [f"{key}={json.dumps(value)}" for key, value in kwargs.items()]
        done = self.run(words, check=False, timeout=timeout)
        try:
            value = json.loads(done.stdout)["local"]
        except (ValueError, KeyError):
            said = f"{done.stdout}\n{done.stderr}".strip()[-2000:]
            raise LabError(f"{self.name}: `salt-call {fun}` gave no JSON:\n{said}") from None
        return SaltResult(value, done.returncode, done.stderr)

    @cached_property
    def testinfra(self) -> TestinfraHost:
        """This host for testinfra."""
        from .backend import testinfra_host  # people who only play need no testinfra

        return testinfra_host(self.name, self.execute)

    def execute(self, argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a command as root; whatever it gave, in bytes."""
        return subprocess.run(
            self.argv(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2 * self.PATIENCE,
        )


def occupied(cgroup: Path) -> bool:
    """Whether a control group or one below has processes, also if they are just about to end."""
    events = cgroup / "cgroup.events"
    return events.exists() and "populated 1" in events.read_text()


def kill_cgroup(cgroup: Path) -> None:
    """End every process of a control group and below, at once."""
    if cgroup.exists():
        (cgroup / "cgroup.kill").write_text("1")
