"""rocksalt.access.served: what else salt-api would serve."""

from __future__ import annotations

import access_hosts
import pytest
from access_hosts import CACHE


@pytest.fixture
def net(shipped, host):
    return access_hosts.good(shipped, host)


@pytest.fixture
def wrong(shipped, host, net):
    return lambda: access_hosts.wrong(access_hosts.comparison(shipped, host, net))


@pytest.mark.parametrize(
    "name", ["mine/__init__.py", "mine.pyc", "mine.so", "mine.cpython-311-x86_64-linux-gnu.so"]
)
@pytest.mark.parametrize("folder", [f"{CACHE}/extmods/netapi", "/opt/net", "/opt/mod/_netapi"])
def test_modules_of_others_in_every_form(host, net, wrong, name, folder):
    host.put("/etc/salt/master.d/zz.conf", "netapi_dirs: [/opt/net]\nmodule_dirs: [/opt/mod]\n",
             0o640)  # fmt: skip
    host.groups["/etc/salt/master.d/zz.conf"] = "salt"
    assert wrong() == {}
    host.put(f"{folder}/{name}", "def start(): pass")
    assert wrong() == {"ACL-007": f"salt-api starts {folder}/{name.split('/')[0]} as well"}


def test_what_salt_does_not_load(host, net, wrong):
    host.put(f"{CACHE}/extmods/netapi/__pycache__/mine.cpython-311.pyc")
    assert wrong() == {}


@pytest.mark.parametrize(
    "path",
    [
        *("/root/.saltrc", "/root/.config/salt/saltrc", "/srv/home/.saltrc"),
        *("/srv/home/.config/salt/saltrc", "/opt/xdg/salt/saltrc", "/opt/given"),
    ],
)
def test_files_that_only_salt_api_reads(host, net, wrong, path):
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/bash\nsalt:x:110:120::/srv/home:/bin/false\n")
    given = "XDG_CONFIG_HOME=/opt/xdg SALT_CLIENT_CONFIG=/opt/given"
    access_hosts.units(host, api={"Environment": given})
    assert wrong() == {}
    host.put(path, "netapi_enable_clients: [wheel, ssh]\n")
    assert wrong() == {"ACL-007": f"salt-api lays {path} over the master's configuration"}


def test_the_others_of_a_home_are_not_its(host, net, wrong):
    host.put("/home/ann/.saltrc", "timeout: 30\n")
    assert wrong() == {}
