"""rocksalt.access.problems: settings that are each well-formed and contradict each other."""

from __future__ import annotations

import pytest
from access_settings import ALICE, APPS, BOB, CAROL, baseline, granted, pillar

from rocksalt import settings
from rocksalt.access import problems, rooted

TOP = "hardening:access"
GRANT = f"{TOP}:users:alice:grants:0"


@pytest.fixture
def found(shipped):
    def call(values, minion="salt", **loaded):
        return problems.problems(baseline(shipped, values), minion, **loaded)

    return call


def test_good(found, shipped):
    assert found(pillar()) == []
    assert problems.problems(settings.resolve(shipped, {}, {}, "web1"), "web1") == []
    two = {**ALICE, "targets": ["db1"], "apps": ["blog"]}
    assert found(granted({**ALICE, "targets": ["web*"], "apps": ["shop"]}, two)) == []


@pytest.mark.parametrize(
    ("grant", "sentence"),
    [
        (
            {**ALICE, "role": "deploier"},
            f"{GRANT}:role: there is no role 'deploier'; did you mean 'deployer'?",
        ),
        (
            {**ALICE, "apps": ["shop", "blok"]},
            f"{GRANT}:apps: there is no app 'blok'; did you mean 'blog'?",
        ),
        (
            {"role": "deployer", "targets": ["web1"]},
            f"{GRANT}:apps: is missing; name the apps to deploy (there are blog, shop), or write "
            "[] for none",
        ),
        (
            {**ALICE, "targets": ["db1"], "apps": ["shop"]},
            f"{GRANT}:apps: shop belongs on web*, and none of that can be among the targets db1",
        ),
        (
            {**BOB, "apps": ["shop"]},
            f"{GRANT}:apps: ['shop'] mean nothing, as auditor does not deploy",
        ),
        (
            {**ALICE, "targets": []},
            f"{GRANT}:targets: is empty; name the minions on which deployer holds",
        ),
        (
            {"role": "deployer", "apps": []},
            f"{GRANT}:targets: is missing; name the minions on which deployer holds",
        ),
        (
            {**ALICE, "targets": ["G@role:web"]},
            f"{GRANT}:targets: 'G@role:web' is a compound target; only ids of minions and globs of "
            "them may be named",
        ),
        (
            {**ALICE, "targets": ["*"], "everywhere": True},
            f"{GRANT}:targets: '*' is every host, and deployer is no role for that",
        ),
        (
            {"role": "auditor", "targets": ["?*"]},
            f"{GRANT}:targets: '?*' is every host; write everywhere: true beside it if that is "
            "meant",
        ),
        (
            {**BOB, "targets": ["web*"]},
            f"{GRANT}:everywhere: means nothing without the target *; name it, or leave this out",
        ),
        (
            {key: CAROL[key] for key in ("role", "targets", "reason")},
            f"{GRANT}:until: is missing; break-glass is for a time and a reason, such as "
            "2026-11-24",
        ),
        (
            {**CAROL, "reason": " "},
            f"{GRANT}:reason: is missing; break-glass is for a time and a reason, in words",
        ),
        (
            {**CAROL, "until": "2026-11-25"},
            f"{GRANT}:until: 2026-11-25 is too far away; break-glass lasts until 2026-11-24 at the "
            "latest",
        ),
        (
            {**ALICE, "until": "2026-02-30"},
            f"{GRANT}:until: '2026-02-30' is not a day such as 2026-11-23",
        ),
    ],
)
def test_a_grant(found, grant, sentence):
    assert found(granted(grant)) == [sentence]


def test_a_grant_that_is_over_is_no_contradiction(found):
    assert found(granted({**CAROL, "until": "2026-11-22"})) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"until": "2026-11-30"}, "gives all of it for good"),
        ({"targets": ["web1"]}, "deployer on web1 limits nothing, as deployer of"),
        ({"apps": ["shop"]}, "limits nothing"),
        ({"apps": ["blog", "shop"]}, "keep one of the two"),
    ],
)
def test_grants_that_widen_each_other(found, other, words):
    for grants, at in (([ALICE, {**ALICE, **other}], 1), ([{**ALICE, **other}, ALICE], 0)):
        at = 0 if other.get("apps") == ["blog", "shop"] else at  # they are the same
        (sentence,) = found(granted(*grants))
        assert words in sentence
        assert sentence.startswith(f"{TOP}:users:alice:grants:{at}: ")


