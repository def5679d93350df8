"""Starts NRPE and stops it: a second one is tried out on the new files first, then the real one
starts anew and is knocked at. One that would answer strangers does not run.
"""

from __future__ import annotations

from rocksalt import nrpe
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import config, controls, reading, tls
from rocksalt.nrpe.facts import Facts
from rocksalt.pki import certificates, held
from rocksalt.transaction import must, systemctl

PATIENCE = 15.0
"""Seconds in which NRPE has to answer after its start."""
RUN = "/run/rocksalt-nrpe"
TRIAL = "rocksalt-nrpe-trial"
STOPPED = "NRPE would answer without a certificate, or whoever asks, so it is stopped"
OFF = ("disable", "--quiet", "--now")
_LOOPBACK = "127.0.0.1"


def exposed(host: Host) -> bool:
    """Whether a NRPE of the unit answers, or will after a boot, who shows no certificate or is not
    on its list.
    """
    if host.attributes(nrpe.PROGRAM) is None:
        return False
    unit = reading.show(host)
    process = reading.process(host, int(unit.get("MainPID") or 0))
    if not process and unit.get("UnitFileState") != "enabled":
        return False
    other = process and tuple(process.command) != config.COMMAND_LINE
    return bool(other) or not config.guarded(host.read(nrpe.CONFIG) or "")


def stop(host: Host) -> None:
    """NRPE does not run, now and after a boot."""
    systemctl(host, *OFF, nrpe.UNIT)


def start(host: Host, it: Facts) -> None:
    """Starts NRPE anew on its files, tries them out before, and knocks afterwards."""
    text = host.read(nrpe.CONFIG) or ""
    try_out(host, it, text)
    host.run("systemctl", "reset-failed", nrpe.UNIT)
    if controls.SERVICE in it.wanted:
        systemctl(host, "enable", "--quiet", nrpe.UNIT)
    systemctl(host, "restart", nrpe.UNIT)
    port = it.setup.settings["port"]
    _works(host, it, nrpe.UNIT, it.address, port)


def try_out(host: Host, it: Facts, text: str) -> None:
    """A NRPE of its own on the loopback address, with the same certificates and commands; it has no
    test of its configuration.
    """
    path, port = f"{RUN}/nrpe.cfg", it.wires.free_port(_LOOPBACK)
    host.path(RUN).mkdir(parents=True, exist_ok=True)
    host.path(RUN).chmod(0o755)
    host.write(path, config.trial(text, _LOOPBACK, port), "0600")
    properties = (f"User={nrpe.USER}", f"Group={nrpe.USER}", "RuntimeMaxSec=60", "UMask=0077")
    host.run("systemctl", "stop", "--quiet", f"{TRIAL}.service")
    try:
        host.secure(path, "root", nrpe.USER, "0640")
        must(
            host, "a NRPE cannot be tried out", "systemd-run", "--quiet", f"--unit={TRIAL}",
            *(f"--property={item}" for item in properties),
            nrpe.PROGRAM, "-c", path, "-f",
        )  # fmt: skip
        _works(host, it, f"{TRIAL}.service", _LOOPBACK, port)
    finally:
        host.run("systemctl", "stop", "--quiet", f"{TRIAL}.service")
        host.run("systemctl", "reset-failed", "--quiet", f"{TRIAL}.service")
        host.remove(path)


def _works(host: Host, it: Facts, unit: str, address: str, port: int) -> None:
    """That NRPE answers, shows the certificate of the disk and refuses whoever has none."""

    def alive() -> bool:
        return host.run("systemctl", "is-active", "--quiet", unit).status == 0

    if not it.wires.answers_in(PATIENCE, address, port, alive):
        raise Refused(f"{unit} does not listen on {address} port {port}: {_said(host, unit)}")
    answers = it.wires.knock(address, port, "")
    if answers.without_certificate != tls.REFUSED:
        raise Refused(
            f"{unit}: who shows no certificate should be refused, and it is: "
            f"{answers.without_certificate}; {_said(host, unit)}"
        )
    chain = held.read(host, reading.PLACE).chain
    if not chain or answers.certificate != certificates.fingerprint(chain[0]):
        raise Refused(f"{unit} shows another certificate than that in {nrpe.CERTIFICATE}")


def _said(host: Host, unit: str) -> str:
    """The last complaints of a unit; some processes end before the journal knows whose they are."""
    whose = (f"_SYSTEMD_UNIT={unit}", "+", f"UNIT={unit}", "+", "SYSLOG_IDENTIFIER=nrpe")
    how = ("--since=-1min", "--lines=30", "--output=cat", "--no-pager")
    log = host.run("journalctl", *how, *whose).out
    words = ("error", "could not", "cannot", "failed", "invalid", "unable")
    found = [line.strip() for line in log.splitlines() if any(it in line.lower() for it in words)]
    return "; ".join(dict.fromkeys(found[-3:])) or "it does not say why"
