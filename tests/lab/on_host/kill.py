"""Runs on a lab host: starts an enforcement and kills it, again and again.

Arguments: the function, the control ids, separated by commas, and the seconds after which each run
is killed. Says "killed" after each and waits for a line on standard input before it goes on.
"""

import os
import signal
import sys
import time

import salt.client
import salt.config


def main() -> None:
    """Go through the moments."""
    function, ids, *moments = sys.argv[1:]
    caller = salt.client.Caller(mopts=salt.config.minion_config("/etc/salt/minion"))
    for moment in map(float, moments):
        child = os.fork()
        if not child:
            os.dup2(os.open("/run/kill.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            caller.cmd(function, ids.split(","))
            os._exit(0)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
