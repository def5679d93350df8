"""deploy.run and deploy.status in Salt: apps whose states work, fail, hang or do not render."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from conftest import ENVIRONMENT, REPOSITORY, SAMPLE, Minion, program

STATES = {
    "shop": """
{%- set version = pillar["deploy"]["version"] %}
shop is deployed:
  file.managed:
    - name: FILES/shop
    - contents: {{ version }} of {{ pillar["deploy"]["app"] }}
{%- if version == "v9.9" %}
shop takes its time:
  cmd.run:
    - name: sleep 300
{%- endif %}
""",
    "broken": """
first comes this:
  file.managed:
    - name: FILES/first
    - contents: x
then this fails:
  cmd.run:
    - name: echo the password is hunter22 >&2; exit 3
and this never comes:
  file.managed:
    - name: FILES/never
    - contents: x
    - require:
      - cmd: then this fails
""",
    "bad": "{{ pillar['no_such'] }}: {{ pillar['shop_password']\n",
    "void": "",
    "other": """
something else:
  cmd.run:
    - name: sleep 300
""",
}
VERSION = r"v\d+\.\d+"


def app(name: str, **more: Any) -> dict[str, Any]:
    return {"states": [name], "version": VERSION, "minions": ["web*"], **more}


APPS = {
    **{name: app(name) for name in ("shop", "broken", "bad", "void")},
    "hasty": app("shop", timeout=10),
    "loose": app("shop", version=".*"),
    "elsewhere": {**app("shop"), "minions": ["db*"]},
}


class Site(Minion):
    """A minion with apps."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.nap = f"300.{secrets.randbelow(10**9)}"
        sls = folder / "sls"
        sls.mkdir()
        for name, text in STATES.items():
            text = text.replace("FILES", str(self.files)).replace("sleep 300", f"sleep {self.nap}")
            (sls / f"{name}.sls").write_text(text)
        roots = [str(sls), str(SAMPLE), str(REPOSITORY / "salt")]
        self.configure(file_roots={"base": roots})
        self.apps(APPS)

    def apps(self, apps: dict[str, Any]) -> None:
        own = {"folder": str(self.files), "password": "a-secret"}
        hardening = {"sample": own, "access": {"apps": apps}}
        self.pillar_text(yaml.safe_dump({"hardening": hardening, "shop_password": "hunter22"}))

    def deploy(self, name: str, version: Any = "v1.0", **more: Any) -> tuple[dict[str, Any], int]:
        """What it returned, and the return code that it set."""
        caller = self.caller()
        told = caller.cmd("deploy.run", app=name, version=version, **more)
        return told, caller.sminion.functions.pack["__context__"]["retcode"]

    def record(self, name: str) -> Path:
        return self.state_dir / "deploys" / f"{name}.json"

    @contextlib.contextmanager
    def begun(self, *words: str, when: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
        """A salt-call that has come so far; whatever it started has ended afterwards."""
        command = [program("salt-call"), "-c", str(self.config), "--out=json", *words]
        with subprocess.Popen(
            command, text=True, env=ENVIRONMENT, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as it:  # fmt: skip
            try:
                wait_for(when, it)
                yield it
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(it.pid, signal.SIGKILL)

    def sleeps(self) -> bool:
        """Whether a state of this minion is at its ``sleep``."""
        return any(f"sleep\0{self.nap}".encode() in line for line in command_lines())


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if there():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail("it did not come so far in a minute")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def refused(site: Site, **arguments: Any) -> str:
    """Why a deploy was refused, which left nothing behind."""
    with pytest.raises(CommandExecutionError) as error:
        site.run("deploy.run", **arguments)
    assert site.looks == {}
    assert not site.state_dir.exists()
    return str(error.value)


def test_a_deploy_is_done_told_and_kept(site: Site) -> None:
    first = site.call("--retcode-passthrough", "deploy.run", "app=shop", "version=v1.0")
    assert first.retcode == 0, first
    assert site.looks == {"shop": "v1.0 of shop\n"}
    assert first.value.pop("seconds") >= 0
    jid = first.value.pop("jid")
    assert re.fullmatch(r"\d{20}", jid)
    assert first.value == {
        "app": "shop", "version": "v1.0", "previous": None, "result": True, "states": 1,
        "changed": 1, "failed": {},
    }  # fmt: skip

    told, retcode = site.deploy("shop", "v1.10")
    assert (told["previous"], told["changed"], retcode) == ("v1.0", 1, 0)
    assert site.looks == {"shop": "v1.10 of shop\n"}
    kept = site.run("deploy.status")["shop"]
    assert (kept["status"], kept["version"], kept["previous"]) == ("ok", "v1.10", "v1.0")
    again, _ = site.deploy("shop", "v1.10")
    assert again["changed"] == 0


def test_test_mode_changes_nothing_and_keeps_no_record(site: Site) -> None:
    told, retcode = site.deploy("shop", test=True)
    assert (told["test"], told["result"], told["changed"], retcode) == (True, True, 1, 0)
    assert site.looks == {} and not site.state_dir.exists()
    assert site.deploy("bad", test=True)[1] == 2
    assert not site.state_dir.exists()


def test_a_minion_in_test_mode_deploys_all_the_same(site: Site) -> None:
    site.configure(test=True)
    assert site.deploy("shop")[0]["changed"] == 1
    assert site.looks == {"shop": "v1.0 of shop\n"}


@pytest.mark.parametrize(
    "more",
    [
        ("saltenv=dev",),
        ("pillar={'deploy': {'version': 'evil'}}",),
        ("localconfig=/tmp/evil",),
        ("queue=True", "concurrent=True"),
        ("exclude=x",),
        ("__pub_user=root",),
    ],
)
def test_salt_refuses_other_keywords(site: Site, more: tuple[str, ...]) -> None:
    done = site.call("deploy.run", "app=shop", "version=v1.0", *more)
    assert done.retcode != 0
    assert "The following keyword arguments are not valid" in done.stderr + done.stdout
    assert site.looks == {} and not site.state_dir.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("broken", "app=shop", "version=v1.0"), "multiple values for argument 'app'"),
        (("shop", "v1.0", "True", "more"), "takes from 2 to 3 positional arguments"),
        (
            ("broken", "v1.0", "{'__kwarg__': 1, 'app': 'shop', 'version': 'v1.0'}"),
            "test: .* is neither True nor False",
        ),
        (("app=shop",), "missing 1 required positional argument: 'version'"),
    ],
)
def test_nothing_slips_in_by_its_position(site: Site, words: tuple[str, ...], says: str) -> None:
    """Rules of Salt see keywords, so an argument by position must not overrule one."""
    done = site.call("deploy.run", *words, out="")
    assert done.retcode != 0
    assert re.search(says, done.stderr)
    assert site.looks == {} and not site.state_dir.exists()


