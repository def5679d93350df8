"""Runs on a lab host: breaks it in one way after the other and asks drift.report each time.

All in one process, because starting Salt takes longer than looking. Reads a JSON list of
``{name, break, undo}`` from standard input; writes one JSON line per case with the ids that drifted
or could not be checked, and the reasons. Between two cases the host is put back as it was. Families
on the command line are the only ones that are asked.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import salt.client
import salt.config

KEPT = [
    *("/etc/ssh", "/etc/default", "/etc/cloud", "/etc/fail2ban", "/etc/rocksalt", "/etc/nagios"),
    *("/etc/systemd/system", "/var/lib/rocksalt", "/usr/local/sbin", "/var/lib/rocksalt-vault"),
    *("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"),
    *("/etc/sudoers", "/etc/sudoers.d", "/etc/sudo.conf", "/etc/logrotate.d"),
    *("/etc/login.defs", "/etc/adduser.conf", "/etc/profile", "/etc/profile.d"),
    *("/etc/bash.bashrc", "/etc/pam.d", "/etc/security", "/usr/share/pam-configs", "/var/lib/pam"),
    *("/home", "/root/.ssh", "/var/spool/cron", "/var/lib/dpkg/statoverride", "/usr/bin/su"),
    "/usr/lib/nagios/plugins",
]
KEPT_OF_LOGS = ["/etc/systemd/journald.conf.d", "/var/lib/rocksalt-witness/.ssh"]
"""Where /root/restart-logs starts journald anew on what was put back."""
KEPT_OF_MASTERS = [
    *("/etc/salt/master", "/etc/salt/master.d", "/etc/salt/rocksalt-users", "/etc/rocksalt/access"),
    *("/usr/local/lib/rocksalt-api", "/etc/systemd/system"),
]
"""All that is kept where :data:`RESTARTS_MASTER` is; it is put back only after a case that changed
some of it, for then the master has to start anew.
"""
RESTARTS_MASTER = "/root/restart-access"
SAVED = "/run/tamper-saved.tar"
FAIL2BAN = "/run/tamper-fail2ban"


def shell(line: str) -> None:
    """Run a shell line; a failure is an error, for then the case broke nothing."""
    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`{line}` failed: {done.stderr}")


def save() -> str:
    """Keep what cases may change; the shell line that puts it back."""
    of_master = Path(RESTARTS_MASTER).exists()
    kept = [*KEPT, *(KEPT_OF_LOGS if Path("/root/restart-logs").exists() else ())]
    kept = KEPT_OF_MASTERS if of_master else kept
    there = [path for path in kept if Path(path).exists()]
    folders = " ".join(path for path in there if Path(path).is_dir())
    shell(
        f"tar --format=posix -cPf {SAVED} {' '.join(there)};"
        f"rm -rf {FAIL2BAN}; if test -e /etc/fail2ban; then cp -a /etc/fail2ban {FAIL2BAN}; fi"
    )
    new = " ".join({*kept} - {*there})
    back = f"find {folders} -mindepth 1 -delete; rm -rf {new}; tar -xpPf {SAVED} --numeric-owner"
    if of_master:
        changed = f"find {' '.join(there)} -cnewer {SAVED}"
        return f"if {changed} | grep -q .; then {back}; touch {SAVED}; fi"
    return back


def put_back(files: str) -> None:
    """Put the files and the services back."""
    if Path(RESTARTS_MASTER).exists():
        shell(f"{files}; systemctl daemon-reload; {RESTARTS_MASTER}")
        return
    compared = ["diff", "-rq", FAIL2BAN, "/etc/fail2ban"]
    fail2ban_differs = (
        Path(FAIL2BAN).exists()
        and subprocess.run(compared, capture_output=True, check=False).returncode
    )
    shell(files)
    shell(
        "systemctl daemon-reload; systemctl reset-failed; systemctl start rocksalt-drift.timer;"
        "if tr '\\0' ' ' < /proc/$(systemctl show -P MainPID ssh)/cmdline | grep -q -- ' -o ';"
        "then systemctl restart ssh; else systemctl reload-or-restart ssh; fi;"
        "if test -e /etc/rocksalt/firewall/load; then /etc/rocksalt/firewall/load;"
        "systemctl start rocksalt-firewall.service rocksalt-firewall-guard.timer; fi;"
        "for it in nrpe logs; do if test -e /root/restart-$it; then /root/restart-$it; fi; done"
    )
    if fail2ban_differs:
        shell("systemctl reload-or-restart fail2ban")


def look(caller: salt.client.Caller) -> dict[str, str]:
    """Control id -> reason, of everything that is not as it should be."""
    report = caller.cmd("drift.report", families=sys.argv[1:] or None)
    return {
        finding["id"]: finding["reason"]
        for finding in report["findings"]
        if finding["status"] in ("drift", "error")
    }


def main() -> None:
    """Go through the cases of standard input."""
    opts = salt.config.minion_config("/etc/salt/minion")
    caller = salt.client.Caller(mopts=opts)
    files = save()
    for case in json.load(sys.stdin):
        time.sleep(0.05)  # file times are a few ms coarse: not in the same tick as the last reload
        shell(case["break"])
        found = look(caller)
        if case["undo"]:
            shell(case["undo"])
        put_back(files)
        print(json.dumps({"name": case["name"], "found": found}), flush=True)
    print(json.dumps({"name": "", "found": look(caller)}), flush=True)


if __name__ == "__main__":
    main()
