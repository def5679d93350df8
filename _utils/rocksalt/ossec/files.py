"""What we put on the host for the agent, beside its own configuration: our program and what it
knows of the settings, the timer, the scripts before those of the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rocksalt import program
from rocksalt.ossec import (
    INSTALLED,
    MASTERS,
    ORIGINALS,
    PROGRAM,
    RESPONSES,
    SETTINGS,
    STATE,
    masters,
)

UNIT = "rocksalt-ossec-status"
FOLDER = "/etc/systemd/system"
SERVICE, TIMER = f"{FOLDER}/{UNIT}.service", f"{FOLDER}/{UNIT}.timer"
ROOT_ONLY, FOR_ALL, RUNS = "root:root 0600", "root:root 0644", "root:root 0755"
HARMLESS = ("restart-ossec.sh", "ossec-pagerduty.sh", "ossec-slack.sh", "ossec-tweeter.sh")
"""Scripts that ban nobody: the server needs the first one to hand out its configuration, and the
others tell people.
"""
_SPARE = "/usr/bin/python3"
_ENTRY = "rocksalt.ossec.__main__"
_HEADER = "# Written by rocksalt; state.apply hardening.ossec undoes a change here.\n"
_SERVICE = f"""{_HEADER}
[Unit]
Description=Note how the OSSEC agent does

[Service]
Type=oneshot
ExecStart={PROGRAM} watch
TimeoutStartSec=1min
UMask=0077
Nice=10
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=strict
ReadWritePaths={STATE}
ProtectHome=true
ProtectClock=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictAddressFamilies=AF_UNIX
RestrictRealtime=true
LockPersonality=true
"""
_TIMER = f"""{_HEADER}
[Unit]
Description=Note how the OSSEC agent does, every minute

[Timer]
OnBootSec=1min
OnUnitActiveSec=1min
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


def own(
    settings: Mapping[str, Any], interpreter: str, of_masters: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, str]]:
    """Path -> text and access of our files; ``of_masters`` are their addresses, to be kept."""
    built = program.build(interpreter, _ENTRY, program.sources(_ENTRY))
    kept = {MASTERS: (masters.text(of_masters), ROOT_ONLY)} if of_masters else {}
    return {
        **kept,
        SETTINGS: (json.dumps(settings, indent=1, sort_keys=True) + "\n", ROOT_ONLY),
        PROGRAM: (built.decode(errors="surrogateescape"), RUNS),
    }


def units() -> dict[str, tuple[str, str]]:
    """Path -> text and access of what runs our program every minute."""
    return {SERVICE: (_SERVICE, FOR_ALL), TIMER: (_TIMER, FOR_ALL)}


def wrapper(name: str) -> str:
    """The script that stands before the package's of the same name.

    OSSEC asks for a ban to be lifted once. So where the interpreter of our program is away, as
    during an upgrade of Salt, the system's runs it, and where there is none either, the package's
    script does it, if it is the one that was written down.
    """
    return f"""#!/bin/sh
{_HEADER}[ "$1" = delete ] || exec {PROGRAM} respond {name} "$@"
{PROGRAM} respond {name} "$@" && exit
{_SPARE} -sE {PROGRAM} respond {name} "$@" && exit
sum=$(sha256sum < {ORIGINALS}/{name}) || exit
grep -qF '"{RESPONSES}/{name}": "'"${{sum%% *}}"'"' {INSTALLED} && exec {ORIGINALS}/{name} "$@"
"""


def is_wrapper(path: str, text: str | None) -> bool:
    """Whether a script in the folder of responses is ours."""
    return text == wrapper(path.removeprefix(f"{RESPONSES}/"))
