"""The part of Kubernetes' and KubeRay's resources that cluster/kubernetes uses; unknown fields are refused.

The names are those of the `v1` APIs. `find_rule_breaks` has the rules that KubeRay's operator checks beyond its schema.
`make_strict` makes KubeRay's own schemas, where they are at hand, refuse unknown fields as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Port = Annotated[str, StringConstraints(pattern=r"^\d{4,5}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
Kubernetes = ConfigDict(extra="forbid", strict=True)


class Strict(BaseModel):
    model_config = Kubernetes


class Metadata(Strict):
    name: Name


class Quantities(Strict):
    cpu: Quantity
    memory: Quantity


class Resources(Strict):
    requests: Quantities
    limits: Quantities


class Capabilities(Strict):
    drop: list[str]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities


class SeccompProfile(Strict):
    type: Literal["RuntimeDefault", "Localhost", "Unconfined"]


class PodSecurity(Strict):
    runAsNonRoot: Literal[True]
    runAsUser: Annotated[int, Field(ge=1)]
    runAsGroup: Annotated[int, Field(ge=1)]
    fsGroup: int | None = None
    seccompProfile: SeccompProfile


class ContainerPort(Strict):
    name: Name
    containerPort: int


class VolumeMount(Strict):
    name: Name
    mountPath: str
    readOnly: bool = False


class Container(Strict):
    name: Name
    image: str
    securityContext: ContainerSecurity
    ports: list[ContainerPort] = []
    resources: Resources
    volumeMounts: list[VolumeMount] = []


class ClaimSource(Strict):
    claimName: Name


class ConfigMapSource(Strict):
    name: Name


class Volume(Strict):
    name: Name
    persistentVolumeClaim: ClaimSource | None = None
    configMap: ConfigMapSource | None = None


class PodSpec(Strict):
    restartPolicy: Literal["Always", "OnFailure", "Never"] | None = None
    securityContext: PodSecurity
    automountServiceAccountToken: bool = True
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] = []


class PodTemplate(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    rayStartParams: dict[str, str]
    template: PodTemplate


class WorkerGroup(HeadGroup):
    groupName: str
    replicas: int
    minReplicas: int
    maxReplicas: int


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]
    secretName: Name


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: Annotated[int, Field(ge=0)]
    resources: Resources
    securityContext: ContainerSecurity


class RayClusterSpec(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: RayClusterSpec


class RayJobSpec(Strict):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    backoffLimit: Annotated[int, Field(ge=0)]
    preRunningDeadlineSeconds: Annotated[int, Field(ge=1)]
    activeDeadlineSeconds: Annotated[int, Field(ge=1)]
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]
    suspend: bool = False
    submitterPodTemplate: PodTemplate
    rayClusterSpec: RayClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


class Storage(Strict):
    storage: Quantity


class StorageRequests(Strict):
    requests: Storage


class ClaimSpec(Strict):
    accessModes: list[Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]]
    resources: StorageRequests


class VolumeClaim(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec


MANIFEST: TypeAdapter[RayCluster | RayJob | VolumeClaim] = TypeAdapter(
    Annotated[RayCluster | RayJob | VolumeClaim, Field(discriminator="kind")]
)


def find_rule_breaks(cluster: RayClusterSpec, job: RayJobSpec | None = None) -> Iterator[str]:
    """Yield what KubeRay's operator would refuse, though its schema allows it."""
    if cluster.authOptions.mode == "token" and _version(cluster.rayVersion) < (2, 52):
        yield f"authOptions.mode is 'token' with Ray {cluster.rayVersion}; it needs 2.52.0"
    for group in cluster.workerGroupSpecs:
        if not 0 <= group.minReplicas <= group.maxReplicas:
            yield f"worker group {group.groupName} has minReplicas {group.minReplicas}, maxReplicas {group.maxReplicas}"
    for params in (cluster.headGroupSpec.rayStartParams, *(group.rayStartParams for group in cluster.workerGroupSpecs)):
        if "labels" in params:
            yield "rayStartParams['labels'] is not supported"
    pods = [cluster.headGroupSpec, *cluster.workerGroupSpecs]
    version = cluster.autoscalerOptions.version if cluster.autoscalerOptions else None
    if cluster.enableInTreeAutoscaling and version == "v2":
        for pod in pods:
            if pod.template.spec.restartPolicy not in (None, "Never"):
                yield "restartPolicy should be Never or unset when using autoscaler v2"
    if job is not None and job.suspend and not job.shutdownAfterJobFinishes:
        yield "a RayJob with shutdownAfterJobFinishes set to false is not allowed to be suspended"
    if job is not None and job.ttlSecondsAfterFinished and not job.shutdownAfterJobFinishes:
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def make_strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema from KubeRay's OpenAPI schema that refuses the fields that it does not know."""
    if schema.get("x-kubernetes-int-or-string"):
        pattern = {"pattern": schema["pattern"]} if "pattern" in schema else {}
        return {"anyOf": [{"type": "integer"}, {"type": "string", **pattern}]}
    strict = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema:
        strict["properties"] = {name: make_strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            strict[key] = make_strict(schema[key])
    return strict
