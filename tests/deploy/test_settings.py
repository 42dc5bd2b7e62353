"""What deploy/ sets: settings that the service has, and time enough for it to drain."""

from __future__ import annotations

import pytest

from service.runtime import max_stop_seconds
from service.settings import Settings
from tests.deploy import files


def kubernetes_settings() -> dict[str, str]:
    (container,) = files.manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


def unit_settings() -> dict[str, str]:
    given = [value for name, value in files.unit() if name == "Environment"]
    return {name: value for name, _, value in (one.partition("=") for one in given)}


def seconds(text: str) -> int:
    """Of ``40s`` or ``40``."""
    return int(text.removesuffix("s"))


def compose_grace() -> int:
    return seconds(files.compose()["ingest"]["stop_grace_period"])


def kubernetes_grace() -> int:
    grace: int = files.manifest("Deployment")["spec"]["template"]["spec"][
        "terminationGracePeriodSeconds"
    ]
    return grace


def unit_grace() -> int:
    return seconds(dict(files.unit())["TimeoutStopSec"])


CASES = {
    "compose": (files.compose()["ingest"]["environment"], compose_grace()),
    "kubernetes": (kubernetes_settings(), kubernetes_grace()),
    "systemd": (unit_settings(), unit_grace()),
}


@pytest.mark.parametrize("name", CASES)
def test_every_variable_is_a_setting_and_the_grace_is_longer_than_the_longest_stop(
    name: str,
) -> None:
    given, grace = CASES[name]
    settings = Settings.from_environment(files.image_settings() | given)
    assert max_stop_seconds(settings) <= grace <= max_stop_seconds(settings) + 10


def test_a_pod_is_known_to_be_not_ready_before_it_stops_accepting() -> None:
    (container,) = files.manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]
    settings = Settings.from_environment(kubernetes_settings())
    noticed = probe["periodSeconds"] * probe["failureThreshold"]
    assert noticed < settings.drain_grace_seconds
