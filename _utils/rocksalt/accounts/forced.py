"""A system account that only forced commands of SSH keys open: it has a shell for them, no
password, and owns neither its home nor its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rocksalt.accounts import database
from rocksalt.errors import Refused
from rocksalt.findings import AS_RENDERED, compared
from rocksalt.host import Host
from rocksalt.settings import Baseline
from rocksalt.transaction import ASIDE, must

LOGIN = "has a shell and no password"
"""What an account is that only a key opens."""


@dataclass(frozen=True)
class Forced:
    """``file`` is where sshd looks for its keys (:func:`key_file`), ``text`` what it holds."""

    user: str
    home: str
    file: str
    text: str

    @property
    def folder(self) -> str:
        return self.file.rpartition("/")[0]

    def expected(self) -> dict[str, Any]:
        """What :meth:`seen` gives where everything is right."""
        return {
            self.user: LOGIN,
            self.folder: "root:root 0755",
            self.file: f"{AS_RENDERED}, root:root 0644",
            "beside it": [],
        }

    def seen(self, host: Host) -> dict[str, Any]:
        """The account, the folder and file of its keys, and what else is there."""
        text, folder = host.read(self.file), host.attributes(self.folder, follow=False)
        file = host.attributes(self.file, follow=False)
        state = compared(text, self.text)
        return {
            self.user: self.taken(host) or state_of(host, self.user),
            self.folder: folder.access if folder else None,
            self.file: f"{state}, {file.access}" if file else None,
            "beside it": self.beside(host),
        }

    def taken(self, host: Host) -> str:
        """Why an account of this name is not ours, the end of a sentence; empty if it is or there
        is none.
        """
        account = database.read(host).by_name.get(self.user)
        return (
            f"is one with the home {account.home}" if account and account.home != self.home else ""
        )

    def beside(self, host: Host) -> list[str]:
        """What else is where the account has its keys: sshd may take it for more of them."""
        found = host.glob(f"{self.folder}/*") if self.folder.startswith(self.home) else []
        return [path for path in found if path != self.file and not path.endswith(ASIDE)]

    def make(self, host: Host) -> None:
        """Makes it so; :class:`Refused` where the account cannot be made or changed, or is that of
        somebody else, who would be locked out.
        """
        if whose := self.taken(host):
            raise Refused(
                f"the account {self.user} {whose}; name one that is used for nothing else"
            )
        state = state_of(host, self.user)
        if state == "does not exist":
            make = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir")
            what = (self.home, "--shell", "/bin/sh", self.user)
            must(host, f"{self.user} cannot be made", *make, *what)
        elif state != LOGIN:
            change = ("usermod", "--lock", "--expiredate", "", "--shell", "/bin/sh", self.user)
            must(host, f"{self.user} cannot be changed", *change)
        for path in dict.fromkeys((self.home, self.folder)):
            host.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
            host.secure(path, "root", "root", "0755")
        for path in self.beside(host):
            host.rename(path, path + ASIDE)
        host.write(self.file, self.text, "0644")
        host.secure(self.file, "root", "root", "0644")


def state_of(host: Host, name: str) -> str:
    """What somebody could do with an account."""
    people = database.read(host)
    account = people.by_name.get(name)
    if account is None:
        return "does not exist"
    secret = people.secrets.get(name)
    words = "has a shell" if account.has_shell else f"has the shell {account.shell}"
    opens = account.password != "x" or bool(secret and (secret.usable or secret.empty))
    expired = " and has expired" if secret and secret.expired else ""
    return f"{words} and {'a' if opens else 'no'} password{expired}"


def key_file(baseline: Baseline, user: str, home: str) -> str:
    """Where sshd looks for the keys of an account."""
    sshd = baseline.families.get("sshd")
    patterns = sshd.settings["authorized_keys_files"] if sshd else [".ssh/authorized_keys"]
    path = str(patterns[0]).replace("%u", user).replace("%h", home).replace("%%", "%")
    return path if path.startswith("/") else f"{home}/{path}"


def problems(baseline: Baseline, user: str, whose: str) -> Iterator[str]:
    """Why the families that look after log-ins keep the account out; ``whose`` it is, in words."""
    sshd, accounts = baseline.families.get("sshd"), baseline.families.get("accounts")
    if sshd and sshd.settings["enabled"] and user not in sshd.settings["allow_groups"]:
        yield (
            f"{sshd.where('allow_groups')}: lets in {', '.join(sshd.settings['allow_groups'])} "
            f"only; name {user} there, the group of {whose}"
        )
    if accounts and accounts.settings["enabled"] and user not in accounts.settings["users"]:
        yield (
            f"{accounts.where('users')}: does not name {user}, the account of {whose}; write "
            f"{user}: {{}} there"
        )
