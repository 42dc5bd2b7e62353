"""The table that a run of these tests ends with."""

from tests.generators.table import lines, steps_done


def test_table() -> None:
    expected = {"app": "crm-hub", "status": 207, "accepted": [], "rejected": [], "worker": "A"}
    said = {**expected, "status": 202}
    assert steps_done(expected, expected) == ["compiles", "ping", "207", "snapshot"]
    assert lines([("a", steps_done(said, expected)), ("b", "not tried: no java"), ("c", [])]) == [
        "| generator | compiles | ping | 207 | snapshot | error |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | yes | yes | NO | yes | NO |",
        "| b | not tried: no java |  |  |  |  |",
        "| c | NO | NO | NO | NO | NO |",
    ]
