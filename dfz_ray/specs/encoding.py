"""Values as bytes: MessagePack, so that the manager carries them without looking inside.

NaN, infinities, bytes and integers of any size survive; NumPy scalars and arrays, tuples and sets of plain values
become numbers and lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack

from dfz_ray.errors import Unserializable

BIG_INTEGER = 1
"""MessagePack extension type of an integer beyond 64 bits: its decimal digits, signed, little-endian."""


def encode(value: Any) -> bytes:
    """Encode a value.

    Raises:
        Unserializable: naming the type that has no encoding, or the nesting that is too deep.
    """
    try:
        return msgpack.packb(value, default=_plain, unicode_errors="surrogatepass")  # type: ignore[no-any-return]
    except Unserializable:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise Unserializable(f"can't be stored as MessagePack: {error}") from None


def decode(data: bytes) -> Any:
    """Decode what `encode` made."""
    return msgpack.unpackb(data, ext_hook=_extension, strict_map_key=False, unicode_errors="surrogatepass")


def plain(value: Any) -> Any:
    """The value with NumPy scalars and arrays, tuples and sets as numbers and lists, at every depth."""
    if isinstance(value, (str, bool, int, float, bytes, type(None))) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    try:
        return plain(_plain(value))
    except Unserializable:
        return value


def digest(result: Any, volatile: frozenset[str] = frozenset()) -> bytes:
    """SHA-256 of a result without its volatile keys, the same for equal results: keys are put in order first."""
    if volatile and isinstance(result, Mapping):
        result = {key: value for key, value in result.items() if key not in volatile}
    return hashlib.sha256(encode(_ordered(result))).digest()


def run_digest(digests: Iterable[tuple[str, bytes]]) -> str:
    """The digest of a run, in hex, from the id and the digest of every completed task, in any order.

    SHA-256 over, in the order of the ids' UTF-8 bytes: the length of the id in bytes (8 bytes, little-endian), the id,
    and the task's digest.
    """
    whole = hashlib.sha256()
    for name, own in sorted((task_id.encode(), own) for task_id, own in digests):
        whole.update(len(name).to_bytes(8, "little") + name + own)
    return whole.hexdigest()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=repr)}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, int):  # the packer hands over only those beyond 64 bits
        return msgpack.ExtType(BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        listed = value.tolist()
        if type(listed) is not type(value):
            return listed
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    raise Unserializable(f"a value of type {type(value).__qualname__!r} can't be stored as MessagePack")


def _extension(code: int, data: bytes) -> Any:
    if code == BIG_INTEGER:
        return int.from_bytes(data, "little", signed=True)
    return msgpack.ExtType(code, data)
