"""What a look at a host shows of its Salt master, its vault and its drills."""

from __future__ import annotations

from rocksalt.host import Host, unit_properties

MASTER_UNIT = "salt-master.service"


def master_signs(host: Host, config_dir: str) -> list[str]:
    """Why this host is a Salt master, shortly; empty when it is none."""
    found = []
    shown = host.run("systemctl", "show", MASTER_UNIT, "-p", "ActiveState,UnitFileState").out
    unit = unit_properties(shown)[0]
    if unit.get("ActiveState") in ("active", "activating", "reloading"):
        found.append(f"{MASTER_UNIT} runs")
    if unit.get("UnitFileState") in ("enabled", "enabled-runtime", "alias"):
        found.append(f"{MASTER_UNIT} starts at boot")
    key = f"{config_dir}/pki/master/master.pem"
    if host.attributes(key) is not None:
        found.append(f"{key} exists")
    return found
