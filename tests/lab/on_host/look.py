"""Runs on a lab host: breaks it in one way after the other and asks drift.report each time.

All in one process, because starting Salt takes longer than looking. Reads a JSON list of
``{name, break, undo}`` from standard input; writes one JSON line per case with the ids that drifted
or could not be checked, and the reasons. Between two cases the host is put back as it was. Families
on the command line are the only ones that are asked.

``look.py --hold`` breaks it in all ways of one such list, which is a line of standard input, says
``broken``, and puts all of it back when standard input ends.
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
    *("/usr/local/lib/rocksalt-api", "/usr/local/bin", "/etc/systemd/system"),
]
"""All that is kept where :data:`RESTARTS_MASTER` is. Of it only what a case changed is put
back, for what reads it has to start anew then.
"""
RESTARTS_MASTER = "/root/restart-access"
SAVED = "/run/tamper-saved.tar"
FAIL2BAN = "/run/tamper-fail2ban"


def shell(line: str) -> None:
    """Run a shell line; a failure is an error, for then the case broke nothing."""
    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`{line}` failed: {done.stderr}")


def changed(paths: list[str]) -> "dict[str, int]":
    """When each file and folder below these paths was changed last."""
    tops = [Path(path) for path in paths]
    return {
        str(it): it.lstat().st_ctime_ns for top in tops for it in (top, *sorted(top.rglob("*")))
    }


class OfMaster:
    """Where a restart takes long: what was changed is put back, and nothing else."""

    def __init__(self) -> None:
        self.before = changed(KEPT_OF_MASTERS)
        shell(f"tar --format=posix -cPf {SAVED} {' '.join(KEPT_OF_MASTERS)}")

    def put_back(self) -> None:
        """Put it back, and start anew what reads it."""
        now = changed(KEPT_OF_MASTERS)
        for path in sorted(now.keys() - self.before.keys(), reverse=True):
            it = Path(path)
            it.rmdir() if it.is_dir() and not it.is_symlink() else it.unlink()
        if different := [path for path, at in self.before.items() if now.get(path) != at]:
            words = ["tar", "-xpPf", SAVED, "--numeric-owner", "--no-recursion", "--", *different]
            subprocess.run(words, check=True)
            self.before = changed(KEPT_OF_MASTERS)
            shell("systemctl daemon-reload")
        shell(RESTARTS_MASTER)


class OfHost:
    """Files and services of any other host."""

    def __init__(self) -> None:
        kept = [*KEPT, *(KEPT_OF_LOGS if Path("/root/restart-logs").exists() else ())]
        there = [path for path in kept if Path(path).exists()]
        folders = " ".join(path for path in there if Path(path).is_dir())
        shell(
            f"tar --format=posix -cPf {SAVED} {' '.join(there)};"
            f"rm -rf {FAIL2BAN}; if test -e /etc/fail2ban; then cp -a /etc/fail2ban {FAIL2BAN}; fi"
        )
        new = " ".join({*kept} - {*there})
        self.files = (
            f"find {folders} -mindepth 1 -delete; rm -rf {new}; tar -xpPf {SAVED} --numeric-owner"
        )

    def put_back(self) -> None:
        """Put all of it back."""
        compared = ["diff", "-rq", FAIL2BAN, "/etc/fail2ban"]
        fail2ban_differs = (
            Path(FAIL2BAN).exists()
            and subprocess.run(compared, capture_output=True, check=False).returncode
        )
        shell(self.files)
        shell(
            "systemctl daemon-reload; systemctl reset-failed;"
            "if test -e /etc/systemd/system/rocksalt-drift.timer; then"
            " systemctl start rocksalt-drift.timer; fi;"
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


def wait_for_sshd() -> None:
    """While it starts itself anew to read its files, it ignores that it is to do so once more."""
    time.sleep(0.05)
    shell(
        "status=/proc/$(systemctl show -P MainPID ssh)/status; for _ in $(seq 200); do"
        " caught=$(sed -n 's/^SigCgt:\\t//p' $status);"
        " if [[ $((16#$caught & 1)) = 1 ]]; then exit; fi; sleep 0.05; done; exit 1"
    )


def hold(host: "OfMaster | OfHost", cases: "list[dict[str, str]]") -> None:
    """Break it in all ways, until somebody has seen it."""
    for case in cases:
        time.sleep(0.05)
        shell(case["break"])
        if "reload ssh" in case["break"]:
            wait_for_sshd()
    print("broken", flush=True)
    sys.stdin.read()
    undos = dict.fromkeys(case["undo"] for case in cases if case["undo"])
    for undo in reversed(undos):
        shell(undo)
    host.put_back()


def main() -> None:
    """Go through the cases of standard input."""
    host = OfMaster() if Path(RESTARTS_MASTER).exists() else OfHost()
    if sys.argv[1:] == ["--hold"]:
        hold(host, json.loads(sys.stdin.readline()))
        return
    opts = salt.config.minion_config("/etc/salt/minion")
    caller = salt.client.Caller(mopts=opts)
    for case in json.load(sys.stdin):
        time.sleep(0.05)  # file times are a few ms coarse: not in the same tick as the last reload
        shell(case["break"])
        found = look(caller)
        if case["undo"]:
            shell(case["undo"])
        host.put_back()
        print(json.dumps({"name": case["name"], "found": found}), flush=True)
    print(json.dumps({"name": "", "found": look(caller)}), flush=True)


if __name__ == "__main__":
    main()
