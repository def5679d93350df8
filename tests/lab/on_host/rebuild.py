"""Runs on a log server of the lab: what an intruder who is root there would do. Replaces some words
in the lines of a host, and writes its chain anew, with right numbers and hashes.

Arguments: the folder of the host, the words, and what stands there instead.
"""

import hashlib
import re
import sys
from pathlib import Path

LINE = re.compile(r'\{"n":\d+,(.*),"hash":"[0-9a-f]{64}"\}')


def main():
    """Rewrite the files."""
    folder, words, others = sys.argv[1:]
    number, before = 0, "0" * 64
    for path in sorted(Path(folder).glob("*.jsonl")):
        found = []
        for line in path.read_text().splitlines():
            number += 1
            body = f'{{"n":{number},{LINE.fullmatch(line)[1]}'.replace(words, others)
            before = hashlib.sha256((before + body).encode()).hexdigest()
            found.append(f'{body},"hash":"{before}"}}\n')
        with path.open("w") as file:
            file.write("".join(found))


if __name__ == "__main__":
    main()
