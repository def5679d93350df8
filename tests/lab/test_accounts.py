"""The family accounts on real hosts: who gets in, who does not, and nobody locks themselves out.

Hosts begin as a cloud's image: with an account of the image that has the key and is root without a
password, with a password for root, and without the declared administrator.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import runs
from rocksalt_lab import Host, Lab
from rocksalt_lab.host import Finished
from rocksalt_lab.lab import KEY
from runs import STRANGERS, administrator_gets_in

MADE = "administrators have their accounts"
SAFE = "an administrator keeps a way in"
LOCKED = "root and strangers are locked out"
PASSWORD, OTHER_PASSWORD = "Of 9 green bottles", "7 hanging on the wall"
FILES = (
    "/etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/subuid /etc/subgid /etc/sudoers.d /home"
)
FOLDERS = "/etc/sudoers.d /etc/pam.d /etc/security /etc/profile.d /etc/logrotate.d"
MORE_FILES = (
    f"{FOLDERS} /etc/sudoers /etc/login.defs /usr/bin/su /usr/share/pam-configs /var/lib/pam"
)
IMAGE = f"""
mkdir -p /root/.ssh; cp /home/ops/.ssh/authorized_keys /root/.ssh/
loginctl terminate-user ops 2>/dev/null || true
userdel --force ops; rm -rf /home/ops /etc/sudoers.d/*
useradd --create-home --shell /bin/bash --groups sudo,adm debian
useradd --create-home --shell /bin/bash bob
install -d -m 700 -o debian -g debian /home/debian/.ssh
install -m 600 -o debian -g debian /root/.ssh/authorized_keys /home/debian/.ssh/
echo 'debian ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/90-cloud-init-users
chmod 440 /etc/sudoers.d/90-cloud-init-users
printf '%s\\n' 'root:{PASSWORD}' 'bob:{PASSWORD}' | chpasswd
"""
PUT_BACK = "rm -rf /home /etc/sudoers.d /root/.ssh; tar -xpPf /srv/people.tar"


@pytest.fixture
def image(pillar: Host, web2: Host) -> Iterator[Host]:
    """A host as a cloud's image is, before its first run; conforming again afterwards."""
    web2.salt_call("saltutil.sync_all")
    for family in ("sshd", "accounts"):
        web2.salt_call(f"{family}.clean")
    web2.run(f"tar -cPpf /srv/people.tar {FILES}")
    runs.shell(web2, IMAGE)
    with runs.without_penalties(web2):
        yield web2
    runs.shell(web2, PUT_BACK)
    runs.set_pillar(pillar, {})
    runs.harden(web2)


def declare(pillar: Host, administrators: object = None, **accounts: object) -> None:
    """A pillar that declares bob, who is no administrator, and whatever a test wants."""
    people = {} if administrators is None else {"administrators": administrators}
    runs.set_pillar(pillar, {"accounts": {"users": {"bob": {}}, **people, **accounts}})


def su(host: Host, user: str, password: str = PASSWORD) -> Finished:
    """An attempt of somebody who is logged in to become root with a password."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return host.run([*words, "su", "-", "root", "-c", "id"], False, input=f"{password}\n")


def sudo(host: Host, user: str, password: str) -> Finished:
    """An attempt of somebody who is logged in to become root with the own password."""
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return host.run([*words, "sudo", "-k", "-S", "-p", "", "id"], False, input=f"{password}\n")


def secret(host: Host, user: str) -> str:
    """What shadow has of an account."""
    return host.run(["getent", "shadow", user], check=False).stdout.strip()


def of_accounts(ids: Iterable[str]) -> set[str]:
    """Those of this family."""
    return {id for id in ids if id.startswith("ACC-")}


# From outside --------------------------------------------------------------------------------


def test_a_fresh_host_gets_its_administrator_before_others_are_locked_out(
    lab: Lab, pillar: Host, image: Host
) -> None:
    for user in ("root", "debian"):
        assert "uid=" in lab.ssh(pillar, user, image, "id").stdout
    assert "bob" in lab.ssh_by_password(pillar, "bob", image, "id", PASSWORD).stdout
    assert "uid=0(root)" in su(image, "bob").stdout
    runs.everybody_has_left(image)

    declare(pillar, remove=STRANGERS)
    drifted, before = set(runs.differing(image)), runs.fingerprint(image)
    would = runs.apply(image, test=True)
    assert not would.failed and would.controls == drifted
    assert {"ACC-001", "ACC-010", "ACC-011", "ACC-012", "ACC-029", "ACC-040"} <= would.controls
    assert runs.fingerprint(image) == before

    done = runs.apply(image)
    assert not done.failed
    assert of_accounts(done.controls) <= of_accounts(would.controls)
    assert not runs.differing(image) and not runs.apply(image).changes
    assert administrator_gets_in(lab, pillar, image)
    for user in ("root", "debian", "bob"):
        assert "Permission denied" in lab.ssh(pillar, user, image, "id").stderr
        refused = lab.ssh_by_password(pillar, user, image, "id", PASSWORD)
        assert "Permission denied (publickey)" in refused.stderr
    assert "ermission denied" in su(image, "bob").stderr
    image.reboot()
    assert administrator_gets_in(lab, pillar, image)
    assert not runs.differing(image)


def test_what_strangers_left_stays_until_somebody_says_otherwise(pillar: Host, image: Host) -> None:
    image.run("useradd --create-home --shell /bin/bash eve; passwd --quiet --delete eve")
    image.run("usermod --append --groups disk eve; echo '* * * * * true' | crontab -u eve -")
    image.run("echo 'eve ALL=(ALL) ALL' >/etc/sudoers.d/eve")
    declare(pillar)
    run = runs.apply(image)
    assert not run.failed
    assert image.testinfra.user("eve").exists
    assert "disk" in image.testinfra.user("eve").groups
    assert image.testinfra.file("/etc/sudoers.d/eve").exists
    found = {f["id"]: f for f in runs.report(image)["findings"]}
    for id in ("ACC-029", "ACC-043", "ACC-044", "ACC-045"):
        assert (found[id]["status"], found[id]["remedy"]) == ("drift", "manual")
        assert "eve" in found[id]["reason"]
    declare(pillar, remove=STRANGERS)
    assert not runs.apply(image).failed and not runs.differing(image)
    assert not image.run("crontab -l -u eve", check=False).stdout
    assert not image.testinfra.user("eve").exists
    assert image.testinfra.file("/home/eve").is_directory, "what somebody wrote is never deleted"


# Passwords -----------------------------------------------------------------------------------


def test_an_administrator_with_a_password(lab: Lab, pillar: Host, image: Host) -> None:
    """It opens sudo, and nothing else does; guesses lock it, and the log-in by key goes on."""
    key, hashed = lab.public_key.strip(), secret(image, "bob").split(":")[1]
    declare(pillar, {"ops": {"keys": [key]}}, password_hashes={"ops": hashed}, remove=STRANGERS)
    run = runs.apply(image)
    assert not run.failed and not runs.differing(image)
    assert hashed not in str(run.states)
    assert "uid=1" in lab.ssh(pillar, "ops", image, "id").stdout
    asked = f"echo '{PASSWORD}' | sudo -S -p '' id"
    assert "uid=0(root)" in lab.ssh(pillar, "ops", image, asked).stdout
    assert "a password is required" in lab.ssh(pillar, "ops", image, "sudo -k -n id").stderr
    assert "uid=0" not in sudo(image, "ops", OTHER_PASSWORD).stdout

    for _ in range(5):
        sudo(image, "ops", OTHER_PASSWORD)
    assert "uid=0(root)" not in sudo(image, "ops", PASSWORD).stdout, "five guesses lock it"
    assert "ops" in lab.ssh(pillar, "ops", image, "id").stdout, "but not the key"
    image.run("faillock --user ops --reset")
    assert "uid=0(root)" in sudo(image, "ops", PASSWORD).stdout


def test_new_passwords_have_to_be_good(image: Host) -> None:
    """As passwd asks for them, with PAM's own words."""
    assert not runs.apply(image, "hardening.accounts").failed
    for password, words in {"short": "shorter than", PASSWORD: "same as the old"}.items():
        typed = f"{PASSWORD}\n{password}\n{password}\n"
        as_bob = ["setpriv", "--reuid=bob", "--regid=bob", "--init-groups", "passwd"]
        refused = image.run(as_bob, check=False, input=typed)
        assert refused.returncode and words in refused.stderr


# No way in -----------------------------------------------------------------------------------


def weak_key(host: Host) -> str:
    """A key that the hardened sshd refuses."""
    host.run("rm -f /root/weak*; ssh-keygen -q -t rsa -b 1024 -N '' -f /root/weak")
    return host.read("/root/weak.pub").strip()


@pytest.mark.parametrize("declared", ["nobody", "somebody whose key sshd refuses"])
def test_without_a_way_in_root_and_the_images_account_stay(
    lab: Lab, pillar: Host, image: Host, declared: str
) -> None:
    people, missing = {}, "debian"
    if declared != "nobody":
        people = {"ops": {"keys": [weak_key(pillar)], "nopasswd": True}}
        missing = "ops: its RSA key of 1024 bits is shorter than 3072"
    declare(pillar, people, remove=STRANGERS)
    before = {user: secret(image, user) for user in ("root", "debian")}
    assert missing in runs.apply(image, test=True).failed[SAFE]
    run = runs.apply(image)
    assert set(run.failed) >= {SAFE, LOCKED} and MADE not in run.failed
    assert missing in run.failed[SAFE]
    assert {user: secret(image, user) for user in before} == before
    assert "uid=0(root)" in lab.ssh(pillar, "debian", image, "sudo -n id").stdout
    left = set(runs.differing(image))
    guarded = set(image.salt_call("hardening.guarded", "accounts").value)
    assert {"ACC-001", "ACC-040"} <= of_accounts(left) <= guarded, "the rest was enforced"


def test_the_account_of_a_live_session_is_left_alone(lab: Lab, pillar: Host, image: Host) -> None:
    declare(pillar, remove=STRANGERS)
    ssh = f"exec ssh -i {KEY} -o BatchMode=yes -o StrictHostKeyChecking=no"
    ssh += " -o UserKnownHostsFile=/dev/null"
    session = pillar.start(f"{ssh} debian@{image.ip} 'echo in; cat'", stdin=-1, stdout=-1)
    assert session.stdin and session.stdout and session.stdout.readline() == "in\n"
    try:
        before = secret(image, "debian")
        run = runs.apply(image)
        assert not run.failed
        assert secret(image, "debian") == before
        found = {f["id"]: f for f in runs.report(image)["findings"]}
        assert found["ACC-040"]["remedy"] == "manual"
        assert "debian is logged in" in found["ACC-040"]["reason"]
        assert administrator_gets_in(lab, pillar, image)
        session.stdin.write("still in\n")
        session.stdin.flush()
        assert session.stdout.readline() == "still in\n"
    finally:
        session.stdin.close()
        session.wait()
    runs.everybody_has_left(image)
    assert not runs.apply(image).failed and not runs.differing(image)


def test_killed_at_any_moment_the_administrator_gets_in(
    lab: Lab, pillar: Host, image: Host
) -> None:
    """Each time the run begins anew, on a host with the administrator and without the rest."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    declare(pillar, remove=STRANGERS)
    made = runs.differing(image, families="accounts")
    image.salt_call("accounts.enforce", ["ACC-010", "ACC-011", "ACC-012"])
    image.run(f"tar -cPpf /run/begin.tar {FILES} {MORE_FILES}")
    moments = [f"{random.Random(seed + n).uniform(0.0, 3.0):.3f}" for n in range(16)]
    image.write("/root/kill.py", (Path(__file__).parent / "on_host/kill.py").read_text())
    words = [runs.PYTHON, "-W", "ignore", "/root/kill.py", "accounts.enforce", ",".join(made)]
    run = image.start([*words, *moments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin and run.stdout
    for _ in moments:
        assert run.stdout.readline() == "killed\n"
        assert administrator_gets_in(lab, pillar, image)
        image.run("visudo --check && ! awk -F: 'NF != 7' /etc/passwd | grep .")
        image.run(f"rm -rf {FOLDERS}; tar -xpPf /run/begin.tar")
        run.stdin.write("\n")
        run.stdin.flush()
    run.wait()
    assert not runs.apply(image).failed
    assert not runs.differing(image)
    assert not image.run("find /etc /home /root -name '*rocksalt-new*'").stdout
