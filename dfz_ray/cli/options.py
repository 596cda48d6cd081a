"""The options that several commands have in common."""

from __future__ import annotations

import click

from dfz_ray.cli import PATH

address_option = click.option(
    "--address",
    metavar="A",
    help="Which Ray: host:port, auto, or local (an embedded one) [RAY_ADDRESS, or one that runs here, or local].",
)
config_option = click.option(
    "--config",
    metavar="FILE",
    type=PATH,
    help="Settings; `dfz examples` writes configs/default.yaml, which explains them.",
)
import_option = click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE|FILE.py",
    type=PATH,
    help="A module that defines domains; may be repeated.",
)