@pytest.mark.parametrize("version", ["v1.0\n", "v1.0; id", "$(id)", "`id`", "../v1.0", "v1.0 ", ""])
def test_another_version_is_refused(site: Site, version: str) -> None:
    why = refused(site, app="shop", version=version)
    assert repr(version) in why and "hardening:access:apps:shop:version" in why


def test_a_version_that_yaml_took_for_a_number_is_refused(site: Site) -> None:
    done = site.call("deploy.run", "app=loose", "version=1.10")
    assert done.retcode != 0
    assert "1.1 is no text" in done.stderr
    assert site.looks == {}
    good = site.call("deploy.run", "app=loose", 'version="1.10"')
    assert good.value["version"] == "1.10"
    assert site.looks == {"shop": "1.10 of loose\n"}


def test_an_app_that_is_not_here_is_refused(site: Site) -> None:
    assert "'nothing' is no app of" in refused(site, app="nothing", version="v1.0")
    assert "'elsewhere' is no app of" in refused(site, app="elsewhere", version="v1.0")
    assert "did you mean 'shop'" in refused(site, app="shopp", version="v1.0")


def test_settings_that_are_wrong_stop_a_deploy(site: Site) -> None:
    site.apps({**APPS, "blog": {"states": ["blog"], "version": ".*"}})
    assert "hardening:access:apps:blog" in refused(site, app="shop", version="v1.0")


