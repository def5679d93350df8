"""rocksalt.logstash.shipping.unit, and the program in one file."""

from __future__ import annotations

import configparser
import subprocess
import sys

from rocksalt import logstash, program
from rocksalt.logstash.shipping import unit

ENTRY = "rocksalt.logstash.shipping.__main__"


def test_the_service_has_hardly_any_powers():
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(unit.text())
    service = parser["Service"]
    assert service["ExecStart"] == f"{logstash.SHIPPER} run"
    assert f"/var/lib/{service['StateDirectory']}" == logstash.STATE
    expected = {
        "Type": "notify",
        "Restart": "always",
        "RestartPreventExitStatus": "78",
        "CapabilityBoundingSet": "CAP_DAC_READ_SEARCH",
        "NoNewPrivileges": "true",
        "ProtectSystem": "strict",
        "MemoryMax": "256M",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    }
    assert {name: service[name] for name in expected} == expected
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert "systemd-journal-flush.service" in parser["Unit"]["After"].split()


def test_the_program_needs_nothing_but_python(tmp_path):
    path = tmp_path / "rocksalt-ship"
    path.write_bytes(program.build(sys.executable, ENTRY, program.sources(ENTRY)))
    command = [sys.executable, "-sE", "-X", "importtime", str(path), "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert ran.stdout == f"{__import__('rocksalt').__version__}\n"
    assert "rocksalt.logstash.shipping.ship" in imported
    assert not {"cryptography", "yaml", "salt"} & imported
