"""A few hundred of the runs that ``python -m tests.api.hostile`` does by the thousand."""

from __future__ import annotations

from tests.api.hostile import MANY, many_runs


def test_runs_against_a_hostile_server():
    ends = many_runs(MANY, seed=20261125)
    assert sum(ends.values()) == MANY
    assert {"answer", "result", "IMSAPIError", "IMSTransientError", "IMSAuthError"} <= ends.keys()
