"""
The master's part in a firewall change: a new ssh connection to the minion that made it.

A change that cuts the minion off undoes itself unless somebody from the management networks gets
in by a *new* connection. A reactor calls ``knock`` when a minion says that it waits for one; see
docs/install.md.

What the minion says is its own claim, so nothing is tried but addresses that are connected to this
master at that moment. This runs in the master's long-running processes, which keep an old copy of
the library in memory after an upgrade: hence the standard library alone.
"""

import ipaddress
import itertools
import logging
import socket
import sys
import time

log = logging.getLogger(__name__)

MOST = 4  # addresses, and ports, that are tried for one event
PATIENCE = 8  # seconds: the event can come a moment before the rules are in force
ANSWER = 2  # seconds that one attempt may take
PAUSE = 0.3  # seconds between attempts
HOLD = 1  # second that the connection stays open, for the minion to see it
BANNER = b"SSH-2.0-"
LONGEST = 8192  # bytes that a server may send before its banner
ESTABLISHED = "01"


def __virtual__():
    """The connections of the master are read from /proc."""
    if sys.platform.startswith("linux"):
        return True
    return False, "the runner firewall reads /proc/net/tcp, which only Linux has"


def knock(minion, addresses, ports):
    """
    Opens a new connection to sshd on a minion, reads its banner, holds it for a second and closes.

    minion
        The minion's id, for the answer and the log.
    addresses
        Where it says that it can be reached: a list of addresses. Those that are not connected to
        this master's ``publish_port`` at that moment are left out; at most four are tried.
    ports
        The ports of its sshd: a list of integers, of which at most four are tried.

    Returns ``{"knocked": True, "address": "10.0.0.5", "port": 22, "reason": "one sentence"}``.
    Where no sshd answered within eight seconds, ``knocked`` is False, address and port are None,
    and ``retcode`` is 1. It never raises.

    CLI Example:

    .. code-block:: bash

        salt-run firewall.knock web1 '["10.0.0.5"]' '[22]'
    """
    try:
        answer = _knock(str(minion), addresses, ports, __opts__["publish_port"])
    except Exception as error:  # a TypeError would be taken for wrong arguments, with exit code 0
        answer = _failed(f"{minion!r}: could not knock: {type(error).__name__}: {error}")
    log.log(logging.INFO if answer["knocked"] else logging.WARNING, "%s", answer["reason"])
    return answer


def _knock(minion, addresses, ports, publish_port):
    """Tries every address and port in turn until one answers or time is up."""
    wanted = _ports(ports)
    if not wanted:
        return _failed(f"{minion!r} named no port between 1 and 65535: {_short(ports)}")
    seen = ""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reachable = _connected(addresses, _peers(publish_port))
        for address, port in itertools.product(reachable, wanted):
            if time.monotonic() > deadline:
                break
            try:
                _greet(address, port)
            except OSError as error:
                seen = f"; {address} port {port}: {error}"
            else:
                reason = f"{minion!r} answers new connections at {address} port {port}"
                return {"knocked": True, "address": address, "port": port, "reason": reason}
        time.sleep(PAUSE)
    if not seen:
        seen = f": no address connected to this master's port {publish_port} in {_short(addresses)}"
    return _failed(f"{minion!r} was not reached by ssh within {PATIENCE} s{seen}")


def _failed(reason):
    return {"knocked": False, "address": None, "port": None, "reason": reason, "retcode": 1}


def _short(claim):
    """What a minion claims, short enough for a log."""
    text = repr(claim)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _ports(claim):
    """The ports among what a minion claims to be ports."""
    found = claim if isinstance(claim, list) else []
    return [port for port in found if type(port) is int and 0 < port < 65536][:MOST]


def _connected(claim, peers):
    """Those addresses that a minion claims and that are connected to this master."""
    found = []
    for text in claim if isinstance(claim, list) else []:
        try:
            address = ipaddress.ip_address(text) if isinstance(text, str) else None
        except ValueError:
            continue
        if address in peers and str(address) not in found:
            found.append(str(address))
    return found[:MOST]


def _peers(port):
    """Addresses that are connected to a port of this machine."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as file:
                found |= _remotes(file.read(), port)
        except FileNotFoundError:  # a kernel without IPv6
            continue
    return found


def _remotes(text, port):
    """The far ends of established connections to a local port, by the text of /proc/net/tcp."""
    found = set()
    for line in text.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            found.add(_address(remote.rpartition(":")[0]))
    return found


def _address(digits):
    """An address as /proc/net/tcp writes it: words of 32 bits in the byte order of the machine."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def _greet(address, port):
    """Connects, reads up to the banner of an ssh server, and stays for a moment."""
    until = time.monotonic() + ANSWER

    def left():
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds

    with socket.create_connection((address, port), left()) as connection:
        received = b""
        while not any(line.startswith(BANNER) for line in received.splitlines()):
            connection.settimeout(left())
            chunk = connection.recv(1024)
            received += chunk
            if not chunk or len(received) > LONGEST:
                raise ConnectionError("what answers is no ssh server")
        time.sleep(HOLD)
