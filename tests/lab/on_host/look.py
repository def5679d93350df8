"""Runs on a lab host: breaks it in one way after the other and asks drift.report each time.

All in one process, because starting Salt takes longer than looking. Reads a JSON list of
``{name, break, undo}`` from standard input; writes one JSON line per case with the ids that drifted
or could not be checked, and the reasons. Between two cases the host is put back as it was.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import salt.client
import salt.config

KEPT = [
    "/etc/ssh",
    "/etc/default",
    "/etc/cloud",
    "/etc/fail2ban",
    "/etc/rocksalt",
    "/etc/systemd/system",
    "/var/lib/rocksalt",
]
SAVED = Path("/run/tamper-saved")


def shell(line: str) -> None:
    """Run a shell line; a failure is an error, for then the case broke nothing."""
    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`{line}` failed: {done.stderr}")


def save() -> None:
    """Keep the folders that cases may change."""
    shutil.rmtree(SAVED, ignore_errors=True)
    for folder in KEPT:
        shell(f"mkdir -p {SAVED}{folder} && cp -a {folder}/. {SAVED}{folder}/")


def put_back() -> None:
    """Put the folders and the services back."""
    compared = ["diff", "-rq", f"{SAVED}/etc/fail2ban", "/etc/fail2ban"]
    fail2ban_differs = subprocess.run(compared, capture_output=True, check=False).returncode
    for folder in KEPT:
        shell(f"find {folder} -mindepth 1 -delete; cp -a {SAVED}{folder}/. {folder}/")
    shell(
        "systemctl daemon-reload; systemctl reset-failed; systemctl start rocksalt-drift.timer;"
        "if tr '\\0' ' ' < /proc/$(systemctl show -P MainPID ssh)/cmdline | grep -q -- ' -o ';"
        "then systemctl restart ssh; else systemctl reload-or-restart ssh; fi;"
        "if test -e /etc/rocksalt/firewall/load; then /etc/rocksalt/firewall/load;"
        "systemctl start rocksalt-firewall.service rocksalt-firewall-guard.timer; fi"
    )
    if fail2ban_differs:
        shell("systemctl reload-or-restart fail2ban")


def look(caller: salt.client.Caller) -> dict[str, str]:
    """Control id -> reason, of everything that is not as it should be."""
    report = caller.cmd("drift.report")
    return {
        finding["id"]: finding["reason"]
        for finding in report["findings"]
        if finding["status"] in ("drift", "error")
    }


def main() -> None:
    """Go through the cases of standard input."""
    opts = salt.config.minion_config("/etc/salt/minion")
    opts["file_client"] = sys.argv[1] if len(sys.argv) > 1 else "remote"
    caller = salt.client.Caller(mopts=opts)
    save()
    for case in json.load(sys.stdin):
        time.sleep(0.05)  # file times are a few ms coarse: not in the same tick as the last reload
        shell(case["break"])
        found = look(caller)
        if case["undo"]:
            shell(case["undo"])
        put_back()
        print(json.dumps({"name": case["name"], "found": found}), flush=True)
    print(json.dumps({"name": "", "found": look(caller)}), flush=True)


if __name__ == "__main__":
    main()