def test_a_state_that_fails(site: Site) -> None:
    done = site.call("--retcode-passthrough", "deploy.run", "app=broken", "version=v1.0")
    assert (done.retcode, done.value["result"]) == (2, False)
    assert (done.value["states"], done.value["changed"]) == (3, 2)
    failed = done.value["failed"]
    assert len(failed) == 2
    (which,) = (it for it in failed if it.startswith("then this fails (cmd.run "))
    assert failed[which].endswith("the password is ***")
    assert "requisite failed" in "".join(failed.values())
    assert "first" in site.looks and "never" not in site.looks
    kept = site.run("deploy.status", "broken")["broken"]
    assert (kept["status"], kept["failed"]) == ("failed", failed)


@pytest.mark.parametrize(
    ("name", "comment"), [("bad", "Rendering SLS"), ("void", "")]
)  # fmt: skip
def test_states_that_do_not_render(site: Site, name: str, comment: str) -> None:
    told, retcode = site.deploy(name)
    assert (told["result"], told["changed"], retcode) == (False, 0, 2)
    assert comment in "".join(told["failed"].values())
    assert site.run("deploy.status")[name]["status"] == "failed"


def test_no_secret_of_the_pillar_is_told(site: Site) -> None:
    told = [site.deploy(name)[0] for name in ("broken", "bad")]
    assert all(it["failed"] for it in told)
    everything = json.dumps(told) + "".join(
        it.read_text() for it in (site.state_dir / "deploys").iterdir()
    )
    assert "hunter22" not in everything
    assert "a-secret" not in everything


def test_a_second_deploy_is_refused_and_what_was_killed_is_told(site: Site) -> None:
    site.deploy("shop", "v1.0")
    slow = ("deploy.run", "app=shop", "version=v9.9")
    with site.begun(*slow, when=site.sleeps) as it:
        assert site.run("deploy.status")["shop"]["status"] == "running"
        for name in ("shop", "loose"):
            with pytest.raises(CommandExecutionError, match=r"^shop v9\.9 is being deployed since"):
                site.deploy(name, "v1.1")
        # Nor does Salt itself start a run of states meanwhile.
        other = site.run("state.apply", "void")
        assert 'The function "state.apply" is running as PID' in other[0]
        os.kill(it.pid, signal.SIGKILL)
        it.wait()
        kept = site.run("deploy.status")["shop"]
    assert (kept["status"], kept["version"], kept["previous"]) == ("interrupted", "v9.9", "v1.0")
    told, retcode = site.deploy("shop", "v1.1")
    assert (told["result"], told["previous"], retcode) == (True, "v1.0", 0)
    assert site.run("deploy.status")["shop"]["status"] == "ok"


def test_another_state_run_is_in_the_way(site: Site) -> None:
    with site.begun("state.apply", "other", when=site.sleeps):
        for test in (False, True):
            with pytest.raises(CommandExecutionError) as error:
                site.deploy("shop", test=test)
            assert str(error.value).startswith("another state run is active: The function")
            assert str(error.value).endswith("Nothing was done")
        assert site.looks == {}
        assert site.run("deploy.status") == {}


def test_a_deploy_ends_when_its_time_is_up(site: Site) -> None:
    told, retcode = site.deploy("hasty", "v9.9")
    assert (told["result"], retcode) == (False, 2)
    assert told["failed"] == {"shop": "it took more than 10 s and was ended"}
    assert 10 <= told["seconds"] < 30
    assert not site.sleeps()
    assert site.run("deploy.status")["hasty"]["status"] == "failed"
    assert site.deploy("hasty", "v1.0")[0]["result"]


def test_records_that_are_damaged_or_of_apps_that_are_gone(site: Site) -> None:
    for name in ("shop", "loose"):
        site.deploy(name)
    site.record("loose").write_text("{")
    site.apps({"loose": APPS["loose"]})
    found = site.run("deploy.status")
    assert found["shop"]["status"] == "ok"
    assert found["loose"]["status"] == "unreadable"
    told, _ = site.deploy("loose", "v1.1")
    assert (told["previous"], told["result"]) == (None, True)
    assert site.run("deploy.status", "loose")["loose"]["status"] == "ok"
    with pytest.raises(CommandExecutionError, match="'nothing' is on record here"):
        site.run("deploy.status", app="nothing")
