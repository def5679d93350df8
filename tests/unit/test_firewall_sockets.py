"""rocksalt.firewall.sockets: what listens, who is connected, and which connection is new."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocksalt.errors import NoSuch
from rocksalt.firewall import sockets
from rocksalt.firewall.sockets import Flow, Listener

RECORDED = (Path(__file__).parent / "data/ss-listening.txt").read_text()
WIREGUARD = "udp UNCONN 0 0 0.0.0.0:51820 0.0.0.0:* ino:0 sk:52 cgroup:unreachable:1 <->\n"
ESTABLISHED = """\
0      0               10.79.0.11:41776          10.79.0.1:4505
0      0               10.79.0.11:22             10.79.0.1:50562
0      0                    [::1]:46888              [::1]:8088
0      0      [::ffff:10.79.0.11]:8088  [::ffff:10.79.0.1]:39158
0      0         [fe80::b]%eth0:22      [fe80::1]%eth0:50000
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 30 1
   4: 0B004F0A:A330 01004F0A:1199 01 00000000:00000000 02:00003010 00000000     0        0 31 2
   5: 0100007F:B9F4 0100007F:0016 08 00000000:00000001 00:00000000 00000000     0        0 32 1
   6: 0B004F0A:0016 01004F0A:C582 01 00000000:00000000 02:000AFC09 00000000     0        0 33 2
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue
   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:0
   8: 0000000000000000FFFF00000B004F0A:1F98 0000000000000000FFFF000001004F0A:98F6 06 00000000:0
   9: 000080FE00000000FFDC467808E08DFE:0016 000080FE000000000000000001000000:B728 01 00000000:0
