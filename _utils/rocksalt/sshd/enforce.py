"""Makes the host what the checks expect, as one transaction: validated, reloaded, tried by a new
connection, or undone.

Every file is replaced as a whole, and in an order in which each prefix of the changes is a
configuration that works, so a run that is killed leaves nothing half done.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence

from rocksalt import sshd
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.sshd import checks, config, reading
from rocksalt.transaction import DISABLED, Transaction, must

_CANDIDATE = "/run/rocksalt-sshd-candidate.conf"
RETIRED = ".retired-by-rocksalt"
_DEFAULTS_FILE = "/etc/default/ssh"
_PATIENCE = 8.0
_KEY_ARGUMENTS = {
    "ed25519": ("ed25519",),
    "ecdsa": ("ecdsa", "-b", "256"),
    "rsa": ("rsa", "-b", "3072"),
}


def enforce(host: Host, it: checks.Sshd, ids: Sequence[str]) -> None:
    """Enforces the controls ``ids``. Raises :class:`Refused` after everything was put back as it
    was.
    """
    guarded = {control.id for control in it.family.controls.values() if control.guarded}
    full = bool(guarded & set(ids))

    def allowed(identifier: str) -> bool:
        return full or identifier not in guarded

    _refuse_early(host, it, full, it.render(allowed))
    change = Transaction(host)
    try:
        _change(host, it, change, ids, allowed)
        _take_effect(host, change, ids)
        if checks.HOST_KEYS in ids and _retire_weak_keys(change, it):
            _take_effect(host, change, ())
    except (Refused, OSError) as error:
        raise Refused(f"{error}; {_back(host, change)}") from None


def _refuse_early(host: Host, it: checks.Sshd, full: bool, text: str) -> None:
    """What cannot end well is refused before anything is touched."""
    if not full and checks.unread(it.reading):
        raise Refused(
            "files of sshd changed since it last read them, and nobody has a way in: "
            "they are not put into force"
        )
    for address in it.settings["listen_addresses"]:
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as attempt:
                attempt.bind((address, 0))
        except OSError as error:
            path = "hardening:sshd:listen_addresses"
            raise Refused(f"{path}: {address} is no address of this host: {error}") from None
    present = {key.path for key in it.reading.host_keys}
    if present.isdisjoint(checks.host_key_paths(it.settings)):
        return  # without any of its host keys, which are yet to be made, sshd accepts nothing
    host.write(_CANDIDATE, text, "0600")
    try:
        with host.directory(sshd.PRIVILEGE_SEPARATION, unless=lambda: reading.starting(host)):
            command = ("/usr/sbin/sshd", "-t", "-f", str(host.path(_CANDIDATE)))
            must(host, "sshd does not accept what the baseline would write", *command)
    finally:
        host.remove(_CANDIDATE)


def _back(host: Host, change: Transaction) -> str:
    """Undoes a change and says how that went."""
    failures = change.undo()
    host.run("systemctl", "reset-failed", "ssh.service")
    host.run("systemctl", "reload-or-restart", "ssh.service")
    try:
        _must_answer(host)
    except (Refused, OSError) as error:
        failures.append(str(error))
    if failures:
        return f"and going back to the old configuration failed, too: {'; '.join(failures)}"
    return "the old configuration is back"


def _change(
    host: Host,
    it: checks.Sshd,
    change: Transaction,
    ids: Sequence[str],
    allowed: Callable[[str], bool],
) -> None:
    """The files, each a step that leaves a configuration which works."""
    if checks.HOST_KEYS in ids:
        present = [key.path for key in it.reading.host_keys]
        _make_host_keys(host, (p for p in checks.host_key_paths(it.settings) if p not in present))
    if "SSHD-014" in ids:
        change.write(sshd.CLOUD_INIT, checks.cloud_init(it), "0644")
    if "SSHD-011" in ids:
        change.write(sshd.MODULI, checks.moduli_strong(host.read(sshd.MODULI) or ""))
    if "SSHD-015" in ids:
        change.write(sshd.BANNER, checks.banner(it), "0644")
    _configure(host, it, change, allowed, again=checks.FILE_CONTROL in ids)
    if "SSHD-007" in ids:
        _without_options(host, change)
    for path, access in checks.wrong_access(it, ids):
        user, group, mode = access.replace(":", " ").split()
        host.secure(path, user, group, mode)


def _configure(
    host: Host,
    it: checks.Sshd,
    change: Transaction,
    allowed: Callable[[str], bool],
    again: bool,
) -> None:
    """The drop-in first, then the Include that makes it count, then the lines of others that
    contradict it. Lines disabled for a control that is excused now come back.
    """
    text = it.render(allowed)
    same = text == it.reading.texts.get(sshd.DROP_IN) and sshd.DROP_IN not in it.reading.links
    if again or not same:
        change.write(sshd.DROP_IN, text, "0600")
    lines = it.contradictions(allowed)
    for path in dict.fromkeys(line.path for line in lines):
        numbers = sorted({line.number for line in lines if line.path == path})
        change.write(path, _disabled(host.read(path) or "", numbers))
    excused = it.excused_keywords()
    for path in _with_disabled_lines(host) if excused else ():
        old = host.read(path) or ""
        new = _enabled(old, lambda keyword: keyword in excused)
        if new != old:
            change.write(path, new)
    if allowed("SSHD-002") and not checks.include_is_first(it):
        change.write(sshd.MAIN, _include_first(host.read(sshd.MAIN) or ""))


def _disabled(text: str, numbers: Iterable[int]) -> str:
    lines = text.split("\n")
    for number in numbers:
        lines[number - 1] = DISABLED + lines[number - 1]
    return "\n".join(lines)


def _enabled(text: str, which: Callable[[str], bool] = lambda _: True) -> str:
    """The text with the disabled lines of some keywords given back."""
    lines = []
    for line in text.split("\n"):
        original = line.removeprefix(DISABLED)
        lines.append(original if which(config.split(original)[0]) else line)
    return "\n".join(lines)


def _include_first(text: str) -> str:
    """The Include of the drop-in folder above everything else, and nowhere a second time."""
    kept = []
    for line in text.split("\n"):
        keyword, value = config.split(line)
        if keyword == "include" and config.includes_folder(value, sshd.FOLDER):
            others = config.without_folder(value, sshd.FOLDER)
            kept += [f"Include {others}"] if others else []
        else:
            kept.append(line)
    return "\n".join([sshd.INCLUDE, *kept])


def _make_host_keys(host: Host, paths: Iterable[str]) -> None:
    """Host keys under their names in one step each: sshd never sees half a key, and one that was
    there before lies beside it under another name.
    """
    for path in paths:
        kind = path.removeprefix("/etc/ssh/ssh_host_").removesuffix("_key")
        fresh = f"{path}.rocksalt-new"
        for name in (fresh, f"{fresh}.pub"):
            host.remove(name)
        made = host.run(
            *("ssh-keygen", "-q", "-t", *_KEY_ARGUMENTS[kind], "-N", "", "-C", ""),
            *("-f", fresh),
        )
        if made.status:
            raise Refused(f"no host key {path}: {made.err.strip()}")
        _set_aside(host, path)
        host.rename(f"{fresh}.pub", f"{path}.pub")
        host.rename(fresh, path)


def _set_aside(host: Host, path: str) -> None:
    """A second name for an old key, which survives when its own name gets a new one."""
    if host.read(path) is None:
        return
    number = next(n for n in itertools.count(1) if host.read(f"{path}{RETIRED}.{n}") is None)
    os.link(host.path(path), host.path(f"{path}{RETIRED}.{number}"))


def _retire_weak_keys(change: Transaction, it: checks.Sshd) -> bool:
    """Weak keys make place for strong ones, or go, after stronger ones are served."""
    weak = [key.path for key in it.reading.host_keys if key.weak]
    declared = checks.host_key_paths(it.settings)
    for path in weak:
        change.remember(path)
        change.remember(f"{path}.pub")
    _make_host_keys(change.host, (path for path in weak if path in declared))
    for path in weak:
        if path not in declared:
            _set_aside(change.host, path)
            change.host.remove(path)
            change.host.remove(f"{path}.pub")
    return bool(weak)


def _without_options(host: Host, change: Transaction) -> None:
    """SSHD_OPTS of Debian's defaults file goes."""
    text = host.read(_DEFAULTS_FILE) or ""
    numbers = [
        n
        for n, line in enumerate(text.split("\n"), 1)
        if line.startswith("SSHD_OPTS=") and line != "SSHD_OPTS="
    ]
    if numbers:
        change.write(_DEFAULTS_FILE, _disabled(text, numbers))


