"""Which sockets listen on this host, and who is connected to them."""

from __future__ import annotations

import ipaddress
import pwd
import re
import struct
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from rocksalt.errors import NoSuch
from rocksalt.host import Host

DHCP_CLIENTS = (68, 546)
PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
STATES = {
    "01": "ESTABLISHED",
    "02": "SYN_SENT",
    "03": "SYN_RECV",
    "04": "FIN_WAIT1",
    "05": "FIN_WAIT2",
    "06": "TIME_WAIT",
    "07": "CLOSE",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
    "0B": "CLOSING",
}
NOT_OPEN_YET = ("SYN_SENT", "SYN_RECV", "CLOSE", "LISTEN")

Connection = tuple[str, int, str, int, str]
"""Local address and port, remote address and port, state."""

_ENDPOINT = re.compile(r"\[?(?P<address>[^]%]*)\]?(?:%(?P<interface>\S+))?:(?P<port>\d+)")
# A process chooses its name, of up to 15 characters, and ss prints it as it is: what begins a
# socket and what says the user is longer than that, so that no name can pass for it.
_NEXT_SOCKET = re.compile(r"\n(?=(?:tcp|udp) (?:LISTEN|UNCONN) +\d+ +\d+ )")
_PROCESS = re.compile(r'\("(.*?)",pid=(\d+),fd=\d+\)', re.DOTALL)
_UID = re.compile(r" uid:(\d+) ino:\d+ sk:")


@dataclass(frozen=True)
class Listener:
    """A socket that waits for others: ``protocol`` is tcp or udp, ``address`` 0.0.0.0 or :: for
    any, ``interface`` the only one it is bound to, if any.

    ``process`` is empty for the kernel's own sockets (WireGuard, NFS), which are root's.
    """

    protocol: str
    address: str
    port: int
    process: str
    user: str
    interface: str = ""

    @property
    def loopback(self) -> bool:
        return self.interface == "lo" or ipaddress.ip_address(self.address).is_loopback

    @property
    def anywhere(self) -> bool:
        return not self.interface and ipaddress.ip_address(self.address).is_unspecified


@dataclass(frozen=True)
class Flow:
    """An established TCP connection; ``inbound`` if it came to a port that this host listens on."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    inbound: bool


def listeners(host: Host, services: Collection[int] = ()) -> list[Listener]:
    """What listens on this host, in the order of protocol, port and address.

    A UDP port that the kernel gave to some program, as it does for every question to a name
    server, is no service; a port number of that range counts as one if ``services`` has it, or if
    the socket is the kernel's own.

    Raises :class:`NoSuch` when ``ss`` cannot be asked.
    """
    first, last = (int(word) for word in (host.read(PORT_RANGE) or "32768 60999").split())

    def is_service(found: Listener) -> bool:
        if found.protocol == "tcp" or found.port in services:
            return True
        given = first <= found.port <= last and found.process != ""
        return not given and found.port not in DHCP_CLIENTS

    def owner(pid: int) -> str | None:
        attributes = host.attributes(f"/proc/{pid}")
        return attributes.owner if attributes else None

    found = filter(is_service, parse(_ss(host, "-Hltunpe"), owner))
    return sorted(set(found), key=lambda it: (it.protocol, it.port, it.address, it.interface))


def parse(text: str, owner: Callable[[int], str | None]) -> list[Listener]:
    """The sockets in the output of ``ss -Hltunpe``; ``owner`` names the user of a process id."""
    found = []
    for line in filter(None, _NEXT_SOCKET.split(text)):
        protocol, _, _, _, local, *details = line.split(None, 6)
        endpoint = _ENDPOINT.fullmatch(local)
        if not endpoint:
            raise NoSuch(f"ss shows a socket at {local!r}, which is no address and port")
        address = endpoint["address"]
        process, user = _who(details[-1], owner)
        found.append(
            Listener(
                protocol=protocol,
                address="::" if address == "*" else normalised(address),
                port=int(endpoint["port"]),
                process=process,
                user=user,
                interface=endpoint["interface"] or "",
            )
        )
    return found


def _who(text: str, owner: Callable[[int], str | None]) -> tuple[str, str]:
    """The name and the user of the process that has a socket.

    Of several it is the first one started, which is not systemd, if that only opened it for
    another. Who opened it as an ordinary user is its user whatever the processes are called: their
    names are their own choice. A process of root may have become another user meanwhile.
    """
    processes = sorted((int(pid), name) for name, pid in _PROCESS.findall(text))
    pid, name = next((it for it in processes if it[0] > 1), (processes or [(0, "")])[0])
    opened = _UID.search(text)
    user = _user(int(opened[1])) if opened else (owner(pid) if pid else None) or "root"
    return re.sub(r"[^ -~]", "?", name), user


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def normalised(address: str) -> str:
    """An address in its usual form, IPv4 in IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def established(host: Host, ports: Iterable[int]) -> list[Flow]:
    """The established TCP connections; those into one of these local ports are inbound.

    Raises :class:`NoSuch` when ``ss`` cannot be asked.
    """
    return flows(_ss(host, "-Htn", "state", "established"), ports)


def flows(text: str, ports: Iterable[int]) -> list[Flow]:
    """The connections in the output of ``ss -Htn state established``."""
    listening, found = set(ports), []
    for line in text.splitlines():
        ends = [_ENDPOINT.fullmatch(column) for column in line.split()[2:4]]
        local, remote = [(normalised(end["address"]), int(end["port"])) for end in ends if end]
        found.append(Flow(*local, *remote, inbound=local[1] in listening))
    return found


def _ss(host: Host, *options: str) -> str:
    ran = host.run("ss", *options)
    if ran.status:
        why = " ".join(ran.err.split())
        raise NoSuch(f"ss {' '.join(options)}, which lists the sockets of this host, fails: {why}")
    return ran.out


def connected(host: Host, ports: Collection[int]) -> set[Connection]:
    """The TCP connections that have one of these local ports, in every state; two files are read
    and no process is started.
    """
    found: set[Connection] = set()
    for path in TABLES:
        found |= connections(host.read(path) or "", ports)
    return found


def connections(text: str, ports: Collection[int]) -> set[Connection]:
    """The same in the text of ``/proc/net/tcp`` or ``/proc/net/tcp6``."""
    has_port = re.compile(f":(?:{'|'.join(f'{port:04X}' for port in ports)}) ").search
    found = set()
    for line in filter(has_port, text.splitlines()):
        _, local, remote, state, _ = line.split(None, 4)
        address, port = _end(local)
        if port in ports and state in STATES:
            found.add((address, port, *_end(remote), STATES[state]))
    return found


def _end(text: str) -> tuple[str, int]:
    """An address and a port as the kernel prints them: the address in words of four bytes, each in
    the processor's own order.
    """
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return normalised(str(ipaddress.ip_address(packed))), int(port, 16)


def new_since(
    now: Iterable[Connection], networks: Iterable[str], before: Iterable[Connection]
) -> set[Connection]:
    """The connections of ``now`` that were made since ``before`` and come from one of these
    networks: the three packets that open a connection have passed, it may be over already.
    """
    known = {connection[:4] for connection in before}
    sources = [ipaddress.ip_network(network) for network in networks]
    return {
        connection
        for connection in now
        if connection[4] not in NOT_OPEN_YET
        and connection[:4] not in known
        and any(ipaddress.ip_address(connection[2]) in source for source in sources)
    }
