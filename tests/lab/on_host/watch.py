"""Runs on a lab host: keeps every command line that it sees, with the environment of its process.

Argument: the file to which they go, in memory, each once.
"""

import os
import sys
import time

EVERY = 0.25  # seconds; looking costs as much again where the processor is emulated


def main() -> None:
    """Look until somebody ends it."""
    seen: set[bytes] = set()
    kernels_own: set[str] = set()
    with open(sys.argv[1], "ab", buffering=0) as file:
        while True:
            for process in set(filter(str.isdigit, os.listdir("/proc"))) - kernels_own:
                line = contents(f"/proc/{process}/cmdline")
                if not line:
                    kernels_own.add(process)
                elif line not in seen:
                    seen.add(line)
                    file.write(line + b"\n" + contents(f"/proc/{process}/environ") + b"\n")
            time.sleep(EVERY)


def contents(path: str) -> bytes:
    """Of a file of a process, which may have ended meanwhile."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
