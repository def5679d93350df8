"""Runs on a lab host: the ids that its journal entries have as events, one a line.

Arguments: the host's name and the cursor after which to begin. Counted without the library, so that
what it counts can be compared with this. A line that the shipper marks itself has its mark.
"""

import hashlib
import json
import re
import subprocess
import sys

CURSOR = re.compile(r"s=\w+;i=\w+;b=(\w+);m=(\w+);t=(\w+);x=(.+)")


def main():
    """Print them."""
    host, after = sys.argv[1:]
    fields = "SYSLOG_IDENTIFIER,ROCKSALT_MARK"
    command = ["journalctl", "--quiet", "-o", "json", f"--output-fields={fields}"]
    done = subprocess.run([*command, f"--after-cursor={after}"], capture_output=True, check=True)
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        if entry.get("SYSLOG_IDENTIFIER") == "rocksalt-ship" and "ROCKSALT_MARK" in entry:
            print(entry["ROCKSALT_MARK"])
            continue
        moment = CURSOR.fullmatch(entry["__CURSOR"]).groups()
        print(hashlib.sha256("\0".join((host, *moment)).encode()).hexdigest()[:32])


if __name__ == "__main__":
    main()
