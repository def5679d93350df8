#!/usr/bin/env python3
"""Runs on the lab's master: changes a character in the first line of the logbook; the next time it
changes it back.
"""

from pathlib import Path

PLACE = 200


def main():
    """Change it where it is, for the logbook goes on writing."""
    path = min(Path("/var/log/rocksalt-logbook/master").glob("*.jsonl"))
    with path.open("r+b") as file:
        file.seek(PLACE)
        (found,) = file.read(1)
        file.seek(PLACE)
        file.write(bytes([found ^ 1]))


if __name__ == "__main__":
    main()
