"""The manifests in cluster/kubernetes, and the Dockerfile of their image."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from support.kuberay import MANIFEST, PodSpec, RayCluster, RayJob, find_rule_breaks, make_strict
from support.misspellings import misspell_each_field

CLUSTER = Path(__file__).parents[2] / "cluster"
MANIFESTS = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
RAY_MANIFESTS = [path for path in MANIFESTS if path.name.startswith("ray-")]
SCHEMAS = os.environ.get("DFZ_KUBERAY_SCHEMAS")
"""A folder with KubeRay's schemas, `rayclusters.v1.schema.json.gz` and `rayjobs.v1.schema.json.gz`."""
RAY_S_OWN = {"rayStartParams"}
INSTRUCTIONS = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def cluster_of(path: Path) -> Any:
    manifest = MANIFEST.validate_python(read(path))
    assert isinstance(manifest, RayCluster | RayJob)
    return manifest.spec.rayClusterSpec if isinstance(manifest, RayJob) else manifest.spec


def pods_of(path: Path) -> list[PodSpec]:
    manifest, cluster = MANIFEST.validate_python(read(path)), cluster_of(path)
    groups = [cluster.headGroupSpec, *cluster.workerGroupSpecs]
    submitter = [manifest.spec.submitterPodTemplate.spec] if isinstance(manifest, RayJob) else []
    return [*(group.template.spec for group in groups), *submitter]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_has_known_fields_and_each_misspelt_one_is_refused(path: Path) -> None:
    """Every manifest is accepted as it is, and refused as soon as any of its fields is misspelt."""
    document = read(path)
    MANIFEST.validate_python(document)

    wrong = list(misspell_each_field(document, RAY_S_OWN))

    assert len(wrong) >= 8
    for name, misspelt in wrong:
        with pytest.raises(ValidationError):
            print(name, MANIFEST.validate_python(misspelt))


@pytest.mark.parametrize("path", RAY_MANIFESTS, ids=lambda path: path.name)
@pytest.mark.skipif(SCHEMAS is None, reason="DFZ_KUBERAY_SCHEMAS names no folder with KubeRay's schemas")
def test_kuberay_s_own_schemas_accept_the_manifests_and_refuse_misspelt_fields(path: Path) -> None:
    """KubeRay's `v1` schemas accept each manifest, and refuse it with any of its fields misspelt."""
    import jsonschema

    document = read(path)
    file = Path(SCHEMAS or "") / f"{document['kind'].lower()}s.v1.schema.json.gz"
    schema = make_strict(json.loads(gzip.decompress(file.read_bytes())))
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}  # Kubernetes checks it, and not KubeRay
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(document)

    for name, misspelt in misspell_each_field(document, RAY_S_OWN):
        if not name.endswith((".cpu", ".memory")):  # names of resources are free
            assert not validator.is_valid(misspelt), name


@pytest.mark.parametrize("path", RAY_MANIFESTS, ids=lambda path: path.name)
def test_the_operator_s_rules_are_kept(path: Path) -> None:
    """No manifest breaks a rule that KubeRay's operator checks beyond its schema."""
    manifest = MANIFEST.validate_python(read(path))
    assert list(find_rule_breaks(cluster_of(path), manifest.spec if isinstance(manifest, RayJob) else None)) == []


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("ray-job.yaml", "rayClusterSpec.rayVersion", "2.51.1", "it needs 2.52.0"),
        ("ray-job.yaml", "shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished without"),
        ("ray-cluster.yaml", "workerGroupSpecs.0.minReplicas", 9, "has minReplicas 9, maxReplicas 8"),
        ("ray-cluster.yaml", "headGroupSpec.template.spec.restartPolicy", "Always", "should be Never or unset"),
        ("ray-cluster.yaml", "headGroupSpec.rayStartParams.labels", "a=b", "is not supported"),
    ],
)
def test_a_broken_rule_is_found(name: str, place: str, value: object, message: str) -> None:
    """A manifest that its schema allows, and the operator does not, is found."""
    document = read(CLUSTER / "kubernetes" / name)
    *folders, last = place.split(".")
    inner = document["spec"]
    for key in folders:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    manifest = MANIFEST.validate_python(document)
    assert isinstance(manifest, RayCluster | RayJob)

    job = manifest.spec if isinstance(manifest, RayJob) else None
    cluster = manifest.spec.rayClusterSpec if isinstance(manifest, RayJob) else manifest.spec

    assert message in "; ".join(find_rule_breaks(cluster, job))


