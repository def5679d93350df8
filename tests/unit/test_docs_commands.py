"""Every command that the documents show is run by a test, and says what there is."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import subprocess

import documents
import pytest
from documents import DATA, PAGES, REPO, Command

CALLED = {"salt": "_modules", "salt-call": "_modules", "salt-run": "_runners"}
OURS = re.compile(r"([a-z0-9]+)\.([a-z_]+)(?: .*)?", re.DOTALL)
RUN_BY = {
    command: (test, holds)
    for test, commands in DATA["run by"].items()
    for command, holds in commands.items()
}
LAB = DATA["lab"]["commands"]
TYPED = {*LAB, *(it for name in DATA["sessions"] for it in documents.session(name))}
LEFT_OUT = {*DATA["not run"], *DATA["fragments"]}


@functools.cache
def functions(folder: str) -> dict[str, inspect.Signature]:
    """Module and name of our public functions -> how they are called."""
    found = {}
    for path in (REPO / folder).glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found[f"{path.stem}.{node.name.rstrip('_')}"] = signature(node.args)
    return found


def signature(given: ast.arguments) -> inspect.Signature:
    """How a function is called that is only read."""
    kinds = inspect.Parameter
    plain = [*given.posonlyargs, *given.args]
    needed = len(plain) - len(given.defaults)
    parameters = [
        kinds(it.arg, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if n < needed else None)
        for n, it in enumerate(plain)
    ]
    parameters += [kinds(given.vararg.arg, kinds.VAR_POSITIONAL)] if given.vararg else []
    parameters += [kinds(it.arg, kinds.KEYWORD_ONLY, default=None) for it in given.kwonlyargs]
    parameters += [kinds(given.kwarg.arg, kinds.VAR_KEYWORD)] if given.kwarg else []
    return inspect.Signature(parameters)


def wrong(command: Command) -> str:
    """What is wrong with a call of Salt, without calling it."""
    called = documents.call(command.name)
    if not called:
        return ""
    name, plain, named = called
    folder = CALLED[command.program]
    if name in functions(folder):
        try:
            functions(folder)[name].bind(*plain, **named)
        except TypeError as error:
            return str(error)
    elif (REPO / folder / f"{name.split('.')[0]}.py").exists():
        return f"there is no {name}"
    elif name == "state.apply":
        unknown = set(named) - {"test", "saltenv"}
        missing = [sls for sls in plain if not is_sls(sls)]
        return f"there is no {', '.join([*unknown, *missing])}" if unknown or missing else ""
    elif name not in DATA["functions of Salt"]:
        return f"there is no {name}"
    return ""


def is_sls(name: str) -> bool:
    """Whether the file root has an SLS of this name."""
    path = REPO / "salt" / name.replace(".", "/")
    return path.with_suffix(".sls").exists() or (path / "init.sls").exists()


def without_a_test(commands: list[Command]) -> list[str]:
    """Those that no test runs and nobody gave a reason for."""
    runs = {*RUN_BY, *TYPED, *LEFT_OUT}
    return sorted(
        f"{it.page}:{it.line}: {it.name}"
        for it in commands
        if it.name not in runs and not documents.call(it.name)
    )


def code_of(test: str) -> str:
    """The text of the file with a test; a test in it has to exist."""
    file, _, name = test.partition("::")
    text = (REPO / file).read_text()
    assert not name or re.search(rf"^(?:    )?def {name}\(", text, re.MULTILINE), test
    return text


SHOWN = documents.shown()
EXAMPLES = [
    example
    for folder in ("_modules", "_runners", "_output")
    for source in sorted((REPO / folder).glob("*.py"))
    for example in documents.examples(source)
]


def test_every_command_is_run_by_a_test():
    """Those of Salt are run in the lab without being named: see tests/lab/test_docs.py."""
    assert without_a_test(SHOWN) == []


def test_nothing_is_run_that_no_page_shows_any_more():
    names = {it.name for it in SHOWN}
    assert {*RUN_BY, *TYPED, *LEFT_OUT} - names == set()
    text = "".join(block for page in PAGES for _, block in documents.blocks(page.read_text()))
    assert [it for it in DATA["no commands"] if not re.search(it, text, re.MULTILINE)] == []


@pytest.mark.parametrize("command", sorted(RUN_BY))
def test_the_test_that_is_named_has_the_command(command):
    test, holds = RUN_BY[command]
    holds = holds or " ".join(command.removeprefix("sudo ").split()[:2])
    code = code_of(test)
    assert holds in code, f"{test} does not have {holds!r}"
    pages = [(REPO / it.page).read_text() for it in SHOWN if it.name == command]
    words = re.findall(r"\w{3,}", holds)
    assert any(word in command for word in words) or any(holds in page for page in pages)


@pytest.mark.parametrize("command", [it for it, how in LAB.items() if "really" in (how or {})])
def test_what_the_lab_refuses_is_done_by_another_test(command):
    """For want of a disk, a server or a vault."""
    called = documents.call(command)
    holds = called[0] if called else command.split()[-1].removesuffix("-CUSTOMER.socket")
    code = code_of(LAB[command]["really"])
    assert holds in code or f'"{holds.partition(".")[2]}"' in code, f"{command}: {holds}"


def test_calls_of_salt_are_right():
    found = {f"{it.page}:{it.line}: {it.name}": wrong(it) for it in [*SHOWN, *EXAMPLES]}
    assert {where: why for where, why in found.items() if why} == {}
    assert len(EXAMPLES) > 140


def test_every_public_function_has_an_example_of_itself():
    called = {
        (CALLED[it.program], documents.call(it.name)[0]) for it in EXAMPLES if it.program in CALLED
    }
    internal = {("_modules", name) for name in DATA["called by others"]}
    ours = {(it, name) for it in ("_modules", "_runners") for name in functions(it)}
    assert ours - called == internal


def test_functions_that_the_pages_name_are_there():
    modules = {path.stem for it in CALLED.values() for path in (REPO / it).glob("*.py")}
    there = {*functions("_modules"), *functions("_runners")}
    for page in PAGES:
        text = page.read_text()
        for code in documents.INLINE.findall(text):
            for module, name in [it.groups() for it in [OURS.fullmatch(code)] if it]:
                known = module not in modules or f"{module}.{name}" in there
                known = known or is_sls(f"{module}.{name}") or name in DATA["no functions"]
                assert known, f"{page.name}: {module}.{name}"


def test_the_lab_types_the_commands_of_all_pages():
    pages = {it.page for it in SHOWN if documents.call(it.name) or it.name in LAB}
    assert pages == {*DATA["lab"]["order"]}


def test_what_comes_of_a_command_is_said_in_known_words():
    known = {"at", "before", "input", "here", "says", "code", "really"}
    said = [how for how in LAB.values() if how]
    said += [how for it in DATA["sessions"] for how in documents.session(it).values()]
    assert all(set(how) <= known for how in said)
    hosts = {how.get("at", "master") for how in said}
    assert hosts == {"master", "web1", "machine"}
    assert all(documents.call(it) or "at" in (how or {}) for it, how in LAB.items())


def test_targets_of_make_do_what_is_said():
    """Each target calls the script that tests call as well."""
    called = {
        "demo": "scripts/lab demo",
        "lab": "scripts/lab up",
        "lab-down": "scripts/lab down",
        "test": "scripts/lanes lint unit functional,lab-1+lab-2",
        "test-fast": "scripts/lanes lint unit functional",
        "test-vm": "scripts/lanes vm vm-luks",
        "test-all": "scripts/lanes lint unit functional,lab-1+lab-2 functional-3006",
        "test-vagrant": "scripts/lanes vagrant",
        "vagrant-test": "scripts/vagrant-test",
        "bench": "scripts/lanes bench",
        "docs": "python scripts/docs.py",
    }
    shown = {it.name.split()[-1] for it in SHOWN if it.program == "make"}
    assert shown <= {*called}
    for target, script in called.items():
        done = subprocess.run(["make", "-n", target], cwd=REPO, capture_output=True, text=True)
        assert done.returncode == 0 and script in done.stdout, target


def test_what_is_wrong_is_found():
    for text, why in {
        "salt '*' drift.raport": "there is no drift.raport",
        "salt '*' drift.report severty=high": "got an unexpected keyword argument 'severty'",
        "salt -b 10% '*' state.apply hardning": "there is no hardning",
        "salt web1 state.apply hardening tset=True": "there is no tset",
        "salt db1 -t 9 luks.open": "missing a required argument: 'volume'",
        "salt '*' saltutil.sync_al": "there is no saltutil.sync_al",
        "salt-run saltutil.sync_all": "",
        'salt db1 luks.open data sealed="$(cat sealed)" | jq .': "",
    }.items():
        assert wrong(Command("page", 1, text)) == why
    assert without_a_test([Command("page", 7, "rm -r  /\n")]) == ["page:7: rm -r /"]


def test_commands_of_a_page():
    page = REPO / "tests/unit/data/page.md"
    assert [(it.line, it.name) for it in documents.commands_of(page)] == [
        (5, "salt '*' test.ping"),
        (6, "curl -s https://example.org | jq ."),
        (13, "make test"),
        (14, 'call() { echo "$1" }'),
    ]
    found = [it.name for it in documents.mentioned_in(page, {"salt", "make"})]
    assert found == ["salt web1 test.version", "make demo"]


@pytest.mark.parametrize(
    ("block", "seen"),
    [
        ("~~~\nmake a\n~~~\n", [(2, "make a")]),
        ("~~~~ bash\nmake a\n~~~~\n", [(2, "make a")]),
        ("```shell\nmake a\n```\n", [(2, "make a")]),
        ("- it\n\n  ```sh\n  make a\n  ```\n", [(4, "make a")]),
        ("```console\nmake a\n```\n", [(2, "make a")]),
        ("```console\n$ make a\nmade\n# make b\n```\n", [(2, "make a"), (4, "make b")]),
        ("```console\n$ make \\\n> a\n> /made\n```\n", [(2, "make a /made")]),
        ("```console\n$ make a\n\nmade > here\n> there\n```\n", [(2, "make a")]),
        (
            "2. ```yaml\n   key: a\n   ```\n\n    make b\n\n~~~\nmake a\n~~~\n",
            [(5, "make b"), (8, "make a")],
        ),
        ("- ```bash\n  make a\n  ```\n", [(2, "make a")]),
        ("```yaml\nkey: $ make a\n```\n", []),
    ],
)
def test_commands_of_fenced_blocks(tmp_path, monkeypatch, block, seen):
    monkeypatch.setattr(documents, "REPO", tmp_path)
    (tmp_path / "page.md").write_text(block)
    commands = documents.commands_of(tmp_path / "page.md")
    assert [(it.line, it.name) for it in commands] == seen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\n\n```bsah\nmake a\n```\n", "line 3: a block of 'bsah'; documents.py knows none, bash"),
        ("~~~{.bash}\nmake a\n~~~\n", "line 1: a block of '{.bash}'"),
        ("a\n```bash\nmake a\n", "line 2: the block that '```bash' begins has no end"),
        ("> ```\n> make a\n> ```\n", "line 1: the block that '> ```' begins has no end"),
        ("~~~\nmake a\n```\n", "line 1: the block that '~~~' begins has no end"),
    ],
)
def test_a_block_that_is_not_understood_is_a_mistake(text, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        list(documents.blocks(text))


def test_what_is_shown_is_shell():
    script = "\n".join(sorted({re.sub(r"\.\.\.(?=$|\n)", "x", it.text) for it in SHOWN}))
    script = re.sub(r"<(\w+)>", "x", script)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