def test_a_grant_that_gives_nothing_limits_nothing(found):
    nothing = {"role": "ship", "targets": ["web1"], "apps": []}
    assert found(granted(ALICE, nothing, roles={"ship": {"deploys": True}})) == []


def test_grants_beside_each_other(found):
    """More for a time, somewhere else, or of another kind widens nothing."""
    for other in (
        {"targets": ["web*", "db*"], "until": "2026-11-30"},
        {"role": "operator", "apps": []},
        {"until": "2026-11-22"},
    ):
        assert found(granted(ALICE, {**ALICE, **other})) == []


ROOTS = {
    "shell": {"functions": ["cmd.run"]},
    "states": {"functions": ["state.apply", "state.test"]},
    "all": {"runners": ["salt.cmd"]},
}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"role": "platform", "targets": ["web*", "db1"]}, "root there by state.highstate"),
        ({"role": "shell", "targets": ["web*", "db*"]}, "root there by cmd.run"),
        ({"role": "states", "targets": ["web*", "db*"]}, "root there by state.apply"),
        ({"role": "all"}, "root there by salt.cmd"),
    ],
)
def test_who_is_root_has_no_limits_of_apps(found, other, words):
    for grants, at in (([ALICE, other], 0), ([other, ALICE], 1)):
        (sentence,) = found(granted(*grants, roles=ROOTS))
        assert sentence == (
            f"{TOP}:users:alice:grants:{at}: deployer on web*, db1 limits nothing, as "
            f"{other['role']} of {TOP}:users:alice:grants:{1 - at} gives {words} for good; "
            "keep one of the two"
        )


@pytest.mark.parametrize(
    "other",
    [
        {"role": "shell", "targets": ["web*"]},
        {**CAROL, "targets": ["web*", "db*"]},
        {"role": "platform", "targets": ["lb1"]},
    ],
)
def test_who_is_root_elsewhere_or_for_a_day(found, other):
    assert found(granted(ALICE, other, roles=ROOTS)) == []


def test_roles_of_root_beside_each_other(found):
    """Whose apps have no limits that could be lost, nor has who deploys nothing."""
    shell = {"role": "shell", "targets": ["web*", "db*"]}
    for other in ({"role": "platform", "targets": ["web1"], "apps": ["shop"]},
                  {"role": "deployer", "targets": ["web1"], "apps": []}):  # fmt: skip
        assert found(granted(shell, other, roles=ROOTS)) == []


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ({"functions": ["*"]}, "functions: '*' is not the whole name of one function"),
        ({"functions": ["test.*"]}, "functions: 'test.*' is not the whole name of one function"),
        ({"functions": ["ping"]}, "functions: 'ping' is not the whole name of one function"),
        ({"runners": ["@wheel"]}, "runners: '@wheel' is not the whole name of one function"),
        ({"functions": ["deploy.run"]}, "functions: 'deploy.run' would deploy every app"),
        ({"functions": ["test.pingg"]}, "'test.pingg' does not exist; did you mean 'test.ping'?"),
        ({"runners": ["manage.statis"]}, "'manage.statis' does not exist; did you mean"),
        ({"functions": [], "deploys": False}, "helper: the role may do nothing"),
    ],
)
def test_roles(found, role, sentence):
    loaded = {"functions": {"test.ping", "test.echo"}, "runners": {"manage.status"}}
    everything = found(pillar(roles={"helper": role}), **loaded)
    (said,) = [said for said in everything if said.startswith(f"{TOP}:roles:helper")]
    assert sentence in said


def test_functions_of_modules_of_other_hosts(found):
    role = {"functions": ["mysql.query", "test.ping"]}
    assert found(pillar(roles={"helper": role}), functions={"test.ping", "test.version"}) == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (".*", "matches everything"),
        ("[^ ]*|.+", "matches everything"),
        (r"[\s\S]*", "matches everything"),
        (r"\S+\s\S+", "matches everything"),
        ("(1", "is no regular expression: missing )"),
        ("a)|(?:.*", "is no regular expression: unbalanced parenthesis"),
        ("(?i)v1", "is no regular expression"),
    ],
)
def test_versions(found, pattern, words):
    apps = {**APPS, "shop": {**APPS["shop"], "version": pattern}}
    (said,) = found(pillar(apps=apps))
    assert said.startswith(f"{TOP}:apps:shop:version: {pattern!r} {words}")