@pytest.mark.parametrize("path", RAY_MANIFESTS, ids=lambda path: path.name)
def test_pods_are_unprivileged_and_get_what_they_ask_for(path: Path) -> None:
    """No pod runs as root or can gain rights, limits equal requests, and no manifest holds a token."""
    for pod in pods_of(path):
        for container in pod.containers:
            assert container.resources.requests == container.resources.limits
            assert container.securityContext.capabilities.drop == ["ALL"]
    assert cluster_of(path).authOptions.model_dump() == {"mode": "token", "secretName": "dfz-ray-token"}
    assert "kind: Secret" not in path.read_text()


@pytest.mark.parametrize("path", RAY_MANIFESTS, ids=lambda path: path.name)
def test_nodes_have_ports_that_are_known(path: Path) -> None:
    """Every port of a node is fixed, by an option that `ray start` has, and the head takes no tasks."""
    from ray.scripts.scripts import start

    options = {name.lstrip("-") for parameter in start.params for name in parameter.opts}
    cluster = cluster_of(path)
    head = cluster.headGroupSpec.rayStartParams
    assert head["num-cpus"] == "0"
    for params in (head, *(group.rayStartParams for group in cluster.workerGroupSpecs)):
        assert set(params) <= options
        ports = [int(number) for name, number in params.items() if name.endswith("port") and "worker" not in name]
        assert len(set(ports)) == len(ports) >= 6
        assert not [port for port in ports if int(params["min-worker-port"]) <= port <= int(params["max-worker-port"])]
    published = {port.containerPort for port in cluster.headGroupSpec.template.spec.containers[0].ports}
    assert published == {int(head[name]) for name in ("port", "dashboard-port", "metrics-export-port")}


def test_a_retried_job_finds_its_run_folder() -> None:
    """The run folder of the job lies on the claimed volume, whatever cluster a retry gets."""
    job = MANIFEST.validate_python(read(CLUSTER / "kubernetes/ray-job.yaml"))
    claim = MANIFEST.validate_python(read(CLUSTER / "kubernetes/runs-volume.yaml"))
    assert isinstance(job, RayJob)

    words = job.spec.entrypoint.split()
    folder = words[words.index("--run-dir") + 1]
    head = job.spec.rayClusterSpec.headGroupSpec.template.spec
    mounts = {mount.mountPath: mount.name for mount in head.containers[0].volumeMounts}
    volumes = {volume.name: volume for volume in head.volumes}

    source = volumes[mounts[str(Path(folder).parent)]].persistentVolumeClaim
    assert source is not None
    assert source.claimName == claim.metadata.name
    assert job.spec.backoffLimit > 0
    assert volumes[mounts[str(Path(words[2]).parent)]].configMap is not None


def test_the_image_runs_unprivileged_with_the_ray_of_the_manifests() -> None:
    """The image's user is the pods' one, its Ray is the one that the manifests name, and it has what probes call."""
    lines = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {instruction for instruction, _ in steps} <= INSTRUCTIONS
    arguments = dict(text.split("=") for instruction, text in steps if instruction == "ARG")
    users = [text for instruction, text in steps if instruction == "USER"]

    for path in RAY_MANIFESTS:
        assert cluster_of(path).rayVersion == arguments["RAY_VERSION"]
        assert {str(pod.securityContext.runAsUser) for pod in pods_of(path)} == set(users)
    assert re.search(r"apt-get install [^&]*\bwget\b", "\n".join(text for _, text in steps))
    root = CLUSTER.parent
    for instruction, text in steps:
        if instruction == "COPY" and not text.startswith("--from"):
            assert all((root / name).exists() for name in text.split()[:-1])
