"""Runs on a lab host: writes numbered lines at a steady rate, into the journal or into a file.

Arguments: the lines' identifier, lines a second, seconds (0: until it is ended), and the file; the
journal where there is none. The numbers go on where an earlier run stopped.
"""

import signal
import socket
import sys
import time
from pathlib import Path

STEP = 0.02


def journal(identifier):
    """What writes a line into the journal, by its native protocol; a full socket is waited for."""
    target = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    target.connect("/run/systemd/journal/socket")
    return lambda line: target.send(f"MESSAGE={line}\nSYSLOG_IDENTIFIER={identifier}\n".encode())


def appended(path):
    """What writes a line into a file, which is opened anew where it was moved away."""
    target = Path(path)

    def write(line):
        with target.open("a") as file:
            file.write(f"{line}\n")

    return write


def main():
    """Write until the time is over, or somebody ends it; then note the next number."""
    identifier, rate, seconds, *path = sys.argv[1:]
    noted = Path(f"/var/lib/say-{identifier}")
    number = int(noted.read_text()) if noted.exists() else 0
    write = appended(*path) if path else journal(identifier)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    begin, first = time.monotonic(), number
    while not stopped:
        passed = time.monotonic() - begin
        if float(seconds) and passed > float(seconds):
            break
        while number - first < passed * float(rate) and not stopped:
            write(f"{identifier} {number:09}")
            number += 1
        time.sleep(STEP)
    noted.write_text(str(number))


if __name__ == "__main__":
    main()
