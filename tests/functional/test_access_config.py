"""The master's configuration of the family access, as Salt itself reads it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import access_hosts
import pytest
import salt.config

from conftest import REPOSITORY
from rocksalt import access, catalogue, settings
from rocksalt.access import compiled, door, rendering, running, sources, trusting
from rocksalt.errors import Refused
from rocksalt.host import Host


def load(name: str, folder: Path | None = None) -> ModuleType:
    """An execution module of ours, for a minion beside a master."""
    path = REPOSITORY / f"_modules/{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_module", path)
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    opts = {"id": access_hosts.MINION, "conf_file": f"{folder}/minion"}
    found.__opts__ = opts  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The execution module, which has the function that reads."""
    return load("access")


@pytest.fixture(scope="module")
def declared() -> settings.Family:
    """The settings of a good master."""
    folder = REPOSITORY / "salt/hardening/access"
    texts = [(folder / f"{name}.yaml").read_text() for name in ("controls", "defaults")]
    parsed = [catalogue.parse_yaml(text, "it") for text in texts]
    family = catalogue.family("access", {**parsed[0], "after": []}, parsed[1])
    pillar = access_hosts.pillar()
    return settings.resolve({"access": family}, pillar, {}, access_hosts.MINION).families["access"]


@pytest.fixture
def folder(tmp_path: Path, declared: settings.Family) -> Path:
    """A master's configuration: the main file, ours, and one of others before and after it."""
    (tmp_path / "master.d").mkdir()
    (tmp_path / "more").mkdir()
    files = {
        "master": f"root_dir: {tmp_path}\nauto_accept: true\npeer: {{'.*': [a.b]}}\n"
        "include: more/*.conf\n",
        f"master.d/{access.MASTER_CONFIG}": rendering.config(declared.settings, access_hosts.NOW),
        "master.d/local.conf": "external_auth: {pam: {ann: ['.*']}}\n"
        "netapi_enable_clients: [wheel]\npeer_run: {'.*': [x.y]}\n",
        "master.d/zzz.conf": "token_expire: 5\n",
        "more/x.conf": "publisher_acl: {bob: [test.ping]}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_our_options_are_salts(module: ModuleType, folder: Path, declared: settings.Family) -> None:
    """Each has an effect but for those that another file overrules, whose names are as Salt's."""
    found = module._effective(str(folder / "master"))
    ours = rendering.options(declared.settings, access_hosts.NOW)
    overruled = {
        *("external_auth", "netapi_enable_clients", "peer_run", "token_expire", "publisher_acl"),
    }
    for name in (*ours, "external_auth"):
        if name not in overruled:
            assert sources.plain(found[name]) == ours[name], name
    assert found["netapi_enable_clients"][0] == "wheel"
    assert found["token_expire"] == 5
    assert found["peer"] == {}, "of the main file, which ours replaces"


def test_rights_of_other_files_are_seen(
    module: ModuleType, folder: Path, declared: settings.Family
) -> None:
    found = module._effective(str(folder / "master"))
    mine = trusting.rights(compiled.compile(declared.settings, access_hosts.NOW))
    all_of_them = trusting.rights({key: sources.plain(found[key]) for key in _RIGHTS})
    assert all_of_them - mine == {
        ("pam", "ann", '".*"'),
        ("publisher_acl", "bob", '"test.ping"'),
    }
    assert mine <= all_of_them


_RIGHTS = ("external_auth", "publisher_acl")


def test_unit_tests_merge_files_as_salt_does(module: ModuleType, folder: Path) -> None:
    """What our own tests take for Salt's configuration is that."""
    read = sources.read(Host(), str(folder / "master"))
    assert [Path(source.path).name for source in read] == [
        *("master", "local.conf", access.MASTER_CONFIG, "zzz.conf", "x.conf"),
    ]
    found = module._effective(str(folder / "master"))
    for key in (*_RIGHTS, "netapi_enable_clients", "peer", "peer_run", "token_expire"):
        naming = sources.naming(read, key)
        assert naming, key
    net = access_hosts.Net.__new__(access_hosts.Net)
    net.host = Host()
    modelled = net.config(str(folder / "master"), str(folder / "master.d"))
    for key in (*_RIGHTS, "netapi_enable_clients", "peer", "peer_run", "token_expire"):
        assert modelled[key] == sources.plain(found[key]), key


def test_what_salt_takes_for_granted(module: ModuleType, folder: Path) -> None:
    """The trees that are looked at are those that Salt serves."""
    found = module._effective(str(folder / "master"))
    assert sources.plain(found["pillar_roots"])["base"][0] == "/srv/pillar"
    assert sources.plain(found["file_roots"])["base"][0] == "/srv/salt"
    assert found["auth_dirs"] == [door.AUTH_DIR]
    assert found["minimum_auth_version"] == 3
    assert str(found["token_dir"]).endswith("/var/cache/salt/master/tokens")
    for key in ("engines", "schedule", "ext_pillar", "master_tops"):
        assert not found[key], key
    assert (found["eauth_tokens"], found["ipc_mode"], found["cache"]) == (
        "localfs",
        "ipc",
        "localfs",
    )
    assert found.get("keys.cache_driver", "localfs_key") == "localfs_key"


def test_a_broken_file_is_a_sentence(module: ModuleType, folder: Path) -> None:
    (folder / "master").write_text("a: [b\n")
    with pytest.raises(Refused, match="Salt does not take the configuration in"):
        module._effective(str(folder / "master"))


LOOKED_UP = """\
extension_modules: {top}/extmods
utils_dirs: [/opt]
p: {{driver: evil}}
auth.ldap.bindpw: sdb://p/x
token_expire: sdb://p/y
id: ''
root_dir: {top}
id_function: {{evil.who: {{}}}}
"""


def test_nothing_of_the_masters_user_is_run(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can write the folders of modules, and the configuration with Salt's packages; who reads
    this is root.
    """
    ran = tmp_path / "ran"
    for kind in ("sdb", "modules", "utils", "grains", "../dev/null"):
        (tmp_path / "extmods" / kind).mkdir(parents=True)
        (tmp_path / "extmods" / kind / "evil.py").write_text(
            f"open({str(ran)!r}, 'a').write({kind!r})\n\ndef get(*args, **more):\n    return 1\n\n"
            "def who(*args, **more):\n    return 'evil'\n"
        )
    (tmp_path / "master").write_text(LOOKED_UP.format(top=tmp_path))
    monkeypatch.setenv("SALT_MASTER_CONFIG", str(tmp_path / "other"))
    before = list(sys.path)
    found = module._effective(str(tmp_path / "master"))
    assert not ran.exists(), ran.read_text()
    assert sys.path == before
    assert found["auth.ldap.bindpw"] == "sdb://p/x" and found["token_expire"] == "sdb://p/y"
    assert found["utils_dirs"] == ["/opt"]
    place = load("backup", tmp_path)._place({"master": True})
    assert not ran.exists(), ran.read_text()
    assert place.libraries == [f"{tmp_path}/extmods/utils", "/opt"]
    assert place.served


def test_a_key_that_is_there_twice_is_ignored_with_its_file(
    module: ModuleType, folder: Path
) -> None:
    path = folder / "master.d/zzz.conf"
    path.write_text("token_expire: 5\nautosign_timeout: 7\ntoken_expire: 6\n")
    found = module._effective(str(folder / "master"))
    assert "autosign_timeout" not in found
    (said,) = (it.problem for it in sources.read(Host(), str(folder / "master")) if it.problem)
    assert said.startswith(f"{path} has the key token_expire twice (line 3)")
    path.write_text("a: &a {token_expire: 5}\n<<: *a\ntoken_expire: 6\n")
    assert module._effective(str(folder / "master"))["token_expire"] == 6
    assert not any(it.problem for it in sources.read(Host(), str(folder / "master")))


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        (".saltrc", {}),
        (".config/salt/saltrc", {}),
        ("xdg/salt/saltrc", {"XDG_CONFIG_HOME": "{top}/xdg"}),
        ("given", {"SALT_CLIENT_CONFIG": "{top}/given"}),
    ],
)
def test_files_that_salt_api_lays_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, variables: dict[str, str]
) -> None:
    """Those that we look for are those that Salt reads."""
    (tmp_path / "master").write_text(f"root_dir: {tmp_path}\nid: it\n")
    told = {key: value.format(top=tmp_path) for key, value in variables.items()}
    unit = {"Environment": " ".join(f"{key}={value}" for key, value in told.items())}
    for key in ("XDG_CONFIG_HOME", "SALT_CLIENT_CONFIG"):
        monkeypatch.delenv(key, raising=False)
    for key, value in {"HOME": str(tmp_path), **told}.items():
        monkeypatch.setenv(key, value)
    before = running.personal(Host(), str(tmp_path), unit)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("netapi_enable_clients: [wheel]\n")
    found = salt.config.api_config(str(tmp_path / "master"))
    assert sources.plain(found["netapi_enable_clients"]) == ["wheel"]
    assert [*running.personal(Host(), str(tmp_path), unit)] == [*before, str(tmp_path / name)]
