"""A system account of a program that nobody logs in to: no shell, no password, no home."""

from __future__ import annotations

from rocksalt.accounts import database, forced
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.transaction import must

HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
CLOSED = f"has the shell {SHELL} and no password"
"""What such an account is, as :func:`state` tells it."""


def state(host: Host, name: str) -> str:
    """How the account is."""
    return forced.state_of(host, name)


def make(host: Host, name: str) -> None:
    """Makes it so; :class:`Refused` where that cannot be done, or it is somebody's."""
    account = database.read(host).by_name.get(name)
    if account and account.home != HOME:
        raise Refused(f"the account {name} has the home {account.home}, so it is somebody else's")
    if account is None:
        what = ("--no-create-home", "--home-dir", HOME, "--shell", SHELL, name)
        must(host, f"{name} cannot be made", "useradd", "--system", "--user-group", *what)
    elif state(host, name) != CLOSED:
        change = ("usermod", "--lock", "--expiredate", "", "--shell", SHELL, name)
        must(host, f"{name} cannot be changed", *change)
