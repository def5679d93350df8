"""Masters with the door in front of them, and people who call there."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import http.client
import ipaddress
import itertools
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from saltfactories.bases import SaltDaemon
from saltfactories.daemons.api import SaltApi
from saltfactories.manager import FactoriesManager
from saltfactories.utils import random_string
from saltfactories.utils.ports import get_unused_localhost_port

from conftest import GRAINS, REPOSITORY
from rocksalt.access import DOOR, door, rendering
from rocksalt.access.door import passwords
from rocksalt.pki import certificates

TODAY = dt.date.today()
APPS = {
    "shop": {"states": ["shop.deployed"], "version": r"v\d+(\.\d+)*", "minions": ["web*"]},
    "blog": {"states": ["blog.deployed"], "version": r"\d+", "minions": ["web*"]},
}
DEPLOYS = {"app": "shop", "version": "v1.2"}
GRANTS = {
    "alice": {"role": "deployer", "targets": ["web1"], "apps": ["shop"]},
    "oscar": {"role": "operator", "targets": ["web*"], "apps": ["shop"]},
    "ada": {"role": "auditor", "targets": ["*"], "everywhere": True},
    "pat": {"role": "platform", "targets": ["web1"], "apps": ["shop"]},
    "bob": {"role": "break-glass", "targets": ["web1"], "apps": ["shop"],
            "until": str(TODAY + dt.timedelta(days=2)), "reason": "a test"},
}  # fmt: skip
GUESSED = ("alice-guessed",)
_NEXT = itertools.count(2)


def address() -> str:
    """One that nobody else calls from."""
    return f"127.0.0.{next(_NEXT)}"


@dataclass
class Answer:
    """What HTTP said: everything but the welcome is about ``return``."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def said(self) -> Any:
        return json.loads(self.text)["return"]


class Caller:
    """Somebody at an address of their own, with one connection."""

    def __init__(self, api: Api, token: str = "", source: str = ""):
        self.api, self.token = api, token
        self.source = source or address()
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", api.port, timeout=60, context=api.trust, source_address=(self.source, 0)
        )

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, **headers: str
    ) -> Answer:
        sent = {"X-Auth-Token": self.token} if self.token else {}
        sent |= {"Content-Type": "application/json"} if body is not None else {}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        for again in (True, False):
            try:
                self.connection.request(method, path, body, sent)
                got = self.connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
                # Idle connections end after some seconds, as with any server.
                self.connection.close()
                if not again:
                    raise
        text = got.read().decode()
        assert "Traceback" not in text and "/site-packages/" not in text and ".py" not in text
        assert got.headers["Content-Type"] == "application/json", text
        return Answer(got.status, {key.lower(): it for key, it in got.headers.items()}, text)

    def log_in(self, user: str, password: str = "", **more: Any) -> Answer:
        words = {"username": user, "password": password or self.api.passwords[user], **more}
        answer = self.ask("POST", "/login", json.dumps(words))
        if answer.status == 200:
            self.token = answer.said[0]["token"]
        return answer

    def call(self, *calls: Any, **one: Any) -> Answer:
        low = list(calls) or [{"client": "local", "tgt": "web1", "fun": "test.ping", **one}]
        return self.ask("POST", "/", json.dumps(low))


@dataclass
class Api:
    """The master with its door."""

    port: int
    trust: ssl.SSLContext
    passwords: dict[str, str]
    log: Path
    master: Any
    minion: Any
    folder: Path

    def caller(self, user: str = "", source: str = "") -> Caller:
        caller = Caller(self, source=source)
        if user:
            assert caller.log_in(user).status == 200
        return caller

    @functools.cached_property
    def users(self) -> dict[str, Caller]:
        """Everybody, logged in."""
        return {user: self.caller(user) for user in GRANTS}

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def last(self, event: str) -> dict[str, Any]:
        return [line for line in self.lines() if line["event"] == event][-1]


