"""A copy of a host's configuration in which PAM is changed and log-ins are tried, before the host
itself changes.

The copy is a mount namespace: /etc and what pam-auth-update writes are copies in memory, /run and
/var/log are empty, everything else can only be read. It ends with the process that holds it, and
that ends with ours.
"""

from __future__ import annotations

import contextlib
import secrets
import string
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rocksalt.accounts import pam
from rocksalt.errors import Refused
from rocksalt.host import ENVIRONMENT, Host, Ran

_COPIED = ("/etc", "/var/lib/pam", "/usr/share/pam-configs", "/var/cache/debconf")
_HIDDEN = ("/run", "/var/log")
_HOLD = ("unshare", "--mount", "--propagation", "private", "sh", "-euc")
_STAGE = """
# What is covered, by other mounts or below, and what the kernel makes of its own.
does_not_matter() {{
    [ -e "$1" ] || return 0
    for folder in {copied} {hidden} /dev /proc /sys; do
        case $1/ in "$folder"/*) return 0 ;; esac
    done
    return 1
}}
mount -t tmpfs -o mode=1777 rocksalt /tmp
for folder in {copied}; do
    mkdir -p "/tmp/rehearsal$folder"
    cp -a "$folder/." "/tmp/rehearsal$folder"
done
while read -r _ target kind _; do
    target=$(printf %b "$target")
    case $kind:$target in
    autofs:* | proc:* | sysfs:* | devtmpfs:* | devpts:* | mqueue:* | cgroup*:* | *:/tmp) continue ;;
    esac
    mount -o remount,bind,ro "$target" 2>/dev/null || does_not_matter "$target" || {{
        echo "$target cannot be made read-only" >&2
        exit 1
    }}
done </proc/mounts
for folder in {copied}; do mount --bind "/tmp/rehearsal$folder" "$folder"; done
for folder in {hidden}; do mount -t tmpfs -o mode=0755 rocksalt "$folder"; done
mkdir -m 1777 /run/lock
echo ready
exec cat
"""
_PASSWORD, _EMPTY = "rocksalt-trial", "rocksalt-empty"
_UIDS = {_PASSWORD: 64998, _EMPTY: 64999}
_SU = f"{pam.FOLDER}/su"
_NOBODY = "65534"
_CLASSES = (string.ascii_uppercase, string.digits, string.ascii_lowercase, "-+=@")
_LENGTH = 18
"""How often each class of characters comes in turn: long and mixed enough for every policy."""


class Stage(Host):
    """The host as the processes of a mount namespace see it."""

    def __init__(self, pid: int):
        super().__init__(f"/proc/{pid}/root")
        self._enter = ("nsenter", f"--mount=/proc/{pid}/ns/mnt", "--")

    def run(
        self, *command: str, timeout: float = 30, text: str = "", files: Sequence[int] = ()
    ) -> Ran:
        return super().run(*self._enter, *command, timeout=timeout, text=text, files=files)


@contextlib.contextmanager
def stage() -> Iterator[Host]:
    """A copy of this host; what is done there is forgotten. Raises :class:`Refused` where there can
    be none, as in a container without privileges.
    """
    script = _STAGE.format(copied=" ".join(_COPIED), hidden=" ".join(_HIDDEN))
    command = (*_HOLD, script)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes) as holder:  # type: ignore[call-overload]
        if holder.stdout.readline() != "ready\n":
            raise Refused(f"log-ins cannot be tried here: {holder.stderr.read().strip()}")
        yield Stage(holder.pid)
        holder.stdin.close()


def sessions(inside: Host, names: Sequence[str]) -> dict[str, int]:
    """For each service and account, the status of a session that begins without a password, as one
    by key does: 0 is success.
    """
    found = {}
    for service in ("sshd", "sudo", "cron"):
        text = inside.read(f"{pam.FOLDER}/{service}")
        if text is None:
            continue
        lines = [line for line in text.split("\n") if not line.lstrip("-").startswith("auth")]
        lines = [line for line in lines if "common-auth" not in line]
        inside.write(_SU, "\n".join(["auth sufficient pam_rootok.so", *lines]))
        for name in ["root"] if service == "cron" else names:
            ran = inside.run("su", "--shell=/bin/true", name)
            found[f"{service} for {name}"] = ran.status
    return found


def passwords(inside: Host, empty: bool = True) -> None:
    """Logs an account in by password that exists nowhere else: the right one is accepted, a wrong
    one refused, and, unless ``empty`` is false, so is an account without one. Raises
    :class:`Refused` with what happened instead.
    """
    right = "".join(map(secrets.choice, _CLASSES * _LENGTH))
    _add_accounts(inside)
    inside.write(
        _SU, "".join(f"@include common-{kind}\n" for kind in ("auth", "account", "session"))
    )
    set_up = inside.run("chpasswd", text=f"{_PASSWORD}:{right}\n")
    if set_up.status:
        raise Refused(f"no password can be set: {' '.join((set_up.err or set_up.out).split())}")
    tries = [("the right password", _PASSWORD, right), ("a wrong one", _PASSWORD, right[::-1])]
    tries += [("no password", _EMPTY, "")] if empty else []
    with ThreadPoolExecutor(len(tries)) as pool:
        results = list(pool.map(lambda each: _su(inside, *each[1:]), tries))
    for (what, _, _), ran in zip(tries, results, strict=True):
        if (ran.status == 0) != (what == "the right password"):
            verdict = "accepted" if ran.status == 0 else "refused"
            raise Refused(f"{what} was {verdict} at log-in: {' '.join(ran.err.split())}")


def _su(inside: Host, name: str, password: str) -> Ran:
    """Logs in as somebody who has to prove it; su may be kept to a group."""
    group = inside.run("stat", "--format=%g", "/bin/su").out.strip()
    nobody = ("setpriv", f"--reuid={_NOBODY}", f"--regid={group}", "--clear-groups")
    return inside.run(*nobody, "su", name, text=f"{password}\n")


def _add_accounts(inside: Host) -> None:
    lines = {
        "/etc/passwd": [f"{n}:x:{uid}:{uid}::/:/bin/true" for n, uid in _UIDS.items()],
        "/etc/group": [f"{n}:x:{uid}:" for n, uid in _UIDS.items()],
        "/etc/shadow": [f"{_PASSWORD}:!:19000::::::", f"{_EMPTY}::19000::::::"],
    }
    for path, added in lines.items():
        attributes = inside.attributes(path)
        text = (inside.read(path) or "").rstrip("\n")
        mode = attributes.mode if attributes else "0600"
        inside.write(path, "\n".join([text, *added]) + "\n", mode)
