"""What belongs to a master, by its options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rocksalt.backup.errors import BackupError
from rocksalt.backup.packing import walk
from rocksalt.backup.snapshots import options, sources


class Tree:
    """A file system below a folder, and the options of a master on it."""

    def __init__(self, root: Path):
        self.root = root
        self.opts: dict[str, Any] = {
            "conf_file": self.path("etc/salt/master"),
            "pki_dir": self.path("etc/salt/pki/master"),
            "cachedir": self.path("cache"),
            "extension_modules": self.path("cache/extmods"),
        }
        self.settings: dict[str, Any] = {
            "spool": self.path("spool"), "extra": [], "exclude": [], "customers": {},
        }  # fmt: skip
        self.write("etc/salt/master", "etc/salt/pki/master/master.pem", "cache/jobs/1")

    def path(self, path: str) -> str:
        return f"{self.root}/{path}"

    def write(self, *paths: str) -> None:
        for path in paths:
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path)

    def link(self, path: str, to: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(to)

    def customer(self, name: str, *paths: str) -> None:
        self.settings["customers"][name] = {"paths": [self.path(path) for path in paths]}

    def plan(self, **opts: Any) -> sources.Plan:
        return sources.plan({**self.opts, **opts}, self.settings)

    def short(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/")

    def packed(self, part: str = "operator", **opts: Any) -> list[str]:
        """The files and links of a part, as the packer walks them."""
        parts = {it.name: it for it in self.plan(**opts).parts}
        if part not in parts:
            return []
        entries = [os.fsdecode(entry.path) for entry in walk.walk(parts[part])]
        return sorted(
            self.short(path) for path in entries if os.path.islink(path) or os.path.isfile(path)
        )

    def why(self, what: str, **opts: Any) -> dict[str, str]:
        """``excluded`` or ``missing`` of a plan."""
        return {self.short(path): why for path, why in getattr(self.plan(**opts), what)}


OWN = ["etc/salt/master", "etc/salt/pki/master/master.pem"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(options, "OWN", str(tmp_path / "etc/rocksalt"))
    monkeypatch.setattr(options, "HEADERS", str(tmp_path / "headers"))
    return Tree(tmp_path)


def test_the_least(tree):
    assert tree.packed() == OWN
    assert tree.why("missing") == {}


def test_our_own_settings(tree):
    tree.write("etc/rocksalt/backup/signing")
    assert tree.packed() == ["etc/rocksalt/backup/signing", *OWN]


def test_copies_of_headers_that_were_collected(tree):
    tree.write("headers/db1/2f1d.age")
    assert tree.packed() == [*OWN, "headers/db1/2f1d.age"]


CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "pki elsewhere": (["keys/minions/web1"], {"pki_dir": "keys"}),
    "cluster": (["cluster/peers/m2.pub"], {"cluster_pki_dir": "cluster"}),
    "gpg": (["gpg/trustdb.gpg"], {"gpg_keydir": "gpg"}),
    "states": (["s/top.sls", "t/top.sls"], {"file_roots": {"base": ["s"], "dev": ["t"]}}),
    "any environment": (["envs/a/s/x"], {"file_roots": {"__env__": ["envs/__env__/s"]}}),
    "glob": (["g/one/x", "g/two/x"], {"pillar_roots": {"base": ["g/*"]}}),
    "modules": (["m/x.py"], {"module_dirs": ["m"]}),
    "runners": (["r/x.py"], {"runner_dirs": ["r"]}),
    "synced modules": (["cache/extmods/x.py"], {}),
    "api": (["tls/c", "tls/k"], {"rest_cherrypy": {"ssl_crt": "tls/c", "ssl_key": "tls/k"}}),
    "tornado": (["tls/key"], {"rest_tornado": {"ssl_key": "tls/key"}}),
    "tls of the transport": (["tls/key"], {"ssl": {"keyfile": "tls/key"}}),
    "gitfs": (["ssh/id"], {"gitfs_privkey": "ssh/id"}),
    "gitfs remote": (["ssh/id"], {"gitfs_remotes": [{"ssh://git@h/x": [{"privkey": "ssh/id"}]}]}),
    "gitfs local": (["repo.git/HEAD"], {"gitfs_remotes": ["file:///repo.git"]}),
    "git_pillar": (["ssh/id"], {"ext_pillar": [{"git": [{"a ssh://h": [{"privkey": "ssh/id"}]}]}]}),
    "cmd_yaml": (["p/x.yaml"], {"ext_pillar": [{"cmd_yaml": "cat /p/x.yaml"}]}),
    "file_tree": (["ft/x"], {"ext_pillar": [{"file_tree": {"root_dir": "ft"}}]}),
    "roster": (["roster"], {"roster_file": "roster"}),
    "rosters": (["rosters/one"], {"rosters": ["rosters"]}),
    "salt-ssh": (["ssh/rsa"], {"ssh_priv": "ssh/rsa"}),
    "reactor": (["re/x.sls"], {"reactor": [{"salt/auth": ["re/*.sls"]}]}),
    "log-ins": (["auth/file"], {"external_auth": {"file": {"^filename": "auth/file"}}}),
    "include": (["inc/a.conf"], {"default_include": "inc/*.conf"}),
    "cloud": (["cl/x"], {"providers_config": "cl"}),
    "sdb": (["db/x"], {"sdb": {"driver": "sqlite3", "database": "db/x"}}),
}  # fmt: skip


def absolute(tree: Tree, value: Any) -> Any:
    """Paths of a case, below the folder of the test."""
    if isinstance(value, dict):
        return {key: absolute(tree, below) for key, below in value.items()}
    if isinstance(value, list):
        return [absolute(tree, below) for below in value]
    if value.startswith(("cat /", "file:///")):
        head, slash, rest = value.partition("/p" if value.startswith("cat") else "/repo")
        return f"{head}{tree.root}{slash}{rest}"
    return value if "://" in value else tree.path(value)


@pytest.mark.parametrize("case", CASES)
def test_what_options_name(tree, case):
    files, opts = CASES[case]
    tree.write(*files)
    assert tree.packed(**absolute(tree, opts)) == sorted([*files, *OWN])
    assert tree.why("missing", **absolute(tree, opts)) == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pki_dir", "gone"),
        ("gpg_keydir", "gone"),
        ("file_roots", {"base": ["gone"]}),
        ("pillar_roots", {"base": ["gone/*"]}),
        ("runner_dirs", ["gone"]),
        ("gitfs_privkey", "gone"),
        ("rest_cherrypy", {"ssl_key": "gone"}),
        ("ext_pillar", [{"git": [{"main ssh://h/x": [{"privkey": "gone"}]}]}]),
    ],
)
def test_what_options_name_and_nobody_finds(tree, option, value):
    missing = tree.why("missing", **absolute(tree, {option: value}))
    ((path, why),) = missing.items()
    assert path.startswith("gone")
    assert why.startswith(option)


def test_folders_that_salt_names_by_itself_are_not_missed(tree):
    roots = {"base": ["/srv/salt-that-is-nowhere", "/srv/spm/salt"]}
    assert list(tree.why("missing", file_roots=roots)) == ["/srv/salt-that-is-nowhere"]


def test_what_is_left_out(tree):
    tree.write("etc/salt/run/log", "etc/salt/run/pid", "etc/salt/run/sock/x", "etc/salt/.cache/y")
    opts = {
        "log_file": tree.path("etc/salt/run/log"), "pidfile": tree.path("etc/salt/run/pid"),
        "sock_dir": tree.path("etc/salt/run/sock"), "cachedir": tree.path("etc/salt/.cache"),
    }  # fmt: skip
    tree.write("etc/salt/pki/master/.aes")
    assert tree.packed(**opts) == OWN
    assert tree.why("excluded", **opts)["etc/salt/.cache"].startswith("cachedir: caches, jobs")


def test_a_root_in_the_cache_is_packed_without_the_cache(tree):
    tree.write("cache/extmods/x.py", "cache/tokens/1", "cache/deep/in/it/y")
    tree.settings["extra"] = [str(tree.root), tree.path("cache/deep/in")]
    assert tree.packed() == ["cache/deep/in/it/y", "cache/extmods/x.py", *OWN]


def test_overlapping_roots_are_packed_once(tree):
    tree.write("srv/salt/a", "srv/salt/base/b")
    roots = {"base": [tree.path("srv/salt/base"), tree.path("srv/salt")]}
    plan = tree.plan(file_roots=roots, pillar_roots=roots)
    assert tree.packed(file_roots=roots) == [*OWN, "srv/salt/a", "srv/salt/base/b"]
    (entry,) = [it for it in plan.included if it.path == tree.path("srv/salt")]
    assert (entry.why, entry.files, entry.bytes) == ("file_roots:base, pillar_roots:base", 2, 25)


def test_a_root_that_is_a_link(tree):
    tree.write("data/salt/top.sls")
    tree.link("srv/salt", "../data/salt")
    roots = {"base": [tree.path("srv/salt")], "same": [tree.path("data/salt")]}
    assert tree.packed(file_roots=roots) == ["data/salt/top.sls", *OWN, "srv/salt"]


def test_a_link_on_the_way(tree):
    tree.write("data/srv/salt/top.sls")
    tree.link("srv", tree.path("data/srv"))
    assert tree.packed(file_roots={"base": [tree.path("srv/salt")]}) == [
        "data/srv/salt/top.sls", *OWN, "srv"
    ]  # fmt: skip


def test_links_in_circles(tree):
    tree.link("a", "b")
    tree.link("b", "a")
    assert "a" in tree.packed(file_roots={"base": [tree.path("a")]})


def test_the_key_of_the_master_behind_a_link(tree):
    tree.write("vault/master.pem")
    os.remove(tree.path("etc/salt/pki/master/master.pem"))
    tree.link("etc/salt/pki/master/master.pem", tree.path("vault/master.pem"))
    assert tree.packed() == [*OWN, "vault/master.pem"]


def test_a_link_that_leads_out_is_told(tree):
    tree.write("elsewhere/x")
    tree.link("etc/salt/more", tree.path("elsewhere"))
    why = tree.why("excluded")["elsewhere"]
    assert why.startswith(f"the link {tree.path('etc/salt/more')} leads here")
    tree.settings["extra"] = [tree.path("elsewhere")]
    assert "elsewhere" not in tree.why("excluded")
    assert "elsewhere/x" in tree.packed()


def test_an_option_that_nobody_knows_is_told(tree):
    tree.write("odd/x")
    why = tree.why("excluded", odd_option={"deep": [tree.path("odd")]})
    assert why["odd"] == "odd_option names it: name it in hardening:backup:extra if it is needed"


def test_the_configuration_among_files_of_others(tree, monkeypatch):
    monkeypatch.setattr(options, "_SHARED", (tree.path("etc/salt"),))
    tree.write("etc/salt/shadow", "etc/salt/master.d/a.conf")
    assert tree.packed(default_include="master.d/*.conf") == [
        OWN[0], "etc/salt/master.d/a.conf", OWN[1]
    ]  # fmt: skip


def test_what_the_administrator_leaves_out(tree):
    tree.write("srv/salt/a", "srv/salt/big/b", "srv/more/c")
    tree.settings["exclude"] = [tree.path("srv/salt/big"), tree.path("srv/more")]
    roots = {"base": [tree.path("srv/salt"), tree.path("srv/more")]}
    assert tree.packed(file_roots=roots) == [*OWN, "srv/salt/a"]
    assert "file_roots:base names it" in tree.why("excluded", file_roots=roots)["srv/more"]


def test_the_spool_inside_a_root(tree):
    tree.settings["spool"] = tree.path("srv/spool")
    tree.write("srv/spool/outbox/x", "srv/salt/a")
    tree.settings["extra"] = [tree.path("srv")]
    assert tree.packed() == [*OWN, "srv/salt/a"]


def test_a_spool_behind_a_link_inside_a_root(tree):
    tree.link("spool", "srv/real")
    tree.write("srv/real/outbox/x", "srv/salt/a")
    tree.settings["extra"] = [tree.path("srv")]
    assert tree.packed() == [*OWN, "srv/salt/a"]


def test_a_root_inside_the_spool_is_refused(tree):
    tree.write("spool/data/x")
    tree.settings["extra"] = [tree.path("spool/data")]
    with pytest.raises(BackupError, match="lies inside the spool"):
        tree.plan()


@pytest.mark.parametrize(
    ("path", "why"),
    [("/", "is the whole machine"), ("//", "is the whole machine"), ("/proc", "running kernel"),
     ("/sys/kernel", "running kernel")],
)  # fmt: skip
def test_roots_that_are_no_files(tree, path, why):
    missing = tree.why("missing", file_roots={"base": [path]})
    assert why in missing[path]
    assert tree.packed(file_roots={"base": [path]}) == OWN


def test_customers_have_parts_of_their_own(tree):
    tree.write("srv/pillar/a", "srv/pillar/acme/b", "outside/c")
    tree.customer("acme", "srv/pillar/acme", "outside", "gone")
    opts = {"pillar_roots": {"base": [tree.path("srv/pillar")]}}
    assert tree.packed(**opts) == [*OWN, "srv/pillar/a"]
    assert tree.packed("customer-acme", **opts) == ["outside/c", "srv/pillar/acme/b"]
    assert tree.why("missing", **opts) == {
        "gone": "hardening:backup:customers:acme: does not exist"
    }


@pytest.mark.parametrize("name", ["acme.db", "acme[1].idx"])
def test_what_lies_beside_a_customer_s_file_is_the_customer_s(tree, name):
    ends = ["-journal", "-shm", "-wal", ".heap", ".heap.1", ".lock", ".roster"]
    own = [f"srv/pillar/{name}", *(f"srv/pillar/{name}{end}" for end in ends)]
    tree.write(*own, "srv/pillar/acme.dbx", "srv/pillar/a")
    tree.customer("acme", own[0])
    opts = {"pillar_roots": {"base": [tree.path("srv/pillar")]}}
    assert tree.packed(**opts) == [*OWN, "srv/pillar/a", "srv/pillar/acme.dbx"]
    (part,) = [part for part in tree.plan(**opts).parts if part.name == "customer-acme"]
    assert [tree.short(root) for root in part.roots] == sorted(own)
    assert tree.why("missing", **opts) == {}


def test_what_will_lie_beside_a_customer_s_file_is_no_operator_s(tree):
    tree.write("srv/pillar/acme.db", "srv/pillar/a")
    tree.customer("acme", "srv/pillar/acme.db")
    plan = tree.plan(pillar_roots={"base": [tree.path("srv/pillar")]})
    tree.write("srv/pillar/acme.db-wal")  # a writer comes after the plan
    operator = next(part for part in plan.parts if part.name == "operator")
    walked = {os.fsdecode(entry.path) for entry in walk.walk(operator)}
    assert tree.path("srv/pillar/a") in walked
    assert tree.path("srv/pillar/acme.db-wal") not in walked


def test_a_customer_s_file_is_no_operator_s_by_another_name(tree):
    tree.write("srv/pillar/acme/secret", "srv/pillar/a")
    os.link(tree.path("srv/pillar/acme/secret"), tree.path("srv/pillar/old-copy"))
    tree.customer("acme", "srv/pillar/acme")
    plan = tree.plan(pillar_roots={"base": [tree.path("srv/pillar")]})
    parts = {part.name: part for part in plan.parts}
    assert parts["operator"].foreign == (tree.path("srv/pillar/acme"),)
    assert parts["customer-acme"].foreign == ()
    others = walk.Foreign(parts["operator"])
    assert os.lstat(tree.path("srv/pillar/old-copy")) in others
    assert os.lstat(tree.path("srv/pillar/a")) not in others


def test_a_customer_s_link_to_what_others_read_is_told(tree):
    tree.write("srv/pillar/common", "srv/pillar/acme/own")
    tree.link("srv/pillar/acme/link", "../common")
    tree.link("srv/pillar/acme/fine", "own")
    tree.link("srv/pillar/operators", "acme/own")
    tree.customer("acme", "srv/pillar/acme")
    missing = tree.why("missing", pillar_roots={"base": [tree.path("srv/pillar")]})
    assert list(missing) == ["srv/pillar/acme/link"]
    assert missing["srv/pillar/acme/link"].endswith("is packed for operator and not here")


def test_a_customer_that_has_nothing(tree):
    tree.customer("acme", "gone")
    assert [part.name for part in tree.plan().parts] == ["operator"]


def test_a_root_below_what_a_customer_owns_is_the_customer_s(tree):
    tree.write("srv/acme/pillar/b", "srv/salt/a")
    tree.customer("acme", "srv/acme")
    opts = {"pillar_roots": {"acme": [tree.path("srv/acme/pillar")]}}
    assert tree.packed(**opts) == OWN
    assert tree.packed("customer-acme", **opts) == ["srv/acme/pillar/b"]


@pytest.mark.parametrize(
    "path", ["etc", "etc/salt", "etc/salt/pki/master", "etc/salt/pki/master/master.pem"]
)
def test_a_customer_cannot_own_the_keys_of_the_master(tree, path):
    tree.customer("acme", path)
    with pytest.raises(BackupError, match="of the master, which its operators need"):
        tree.plan()


def test_without_anything(tree):
    tree.settings["exclude"] = [tree.path("etc")]
    with pytest.raises(BackupError, match="nothing of what"):
        tree.plan()


def test_sizes_are_only_looked_at_when_asked(tree):
    plan = sources.plan(tree.opts, tree.settings, measure=False)
    assert [(it.files, it.bytes) for it in plan.included] == [(0, 0)]


def test_names_that_are_not_utf8(tree):
    folder = os.fsencode(tree.path("etc/salt"))
    with open(folder + b"/\xff", "wb"):
        pass
    assert os.fsdecode(b"etc/salt/\xff") in tree.packed()
