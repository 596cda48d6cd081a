"""The configuration that scripts of the old module name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfz_ray.errors import InvalidInput, Problem
from dfz_ray.specs.data_file import read_data
from dfz_ray.specs.encoding import plain
from dfz_ray.specs.problems import nearest
from dfz_ray.specs.settings import Settings, read_settings

DEFAULTS_FILE = Path("configs/default.yaml")
"""The file that the old examples name. Ours of that name has the defaults, so it need not be there."""


def read_configuration(given: str | Path | Mapping[str, Any] | Settings | None, stacklevel: int = 1) -> Settings:
    """The settings of an adapter or a plugin.

    The file may be one of the old system: keys that are not settings are left out, with one warning that names them. A
    misspelt setting is refused.

    Args:
        given: a path, `{"config_path": path}`, or the settings themselves; None: the defaults.
        stacklevel: of the warning, counted from the caller.

    Raises:
        InvalidInput: with everything that is wrong.
    """
    if isinstance(given, Settings):
        return given
    if isinstance(given, Mapping):
        others = dict(given)
        path = others.pop("config_path", None)
        if path is None:
            return read_settings(others)
        if others:
            found = f"config_path beside {', '.join(sorted(map(str, others)))}"
            raise InvalidInput([Problem("config", found, "a path, or the settings themselves")], "adapter")
        given = path
    if given is None or (isinstance(given, (str, Path)) and Path(given) == DEFAULTS_FILE and not Path(given).exists()):
        return Settings()
    return _read_file(given, stacklevel + 1)


def _read_file(path: Any, stacklevel: int) -> Settings:
    if not isinstance(path, (str, Path)):
        return read_settings(path)  # this refuses it
    data = plain(read_data(Path(path)))
    if not isinstance(data, dict):
        return read_settings(path)
    known = Settings.model_fields
    foreign = [key for key in data if key not in known and not (isinstance(key, str) and nearest(key, known))]
    if not foreign:
        return read_settings(path)
    names = ", ".join(map(str, foreign))
    warnings.warn(f"{path}: left out keys that are not settings: {names}", stacklevel=stacklevel + 1)
    return read_settings({key: value for key, value in data.items() if key not in foreign})
