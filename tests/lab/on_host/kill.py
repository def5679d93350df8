"""Runs on a lab host: starts an enforcement of the firewall and kills it, again and again.

Arguments: seconds after which each one is killed. Says "killed" after each and waits for a line on
standard input before it goes on. Between two, one of our rules is taken away, so that there is
something to enforce.
"""

import os
import signal
import subprocess
import sys
import time

import salt.client
import salt.config

RULE = "rocksalt-input -m conntrack --ctstate INVALID -j DROP"


def main() -> None:
    """Go through the moments."""
    caller = salt.client.Caller(mopts=salt.config.minion_config("/etc/salt/minion"))
    for moment in map(float, sys.argv[1:]):
        for program in ("iptables", "ip6tables"):
            subprocess.run([program, "-D", *RULE.split()], capture_output=True, check=False)
        child = os.fork()
        if not child:
            os.dup2(os.open("/run/kill.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            caller.cmd("firewall.enforce", ["FW-002"])
            os._exit(0)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