def _take_effect(host: Host, change: Transaction, ids: Sequence[str]) -> None:
    """Validate, reload or restart, and talk to the server by a new connection."""
    running = reading.daemon(host)
    with host.directory(sshd.PRIVILEGE_SEPARATION, unless=lambda: reading.starting(host)):
        must(host, "the new configuration is not valid", "/usr/sbin/sshd", "-t")
    if not running.enabled:
        must(host, "ssh.service cannot be enabled", "systemctl", "-q", "enable", "ssh.service")
    strays = [listener for listener in running.strays if not listener.unit]
    for listener in strays if "SSHD-007" in ids else ():
        _end(host, listener.pid)
    host.run("systemctl", "reset-failed", "ssh.service")
    if "SSHD-012" in ids and running.socket:
        _leave_socket(change)
    elif not running.active or ("SSHD-007" in ids and (running.options or strays)):
        must(host, "ssh.service does not start", "systemctl", "restart", "ssh.service")
    else:
        must(host, "ssh.service does not reload", "systemctl", "reload", "ssh.service")
    _must_answer(host)


def _end(host: Host, pid: int) -> None:
    """Ends a listener (its sessions stay) and waits until its port is free."""
    host.run("kill", str(pid))
    deadline = time.monotonic() + _PATIENCE
    while host.attributes(f"/proc/{pid}") is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def _leave_socket(change: Transaction) -> None:
    """From ssh.socket to ssh.service by systemd itself: a run killed meanwhile changes nothing.

    The service starts at boot before the socket no longer does, so a reboot finds one of them.
    """
    back = ("systemctl", "--quiet", "enable", "--now", "ssh.socket")
    change.do("systemctl", "--quiet", "disable", "ssh.socket", undo=back)
    switch = "systemctl stop ssh.socket; systemctl restart ssh.service"
    must(
        change.host,
        "ssh.service does not take over from ssh.socket",
        *("systemd-run", "--quiet", "--wait", "--collect", "sh", "-c", switch),
    )


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
    try:
        for path in _with_disabled_lines(host):
            change.write(path, _enabled(host.read(path) or ""))
        for path in (sshd.DROP_IN, sshd.BANNER, sshd.CLOUD_INIT):
            change.remove(path)
        _take_effect(host, change, ())
    except (Refused, OSError) as error:
        raise Refused(f"{error}; {_back(host, change)}") from None


def _with_disabled_lines(host: Host) -> list[str]:
    lines = config.parse(sshd.MAIN, host.read, host.glob)
    includes = [line.value for line in lines if line.keyword == "include"]
    paths = [sshd.MAIN, *host.glob(f"{sshd.FOLDER}/*.conf"), _DEFAULTS_FILE]
    paths += [path for value in includes for path in config.included(value, host.glob)]
    return [path for path in dict.fromkeys(paths) if DISABLED in (host.read(path) or "")]
