"""Runs on a lab host: adds so many accounts with a home, dot files and an authorised key each.

Argument: how many. The keys are random numbers; nobody has their private halves.
"""

import base64
import os
import struct
import sys
from pathlib import Path

FIRST = 10000


def key() -> str:
    """A line of authorized_keys."""
    fields = (b"ssh-ed25519", os.urandom(32))
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} somebody@example.org\n"


def main() -> None:
    """Add them."""
    lines: dict[str, list[str]] = {"passwd": [], "group": [], "shadow": []}
    for uid in range(FIRST, FIRST + int(sys.argv[1])):
        name, home = f"user{uid}", Path(f"/home/user{uid}")
        lines["passwd"].append(f"{name}:x:{uid}:{uid}::{home}:/bin/bash\n")
        lines["group"].append(f"{name}:x:{uid}:\n")
        lines["shadow"].append(f"{name}:*:20000:0:99999:7:::\n")
        for folder in (home, home / ".ssh"):
            folder.mkdir(mode=0o700)
        files = {".bashrc": "# none\n", ".profile": "# none\n", ".ssh/authorized_keys": key()}
        for path, text in files.items():
            (home / path).write_text(text)
            (home / path).chmod(0o600)
        for path in (home, home / ".ssh", *(home / path for path in files)):
            os.chown(path, uid, uid)
    for file, added in lines.items():
        with open(f"/etc/{file}", "a", encoding="ascii") as target:
            target.writelines(added)


if __name__ == "__main__":
    main()
