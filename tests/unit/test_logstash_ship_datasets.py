"""Logs that other families make are shipped without being named."""

from pathlib import Path

import pytest
import yaml

from rocksalt.logstash.shipping import datasets


@pytest.mark.parametrize(
    ("family", "setting", "dataset"), [("accounts", "sudo_log", datasets.AUTH)]
)
def test_a_log_of_another_family_is_of_a_dataset(family, setting, dataset):
    described = yaml.safe_load(Path(f"salt/hardening/{family}/defaults.yaml").read_text())
    assert datasets.covered(described[setting]["default"], datasets.FILES[dataset])


def test_a_command_that_sudo_wrote_over_several_lines_is_one():
    begins = datasets.STARTS[datasets.AUTH].match
    assert begins(b"Nov 23 07:59:59 : ops : TTY=pts/0 ; PWD=/home/ops ; USER=root ;")
    assert begins(b"Nov  3 07:59:59 : ops : PWD=/ ; USER=root ;")
    assert not begins(b"    COMMAND=/usr/bin/id")
