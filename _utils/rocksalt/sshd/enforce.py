"""Makes the host what the checks expect, as one transaction: validated, reloaded, tried by a new
connection, or undone.

Every file is replaced as a whole, and in an order in which each prefix of the changes is a
configuration that works, so a run that is killed leaves nothing half done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rocksalt import sshd
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.sshd import checks, config, reading

DISABLED = "# disabled by rocksalt: "
RETIRED = ".retired-by-rocksalt"
_DEFAULTS_FILE = "/etc/default/ssh"
_PATIENCE = 8.0
_KEY_ARGUMENTS = {
    "ed25519": ("ed25519",),
    "ecdsa": ("ecdsa", "-b", "256"),
    "rsa": ("rsa", "-b", "3072"),
}


class Transaction:
    """Writes files and remembers what they were, so that everything can be put back."""

    def __init__(self, host: Host):
        self.host = host
        self._before: dict[str, tuple[str, str] | None] = {}
        self._renamed: list[tuple[str, str]] = []

    def write(self, path: str, text: str, mode: str | None = None) -> None:
        """Replaces ``path`` (or the file it links to); the mode stays as it was unless one is
        given.
        """
        path = str(Path(self.host.path(path)).resolve())[len(self.host.root) :]
        attributes, old = self.host.attributes(path), self.host.read(path)
        if attributes is None or old is None:
            self._before.setdefault(path, None)
        else:
            self._before.setdefault(path, (old, attributes.mode))
        self.host.write(path, text, mode or (attributes.mode if attributes else "0600"))

    def remove(self, path: str) -> None:
        """Removes a file that can be put back."""
        attributes, old = self.host.attributes(path), self.host.read(path)
        if attributes is not None and old is not None:
            self._before.setdefault(path, (old, attributes.mode))
            self.host.remove(path)

    def rename(self, path: str, new: str) -> None:
        """Renames a file that can be renamed back."""
        self.host.rename(path, new)
        self._renamed.append((path, new))

    def undo(self) -> None:
        """Puts everything back as it was before the first change."""
        for path, new in reversed(self._renamed):
            self.host.rename(new, path)
        for path, before in reversed(self._before.items()):
            if before is None:
                self.host.remove(path)
            else:
                self.host.write(path, before[0], before[1])


def enforce(host: Host, it: checks.Sshd, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused` after everything was put back as it
    was.
    """
    guarded = {control.id for control in it.family.controls.values() if control.guarded}
    full = bool(guarded & set(ids))

    def allowed(identifier: str) -> bool:
        return full or identifier not in guarded

    change = Transaction(host)
    if checks.HOST_KEYS in ids:
        _make_host_keys(host, checks.host_key_paths(it.settings))
    if "SSHD-014" in ids:
        change.write(sshd.CLOUD_INIT, checks.cloud_init(it), "0644")
    if "SSHD-011" in ids:
        change.write(sshd.MODULI, checks.moduli_strong(host.read(sshd.MODULI) or ""))
    if "SSHD-015" in ids:
        change.write(sshd.BANNER, checks.banner(it), "0644")
    _configure(host, it, change, allowed, again=checks.FILE_CONTROL in ids)
    if "SSHD-007" in ids:
        _without_options(host, change)
    _secure(host, it.reading, ids)
    _take_effect(host, change, restart=_needs_restart(host, ids))
    if checks.HOST_KEYS in ids and _retire_weak_keys(change, it):
        _take_effect(host, change, restart=False)


def _configure(
    host: Host,
    it: checks.Sshd,
    change: Transaction,
    allowed: Callable[[str], bool],
    again: bool,
) -> None:
    """The drop-in first, then the Include that makes it count, then the lines of others that
    contradict it.
    """
    text = it.render(allowed)
    if again or text != it.reading.texts.get(sshd.DROP_IN):
        change.write(sshd.DROP_IN, text, "0600")
    lines = it.contradictions(allowed)
    for path in dict.fromkeys(line.path for line in lines):
        numbers = [line.number for line in lines if line.path == path]
        change.write(path, _disabled(host.read(path) or "", numbers))
    if it.expected()["SSHD-002"] != checks.CHECKS["SSHD-002"][1](it).actual:
        change.write(sshd.MAIN, _include_first(host.read(sshd.MAIN) or ""), "0600")


def _disabled(text: str, numbers: Iterable[int]) -> str:
    lines = text.splitlines()
    for number in numbers:
        lines[number - 1] = DISABLED + lines[number - 1]
    return "\n".join(lines) + "\n"


def _include_first(text: str) -> str:
    """The Include of the drop-in folder above everything else, and nowhere a second time."""
    kept = []
    for line in text.splitlines():
        keyword, value = config.split(line)
        if not (keyword == "include" and checks.covers(value)):
            kept.append(line)
    return "\n".join([sshd.INCLUDE, *kept]) + "\n"


def _make_host_keys(host: Host, paths: Iterable[str]) -> None:
    """Missing host keys, made under another name first: sshd never sees half a key."""
    for path in paths:
        if host.read(path) is not None:
            continue
        kind = path.removeprefix("/etc/ssh/ssh_host_").removesuffix("_key")
        fresh = f"{path}.rocksalt-new"
        for name in (fresh, f"{fresh}.pub"):
            host.remove(name)
        made = host.run(
            "ssh-keygen", "-q", "-t", *_KEY_ARGUMENTS[kind], "-N", "", "-C", "", "-f", fresh
        )
        if made.status:
            raise Refused(f"no host key {path}: {made.err.strip()}")
        host.rename(f"{fresh}.pub", f"{path}.pub")
        host.rename(fresh, path)