SLOW = [
    r"v?(\d+\.?)+", r"(\d+|\w+)*", r"(\d\d|\w\w)*", r"(\d?\d)*", r"(\d+){3}", r"([-+][a-z.-]+)*",
    r"(?=(\d+)+x)v", r"(a+)(?:\1)*", r"((\.\d+)*)+", r"(\w+_)*", r"([^.]+-)*", r"(\d+?\.?)+?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SLOW)
def test_versions_that_take_for_ever(found, pattern):
    (said,) = found(pillar(apps={**APPS, "shop": {**APPS["shop"], "version": pattern}}))
    assert said.startswith(f"{TOP}:apps:shop:version: {pattern!r} has a repeat within a repeat")


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d+(\.\d+)*", r"v\d+(\.\d+){2}(-(rc|beta)\.?\d+)?", r"(?:\d{1,3}\.){3}\d{1,3}", "(a|b)c",
        r"[0-9a-f]{7,40}", r"(\d{3}){2}", r"(?:[a-z]|\d)+", r"\d+([.-]\d+)*", r"1(-(rc|beta)\d+)+",
        r"v?\d+\.\d+\.\d+[\w.+~-]*", r"\d+\.?\d*", r"\w[\w.-]*", r"release/\d+", r"(?i:v)\d+",
        r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(?:-((?:0|\d*[a-z-][0-9a-z-]*)(?:\.(?:0|[1-9]\d*))*))?",
    ],
)  # fmt: skip
def test_versions_that_take_no_time(found, pattern):
    assert found(pillar(apps={**APPS, "shop": {**APPS["shop"], "version": pattern}})) == []


@pytest.mark.parametrize("backend", ["ldap", "file"])
def test_people_of_a_directory_have_names_in_small_letters(found, backend):
    hashes = {} if backend == "ldap" else {"Alice": "x"}
    said = found(pillar(users={"Alice": {"grants": [ALICE]}}, backend=backend, hashes=hashes))
    assert len(said) == (backend == "ldap")
    assert all(
        it.startswith(f"{TOP}:users:Alice: 'Alice' would") and it.endswith("write alice")
        for it in said
    )


CROWDED = [
    r"v?\d+\.?\d*\.?\d*\.?\d*-?\w*", r"\d+\.?\d*\.?\d*", r"(\.\d+\d+)*", "a?" * 20,
    r"(\.(?:a\w?|\w))*", r"\w[\w.]*-?[\w.]*-?[\w.]*", r"\d+1\d+1\d+",
    r"\d+(?:[0-9a-f]+|[0-9x]+)[0-9a-z]*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", CROWDED)
def test_versions_that_part_a_text_in_many_ways(found, pattern):
    (said,) = found(pillar(apps={**APPS, "shop": {**APPS["shop"], "version": pattern}}))
    assert said.startswith(f"{TOP}:apps:shop:version: {pattern!r} has repeats or alternatives side")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"\S+", "lets '!' into a version"),
        (r"[!-~]+", "lets '!' into a version"),
        (r"[^\s]{1,100}", "lets '!' into a version"),
        (r".{1,19}", r"lets '\t' into a version"),
        (r".{7}", r"lets '\t' into a version"),
        (r"\d+(;|,)\d+", "lets ';' into a version"),
        (r"[^a-z]\d", r"lets '\t' into a version"),
        (r"\d+\W", r"lets '\t' into a version"),
        (r"\d+ ?", "lets ' ' into a version"),
        (r"[\w.-]+", "lets a version begin with -"),
        (r"v?-\d", "lets a version begin with -"),
        (r"[\w./]+", "matches '..'"),
        (r"\w[\w./]*", "matches 'x/../../y'"),
        (r"v\d{1,99999999999}", "is no regular expression: the repetition number is too large"),
        ("(" * 3000 + "a" + ")" * 3000, "is no regular expression: "),
    ],
)
def test_versions_that_do_harm_where_they_are_used(found, pattern, words):
    (said,) = found(pillar(apps={**APPS, "shop": {**APPS["shop"], "version": pattern}}))
    assert said.startswith(f"{TOP}:apps:shop:version: {pattern!r} {words}")


