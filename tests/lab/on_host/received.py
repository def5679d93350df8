"""Runs on a log server of the lab: which numbered lines of a host it has.

Arguments: the folder of that host, and the lines' identifier. Prints ``{"lines": how many, "ids":
how many different ones, "numbers": [[first, last], ...]}``.
"""

import gzip
import json
import re
import sys
from pathlib import Path


def lines(folder):
    """All lines of a host, oldest first."""
    for path in sorted(Path(folder).glob("*.jsonl*")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
            yield from file


def ranges(numbers):
    """Numbers as pairs of a first and a last one."""
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def main():
    """Count what is there."""
    folder, identifier = sys.argv[1:]
    wanted = re.compile(rf'"message":\s*"{identifier} (\d{{9}})"')
    count, ids, numbers = 0, set(), set()
    for line in lines(folder):
        if found := wanted.search(line):
            count += 1
            ids.add(json.loads(line)["event"]["event"]["id"])
            numbers.add(int(found[1]))
    print(json.dumps({"lines": count, "ids": len(ids), "numbers": ranges(numbers)}))


if __name__ == "__main__":
    main()