def _retire_weak_keys(change: Transaction, it: checks.Sshd) -> bool:
    """Weak keys go aside, and a strong one of that type is made, after a stronger one is served.

    Nothing is lost: the retired key stays beside the new one under another name.
    """
    weak = [key.path for key in it.reading.host_keys if key.weak]
    for path in weak:
        change.rename(path, path + RETIRED)
        change.remove(f"{path}.pub")
    _make_host_keys(
        change.host, (path for path in weak if path in checks.host_key_paths(it.settings))
    )
    return bool(weak)


def _secure(host: Host, look: reading.Reading, ids: Sequence[str]) -> None:
    files = (
        [p for p in look.access if p.startswith(sshd.MAIN) and p != sshd.FOLDER]
        if "SSHD-008" in ids
        else []
    )
    files += [key.path for key in look.host_keys] if "SSHD-009" in ids else []
    for path in files:
        if host.attributes(path) is not None:
            host.secure(path, "root", "root", "0600")


def _without_options(host: Host, change: Transaction) -> None:
    """SSHD_OPTS of Debian's defaults file goes; a listener that no unit started ends (its sessions
    stay). One that another unit looks after is left to a person: it would come back.
    """
    lines = (host.read(_DEFAULTS_FILE) or "").splitlines()
    numbers = [
        n
        for n, line in enumerate(lines, 1)
        if line.startswith("SSHD_OPTS=") and line != "SSHD_OPTS="
    ]
    if numbers:
        change.write(_DEFAULTS_FILE, _disabled("\n".join(lines), numbers))
    for pid in reading.daemon(host).strays:
        unit = (host.read(f"/proc/{pid}/cgroup") or "").strip().rsplit("/", 1)[-1]
        if host.run("systemctl", "show", "-P", "MainPID", unit).out.strip() != str(pid):
            host.run("kill", str(pid))


def _needs_restart(host: Host, ids: Sequence[str]) -> bool:
    return bool({"SSHD-007", "SSHD-012", "SSHD-013"} & set(ids)) or not reading.daemon(host).active


def _take_effect(host: Host, change: Transaction, restart: bool) -> None:
    """Validate, reload, and talk to the server by a new connection; anything that fails puts the
    files back.
    """
    try:
        with host.directory(sshd.PRIVILEGE_SEPARATION):
            _must(host, "the new configuration is not valid", "/usr/sbin/sshd", "-t")
        if restart:
            _must(host, "ssh.socket cannot be switched off", "systemctl", "--quiet", "disable",
            "--now", "ssh.socket",
                  unless="not loaded|does not exist|not found")  # fmt: skip
            _must(
                host,
                "ssh.service cannot be enabled",
                "systemctl",
                "--quiet",
                "enable",
                "ssh.service",
            )
            host.run("systemctl", "reset-failed", "ssh.service")
            _must(host, "ssh.service does not start", "systemctl", "restart", "ssh.service")
        else:
            _must(host, "ssh.service does not reload", "systemctl", "reload", "ssh.service")
        _must_answer(host)
    except Refused as error:
        change.undo()
        host.run("systemctl", "reload-or-restart", "ssh.service")
        raise Refused(f"{error}; the old configuration is back") from None


def _must(host: Host, failure: str, *command: str, unless: str = "") -> None:
    ran = host.run(*command)
    harmless = any(words in ran.err for words in unless.split("|")) if unless else False
    if ran.status and not harmless:
        raise Refused(f"{failure}: {' '.join((ran.err or ran.out).split())}")


def _must_answer(host: Host) -> None:
    """A new connection gets as far as a complete key exchange, on every address that sshd listens
    on.
    """
    effective, problem = reading.test_mode(host)
    if problem:
        raise Refused(problem)
    for listening in effective["listenaddress"]:
        address, _, port = listening.rpartition(":")
        address = address.strip("[]")
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
        deadline = time.monotonic() + _PATIENCE
        while not host.run("ssh-keyscan", "-T", "3", "-p", port, address).out:
            if ":" in address and not _has_ipv6(host):
                break
            if time.monotonic() > deadline:
                raise Refused(f"a new connection to {address} port {port} gets no answer")
            time.sleep(0.1)


def _has_ipv6(host: Host) -> bool:
    return bool((host.read("/proc/net/if_inet6") or "").strip())


def leftovers(host: Host) -> list[str]:
    """What the baseline put on the host: its files, and the files of others in which it disabled
    lines.
    """
    own = [
        path for path in (sshd.DROP_IN, sshd.BANNER, sshd.CLOUD_INIT) if host.read(path) is not None
    ]
    return own + _with_disabled_lines(host)


def clean(host: Host) -> None:
    """Takes it away again; disabled lines of others come back, retired keys and moduli stay as they
    are.
    """
    change = Transaction(host)
    for path in _with_disabled_lines(host):
        change.write(
            path,
            "\n".join(li.removeprefix(DISABLED) for li in (host.read(path) or "").splitlines())
            + "\n",
        )
    for path in (sshd.DROP_IN, sshd.BANNER, sshd.CLOUD_INIT):
        change.remove(path)
    _take_effect(host, change, restart=False)


def _with_disabled_lines(host: Host) -> list[str]:
    lines = config.parse(sshd.MAIN, host.read, host.glob)
    includes = [line.value for line in lines if line.keyword == "include"]
    paths = [sshd.MAIN, *host.glob(f"{sshd.FOLDER}/*.conf"), _DEFAULTS_FILE]
    paths += [path for value in includes for path in config.included(value, host.glob)]
    return [path for path in dict.fromkeys(paths) if DISABLED in (host.read(path) or "")]
