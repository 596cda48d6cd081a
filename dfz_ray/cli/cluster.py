"""`dfz cluster`: start clusters, and let them end."""

from __future__ import annotations

import click

from dfz_ray.cli.cluster_local import local
from dfz_ray.cli.cluster_node import node
from dfz_ray.cli.cluster_slurm import slurm


@click.group("cluster")
def cluster() -> None:
    """Start several Ray nodes on this machine, one node of a cluster, or a cluster in a Slurm job. Examples:

    \b
        dfz cluster local --nodes 3 --cpus 1
        dfz cluster local --stop
        dfz cluster slurm --nodes 4 --time 2:00:00 -- dfz run batch.yaml

    cluster/README.md has these, Kubernetes, AWS and GCP: how to start, run, look and stop.
    """


local.short_help = "Start several Ray nodes on this machine, to try things out."
slurm.short_help = "Start a cluster in a Slurm job, which runs a command."
node.short_help = "Start one node of a cluster, on this machine."
for command in (local, slurm, node):
    cluster.add_command(command)