@pytest.mark.parametrize("name", ["Shop", "../shop", "shop.x", "9shop", "", "shop\n"])
def test_names_of_apps(found, name):
    (said,) = found(pillar(apps={**APPS, name: APPS["shop"]}))
    assert said.startswith(f"{TOP}:apps:{name}: {name!r} is no name of an app, which begins with")


def test_where_an_app_belongs(found):
    apps = {**APPS, "shop": {**APPS["shop"], "minions": ["I@role:web"]}}
    (said,) = found(pillar(apps=apps))
    assert said.startswith(f"{TOP}:apps:shop:minions: 'I@role:web' is a compound target")


@pytest.mark.parametrize(
    ("name", "words"), [("al*", "takes other characters for a pattern"), ("a b", "no log-in name")]
)
def test_log_in_names(found, name, words):
    values = pillar(users={name: {"grants": [ALICE]}}, hashes={name: "x"})
    (said,) = found(values)
    assert said.startswith(f"{TOP}:users:{name}: ") and words in said


def test_names_with_a_point(found):
    people = {name: {"grants": [ALICE]} for name in ("jan.doe", "jane.doe", "jan-doe")}
    (said,) = found(pillar(users=people, hashes=dict.fromkeys(people, "x")))
    assert said.startswith(f"{TOP}:users:jan.doe: Salt would give jan.doe the rights of jan-doe")


def test_groups(found):
    groups = {"deployers": {"grants": [ALICE]}, "all%": {"grants": [ALICE]}}
    said = found(pillar(groups=groups))
    assert [sentence.split(" ")[0] for sentence in said] == [
        f"{TOP}:groups:all%:",
        f"{TOP}:groups:",
    ]
    del groups["all%"]
    assert found(pillar(groups=groups, backend="ldap", hashes={})) == []


def test_passwords_are_the_masters_matter(found):
    values = pillar(hashes={"alice": "x", "bob": "x", "caroll": "geheim"})
    assert found(values, "web1") == []
    missing, stranger = found(values)
    assert missing == (
        f"{TOP}:hashes: carol of {TOP}:users:carol has none, and so cannot log in; add what "
        "`salt-call --local access.password` prints"
    )
    assert stranger == f"{TOP}:hashes:caroll: there is no user 'caroll'; did you mean 'carol'?"
    (ldap,) = found(pillar(backend="ldap", hashes={"alice": "geheim"}))
    assert ldap.startswith(f"{TOP}:hashes: alice are not asked") and "geheim" not in ldap


def test_a_fleet_without_a_master(found):
    (said,) = found(pillar(masters=[]))
    assert said.startswith(f"{TOP}:masters: is empty, so that nobody has the rights")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"address": "0.0.0.0"}, "address: 0.0.0.0 is every address of the host"),
        ({"address": "::"}, "address: :: is every address of the host"),
        ({"address": "10.0.0.500"}, "address: '10.0.0.500' is no address such as"),
        ({"tls_key": "/etc/x/../y"}, "tls_key: '/etc/x/../y' is no whole path such as"),
        ({"tls_key": "/a.pem", "tls_certificate": "/a.pem"}, "tls_key: '/a.pem' is the file of"),
    ],
)
def test_the_door(found, values, words):
    (said,) = found(pillar(**values))
    assert said.startswith(f"{TOP}:{words}")
    assert found(pillar(address="10.0.0.5")) == found(pillar(address="::", any_address=True)) == []


def test_what_makes_root():
    role = {
        "functions": ["cmd.run", "state.highstate", "state.test", "state.show_sls", "test.ping",
                      "service.restart", "saltutil.sync_all", "file.read", "pkg.install"],
        "runners": ["manage.status", "salt.cmd", "access.can"],
    }  # fmt: skip
    assert rooted.functions(role) == ["cmd.run", "file.read", "pkg.install", "state.highstate"]
    assert rooted.runners(role) == ["salt.cmd"]
