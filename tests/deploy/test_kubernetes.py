"""kubernetes/: valid, and one whole."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.deploy import files

OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(version: str) -> None:
    for one in files.manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_a_member_that_kubernetes_does_not_know_is_found() -> None:
    one = files.manifest("Deployment")
    one["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, OLDEST, strict=True)


def test_services_budget_and_probes_lead_to_the_pods() -> None:
    template = files.manifest("Deployment")["spec"]["template"]
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listening = {int(value.rpartition(":")[2]) for value in listeners()}
    assert set(ports.values()) == listening
    services = [one for one in files.manifests() if one["kind"] == "Service"]
    for one in (*services, files.manifest("PodDisruptionBudget")):
        selector = one["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels
    assert {one["spec"]["ports"][0]["targetPort"] for one in services} == set(ports)
    (headless,) = (one for one in services if one["spec"].get("clusterIP") == "None")
    assert headless["spec"]["ports"][0]["targetPort"] == "grpc"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def listeners() -> list[str]:
    settings = files.image_settings()
    return [settings["WEPEOPLE_HTTP"], settings["WEPEOPLE_GRPC"]]


def test_job_and_pods_run_the_same_image_without_rights() -> None:
    specs: list[dict[str, Any]] = [
        files.manifest(kind)["spec"]["template"]["spec"] for kind in ("Deployment", "Job")
    ]
    for spec in specs:
        (container,) = spec["containers"]
        assert container["image"] == files.compose()["ingest"]["image"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        user = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
        assert ("USER", user) in files.instructions()
