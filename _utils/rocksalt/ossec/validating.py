"""Whether the daemons take a configuration. Each tests a part of it and prints what is wrong to its
standard error; none of them tests ``rootcheck`` of the file that it is given.
"""

from __future__ import annotations

import re

from rocksalt.errors import Refused
from rocksalt.host import Host, Ran
from rocksalt.ossec import BIN, CONF, DAEMONS, SYSCHECKD, conf

CANDIDATE = f"{CONF}.rocksalt-candidate"
_PATIENCE = 60
_LINE = re.compile(r"^(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?ossec-[a-z]+(?:\(\d+\))?: ?")
_GENERAL = ("Configuration error at", "No client configured", "INFO:")
"""What is said beside the reason."""


def check(host: Host, text: str, access: str) -> None:
    """Raises :class:`Refused` with what is wrong with a configuration; nothing has changed then."""
    if found := conf.faults(text):
        raise Refused(f"the configuration of the agent would be wrong: {'; '.join(found)}")
    installed_is_sound = not conf.faults(host.read(CONF) or "")
    host.write(CANDIDATE, text, "0600")
    try:
        owner, group, mode = access.replace(":", " ").split()
        host.secure(CANDIDATE, owner, group, mode)
        for daemon in DAEMONS:
            ran = _tested(host, daemon, CANDIDATE)
            # syscheckd looks at rootcheck of the file in place, which may be why it is replaced.
            if ran.status and (installed_is_sound or daemon != SYSCHECKD):
                raise Refused(f"{daemon} does not take the configuration: {complaint(ran)}")
    finally:
        host.remove(CANDIDATE)


def check_in_place(host: Host) -> None:
    """The same for the file in place, of which every part is tested."""
    for daemon in DAEMONS:
        ran = _tested(host, daemon, CONF)
        if ran.status:
            raise Refused(f"{daemon} does not take {CONF}: {complaint(ran)}")


def _tested(host: Host, daemon: str, path: str) -> Ran:
    return host.run(f"{BIN}/{daemon}", "-t", "-c", str(host.path(path)), timeout=_PATIENCE)


def complaint(ran: Ran) -> str:
    """What a daemon said, without the time and its own name."""
    lines = [_LINE.sub("", line).strip() for line in (ran.err or ran.out).splitlines()]
    said = [line for line in lines if line and not any(word in line for word in _GENERAL)]
    return "; ".join(dict.fromkeys(said or lines)) or f"status {ran.status}"
