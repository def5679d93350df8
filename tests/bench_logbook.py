"""What the logbook costs a master: processor time in a burst, and at 100 events a second.

The master is a real one on this machine, with events of jobs and returns fired on its bus; run as
``.venv-3008/bin/python tests/bench_logbook.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
BURST = 20_000
"""Events that are fired as fast as they can be."""
RATE, SECONDS = 100, 20
EVENTS, PROCESSOR = 2000.0, 0.1
"""Limits: so many events for a second of processor, so much of a processor at RATE."""

Row = tuple[str, float, float, str, str]

FIRE = """
import sys, time
import salt.config, salt.utils.event
opts = salt.config.master_config(sys.argv[1])
rate, count, name = float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
    begin = time.monotonic()
    for number in range(count):
        jid = f"{name}{number // 2:016d}"
        if number % 2:
            tag = f"salt/job/{jid}/ret/web1"
            data = {"jid": jid, "id": "web1", "fun": "cmd.run", "fun_args": ["uptime"],
                    "retcode": 0, "success": True, "return": "up 3 days", "cmd": "_return"}
        else:
            tag = f"salt/job/{jid}/new"
            data = {"jid": jid, "user": "alice", "fun": "cmd.run", "tgt": "web1", "missing": [],
                    "arg": ["uptime --pretty", {"__kwarg__": True, "password": "x", "cwd": "/"}],
                    "tgt_type": "glob", "minions": ["web1"]}
        while not bus.fire_event(data, tag):
            time.sleep(0.01)
        if rate and (wait := begin + number / rate - time.monotonic()) > 0:
            time.sleep(wait)
print(time.monotonic() - begin)
"""


def rows() -> list[Row]:
    """The two costs; both from one run."""
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        site = Site(Path(folder))
        with site.running():
            return [_burst(site), _steady(site)]


class Site:
    """A master and the logbook of it, below a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "master"
        self.environment = {
            **os.environ, "PYTHONPATH": str(REPOSITORY / "_utils"), "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        self.config.write_text(
            yaml.safe_dump(
                {
                    "root_dir": str(folder / "root"), "user": _user(), "log_level": "error",
                    "sock_dir": str(folder / "sock"), "publish_port": 24505, "ret_port": 24506,
                    "interface": "127.0.0.1", "worker_threads": 2, "pki_dir": str(folder / "pki"),
                    "cachedir": str(folder / "cache"), "keysize": 2048,
                    "file_roots": {"base": [str(REPOSITORY / "salt")]},
                }
            )
        )  # fmt: skip
        mask = yaml.safe_load((REPOSITORY / "salt/hardening/logstash/defaults.yaml").read_text())
        settings = {
            "config": str(self.config), "folder": str(folder / "book"), "name": "master1",
            "api_log": str(folder / "api.jsonl"), "mask": mask["mask"]["default"],
        }  # fmt: skip
        (folder / "logbook.json").write_text(json.dumps(settings))
        (folder / "state").mkdir()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Both, until the end."""
        scripts = Path(sys.executable).parent
        book = [sys.executable, "-m", "rocksalt.logbook", "run"]
        book += ["--config", str(self.folder / "logbook.json")]
        book += ["--state", str(self.folder / "state")]
        with (
            self._process(str(scripts / "salt-master"), "-c", str(self.folder)),
            self._process(*book) as self.book,
        ):
            self.wait(lambda: '"gap"' in self.text())
            yield

    @contextlib.contextmanager
    def _process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(command, env=self.environment, cwd=self.folder) as process:
            try:
                yield process
            finally:
                process.terminate()

    def text(self) -> str:
        """The book."""
        return "".join(path.read_text() for path in (self.folder / "book/master1").glob("*.jsonl"))

    def count(self, name: str) -> int:
        """Records of the events of a run."""
        return self.text().count(f'"jid":"{name}')

    def wait(self, holds: object, seconds: float = 120) -> None:
        """Until something holds."""
        end = time.monotonic() + seconds
        while not holds():  # type: ignore[operator]
            assert time.monotonic() < end and self.book.poll() is None, self.text()[-2000:]
            time.sleep(0.05)

    def fire(self, rate: float, count: int, name: str) -> subprocess.Popen[str]:
        """Fires events, a job and its return by turns."""
        return subprocess.Popen(
            [sys.executable, "-c", FIRE, str(self.config), str(rate), str(count), name],
            env=self.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def processor(self) -> float:
        """Seconds of a processor that the logbook has used."""
        fields = Path(f"/proc/{self.book.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _burst(site: Site) -> Row:
    before, begin = site.processor(), time.monotonic()
    fired = site.fire(0, BURST, "2001")
    site.wait(lambda: site.count("2001") > 0)
    begin = time.monotonic()
    said, _ = fired.communicate()
    site.wait(lambda: site.count("2001") == BURST)
    took, used = time.monotonic() - begin, site.processor() - before
    note = (
        f"{BURST} events that Salt fired in {float(said):.1f} s were kept after {took:.1f} s: "
        f"{BURST / used:.0f} for a second of processor"
    )
    return ("logbook, 1,000 events in a burst", used * 1000 / BURST, 1000 / EVENTS, "s", note)


def _steady(site: Site) -> Row:
    fired = site.fire(RATE, RATE * SECONDS, "2002")
    site.wait(lambda: site.count("2002") > RATE)
    before, begin = site.processor(), time.monotonic()
    fired.communicate()
    used = (site.processor() - before) / (time.monotonic() - begin)
    site.wait(lambda: site.count("2002") == RATE * SECONDS)
    return (f"logbook, processor at {RATE} events a second", used, PROCESSOR, "core",
            f"{RATE * SECONDS} events, all kept")  # fmt: skip


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


if __name__ == "__main__":
    for title, cost, limit, unit, note in rows():
        print(f"{title:<46} {cost:>8.3f} {limit:>7.3f} {unit:<4}  {note}")
