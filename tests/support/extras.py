"""Tests that need a library of an extra, which is left out where only the other ones are tried."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch, of the extra `image`")
