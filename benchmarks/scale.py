"""The main job: how a batch scales with the number of workers. The same program as `dfz scale`; see `--help`."""

import sys

from dfz_ray.cli import call
from dfz_ray.cli.scale import scale

if __name__ == "__main__":
    sys.exit(call(scale, name="scale.py"))
