"""docs/logging.md: its pipeline for Logstash takes fields that the shipper sends."""

import re
from pathlib import Path

DOCS = Path("docs/logging.md").read_text()
SENT = Path("tests/unit/data/ecs-fields.txt").read_text()


def pipeline():
    found = re.search(r"```\n(input \{.*?)```", DOCS, re.DOTALL)
    assert found
    return found[1]


def test_fields_of_the_pipeline_are_sent():
    named = {
        ".".join(re.findall(r"\[(\w+)\]", it)) for it in re.findall(r"%\{(\[.*?)\}", pipeline())
    }
    assert named == {"event.dataset", "event.id"}
    assert named <= {line.split()[0] for line in SENT.splitlines() if line and line[0] != "#"}


def test_the_pipeline_reads_one_document_a_line_and_takes_each_id_once():
    text = " ".join(pipeline().split())
    assert 'json { source => "message" }' in text
    assert 'document_id => "%{[event][id]}" action => "create"' in text
    for option in ("ssl_enable => true", "ssl_verify => true"):
        assert option in text


def test_fields_that_the_page_names_are_sent():
    table = re.search(r"Elastic Common Schema: (.*?)\.\n", DOCS, re.DOTALL)
    assert table
    named = set(re.findall(r"`([a-z@.]+)`", table[1]))
    sent = {line.split()[0] for line in SENT.splitlines() if line and line[0] != "#"}
    beginnings = {name[: match.end()] for name in sent for match in re.finditer(r"\w+(?=\.)", name)}
    ours = {it for it in named if it.startswith(("labels.", "rocksalt."))}
    assert ours == {"labels.role", "labels.customer", "rocksalt.part"}
    assert named - ours <= sent | beginnings
