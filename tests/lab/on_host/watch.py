"""Runs on a lab host: keeps every command line and every environment of a process that it sees.

Argument: the file to which they go, in memory, each once.
"""

import sys
import time
from pathlib import Path

EVERY = 0.1  # seconds


def main() -> None:
    """Look until somebody ends it."""
    seen: set[bytes] = set()
    with Path(sys.argv[1]).open("ab", buffering=0) as file:
        while True:
            for process in Path("/proc").glob("[1-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes()
                    except OSError:
                        continue  # ended meanwhile
                    if text not in seen:
                        seen.add(text)
                        file.write(text + b"\n")
            time.sleep(EVERY)


if __name__ == "__main__":
    main()
