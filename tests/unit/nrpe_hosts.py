"""A host whose NRPE is as the baseline wants it, with true certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import tempfile
import time
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rocksalt import nrpe, settings
from rocksalt.host import Host
from rocksalt.nrpe import checks, config, reading, tls
from rocksalt.pki import authority, certificates

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
ADDRESS, MONITOR = "10.79.0.2", "10.79.0.9"
PILLAR: dict[str, Any] = {
    "networks": {"management": ["10.79.0.1/32"], "monitoring": [f"{MONITOR}/32"]},
    "firewall": {"allow": {"nrpe": ["monitoring"]}},
}
PYTHON = "/opt/salt/bin/python3"
SHOW = f"systemctl show {nrpe.UNIT}"
LISTENER = (
    "tcp LISTEN 0 5 {address}:{port} 0.0.0.0:* "
    'users:(("{name}",pid=700,fd=4)) uid:110 ino:1 sk:1 <->\n'
)
STATUS = """\
Name:\tnrpe
Uid:\t110\t110\t110\t110
Gid:\t120\t120\t120\t120
Groups:\t120
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""
OTHER_PLUGINS = ("check_disk", "check_load", "check_procs", "check_users")


def ca(name: str = "monitoring") -> authority.Authority:
    """An authority, the same one for a name each time."""
    return _ca(name)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""They go when Python ends."""


@cache
def _ca(name: str) -> authority.Authority:
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="rocksalt-ca-"))
    host = Host(_FOLDERS[-1].name)
    authority.make(host, name, 3650, NOW, authority.folder_of("monitoring"))
    return authority.Authority(host, "monitoring")


@cache
def server(
    name: str = "web1", address: str = ADDRESS, days: int = 365, by: str = "monitoring"
) -> tuple[str, str]:
    """A certificate and its key in PEM."""
    key = certificates.new_key()
    request = certificates.request(key, name, address)
    signed = ca(by).server(request, name, days, NOW)
    return certificates.pem(signed), certificates.key_pem(key)


def signed(
    name: str = "web1",
    *,
    key: Any = None,
    issuer: authority.Authority | None = None,
    begin: dt.timedelta = dt.timedelta(hours=-1),
    end: dt.timedelta = dt.timedelta(days=365),
    is_ca: bool = False,
    usage: bool = False,
    names: bool = True,
) -> tuple[x509.Certificate, Any]:
    """A certificate that our own authority would not make: self-signed, expired, of no name."""
    key = key or certificates.new_key()
    above = issuer.certificate.subject if issuer else certificates.subject(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificates.subject(name))
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begin)
        .not_valid_after(NOW + end)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if names:
        builder = builder.add_extension(certificates.alternative(name, ADDRESS), critical=False)
    if usage:
        client = x509.ExtendedKeyUsage([certificates.USAGES[certificates.CLIENT]])
        builder = builder.add_extension(client, critical=True)
    return builder.sign(issuer._key if issuer else key, hashes.SHA256()), key


def weak_key(kind: str) -> Any:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 1024)
    return ec.generate_private_key(ec.SECP192R1())


def baseline(shipped: Any, **pillar: Any) -> settings.Baseline:
    return settings.resolve(shipped, settings.merge(PILLAR, pillar), {}, "web1")


class Net:
    """The network as a test wants it."""

    def __init__(self) -> None:
        self.answers = tls.Answers(*["refused"] * 4, "not heard", "")
        self.own = [ADDRESS, "127.0.0.1"]
        self.listens = True
        self.towards: dict[str, str] = {}
        self.knocked: list[tuple[str, int, str]] = []

    def knock(self, address: str, port: int, stranger: str) -> tls.Answers:
        self.knocked.append((address, port, stranger))
        return self.answers

    def answers_in(self, *_: Any) -> bool:
        return self.listens

    def wires(self) -> reading.Wires:
        return reading.Wires(
            knock=self.knock,
            source=lambda towards: self.towards.get(
                towards, ADDRESS if towards.startswith("10.") else ""
            ),
            is_own=lambda address: str(ipaddress.ip_address(address)) in self.own,
            answers_in=lambda *how: self.answers_in(*how),
            free_port=lambda address: 40000,
        )


def unit(host: Any, **other: str) -> None:
    """What systemd shows; the service began a minute from now, after all that a test writes."""
    shown = {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "/lib/systemd/system/nagios-nrpe-server.service",
        "DropInPaths": nrpe.DROP_IN,
        "MainPID": "700",
        "ActiveEnterTimestampMonotonic": str(int((time.monotonic() + 60) * 1e6)),
        **config.SANDBOX,
        **other,
    }
    host.answer(SHOW, "".join(f"{key}={value}\n" for key, value in shown.items()))


def put_certificates(host: Any, certificate: str, key: str, by: str = "monitoring") -> None:
    for path, text in (
        (nrpe.AUTHORITY, ca(by).text),
        (nrpe.CERTIFICATE, certificate),
        (nrpe.KEY, key),
    ):
        host.put(path, text, 0o640 if path == nrpe.KEY else 0o644)
    host.groups[nrpe.KEY] = host.groups[nrpe.FOLDER] = "nagios"
    host.path(nrpe.FOLDER).chmod(0o750)


def good(shipped: Any, host: Any) -> Net:
    """Makes a host on which every control is ok."""
    net = Net()
    put_certificates(host, *server())
    net.answers = tls.Answers(*["refused"] * 4, "not heard", shown(server()[0]))
    host.put(nrpe.PROGRAM, mode=0o755)
    for name in OTHER_PLUGINS:
        host.put(f"{nrpe.PLUGINS}/{name}", mode=0o755)
    host.put("/etc/passwd", "nagios:x:110:120::/var/lib/nagios:/usr/sbin/nologin\n")
    host.put("/etc/group", "adm:x:4:\nnagios:x:120:\n")
    host.put("/etc/nagios/nrpe_local.cfg", "# Nothing but words.\n")
    host.put("/proc/700/status", STATUS)
    host.put("/proc/700/cmdline", "\0".join([*config.COMMAND_LINE, ""]))
    host.answer("ss -Hltunpe", LISTENER.format(address=ADDRESS, port=5666, name="nrpe"))
    host.answer("systemctl")
    host.answer("systemd-run")
    host.answer("journalctl")
    unit(host)
    it = comparison(shipped, host, net)
    for path, text in it.render().items():
        host.put(path, text, 0o640 if path == nrpe.CONFIG else 0o644)
    host.groups[nrpe.CONFIG] = "nagios"
    for path, text in it.own_plugins.items():
        host.put(path, mode=0o755)
        host.path(path).write_bytes(text.encode(errors="surrogateescape"))
    return net


def shown(certificate: str) -> str:
    return certificates.fingerprint(certificates.load_one(certificate, "it"))


def comparison(shipped: Any, host: Any, net: Net, **pillar: Any) -> checks.Nrpe:
    return checks.Nrpe(baseline(shipped, **pillar), "web1", host, NOW, PYTHON, net.wires())
