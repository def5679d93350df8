"""The network of one lab run: a bridge in a namespace of its own, one namespace per host.

Namespaces are bound to files in the run's state folder, so nothing appears in `ip link` or
`ip netns` of the machine, and two runs can use the same addresses.
"""

from __future__ import annotations

from pathlib import Path

from .system import mounts_below, sh


def make_switch(switch: Path) -> None:
    """Make the namespace that holds the bridge all hosts are plugged into."""
    _make(switch)
    _inside(switch, "ip", "link", "add", "br0", "type", "bridge")
    _inside(switch, "ip", "link", "set", "br0", "up")


def plug(switch: Path, host: Path, name: str, address: str) -> None:
    """Make a new namespace for a host with eth0 plugged into the switch.

    A namespace left by an earlier boot is replaced: like on a real machine, firewall rules,
    addresses and sysctls do not survive a reboot.
    """
    if mounts_below(host):
        _inside(switch, "ip", "link", "delete", f"ve-{name}")
        sh("umount", host)
    _make(host)
    peer = ("peer", "name", "eth0", "netns", str(host))
    _inside(switch, "ip", "link", "add", f"ve-{name}", "type", "veth", *peer)
    _inside(switch, "ip", "link", "set", f"ve-{name}", "master", "br0", "up")
    _inside(host, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    _inside(host, "ip", "link", "set", "eth0", "up")


def tap(switch: Path, name: str) -> None:
    """Plug a virtual machine into the switch; QEMU, in that namespace, is the end of vm-NAME."""
    _inside(switch, "ip", "tuntap", "add", f"vm-{name}", "mode", "tap")
    _inside(switch, "ip", "link", "set", f"vm-{name}", "master", "br0", "up")


def _make(namespace: Path) -> None:
    namespace.touch()
    sh("unshare", f"--net={namespace}", "ip", "link", "set", "lo", "up")


def _inside(namespace: Path, *command: str) -> None:
    sh("nsenter", f"--net={namespace}", *command)
