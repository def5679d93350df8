"""``agent-auth``: asks a server for a key. Its exit code proves nothing, as OSSEC's does not."""

from __future__ import annotations

import getopt
import re
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from .common import KEYS, Program

_LONGEST = 32
_REPLY = re.compile(r"OSSEC K:'(\d+ [A-Za-z0-9_.-]+ [^ ']+ [0-9a-f]{64})'")


def main(arguments: Sequence[str]) -> int:
    """Runs it; the exit code."""
    given = dict(getopt.getopt(list(arguments), "Vhtdg:D:m:p:A:c:v:x:k:P:")[0])
    program = Program("agent-auth", ())
    name = given.get("-A", socket.gethostname())
    password = _password(given.get("-P", ""))
    if password:
        print("INFO: Using specified password.")
    else:
        print("WARN: No authentication password provided. Insecure mode started.")
    program.say("Started.")
    manager, port = given["-m"], int(given.get("-p", 1515))
    try:
        with (
            socket.create_connection((manager, port), timeout=10) as plain,
            _context(given).wrap_socket(plain, server_hostname=manager) as secure,
        ):
            print(f"INFO: Connected to {manager}:{port}")
            print(f"INFO: Using agent name as: {name}")
            asked = f"OSSEC A:'{name}'\n"
            asked = f"OSSEC PASS: {password} {asked}" if password else asked
            secure.sendall(asked.encode())
            print("INFO: Send request to manager. Waiting for reply.")
            reply = _all(secure)
    except ssl.SSLCertVerificationError:
        return 1
    except ssl.SSLError:
        program.say("SSL error (-1). Exiting.", "ERROR")
        return 1
    except OSError:
        program.say(f"Unable to connect to {manager}:{port}", "ERROR")
        return 1
    return _take(reply)


def _password(path: str) -> str:
    """What is sent: the first line with its end, 32 bytes of it; of a file with two characters or
    fewer, its name.
    """
    if not path:
        return ""
    with open(path, newline="\n") as file:
        line = file.readline()
    return (line if len(line) > 2 else path)[:_LONGEST]


def _context(given: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    if "-v" in given:
        context.load_verify_locations(given["-v"])
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "-x" in given and "-k" in given:
        context.load_cert_chain(given["-x"], given["-k"])
    return context


def _all(secure: ssl.SSLSocket) -> str:
    """Everything until the other side ends, in whatever way it does."""
    found = b""
    try:
        while data := secure.recv(4096):
            found += data
    except OSError:
        pass
    return found.decode(errors="replace")


def _take(reply: str) -> int:
    for line in reply.splitlines():
        if line.startswith("ERROR"):
            print(f"{line} (from manager)")
    match = _REPLY.search(reply)
    if not match:
        return 0 if "ERROR" in reply else 1
    KEYS.write_text(match[1] + "\n")
    Path(KEYS).chmod(0o644)
    print("INFO: Valid key created. Finished.")
    return 0