def settings(**more: Any) -> dict[str, Any]:
    """The family's settings as a site has them that declares these people and apps."""
    text = (REPOSITORY / "salt" / "hardening" / "access" / "defaults.yaml").read_text()
    defaults = {name: it["default"] for name, it in yaml.safe_load(text).items()}
    users = {user: {"grants": [grant]} for user, grant in GRANTS.items()}
    return {**defaults, "users": users, "apps": APPS, **more}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "api.pem", folder / "api.key"
    paths[0].write_text(certificates.pem(made))
    paths[1].write_text(certificates.key_pem(key))
    return paths


def install(folder: Path) -> None:
    """The door's files below a folder instead of below ``/``."""
    for path, text in door.files().items():
        target = folder / path.removeprefix(f"{DOOR}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class OurApi(SaltApi):  # type: ignore[misc]
    """salt-api of salt-factories, which knows Salt's own servers only."""

    def __attrs_post_init__(self) -> None:
        self.check_ports = [self.config["rocksalt_api"]["port"]]
        SaltDaemon.__attrs_post_init__(self)


@contextlib.contextmanager
def serving(
    salt_factories: FactoriesManager, folder: Path, *, runs: bool = True, **given: Any
) -> Iterator[Api]:
    """A master with its door, with keys of web1, which runs or not, and of db1, which never does.

    ``given`` are settings of the family; those with a dot are the master's own options.
    """
    install(folder / "installed")
    pem, key = certificate(folder)
    made = {user: passwords.make() for user in (*GRANTS, *GUESSED)}
    (folder / "users").write_text("".join(f"{name}:{it[1]}\n" for name, it in made.items()))
    (folder / "states" / "shop").mkdir(parents=True)
    (folder / "states" / "shop" / "deployed.sls").write_text(
        "the shop is deployed:\n  file.managed:\n"
        f"    - name: {folder}/shop-{{{{ pillar['deploy']['version'] }}}}\n    - contents: x\n"
    )
    (folder / "pillar").mkdir()
    (folder / "pillar" / "top.sls").write_text("base: {'*': [site]}\n")
    (folder / "pillar" / "site.sls").write_text(
        yaml.safe_dump({"hardening": {"access": {"apps": APPS}}})
    )
    port = get_unused_localhost_port()
    own = {name: given.pop(name) for name in list(given) if "." in name}
    tls = {"tls_certificate": str(pem), "tls_key": str(key)}
    ours = rendering.options(
        settings(address="127.0.0.1", port=port, **tls, **given), dt.datetime.now(dt.timezone.utc)
    )
    placed = {"users_file": str(folder / "users"), "log": str(folder / "log.jsonl")}
    master = salt_factories.salt_master_daemon(
        random_string("master-"),
        overrides={
            **ours,
            **own,
            "netapi_dirs": [str(folder / "installed" / "netapi")],
            "auth_dirs": [str(folder / "installed" / "auth")],
            "rocksalt_api": {**ours["rocksalt_api"], **placed},
            "file_roots": {"base": [str(folder / "states"), str(REPOSITORY / "salt")]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "pytest-master": {"log": {"level": "warning"}},
        },
    )
    # salt-factories lets minions publish test.*, and adds what it is told to that.
    written = Path(master.config_file)
    written.write_text(yaml.safe_dump({**yaml.safe_load(written.read_text()), "peer": {}}))
    minion = None
    if runs:
        minion = master.salt_minion_daemon(
            "web1",
            overrides={
                "hardening": {"state_dir": str(folder / "state"), "roles": []},
                "grains": GRAINS,
                "pytest-minion": {"log": {"level": "warning"}},
            },
        )
    trust = ssl.create_default_context(cafile=str(pem))
    words = {user: password for user, (password, _) in made.items()}
    served = master.salt_api_daemon(factory_class=OurApi)
    with master.started(), minion.started() if minion else contextlib.nullcontext():
        keys = Path(master.config["pki_dir"]) / "minions"
        for absent in ("db1",) if runs else ("db1", "web1"):
            (keys / absent).write_text(public_key())
        with served.started():
            it = Api(port, trust, words, folder / "log.jsonl", master, minion, folder)
            until(lambda: Caller(it).ask("GET", "/").status == 200)
            yield it


def public_key() -> str:
    """One that a minion could have."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, kind).decode()


def until(true: Any, seconds: float = 30) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if true():
                return
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.2)
