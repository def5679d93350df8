"""Runs on a lab host: does what it is asked for, all in one process.

To start Salt takes half a minute where the processor is emulated. Reads JSON lines: ``{"shell":
line}``, ``{"call": [function, arguments, named arguments]}`` or ``{"anew": true}``, after which
pillar and modules are read again. Answers each with a JSON line: ``{"value": ...}``, or
``{"error": text}`` for a command that failed.
"""

import functools
import importlib.metadata
import json
import subprocess
import sys

import salt.client
import salt.config
from cryptography.hazmat.primitives import serialization

# Salt asks for these dozens of times in a state run, which takes half of its time there: which
# packages add to it, and its key, whose numbers are checked each time.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)
serialization.load_pem_private_key = functools.cache(serialization.load_pem_private_key)


@functools.cache
def salt_there():
    """Salt as it is when it is needed for the first time."""
    opts = salt.config.minion_config("/etc/salt/minion")
    return salt.client.Caller(mopts={**opts, "file_client": "remote"})


def shell(line):
    """The output of a shell line; a failure is an error."""
    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{line}` failed ({done.returncode}): {done.stdout}{done.stderr}")
    return done.stdout


def main():
    """Answer until nobody asks any more."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "shell" in asked:
                value = shell(asked["shell"])
            elif "call" in asked:
                function, arguments, named = asked["call"]
                value = salt_there().cmd(function, *arguments, **named)
            else:
                value = None
                if salt_there.cache_info().currsize:
                    salt_there().sminion.gen_modules(initial_load=True)
            print(json.dumps({"value": value}, default=str), flush=True)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
