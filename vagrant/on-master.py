#!/opt/salt/bin/python
"""What is done from the master to all machines of the Vagrantfile, itself among them.

on-master.py harden      highstate, bring certificates, highstate; fails where one fails
on-master.py unchanged   one more highstate; fails where it changes something
on-master.py report      drift reports; fails where there is drift or an error
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MINIONS = Path("/etc/salt/pki/master/minions")
PATIENCE = 300  # seconds until all machines have found the master


class Failed(Exception):
    """Something did not come out as it has to; the message says what, by machine."""


def salt(function: str, *arguments: str) -> dict[str, Any]:
    """What each machine returned; one that did not answer is a failure."""
    command = ["salt", "--static", "--out=json", "*", function, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    answers = json.loads(done.stdout or "{}")
    silent = sorted(set(names()) - {name for name, said in answers.items() if said is not False})
    if silent:
        raise Failed(f"{', '.join(silent)} did not answer {function}: {done.stderr.strip()}")
    return dict(answers)


def run(function: str, *arguments: str) -> None:
    """A runner of the master; what it found wrong is a failure."""
    command = ["salt-run", "--out=json", function, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        said = {"problems": done.stdout + done.stderr}
    if done.returncode or (isinstance(said, dict) and said.get("problems")):
        raise Failed(f"salt-run {function}: {json.dumps(said, indent=2)}")


def names() -> list[str]:
    """The machines whose keys the master has."""
    return sorted(path.name for path in MINIONS.iterdir())


def wait() -> None:
    """Until all machines have subscribed: what is published before, they would never hear."""
    deadline = time.monotonic() + PATIENCE
    peers = ["ss", "-Htn", "state", "established", "sport = :4505"]
    while len(subprocess.run(peers, capture_output=True, text=True).stdout.splitlines()) < len(
        names()
    ):
        if time.monotonic() > deadline:
            raise Failed(f"not all of {', '.join(names())} have found the master in {PATIENCE} s")
        time.sleep(0.5)
    salt("test.ping")


def highstate() -> dict[str, list[str]]:
    """Applies everything everywhere; machine -> what changed. What failed is a failure."""
    changed, failed = {}, []
    for name, states in sorted(salt("state.apply").items()):
        if not isinstance(states, dict):
            failed.append(f"{name}: {states}")
            continue
        bad = [s for s in states.values() if s["result"] is False]
        failed += [f"{name}: {state['__id__']}: {state['comment']}" for state in bad]
        changed[name] = [key for state in states.values() for key in state["changes"]]
        print(
            f"{name}: {len(states)} states, {len(changed[name])} changes, {len(bad)} failed",
            flush=True,
        )
    if failed:
        raise Failed("\n".join(failed))
    return changed


def certificates() -> None:
    """Authorities for monitoring and logs, and certificates of theirs where they are needed."""
    machines = names()
    if "monitor" in machines:
        authority("monitoring")
        run("monitoring.client", "monitor")
        run("monitoring.enrol", "*")
    if "log" in machines:
        authority("logs")
        run("logs.enrol", "log")
        run("logs.enrol", "*")


def authority(runner: str) -> None:
    """The authority of a runner, made once."""
    folder = Path(f"/etc/rocksalt/{runner}-ca")
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700)
        run(f"{runner}.authority")


def harden() -> None:
    """All machines conform, those included that need certificates for it."""
    wait()
    run("saltutil.sync_all")
    salt("saltutil.sync_all")
    try:
        highstate()
    except Failed as error:  # what waits for certificates is no failure yet
        print(f"Once more, with certificates:\n{error}")
    certificates()
    highstate()


def unchanged() -> None:
    """Another highstate finds nothing to do."""
    wait()
    if again := {name: changed for name, changed in highstate().items() if changed}:
        raise Failed(f"This highstate should have changed nothing: {json.dumps(again, indent=2)}")


def report() -> None:
    """Nothing has drifted, and everything could be looked at."""
    drifted = []
    for name, said in sorted(salt("drift.report").items()):
        if not isinstance(said, dict):
            raise Failed(f"{name}: {said}")
        counts = said["summary"]
        kinds = ("ok", "drift", "waived", "skipped", "error")
        print(f"{name}: score {counts['score']}, " + ", ".join(f"{counts[k]} {k}" for k in kinds))
        drifted += [
            f"{name}: {finding['id']}: {finding['reason']}"
            for finding in said["findings"]
            if finding["status"] in ("drift", "error")
        ]
    if drifted:
        raise Failed("\n".join(drifted))


COMMANDS: dict[str, Callable[[], None]] = {
    "harden": harden,
    "unchanged": unchanged,
    "report": report,
}


def main(arguments: list[str]) -> int:
    """Run one command; 0, or 1 where it failed, or 2 where there is no such command."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        COMMANDS[arguments[0]]()
    except Failed as error:
        print(f"rocksalt: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
