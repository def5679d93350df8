"""What stands before every script for responses: nobody who must get in is banned, whatever the
server says, and whatever was written into a log.

The agent itself has no list of exceptions. So in the folder from which it takes scripts there are
only ours of the same names, which ask here first; the package's are elsewhere, where the server
cannot name them. A ban is refused where anything about it is not clear; lifting one is never.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import pwd
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rocksalt.ossec import HOME, ORIGINALS, shipped

FIREWALL_DROP = "firewall-drop.sh"
CHAIN, OUR_BANS = "OSSEC", "rocksalt-bans"
_LOG = f"{HOME}/logs/active-responses.log"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOLS = {4: "iptables", 6: "ip6tables"}
_SYSTEM_ACCOUNTS = 1000
"""Accounts below this number belong to the system."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Asked:
    """What OSSEC asks of a script: ``add`` or ``delete``, for an account and an address, of which
    one that does not matter is ``-``.
    """

    action: str
    user: str
    address: str

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Asked:
        return cls(*(*arguments, "", "", "")[:3])


def refusal(asked: Asked, settings: Mapping[str, Any]) -> str:
    """Why a script must not do what is asked; empty when it may. ``settings`` are those of our
    program: ``never_ban`` (networks) and ``users`` (accounts that are never locked).
    """
    if asked.action == "delete":
        return ""
    if asked.action != "add":
        return f"{asked.action!r} is neither add nor delete"
    if "never_ban" not in settings or "users" not in settings:
        return "it is not known who must get in"
    if asked.user not in ("-", "") and (why := _user(asked.user, settings["users"])):
        return why
    return _address(asked.address, settings["never_ban"]) if asked.address not in ("-", "") else ""


def _address(text: str, never_ban: Sequence[str]) -> str:
    address = single(text)
    if address is None:
        return f"{text!r} is not one address"
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return f"{text} is no address of somebody else"
    if address.is_link_local:
        return f"{text} is in the network of this host, where routers are"
    covering = [network for network in never_ban if within(address, network)]
    return f"{text} is in {covering[0]}, which is never banned" if covering else ""


def single(text: str) -> Address | None:
    """One address, as what it is where IPv6 only wraps IPv4; None for names, networks and lists."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def within(address: Address, network: str) -> bool:
    """Whether an address is in a network; of another version it never is."""
    found = ipaddress.ip_network(network)
    return address.version == found.version and address in found


def _user(name: str, users: Sequence[str]) -> str:
    """Why an account must not be locked. Those of the system run services."""
    if name in users:
        return f"{name} is an administrator"
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return f"there is no account {name!r}"
    if account.pw_uid < _SYSTEM_ACCOUNTS:
        return f"{name} belongs to the system"
    groups = [
        group.gr_name
        for group in grp.getgrall()
        if name in group.gr_mem or group.gr_gid == account.pw_gid
    ]
    return f"{name} may become root" if {"sudo", "wheel", "root"} & {*groups} else ""


# What runs ---------------------------------------------------------------------------------------


def respond(name: str, arguments: Sequence[str], settings: Mapping[str, Any]) -> int:
    """Runs the package's script ``name``, or refuses to; the exit code. Where the packet filter of
    the baseline is in force, a ban goes where it keeps bans: behind the rules that let
    administrators in, which scripts of OSSEC do not know.

    A script that is not the package's any more is never run, whatever is asked of it.
    """
    asked = Asked.of(arguments)
    why = refusal(asked, settings)
    if why:
        _note(f"{name} {' '.join(arguments[:5])}: refused, {why}")
        return 1
    address = single(asked.address)
    if name == FIREWALL_DROP and address is not None and _filtered(address.version):
        _note(f"{name} {' '.join(arguments[:5])}")
        return drop(asked.action, address)
    original = f"{ORIGINALS}/{name}"
    genuine = shipped.original(name, str(settings.get("package", "")))
    if not os.path.lexists(original):
        _note(f"{name}: {original} is gone")
        return 1
    if genuine is False or (genuine is None and asked.action != "delete"):
        sure = "is not" if genuine is False else "is not known to be"
        _note(f"{name}: not run, for {original} {sure} what the package brought")
        return 1
    try:
        os.execv(original, [original, *arguments])
    except OSError as error:
        _note(f"{name}: {original} cannot be run: {error.strerror}")
        return 1


def drop(action: str, address: Address) -> int:
    """Bans in OSSEC's own chain, to which lead our chain for bans and, as the last rule, INPUT: the
    script of version 4.3 puts its jump before everything else where it finds none in INPUT.
    """
    tool, ban = _TOOLS[address.version], ("-s", str(address), "-j", "DROP")
    if action == "delete":
        while _quietly(tool, "-D", CHAIN, *ban):
            pass
        return 0
    _quietly(tool, "-N", CHAIN)
    for chain in (OUR_BANS, "INPUT"):
        if not _quietly(tool, "-C", chain, "-j", CHAIN):
            _quietly(tool, "-A", chain, "-j", CHAIN)
    if _quietly(tool, "-C", CHAIN, *ban) or _quietly(tool, "-I", CHAIN, *ban):
        return 0
    _note(f"{tool} does not ban {address}")
    return 1


def _filtered(version: int) -> bool:
    """Whether the packet filter of the baseline is in force."""
    return _quietly(_TOOLS[version], "-S", OUR_BANS)


def _quietly(tool: str, *arguments: str) -> bool:
    """Whether a command of the packet filter succeeds."""
    try:
        done = subprocess.run(
            (tool, "--wait", "10", *arguments), env={"PATH": _PATH, "LC_ALL": "C"}, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _note(text: str) -> None:
    """A line in the log of responses, in one piece whatever was asked for. Its folder is that of
    the daemons' user, so a link there is not followed.
    """
    line = "".join(char if char.isprintable() else "?" for char in text)[:1000]
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with contextlib.suppress(OSError), open(os.open(_LOG, flags, 0o640), "ab") as file:
        stamp = time.strftime("%a %b %e %H:%M:%S %Z %Y")
        file.write(f"{stamp} rocksalt: {line}\n".encode(errors="replace"))
