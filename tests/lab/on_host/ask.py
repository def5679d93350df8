"""Runs on a lab host: does what it is asked for, all in one process.

To start Salt takes half a minute where the processor is emulated. Reads JSON lines: ``{"shell":
line}``, ``{"call": [function, arguments, named arguments]}`` or ``{"anew": true}``, after which
pillar and modules are read again. Answers each with a JSON line: ``{"value": ...}``, or
``{"error": text}`` for a command that failed.
"""

import json
import subprocess
import sys

import salt.client
import salt.config


def caller():
    """Salt with modules and pillar as they are now."""
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
    salt_there = caller()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "shell" in asked:
                value = shell(asked["shell"])
            elif "call" in asked:
                function, arguments, named = asked["call"]
                value = salt_there.cmd(function, *arguments, **named)
            else:
                salt_there, value = caller(), None
            print(json.dumps({"value": value}, default=str), flush=True)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
