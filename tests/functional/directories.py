"""A real directory: Debian's slapd on loopback with TLS, an ordinary process below a folder."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ldap
import ldap.modlist
from access_doors import until
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from saltfactories.utils.ports import get_unused_localhost_port

from rocksalt.pki import certificates

BASE = "dc=example,dc=org"
READER = f"cn=reader,{BASE}"
SECRETS = {"manager": "of-the-manager", "reader": "of-the-reader"}
_PEOPLE, _GROUPS = f"ou=People,{BASE}", f"ou=Groups,{BASE}"
# Somebody who gives a name and no password is let in as nobody, where a program lets that happen.
_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
allow bind_anon_cred bind_anon_dn
TLSCertificateFile {folder}/certificate.pem
TLSCertificateKeyFile {folder}/key.pem
database mdb
suffix {base}
rootdn cn=manager,{base}
rootpw {manager}
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth
"""


class Authority:
    """One that signs certificates of directories."""

    def __init__(self, folder: Path):
        self.path = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA of {folder.name}")])
        own = _certificate(self._name, self._key.public_key(), x509.BasicConstraints(True, 0))
        self.path.write_text(certificates.pem(own.issuer_name(self._name).sign(*self._by())))

    def sign(self, folder: Path) -> None:
        """A key and a certificate for 127.0.0.1, where slapd looks for them."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory")])
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = _certificate(name, key.public_key(), here).issuer_name(self._name)
        (folder / "certificate.pem").write_text(certificates.pem(made.sign(*self._by())))
        (folder / "key.pem").write_text(certificates.key_pem(key))

    def _by(self) -> tuple[ec.EllipticCurvePrivateKey, hashes.HashAlgorithm]:
        return self._key, hashes.SHA256()


def _certificate(
    name: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(extension, critical=False)
    )


class Directory:
    """It has people, whose passwords are ``of-<name>``, and groups of their names."""

    def __init__(self, folder: Path, people: list[str], groups: dict[str, list[str]]):
        self.folder = folder
        self.tls, self.plain = (
            f"{scheme}://127.0.0.1:{get_unused_localhost_port()}" for scheme in ("ldaps", "ldap")
        )
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir()
        text = _CONFIG.format(folder=folder, base=BASE, manager=SECRETS["manager"])
        (folder / "slapd.conf").write_text(text)
        self.authority = Authority(folder)
        self.authority.sign(folder)
        ldif = "\n".join(_entries(people, groups)).encode()
        subprocess.run([*self._slapd("slapadd"), "-q"], input=ldif, check=True, timeout=60)

    def _slapd(self, program: str) -> list[str]:
        return [f"/usr/sbin/{program}", "-f", f"{self.folder}/slapd.conf"]

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._slapd("slapd"), "-h", f"{self.tls} {self.plain}", "-d", "0"]
        )
        until(self._answers)

    def stop(self) -> None:
        """Its ports are closed from then on."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Away for a while."""
        self.stop()
        yield
        self.start()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)
        yield
        os.kill(self._process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def of(self, authority: Authority) -> Iterator[None]:
        """With a certificate of another authority."""
        with self.stopped():
            authority.sign(self.folder)
        yield
        with self.stopped():
            self.authority.sign(self.folder)

    def change(self, group: str, user: str, kind: int = ldap.MOD_DELETE) -> None:
        """Take somebody out of a group, or add them with ``ldap.MOD_ADD``."""
        dn = f"cn={group},{_GROUPS}"
        with self._manager() as manager:
            manager.modify_s(dn, [(kind, "memberUid", [user.encode()])])

    @contextlib.contextmanager
    def _manager(self) -> Iterator[ldap.ldapobject.SimpleLDAPObject]:
        connection = ldap.initialize(self.plain)
        connection.simple_bind_s(f"cn=manager,{BASE}", SECRETS["manager"])
        yield connection
        connection.unbind_s()

    def _answers(self) -> bool:
        assert self._process and self._process.poll() is None, "slapd ended"
        try:
            with self._manager():
                return True
        except ldap.SERVER_DOWN:
            return False


def _entries(people: list[str], groups: dict[str, list[str]]) -> Iterator[str]:
    """In LDIF."""
    yield f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n"
    for name in ("People", "Groups"):
        yield f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}\n"
    reader = f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
    yield f"{reader}cn: reader\nuserPassword: {SECRETS['reader']}\n"
    for name in people:
        kinds = "".join(f"objectClass: {it}\n" for it in ("person", "uidObject"))
        words = f"uid: {name}\ncn: {name}\nsn: {name}\nuserPassword: of-{name}\n"
        yield f"dn: uid={name},{_PEOPLE}\n{kinds}{words}"
    for number, (name, members) in enumerate(groups.items(), 5000):
        listed = "".join(f"memberUid: {it}\n" for it in members)
        yield (
            f"dn: cn={name},{_GROUPS}\nobjectClass: posixGroup\ncn: {name}\n"
            f"gidNumber: {number}\n{listed}"
        )


SEARCHED = {
    "auth.ldap.basedn": BASE, "auth.ldap.binddn": READER, "auth.ldap.bindpw": SECRETS["reader"],
    "auth.ldap.filter": "(&(uid={{ username }})(objectClass=person))",
}  # fmt: skip
"""The master looks for somebody, by an account of its own."""
BOUND = {
    "auth.ldap.basedn": BASE, "auth.ldap.binddn": "uid={{ username }}," + _PEOPLE,
    "auth.ldap.groupou": "Groups",
}  # fmt: skip
"""Names say where they are in the tree, and who logs in looks for their own groups."""
