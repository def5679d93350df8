"""rocksalt.nrpe.enforce and installing: one transaction, tried out first and knocked at after."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import os

import nrpe_hosts
import pytest
from nrpe_hosts import ADDRESS

from rocksalt import nrpe
from rocksalt.errors import Refused
from rocksalt.host import Host
from rocksalt.nrpe import config, enforce, installing, reading, starting, tls
from rocksalt.pki import certificates
from rocksalt.transaction import ASIDE

STOCK = "allowed_hosts=127.0.0.1\ncommand[check_users]=/bin/true\ninclude_dir=/etc/nagios/nrpe.d\n"
STOP = f"disable --quiet --now {nrpe.UNIT}"
MINE = "/etc/nagios/nrpe.d/mine.cfg"
SYSTEMD = ("etc/systemd/system", "run/systemd/system", "run/systemd/system.control")
ALL = [f"NRPE-{number:03}" for number in range(2, 18)]


@pytest.fixture
def net(shipped, host):
    return nrpe_hosts.good(shipped, host)


@pytest.fixture
def fresh(host, net):
    """NRPE as the distribution leaves it, with certificates."""
    host.put(nrpe.CONFIG, STOCK)
    host.path(nrpe.DROP_IN).unlink()
    for name in ("check_salt_drift", "check_luks", "check_ossec"):
        host.path(f"{nrpe.PLUGINS}/{name}").unlink()
    host.ran.clear()
    return net


@pytest.fixture
def apply(shipped, host, net):
    def call(ids=ALL, **pillar):
        it = nrpe_hosts.comparison(shipped, host, net, **pillar)
        enforce.enforce(host, it, ids)

    return call


@pytest.fixture
def wrong(shipped, host, net):
    """The controls that differ."""

    def call(**pillar):
        it = nrpe_hosts.comparison(shipped, host, net, **pillar)
        want, seen = it.expected(), it.seen()
        return [i for i in want if seen[i].problem or want[i] != seen[i].actual]

    return call


def services(host) -> list[str]:
    """What was done to units, in short."""
    words = [" ".join(command[1:]) for command in host.ran if command[0] == "systemctl"]
    return [it for it in words if not it.startswith(("show", "is-active", "stop --quiet", "reset"))]


def test_a_fresh_host(host, fresh, apply, wrong):
    assert wrong()
    apply()
    assert wrong() == []
    assert host.read(nrpe.CONFIG + ASIDE) == STOCK
    assert services(host) == [
        *("daemon-reload", f"enable --quiet {nrpe.UNIT}", f"restart {nrpe.UNIT}")
    ]
    (trial,) = [command for command in host.ran if command[0] == "systemd-run"]
    assert trial[-4:] == (nrpe.PROGRAM, "-c", f"{starting.RUN}/nrpe.cfg", "-f")
    assert "--property=User=nagios" in trial
    assert host.read(f"{starting.RUN}/nrpe.cfg") is None
    knocked = [(address, port) for address, port, _ in fresh.knocked]
    at_last = knocked[-3:-1]
    assert at_last == [("127.0.0.1", 40000), (ADDRESS, 5666)], "first the trial, then the real one"


def test_a_second_run_keeps_what_the_distribution_brought(host, fresh, apply):
    apply()
    host.put(nrpe.CONFIG, "# by others\n")
    apply(["NRPE-003"])
    assert host.read(nrpe.CONFIG + ASIDE) == STOCK


def test_nobody_watches(host, fresh, apply):
    apply(networks={"monitoring": []}, firewall={"allow": {"nrpe": []}})
    assert host.ran == []
    assert host.read(nrpe.CONFIG) == STOCK


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda host, net: host.path(f"{nrpe.PLUGINS}/check_disk").unlink(),
            "hardening:nrpe:commands: the plugin /usr/lib/nagios/plugins/check_disk does not exist",
        ),
        (lambda host, net: net.own.clear(), "10.79.0.2 is no address of this host"),
        (
            lambda host, net: host.path(nrpe.PROGRAM).unlink(),
            "nagios-nrpe-server is not installed",
        ),
    ],
)
def test_what_is_refused_before_anything_is_written(host, fresh, apply, change, words):
    change(host, fresh)
    with pytest.raises(Refused, match=words):
        apply()
    assert services(host) == ([STOP] if host.attributes(nrpe.PROGRAM) else [])
    assert host.read(nrpe.CONFIG) == STOCK
    assert not host.glob(f"{nrpe.PLUGINS}/check_luks")


def test_plugins_alone_need_no_restart(host, net, apply, wrong):
    host.put(f"{nrpe.PLUGINS}/check_luks", "exit 0", 0o777)
    host.ran.clear()
    apply(["NRPE-014"])
    assert wrong() == []
    assert services(host) == []


def test_rights(host, net, apply, wrong):
    host.path(nrpe.KEY).chmod(0o644)
    host.groups[nrpe.KEY] = "root"
    assert wrong() == ["NRPE-010"]
    apply(["NRPE-010"])
    assert wrong() == []
    assert host.access(nrpe.KEY) == "root:nagios 0640"


def test_what_is_others_is_put_aside(host, net, apply, wrong):
    drop_ins = [f"/{place}/{nrpe.UNIT}.d/zz.conf" for place in SYSTEMD]
    for path in (MINE, *drop_ins):
        host.put(path, path)
    apply(["NRPE-005"])
    assert wrong() == []
    assert [host.read(path + ASIDE) for path in (MINE, *drop_ins)] == [MINE, *drop_ins]


def test_a_plugin_that_has_gone_is_no_reason_to_leave_the_rest(host, net, apply, wrong):
    host.path(f"{nrpe.PLUGINS}/check_disk").unlink()
    host.put(MINE, "command[a]=/bin/true\n")
    apply(["NRPE-005"])
    assert wrong() == ["NRPE-015"]


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("check_disk", "check_disk does not exist; install what brings it"),
        ("check_salt_backup", "check_salt_backup does not exist; hardening.backup brings it"),
    ],
)
def test_a_new_command_needs_its_plugin(host, net, apply, plugin, words):
    host.path(f"{nrpe.PLUGINS}/check_disk").unlink()
    before = host.read(nrpe.CONFIG)
    with pytest.raises(Refused, match=words):
        apply(["NRPE-003"], nrpe={"commands": {"new": {"plugin": plugin}}})
    assert host.read(nrpe.CONFIG) == before


def test_a_failure_gives_back_what_was_put_aside(host, fresh, apply):
    """The old configuration without its commands and its drop-in would not be the old one."""
    drop_in = f"/etc/systemd/system/{nrpe.UNIT}.d/zz.conf"
    host.put(MINE, "command[a]=/bin/true\n")
    host.put(drop_in, "[Service]\nNice=5\n")
    fresh.listens = False
    with pytest.raises(Refused):
        apply()
    assert host.read(MINE) == "command[a]=/bin/true\n"
    assert host.read(drop_in) == "[Service]\nNice=5\n"
    assert not host.glob(f"/etc/nagios/nrpe.d/*{ASIDE}")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_nrpe_gets_in_whatever_the_umask_is(shipped, host, fresh, mask):
    certificate, key = nrpe_hosts.server()
    given = {"ca": nrpe_hosts.ca().text, "certificate": certificate, "private_key": key}
    for path in reading.FILES:
        host.path(path).unlink()
    host.path(nrpe.FOLDER).rmdir()
    host.path(nrpe.ABOVE).rmdir()
    before = os.umask(mask)
    try:
        enforce.enforce(host, nrpe_hosts.comparison(shipped, host, fresh, nrpe=given), ALL)
        modes = [host.attributes(path).mode for path in (nrpe.ABOVE, nrpe.FOLDER, starting.RUN)]
    finally:
        os.umask(before)
    assert modes == ["0755", "0750", "0755"]


def test_the_folder_above_is_opened_again(host, net, apply, wrong):
    host.path(nrpe.ABOVE).chmod(0o750)
    assert wrong() == ["NRPE-010"]
    apply(["NRPE-010"])
    assert wrong() == []


def test_without_a_certificate_nothing_runs(host, fresh, apply, wrong):
    """The distribution's configuration would serve whoever comes without one."""
    host.path(nrpe.CERTIFICATE).unlink()
    apply()
    assert services(host)[-1] == STOP
    assert host.read(nrpe.CONFIG).startswith(config.HEADER)
    assert "NRPE-011" in wrong()


