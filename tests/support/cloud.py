"""The fields of instances in `ray up` files, which Ray's own check leaves open: it hands them to the cloud unread."""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AwsProvider(Strict):
    type: Literal["aws"]
    region: str
    cache_stopped_nodes: bool


class GcpProvider(Strict):
    type: Literal["gcp"]
    region: str
    availability_zone: str
    project_id: str


PROVIDER: TypeAdapter[AwsProvider | GcpProvider] = TypeAdapter(
    Annotated[AwsProvider | GcpProvider, Field(discriminator="type")]
)


class Market(Strict):
    MarketType: Literal["spot", "capacity-block"]


class Metadata(Strict):
    HttpTokens: Literal["required", "optional"]


class BlockDevice(Strict):
    VolumeSize: Annotated[int, Field(ge=1)]
    VolumeType: Literal["gp3", "gp2"]
    Encrypted: bool


class DeviceMapping(Strict):
    DeviceName: str
    Ebs: BlockDevice


class AwsInstance(Strict):
    """Fields of EC2's RunInstances."""

    ImageId: str
    InstanceType: str
    InstanceMarketOptions: Market | None = None
    MetadataOptions: Metadata
    BlockDeviceMappings: list[DeviceMapping]


class DiskParams(Strict):
    diskSizeGb: Annotated[int, Field(ge=10)]
    sourceImage: str


class Disk(Strict):
    boot: bool
    autoDelete: bool
    type: Literal["PERSISTENT", "SCRATCH"]
    initializeParams: DiskParams


class Scheduling(Strict):
    provisioningModel: Literal["SPOT", "STANDARD"]
    instanceTerminationAction: Literal["DELETE", "STOP"]
    automaticRestart: bool


class Shielded(Strict):
    enableSecureBoot: bool


class GcpInstance(Strict):
    """Fields of Compute Engine's instances.insert."""

    machineType: str
    disks: list[Disk]
    scheduling: Scheduling | None = None
    shieldedInstanceConfig: Shielded


INSTANCES = {"aws": AwsInstance, "gcp": GcpInstance}


class NodeResources(Strict):
    CPU: Annotated[int, Field(ge=0)]


def check_cluster_file(config: dict[str, Any]) -> dict[str, Any]:
    """Check a `ray up` file as Ray does, then the fields that Ray does not check; returns it with Ray's defaults.

    Raises an error of Ray's, jsonschema's or pydantic's.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    provider = PROVIDER.validate_python(config["provider"])
    for node in config["available_node_types"].values():
        INSTANCES[provider.type].model_validate(node["node_config"])
        NodeResources.model_validate(node["resources"])
    return prepared
