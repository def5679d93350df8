"""The three ways to run it that docs/install.md describes, and what each of them serves.

(The master with the roots backend has its tests in test_cluster.py.)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.fileserver
import yaml

from conftest import ENVIRONMENT, GRAINS, REPOSITORY, Minion, clone, git, program

FOLDERS = ["_modules", "_states", "_grains", "_output", "_runners", "_utils"]


def block(name: str) -> dict[str, Any]:
    """The YAML block of docs/install.md that contains ``name``: what is documented is tested."""
    blocks = (REPOSITORY / "docs" / "install.md").read_text().split("```yaml\n")[1:]
    [found] = [text.split("```")[0] for text in blocks if name in text]
    result: dict[str, Any] = yaml.safe_load(found)
    return result


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a second branch that has one more family setting than ``main``."""
    path = clone(tmp_path_factory.mktemp("clone"))
    git("checkout", "--quiet", "-b", "staging", cwd=path)
    defaults = path / "salt/hardening/drift/defaults.yaml"
    defaults.write_text(defaults.read_text().replace("default: 60", "default: 120"))
    subprocess.run([sys.executable, path / "scripts/docs.py"], check=True)
    git("commit", "--quiet", "--all", "--message=Report every two hours", cwd=path)
    git("checkout", "--quiet", "main", cwd=path)
    return path


def gitfs(repository: Path) -> dict[str, Any]:
    """The documented configuration of gitfs, with this clone instead of the address."""
    documented = block("gitfs_remotes")
    url = f"file://{repository}"
    remotes = [{url: options} for remote in documented["gitfs_remotes"]
               for options in remote.values()]  # fmt: skip
    return {**documented, "gitfs_remotes": remotes}


def served(folder: Path, saltenv: str, **options: Any) -> set[str]:
    """The files that a master with these options offers to its minions."""
    config = folder / "master"
    config.write_text(yaml.safe_dump({"root_dir": str(folder / "root"), **options}))
    server = salt.fileserver.Fileserver(salt.config.master_config(str(config)))
    server.update()
    return set(server.file_list({"saltenv": saltenv}))


def product(repository: Path) -> set[str]:
    """The files of the baseline as minions see them."""
    names = git("ls-files", *FOLDERS, "salt/hardening", cwd=repository).split()
    return {name.removeprefix("salt/") for name in names}


def test_a_clone_runs_without_a_master(repository: Path) -> None:
    """As documented: in the folder of the clone, with its own ``config``."""
    scratch = repository / "scratch"
    local = {
        "root_dir": str(scratch),
        "log_file": str(scratch / "log"),
        "grains": GRAINS,
        "hardening": {"state_dir": str(scratch / "state")},
    }
    (repository / "config" / "minion.d").mkdir()
    (repository / "config" / "minion.d" / "test.conf").write_text(yaml.safe_dump(local))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [program("salt-call"), "-c", "config", "--retcode-passthrough", *words]
        return subprocess.run(
            command, cwd=repository, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )

    try:
        validated = call("hardening.validate", "--out=json")
        assert '"valid": true' in validated.stdout, validated
        assert call("drift.report").returncode in (2, 3)
        tried = call("state.apply", "test=True")
        assert "hardening is complete" in tried.stdout, tried
        units = call("drift.render").stdout
        assert f"--config-dir={repository}/config" in units
    finally:
        git("clean", "-fdxq", cwd=repository)


def test_a_master_with_the_roots_backend_serves_the_baseline_alone(
    repository: Path, tmp_path: Path
) -> None:
    documented = block("pillar_roots")
    roots = [
        path.replace("/srv/rocksalt", str(repository)) for path in documented["file_roots"]["base"]
    ]

    offered = served(tmp_path, "base", file_roots={"base": roots})
    assert offered == {*product(repository), "top.sls"}


def test_another_environment_of_the_roots_backend(repository: Path, tmp_path: Path) -> None:
    roots = {"base": [], "prod": [str(repository / "salt")]}

    assert served(tmp_path, "prod", file_roots=roots) == {*product(repository), "top.sls"}
    assert served(tmp_path, "base", file_roots=roots) == set()


def test_gitfs_serves_the_baseline_alone_from_every_branch(
    repository: Path, tmp_path: Path
) -> None:
    assert served(tmp_path, "base", **gitfs(repository)) == product(repository)
    assert served(tmp_path, "staging", **gitfs(repository)) == product(repository)


def test_a_minion_runs_from_gitfs_in_either_environment(repository: Path, tmp_path: Path) -> None:
    folders = ("module_dirs", "states_dirs", "grains_dirs", "outputter_dirs", "utils_dirs")
    minion = Minion(tmp_path, file_roots={}, **{name: [] for name in folders}, **gitfs(repository))
    minion.pillar_text("hardening: {}\n")

    synced = minion.call("--local", "saltutil.sync_all")
    assert set(synced.value["modules"]) == {
        "modules.access", "modules.accounts", "modules.backup", "modules.deploy", "modules.drift",
        "modules.fail2ban", "modules.firewall", "modules.hardening", "modules.logstash",
        "modules.luks", "modules.nrpe", "modules.ossec", "modules.sshd",
    }  # fmt: skip
    for saltenv, minutes in (("base", 60), ("staging", 120)):
        result = minion.call("--local", "hardening.settings", "drift", f"saltenv={saltenv}")
        assert result.value["interval"] == minutes, result
    tried = minion.call("--local", "state.apply", "hardening.drift", "saltenv=staging", "test=True")
    [state] = tried.value.values()
    assert (state["result"], state["__sls__"]) == (None, "hardening.drift")
