"""Drift: a converged host is as declared, even after the other tests."""


def test_check_of_a_converged_host_reports_nothing(play):
    counts = play("--check")
    assert (counts["changed"], counts["failed"], counts["unreachable"]) == (0, 0, 0)