"""
OLD = ("10.79.0.11", 22, "10.79.0.1", 50562, "ESTABLISHED")


@pytest.fixture
def listening(host):
    """The host on which the recording was made: some processes have become another user."""
    host.put(sockets.PORT_RANGE, "32768\t60999\n")
    host.answer("ss -Hltunpe", RECORDED)
    for pid, owner in {1: "root", 203: "root", 384: "root", 389: "nobody", 390: "nobody"}.items():
        host.put(f"/proc/{pid}/comm", owner=owner)
        host.owners[f"/proc/{pid}"] = owner
    return host


@pytest.fixture
def found(listening):
    return {(it.protocol, it.port, it.address): it for it in sockets.listeners(listening)}


def test_every_service_is_found(found):
    assert [(protocol, port) for protocol, port, _ in found] == [
        *(("tcp", 22), ("tcp", 22)),
        *(("tcp", port) for port in (*range(8080, 8089), *range(8090, 8094), 8095)),
        *(("udp", port) for port in (67, 161, 514, 5353)),
    ], "DHCP clients and ports that the kernel gave are no services"


@pytest.mark.parametrize(
    ("key", "loopback", "anywhere", "interface"),
    [
        (("tcp", 22, "0.0.0.0"), False, True, ""),
        (("tcp", 22, "::"), False, True, ""),
        (("tcp", 8080, "::"), False, True, ""),
        (("tcp", 8082, "127.0.0.1"), True, False, ""),
        (("tcp", 8084, "::1"), True, False, ""),
        (("tcp", 8085, "0.0.0.0"), True, False, "lo"),
        (("tcp", 8086, "10.79.0.11"), False, False, ""),
        (("tcp", 8087, "fe80::7846:dcff:fe8d:e008"), False, False, "eth0"),
        (("udp", 161, "::"), False, True, ""),
        (("udp", 5353, "::"), False, True, ""),
    ],
)
def test_where_a_service_listens(found, key, loopback, anywhere, interface):
    it = found[key]
    assert (it.loopback, it.anywhere, it.interface) == (loopback, anywhere, interface)


@pytest.mark.parametrize(
    ("port", "process", "user"),
    [
        (8083, "python3", "root"),
        (8090, "own web server", "nobody"),
        (8091, '",pid=1,fd=3', "nobody"),
        (8092, "a?b", "nobody"),
        (8093, "master", "root"),
        (8095, "systemd", "root"),
    ],
)
def test_whose_a_service_is(found, port, process, user):
    (it,) = (it for it in found.values() if it.port == port)
    assert (it.process, it.user) == (process, user)


def test_a_process_that_became_another_user(listening):
    listening.owners["/proc/203"] = "bind"
    assert {it.user for it in sockets.listeners(listening) if it.process == "python3"} == {"bind"}


def test_systemd_opened_it_for_another():
    users = 'users:(("systemd",pid=1,fd=60),("cupsd",pid=812,fd=7))'
    (it,) = sockets.parse(
        f"tcp LISTEN 0 4096 127.0.0.1:631 0.0.0.0:* {users} ino:5 sk:4e <->\n",
        {1: "root", 812: "lp"}.get,
    )
    assert (it.process, it.user) == ("cupsd", "lp")


@pytest.mark.parametrize("name", [" uid:0 ino:1 sk", "\ntcp LISTEN 0 0", '",pid=1,fd=3),('])
def test_a_name_cannot_pass_for_another_user(name):
    line = f'tcp LISTEN 0 5 0.0.0.0:81 0.0.0.0:* users:(("{name}",pid=9,fd=3)) uid:65534 ino:3 sk:5'
    (it,) = sockets.parse(f"{line} cgroup:/init.scope <->\n", {1: "root", 9: "nobody"}.get)
    assert (it.port, it.user) == (81, "nobody")


def test_a_user_without_a_name():
    (it,) = sockets.parse(
        'udp UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:(("dns",pid=9,fd=3)) uid:4242424 ino:3 sk:5\n',
        {}.get,
    )
    assert it.user == "4242424"


def test_a_socket_of_the_kernel_and_declared_ports_of_the_range(listening):
    listening.answer("ss -Hltunpe", RECORDED + WIREGUARD)
    ports = [it.port for it in sockets.listeners(listening, services={40000})]
    assert {40000, 51820} < set(ports)
    assert 58611 not in ports
    assert sockets.listeners(listening)[-1] == Listener("udp", "0.0.0.0", 51820, "", "root")


def test_sockets_that_share_a_port_are_one_listener(listening):
    line = 'tcp LISTEN 0 5 0.0.0.0:80 0.0.0.0:* users:(("web",pid=203,fd={})) ino:{} sk:1 <->\n'
    listening.answer("ss -Hltunpe", line.format(3, 7) + line.format(4, 8))
    assert len(sockets.listeners(listening)) == 1


def test_nothing_listens(listening):
    listening.answer("ss -Hltunpe", "")
    assert sockets.listeners(listening) == []


@pytest.mark.parametrize("look", [sockets.listeners, lambda host: sockets.established(host, [22])])
def test_without_ss(host, look):
    with pytest.raises(NoSuch, match=r"^ss -H.*, fails: ss is not installed$"):
        look(host)


def test_a_socket_at_no_address():
    with pytest.raises(NoSuch, match="'@here', which is no address and port"):
        sockets.parse("tcp LISTEN 0 5 @here *:* ino:3 sk:5\n", {}.get)


def test_established(host):
    host.answer("ss -Htn state established", ESTABLISHED)
    assert sockets.established(host, [22, 8088]) == [
        Flow("10.79.0.11", 41776, "10.79.0.1", 4505, inbound=False),
        Flow("10.79.0.11", 22, "10.79.0.1", 50562, inbound=True),
        Flow("::1", 46888, "::1", 8088, inbound=False),
        Flow("10.79.0.11", 8088, "10.79.0.1", 39158, inbound=True),
        Flow("fe80::b", 22, "fe80::1", 50000, inbound=True),
    ]


def test_connected(host):
    host.put("/proc/net/tcp", TCP)
    host.put("/proc/net/tcp6", TCP6)
    assert sockets.connected(host, {22, 8088}) == {
        ("0.0.0.0", 22, "0.0.0.0", 0, "LISTEN"),
        OLD,
        ("::", 22, "::", 0, "LISTEN"),
        ("10.79.0.11", 8088, "10.79.0.1", 39158, "TIME_WAIT"),
        ("fe80::7846:dcff:fe8d:e008", 22, "fe80::1", 46888, "ESTABLISHED"),
    }
    assert sockets.connected(host, ()) == set()


def test_connected_without_ipv6(host):
    host.put("/proc/net/tcp", TCP)
    assert OLD in sockets.connected(host, {22})


def coming(remote="10.79.0.1", state="ESTABLISHED", port=50563):
    return ("10.79.0.11", 22, remote, port, state)


@pytest.mark.parametrize(
    "connection",
    [
        *(coming(state=s) for s in ("ESTABLISHED", "FIN_WAIT2", "CLOSE_WAIT", "TIME_WAIT")),
        coming("2001:db8::1"),
    ],
)
def test_new(connection):
    networks = ["10.79.0.0/24", "2001:db8::/32"]
    assert sockets.new_since({OLD, connection}, networks, {OLD}) == {connection}


@pytest.mark.parametrize(
    "connection",
    [
        coming(state="SYN_RECV"),
        coming("0.0.0.0", "LISTEN", 0),
        coming("10.80.0.1"),
        coming("2001:db8::1"),
        (*OLD[:4], "FIN_WAIT1"),
    ],
)
def test_not_new(connection):
    assert sockets.new_since({connection}, ["10.79.0.0/24", "0.0.0.0/32"], {OLD}) == set()


def test_begun_before_the_change_is_not_new():
    """Its first packet met the old rules."""
    before = {coming(state="SYN_RECV")}
    assert sockets.new_since({coming()}, ["10.79.0.0/24"], before) == set()
