"""What access.problems says of functions, on a minion of Salt itself."""

from __future__ import annotations

import pytest

TOP = "hardening:access:roles:helper"
ROLE = {
    "functions": ["test.ping", "test.pingg", "mysql_of_others.query"],
    "runners": ["manage.status", "manage.statis", "logbook.playback"],
}


@pytest.mark.parametrize("masters", [["web1"], ["salt"]])
def test_functions_that_do_not_exist(minion, masters):
    """The shipped roles are good; the master alone is asked what exists."""
    minion.pillar({"access": {"masters": masters, "roles": {"helper": ROLE}}})
    found = minion.call("access.problems").value
    missing = [
        f"{TOP}:functions: 'test.pingg' does not exist; did you mean 'test.ping'?",
        f"{TOP}:runners: 'manage.statis' does not exist; did you mean 'manage.status'?",
    ]
    assert found == (missing if masters == ["web1"] else [])
