"""What stays on disk: the confirmed rules, the emergency set, and the units that load them at boot
and bring them back when somebody flushed them.

The loader is a shell script, for it runs before the network and without Salt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rocksalt.firewall import BANS, DOCKER, FOLDER, INPUT, JUMPS, OUTPUT, RUN, VERSIONS
from rocksalt.firewall.tables import restore_text
from rocksalt.host import Host, unit_properties

UNITS = "/etc/systemd/system"
SERVICE, GUARD = "rocksalt-firewall", "rocksalt-firewall-guard"
ROLLBACK = "rocksalt-firewall-rollback"
LOADER = f"{FOLDER}/load"
EMERGENCY_MARK = f"{RUN}/emergency"
ROLLED_BACK = "/var/lib/rocksalt/firewall-rolled-back"
_HEADER = "# Written by rocksalt; state.apply hardening.firewall undoes a change here.\n"

_LOADER = """#!/bin/sh
{header}
# load          the declared rules; if they cannot be, those that let administrators in and no more
# load guard    the same, if somebody took them away; not while a change awaits confirmation
set -u
umask 077
mkdir -p {run}

complain() {{
    echo "rocksalt-firewall: $1" >&2
    logger --priority auth.crit --tag rocksalt-firewall "$1"
}}

# fill PROGRAM FILE: the chains of ours, each with all its rules, in one step
fill() {{
{kept}
    "$1-restore" --noflush --wait 10 <"$2"
}}

# lead PROGRAM CHAIN OURS [POLICY]: packets come to our chain first; only then the rest is dropped
lead() {{
    "$1" --wait 10 --check "$2" --jump "$3" 2>/dev/null ||
        "$1" --wait 10 --insert "$2" 1 --jump "$3" || return 1
    [ -z "${{4-}}" ] || "$1" --wait 10 --policy "$2" "$4"
}}

# whole PROGRAM: nobody took away what leads to our rules, or emptied their chains
whole() {{
    {whole}
}}

if [ "${{1-}}" = guard ] && systemctl is-active --quiet {rollback}.timer; then exit 0; fi
failed=0
for version in 4 6; do
    if [ $version = 4 ]; then program=iptables; else program=ip6tables; fi
    if [ "${{1-}}" = guard ]; then
        whole $program 2>/dev/null && continue
        complain "the IPv$version rules were taken away and come back now"
    fi
    if ! fill $program {folder}/rules.v$version; then
        failed=1
        complain "the IPv$version rules cannot be loaded: only administrators are let in"
        touch {mark}
        if ! fill $program {folder}/emergency.v$version; then
            complain "not even the emergency rules can be loaded: IPv$version is left as it is"
            continue
        fi
    fi
{leads}
done
if [ $failed = 0 ]; then rm -f {mark}; fi
exit $failed
"""

_SERVICE = """{header}
[Unit]
Description=Load the declared packet filter, before there is a network
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=local-fs.target systemd-modules-load.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={loader}

[Install]
WantedBy=sysinit.target
"""

_GUARD_SERVICE = """{header}
[Unit]
Description=Bring the packet filter back if somebody flushed it
After={service}.service

[Service]
Type=oneshot
ExecStart={loader} guard
"""

_GUARD_TIMER = """{header}
[Unit]
Description=Look every {interval} seconds whether somebody flushed the packet filter

[Timer]
OnActiveSec={interval}
OnUnitInactiveSec={interval}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""

Rules = Mapping[str, Sequence[str]]


def unit(name: str) -> str:
    """The path of one of our units."""
    return f"{UNITS}/{name}"


def rules(version: int) -> str:
    """The path of the confirmed rules of one IP version."""
    return f"{FOLDER}/rules.v{version}"


def emergency(version: int) -> str:
    """The path of the emergency set of one IP version."""
    return f"{FOLDER}/emergency.v{version}"


def loading(interval: int, chains: Sequence[str], policies: Mapping[str, str]) -> dict[str, str]:
    """What loads the rules: path -> text. ``interval`` is that of the guard, in seconds."""
    return {
        LOADER: _loader(chains, policies),
        unit(f"{SERVICE}.service"): _SERVICE.format(header=_HEADER, loader=LOADER),
        unit(f"{GUARD}.service"): _GUARD_SERVICE.format(
            header=_HEADER, loader=LOADER, service=SERVICE
        ),
        unit(f"{GUARD}.timer"): _GUARD_TIMER.format(header=_HEADER, interval=interval),
    }


def persisted(declared: Mapping[int, Rules], emergencies: Mapping[int, Rules]) -> dict[str, str]:
    """The rules that are loaded: path -> text."""
    return {
        **{rules(v): _HEADER + restore_text(declared[v]) for v in VERSIONS},
        **{emergency(v): _HEADER + restore_text(emergencies[v]) for v in VERSIONS},
    }


def _loader(chains: Sequence[str], policies: Mapping[str, str]) -> str:
    leading = {chain: ours for chain, ours in JUMPS.items() if ours in chains}
    kept = [BANS, *(chain for chain, ours in leading.items() if ours == DOCKER)]
    checks = [f"{chain} --jump {ours}" for chain, ours in leading.items()]
    checks += [f"{INPUT} --jump {BANS}", f"{INPUT} --jump DROP"]
    checks += [f"{DOCKER} --jump DROP"] if DOCKER in chains else []
    if policies.get("OUTPUT") == "DROP":
        checks.append(f"{OUTPUT} --out-interface lo --jump ACCEPT")
    leads = [
        f'    lead $program {" ".join(filter(None, (chain, ours, policies.get(chain))))} ||\n'
        f'        {{ failed=1; complain "IPv$version {chain} does not lead to {ours}"; }}'
        for chain, ours in leading.items()
    ]
    leads += [
        f"    $program --wait 10 --policy {chain} {policy}"
        for chain, policy in policies.items()
        if chain not in leading
    ]
    return _LOADER.format(
        header=_HEADER.rstrip(),
        run=RUN,
        folder=FOLDER,
        mark=EMERGENCY_MARK,
        rollback=ROLLBACK,
        kept="\n".join(f'    "$1" --wait 10 --new-chain {name} 2>/dev/null' for name in kept),
        whole=" &&\n        ".join(f'"$1" --wait 10 --check {check}' for check in checks),
        leads="\n".join(leads),
    )


def mode(path: str) -> str:
    """The permissions of one of our files."""
    return "0700" if path == LOADER else "0644" if path.startswith(UNITS) else "0600"


def all_paths(host: Host) -> list[str]:
    """Every file of ours that is on the host."""
    names = (f"{SERVICE}.service", f"{GUARD}.service", f"{GUARD}.timer")
    units = [unit(name) for name in names if host.read(unit(name)) is not None]
    return [*host.glob(f"{FOLDER}/*"), *units]


def overrides(host: Host) -> list[str]:
    """Files by which others change our units."""
    return host.glob(f"{UNITS}/{SERVICE}*.d/*.conf")


def units_shown(host: Host) -> dict[str, dict[str, str]]:
    """What systemd knows of the boot unit and of the guard: name -> properties."""
    names = [f"{SERVICE}.service", f"{GUARD}.service", f"{GUARD}.timer"]
    properties = "Id,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths"
    units = unit_properties(host.run("systemctl", "show", *names, "-p", properties).out)
    found = {unit.get("Id", ""): unit for unit in units}
    return {name: found.get(name, {}) for name in names}