def knocking(net, **answers):
    net.answers = dataclasses.replace(net.answers, **answers)


FAILURES = {
    "it does not start": lambda host, net: setattr(net, "listens", False),
    "no certificate is asked for": lambda host, net: knocking(net, without_certificate="served"),
    "another certificate": lambda host, net: knocking(net, certificate="00"),
    "systemd refuses": lambda host, net: host.answer(f"systemctl restart {nrpe.UNIT}", status=1),
    "no trial": lambda host, net: host.answer("systemd-run", status=1, err="No such user nagios"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_does_not_work_is_undone(host, fresh, apply, name):
    FAILURES[name](host, fresh)
    host.answer("journalctl", "Starting\nError: could not use private key file\nbye\n")
    with pytest.raises(Refused):
        apply()
    assert host.read(nrpe.CONFIG) == STOCK
    assert host.read(nrpe.DROP_IN) is None
    assert host.read(nrpe.CONFIG + ASIDE) is None
    assert services(host)[-2:] == ["daemon-reload", STOP], "it would answer without a certificate"
    assert host.read(f"{starting.RUN}/nrpe.cfg") is None


def test_what_nrpe_says_is_told(host, fresh, apply):
    fresh.listens = False
    host.answer("journalctl", "Starting\nError: could not use private key file\nbye\n")
    with pytest.raises(Refused) as caught:
        apply()
    assert str(caught.value) == (
        "rocksalt-nrpe-trial.service does not listen on 127.0.0.1 port 40000: Error: could not use "
        f"private key file; the old configuration is back, but {starting.STOPPED}"
    )


@pytest.mark.parametrize(
    ("at_boot", "done"), [("disabled", f"disable --quiet {nrpe.UNIT}"), ("enabled", STOP)]
)
def test_what_was_stopped_stays_so(host, fresh, apply, at_boot, done):
    nrpe_hosts.unit(host, ActiveState="inactive", MainPID="0", UnitFileState=at_boot)
    fresh.listens = False
    with pytest.raises(Refused):
        apply()
    assert services(host)[-1] == done


def test_what_was_guarded_runs_on(host, net, apply):
    """The old configuration asks for certificates, so monitoring goes on with it."""
    host.put(nrpe.CONFIG, host.read(nrpe.CONFIG).replace("debug=0", "debug=1"))
    net.listens = False
    with pytest.raises(Refused, match=r"the old configuration is back$"):
        apply()
    assert services(host)[-1] == f"restart {nrpe.UNIT}"


def exposed_by(host, how):
    if how == "a file":
        host.put(nrpe.CONFIG, STOCK)
    elif how == "an option":
        host.put("/proc/700/cmdline", "\0".join([*config.COMMAND_LINE, "-n", ""]))
    elif how == "another file":
        host.put(nrpe.CONFIG, f"{host.read(nrpe.CONFIG)}include=/etc/nagios/x.cfg\n")
    elif how == "no list":
        text = host.read(nrpe.CONFIG).replace("allowed_hosts=", "=allowed_hosts_not=")
        host.put(nrpe.CONFIG, text)


@pytest.mark.parametrize("how", ["a file", "an option", "another file", "no list", ""])
def test_a_refusal_leaves_nothing_that_answers_strangers(host, net, apply, how):
    exposed_by(host, how)
    net.own.clear()
    with pytest.raises(Refused) as caught:
        apply()
    assert (starting.STOPPED in str(caught.value)) is bool(how)
    assert (services(host)[-1:] == [STOP]) is bool(how)


def test_given_certificates(host, net, apply, wrong):
    certificate, key = nrpe_hosts.server("web1", "10.79.0.5")
    given = {"ca": nrpe_hosts.ca().text, "certificate": certificate, "private_key": key}
    for path in reading.FILES:
        host.path(path).unlink()
    knocking(net, certificate=nrpe_hosts.shown(certificate))
    apply(["NRPE-011"], nrpe=given)
    assert wrong(nrpe=given) == []
    assert host.read(nrpe.KEY) == key
    assert host.access(nrpe.KEY) == "root:nagios 0640"


def test_a_given_certificate_that_has_expired(host, fresh, apply):
    """Nothing of this family is changed; what is in use already is drift and no more."""
    past = dt.timedelta(minutes=-5)
    found, key = nrpe_hosts.signed(issuer=nrpe_hosts.ca(), end=past)
    given = {
        "ca": nrpe_hosts.ca().text,
        "certificate": certificates.pem(found),
        "private_key": certificates.key_pem(key),
    }
    with pytest.raises(Refused, match="hardening:nrpe:certificate: expired on "):
        apply(nrpe=given)
    assert host.read(nrpe.CONFIG) == STOCK
    nrpe_hosts.put_certificates(host, given["certificate"], given["private_key"])
    knocking(fresh, certificate=nrpe_hosts.shown(given["certificate"]))
    apply(nrpe=given)
    assert host.read(nrpe.CONFIG).startswith(config.HEADER)


def test_an_address_that_was_found_is_kept(host, fresh, apply):
    apply()
    assert host.read(nrpe.KEPT) == f"{ADDRESS}\n"
    assert host.access(nrpe.KEPT) == "root:root 0644"
    apply(["NRPE-003"], nrpe={"address": ADDRESS})
    assert host.read(nrpe.KEPT) is None


def test_changes_wait_for_each_other(host, fresh, apply, it):
    """Two at once would stop each other's trial."""
    free = []

    def answers_in(*_):
        folder = os.open(host.path(nrpe.FOLDER), os.O_RDONLY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free.append(True)
        os.close(folder)
        return True

    fresh.answers_in = answers_in
    apply()
    made = sign(installing.request(it))
    knocking(fresh, certificate=nrpe_hosts.shown(made))
    installing.install(host, it, made, nrpe_hosts.ca().text)
    assert free == []


def test_a_link_in_place_of_the_configuration(host, net, apply, wrong):
    text = host.read(nrpe.CONFIG)
    host.put("/srv/nrpe.cfg", text, 0o666)
    host.path(nrpe.CONFIG).unlink()
    host.path(nrpe.CONFIG).symlink_to("../../srv/nrpe.cfg")
    assert wrong() == ["NRPE-003"]
    apply(["NRPE-003"])
    assert wrong() == []
    assert not host.path(nrpe.CONFIG).is_symlink()
    assert host.attributes("/srv/nrpe.cfg").mode == "0666"


def test_nobody_else_reads_the_configuration(host, fresh, apply):
    modes = []
    given = host.secure
    host.secure = lambda path, *how: modes.append((path, *how)) or given(path, *how)
    apply()
    assert host.access(nrpe.CONFIG) == "root:nagios 0640"
    assert (f"{starting.RUN}/nrpe.cfg", "root", "nagios", "0640") in modes


def test_waived_controls_are_left(host, fresh, apply):
    host.put(MINE)
    off = {i: {"off": "a plan"} for i in ("NRPE-003", "NRPE-005", "NRPE-014", "NRPE-016")}
    apply(["NRPE-002"], nrpe={"controls": off})
    assert host.read(nrpe.CONFIG) == STOCK
    assert host.read(nrpe.DROP_IN) is None
    assert host.read(MINE) == ""


def test_clean(host, fresh, apply):
    unit, drop_in = f"/run/systemd/system/{nrpe.UNIT}", f"/etc/systemd/system/{nrpe.UNIT}.d/a.conf"
    for path in (MINE, unit, drop_in):
        host.put(path if path == MINE else path + ASIDE, "mine")
    apply()
    found = enforce.leftovers(host)
    assert found == [
        *(nrpe.CONFIG, nrpe.DROP_IN, nrpe.KEPT),
        *(f"{nrpe.PLUGINS}/{name}" for name in ("check_salt_drift", "check_luks", "check_ossec")),
    ]
    enforce.clean(host)
    assert enforce.leftovers(host) == []
    assert host.read(nrpe.CONFIG) == STOCK
    assert [host.read(path) for path in (MINE, unit, drop_in)] == ["mine"] * 3
    assert host.read(nrpe.KEY)
    assert services(host)[-1] == f"restart {nrpe.UNIT}"


def test_a_mask_that_is_given_back_stays_in_force(host, net):
    nrpe_hosts.unit(host, UnitFileState="masked")
    enforce.clean(host)
    assert services(host)[-1] == f"stop {nrpe.UNIT}"


def test_nothing_to_clean(tmp_path):
    assert enforce.leftovers(Host(str(tmp_path))) == []


# Certificates -------------------------------------------------------------------------------------


@pytest.fixture
def it(shipped, host, net):
    return nrpe_hosts.comparison(shipped, host, net)


def sign(request, minion="web1", by="monitoring", days=90) -> str:
    known = nrpe_hosts.ca(by)
    known.forget("web1", nrpe_hosts.NOW)
    return certificates.pem(known.server(request, minion, days, nrpe_hosts.NOW))


def test_a_given_certificate_for_the_key_of_this_host(shipped, host, net, apply, it, wrong):
    """It is asked for here, signed elsewhere and comes by the pillar; the key stays."""
    made = sign(installing.request(it))
    key = host.read(nrpe.NEXT_KEY)
    given = {"ca": nrpe_hosts.ca().text, "certificate": made}
    knocking(net, certificate=nrpe_hosts.shown(made))
    net.listens = False
    with pytest.raises(Refused, match="does not listen"):
        apply(["NRPE-011"], nrpe=given)
    assert (host.read(nrpe.NEXT_KEY), host.read(nrpe.KEY)) == (key, nrpe_hosts.server()[1])
    net.listens = True
    apply(["NRPE-011"], nrpe=given)
    assert wrong(nrpe=given) == []
    assert (host.read(nrpe.KEY), host.read(nrpe.NEXT_KEY)) == (key, None)


def test_a_given_certificate_for_no_key_of_this_host(host, fresh, apply):
    given = {"ca": nrpe_hosts.ca().text, "certificate": nrpe_hosts.server("web1", "10.79.0.6")[0]}
    with pytest.raises(Refused, match="hardening:nrpe:certificate: the certificate is for a key"):
        apply(nrpe=given)
    assert host.read(nrpe.CONFIG) == STOCK


def test_a_request(host, it):
    asked = certificates.load_request(installing.request(it), "it")
    assert certificates.names(asked) == ["web1", ADDRESS]
    assert host.read(nrpe.KEPT) == f"{ADDRESS}\n", "NRPE is to listen where its certificate is for"
    assert host.access(nrpe.NEXT_KEY) == "root:root 0600"
    assert host.read(nrpe.KEY) == nrpe_hosts.server()[1], "the old one is in use until then"


def test_a_certificate_is_brought(host, net, it, wrong):
    made = sign(installing.request(it))
    knocking(net, certificate=nrpe_hosts.shown(made))
    key = host.read(nrpe.NEXT_KEY)
    said = installing.install(host, it, made, nrpe_hosts.ca().text)
    assert said == "installed, and NRPE runs with it"
    assert (host.read(nrpe.CERTIFICATE), host.read(nrpe.KEY)) == (made, key)
    assert host.read(nrpe.NEXT_KEY) is None
    assert host.access(nrpe.KEY) == "root:nagios 0640"
    assert wrong() == []


def test_a_certificate_for_the_old_key(host, net, it):
    key = certificates.load_key(host.read(nrpe.KEY), "it")
    made = sign(certificates.request(key, "web1", ADDRESS))
    knocking(net, certificate=nrpe_hosts.shown(made))
    installing.install(host, it, made, nrpe_hosts.ca().text)
    assert host.read(nrpe.KEY) == nrpe_hosts.server()[1]


@pytest.mark.parametrize("without", [nrpe.PROGRAM, nrpe.CONFIG])
def test_before_the_first_highstate(host, net, it, without):
    host.path(without).unlink()
    host.ran.clear()
    made = sign(installing.request(it))
    said = installing.install(host, it, made, nrpe_hosts.ca().text)
    assert said == "installed; NRPE starts with it when the baseline sets it up"
    assert host.read(nrpe.CERTIFICATE) == made
    assert services(host) == []


def test_nrpe_does_not_start_with_it(host, net, it):
    before = {path: host.read(path) for path in reading.FILES}
    made = sign(installing.request(it))
    net.listens = False
    with pytest.raises(Refused, match="the old configuration is back"):
        installing.install(host, it, made, nrpe_hosts.ca().text)
    assert {path: host.read(path) for path in reading.FILES} == before
    assert host.access(nrpe.KEY) == "root:nagios 0640"
    assert host.read(nrpe.NEXT_KEY), "it may be tried again"


@pytest.mark.parametrize(
    ("made", "authority", "words"),
    [
        (lambda asked: sign(asked), nrpe_hosts.ca("other").text, "web1 was not signed by other"),
        (
            lambda asked: nrpe_hosts.server("web2", "10.79.0.3")[0],
            nrpe_hosts.ca().text,
            "the certificate is not for web1",
        ),
        (
            lambda asked: nrpe_hosts.server("web1", "10.79.0.6")[0],
            nrpe_hosts.ca().text,
            "for a key that this host does not have",
        ),
        (lambda asked: "x", nrpe_hosts.ca().text, "the certificate: is no certificate in PEM"),
        (lambda asked: sign(asked), "x", "the authority: is no certificate in PEM"),
    ],
)
def test_certificates_that_are_refused(host, net, it, made, authority, words):
    before = {path: host.read(path) for path in reading.FILES}
    asked = installing.request(it)
    with pytest.raises(Refused, match=words):
        installing.install(host, it, made(asked), authority)
    assert {path: host.read(path) for path in reading.FILES} == before


def test_who_may_not_ask(shipped, host, net):
    given = {"ca": nrpe_hosts.ca().text}
    it = nrpe_hosts.comparison(shipped, host, net, nrpe=given)
    assert installing.status(it)["given"], "so the runner does not ask"
    with pytest.raises(Refused, match="hardening:nrpe gives ca, so certificates are the pillar's"):
        installing.install(host, it, *nrpe_hosts.server())
    given = {**given, "certificate": nrpe_hosts.server()[0], "private_key": nrpe_hosts.server()[1]}
    with pytest.raises(Refused, match="hardening:nrpe gives private_key"):
        installing.request(nrpe_hosts.comparison(shipped, host, net, nrpe=given))
    nobody = {"networks": {"monitoring": []}, "firewall": {"allow": {"nrpe": []}}}
    with pytest.raises(Refused, match="nobody watches this host"):
        installing.request(nrpe_hosts.comparison(shipped, host, net, **nobody))
    net.own.clear()
    with pytest.raises(Refused, match="no address of this host"):
        installing.request(nrpe_hosts.comparison(shipped, host, net))


def test_status(shipped, host, net, it):
    found = installing.status(it)
    assert (found["renew"], found["watched"], found["given"]) == (False, True, False)
    assert (found["names"], found["authority"]) == (["web1", ADDRESS], nrpe_hosts.ca().fingerprint)
    assert found["days_left"] == 365
    moved = nrpe_hosts.comparison(shipped, host, net, nrpe={"address": "127.0.0.1"})
    assert installing.status(moved)["renew"] is True
    late = nrpe_hosts.comparison(shipped, host, net, nrpe={"renew_days": 180})
    host.put(nrpe.CERTIFICATE, nrpe_hosts.server(days=179)[0])
    assert installing.status(late)["renew"] is True
    host.path(nrpe.KEY).unlink()
    assert installing.status(it) == {"watched": True, "given": False, "renew": True}


def test_silence_is_no_answer(host, fresh, apply):
    fresh.answers = tls.Answers()
    with pytest.raises(Refused, match="should be refused, and it is: does not answer"):
        apply()
