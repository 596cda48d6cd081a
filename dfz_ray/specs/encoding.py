"""Encodes values as MessagePack, so that the manager passes them on without looking inside.

NaN, infinities, bytes and integers of any size survive; NumPy scalars and arrays, tuples and sets of plain values
become numbers and lists. A tuple as a key stays a tuple.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256  # bound here, for a task may replace it
from typing import Any

import msgpack

from dfz_ray.errors import Unserializable

DEPTH_LIMIT = 50
"""Input that nests deeper is refused: it is a mistake or an attack."""
SCALARS = frozenset({str, bool, int, float, bytes, type(None)})
_EXACT: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (int, int.__int__),
    (float, float.__float__),
    (str, str.__str__),
    ((bytes, bytearray, memoryview), bytes),
)
"""For an instance of a subclass (e.g. an IntEnum): a type, and the function that returns the plain value."""
BIG_INTEGER = 1
"""MessagePack extension type of an integer beyond 64 bits: its bytes in two's complement, little-endian."""
_HEAD_OF_LIST = struct.Struct(">BI").pack
"""The head of MessagePack's longest lists: a byte for their type, and the number of values that follow."""
_KEPT_BYTES = 2**18
"""A packer that has packed more keeps a larger buffer, and is not used again."""
_Packer, _unpackb = msgpack.Packer, msgpack.unpackb
"""Bound here, for a packer that a task's own class had made would serve the tasks after it, too."""
_idle: list[msgpack.Packer] = []
"""Idle packers, for making one takes several times as long as packing a small value. A packer is taken out while it is
used, so that neither two threads share it, nor two values of which one is encoded while the other is simplified.
"""


def encode(value: Any) -> bytes:
    """Encode a value. Raises Unserializable if a type has no encoding, or the value nests too deeply."""
    try:
        packer = _idle.pop()
    except IndexError:
        packer = _Packer(default=_packable, unicode_errors="surrogatepass")
    try:
        packed: bytes = packer.pack(value)
    except Unserializable:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise Unserializable(f"can't be stored as MessagePack: {error}") from None
    if len(packed) <= _KEPT_BYTES:
        _idle.append(packer)
    return packed


def decode(data: bytes) -> Any:
    """Decode the result of `encode`."""
    try:
        return _unpack(data)
    except TypeError:  # a tuple as a key has become a list
        return _unpack(data, object_pairs_hook=lambda pairs: {_key(key): item for key, item in pairs})


def plain(value: Any, levels: int = DEPTH_LIMIT) -> Any:
    """The value with NumPy scalars and arrays, tuples and sets as numbers and lists, at every depth.

    Values without a plain form are left as they are. Raises Unserializable for a value that nests deeper than `levels`.
    """
    if type(value) in SCALARS:
        return value
    if levels == 0:
        raise Unserializable(f"it nests deeper than {DEPTH_LIMIT} levels, or contains itself")
    if isinstance(value, Mapping):
        return {_key(plain(key, levels - 1)): plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, levels - 1) for item in value]
    for kind, exact in _EXACT:
        if isinstance(value, kind):
            return exact(value)
    try:
        return plain(_simplify(value), levels - 1)
    except Unserializable:
        return value


def digest(result: Any, volatile: frozenset[str] = frozenset()) -> bytes:
    """SHA-256 of a result without its volatile keys. Equal results have equal digests, for keys are sorted first.

    Raises Unserializable if the result has no encoding, or nests too deeply.
    """
    if volatile and isinstance(result, Mapping):
        result = {key: value for key, value in result.items() if key not in volatile}
    try:
        ordered = _ordered(result)
    except RecursionError:
        raise Unserializable("can't be stored as MessagePack: it nests too deeply, or contains itself") from None
    except ValueError as error:  # keys are put in order by their text, and Python writes no integer of 4,301 digits
        raise Unserializable(f"a key has no text: {error}") from None
    return sha256(encode(ordered)).digest()


def digest_of(packed: bytes, volatile: frozenset[str] = frozenset()) -> bytes:
    """The digest of a result as `encode` has packed it. Raises the same as `digest`.

    MessagePack's own unpacking puts the keys of each mapping in order; `digest` does it value by value, and takes
    several times as long.
    """
    try:
        ordered = _unpack_in_order(packed)
    except Exception:  # such as a tuple as a key
        return digest(decode(packed), volatile)
    if volatile and type(ordered) is dict and not volatile.isdisjoint(ordered):
        for key in volatile:
            ordered.pop(key, None)
    return sha256(encode(ordered)).digest()


def digests_of(packed: Sequence[bytes], volatile: frozenset[str] = frozenset()) -> list[bytes]:
    """The digest of each of several results, as `digest_of` tells them; it takes half as long. Raises the same."""
    if not volatile:
        with contextlib.suppress(Exception):  # such as a tuple as a key
            ordered = list(map(encode, _unpack_in_order(_HEAD_OF_LIST(0xDD, len(packed)) + b"".join(packed))))
            if list(map(len, ordered)) == list(map(len, packed)):  # each value is that of one result
                return [sha256(value).digest() for value in ordered]
    return [digest_of(one, volatile) for one in packed]


def run_digest(digests: Iterable[tuple[str, bytes]]) -> str:
    """The digest of a run, in hex, from the id and the digest of every completed task, in any order.

    SHA-256 over, in the order of the ids' UTF-8 bytes: the length of the id in bytes (8 bytes, little-endian), the id,
    and the task's digest.
    """
    whole = sha256()
    update, length = whole.update, struct.Struct("<Q").pack
    for name, own in sorted([(task_id.encode(), own) for task_id, own in digests]):
        update(length(len(name)) + name + own)
    return whole.hexdigest()


_orders: dict[tuple[Any, ...], dict[Any, Any]] = {}
"""By the keys of mappings: a mapping that has them in order, without their values."""
_KNOWN_ORDERS = 1_000
"""Beyond it all are forgotten."""
_LONGEST_ORDER = 64
"""Orders of more keys are not remembered."""


def _in_order(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """The mapping in the order in which `digest` has its keys."""
    keys = tuple(mapping)
    order = _orders.get(keys)
    if order is None:
        order = dict.fromkeys(sorted(keys, key=repr))
        # Keys such as 1 and True are equal, but written in another order.
        if len(keys) <= _LONGEST_ORDER and set(map(type, keys)) <= {str}:
            if len(_orders) >= _KNOWN_ORDERS:
                _orders.clear()
            _orders[keys] = order
    return order | mapping


def _big_integer(code: int, data: bytes) -> int:
    if code != BIG_INTEGER:
        raise Unserializable(f"a value of MessagePack's extension type {code} can't be stored")
    return int.from_bytes(data, "little", signed=True)


_unpack_in_order = functools.partial(
    _unpackb,
    object_hook=_in_order,
    ext_hook=_big_integer,
    strict_map_key=False,
    unicode_errors="surrogatepass",
)


def _ordered(value: Any) -> Any:
    if type(value) in SCALARS:
        return value
    if isinstance(value, Mapping):
        plain_keys = {key if type(key) in SCALARS else _key(plain(key)): item for key, item in value.items()}
        return {key: _ordered(plain_keys[key]) for key in sorted(plain_keys, key=repr)}
    if isinstance(value, (msgpack.ExtType, msgpack.Timestamp)):  # no reader of a journal would know what it means
        raise Unserializable(f"a value of type {type(value).__qualname__!r} can't be stored")
    if isinstance(value, (list, tuple)):
        return value if SCALARS.issuperset(map(type, value)) else [_ordered(item) for item in value]
    if getattr(getattr(value, "dtype", None), "hasobject", False):  # an array that may hold mappings
        return _ordered(_simplify(value))
    return value


def _key(key: Any) -> Any:
    """A hashable key: lists become tuples."""
    return tuple(map(_key, key)) if isinstance(key, list) else key


def _unpack(data: bytes, **options: Any) -> Any:
    return _unpackb(data, ext_hook=_extension, strict_map_key=False, unicode_errors="surrogatepass", **options)


def _packable(value: Any) -> Any:
    """A form of a value that the packer can encode."""
    if isinstance(value, int):  # the packer hands over only those beyond 64 bits
        return msgpack.ExtType(BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    simpler = _simplify(value)
    return simpler if _packs(simpler) else _packable(simpler)


def _simplify(value: Any) -> Any:
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        listed = value.tolist()
        if type(listed) is not type(value):
            return listed
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    raise Unserializable(f"a value of type {type(value).__qualname__!r} can't be stored as MessagePack")


def _packs(value: Any) -> bool:
    """True if the packer can encode the value itself."""
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return type(value) in SCALARS or isinstance(value, (list, tuple, dict))


def _extension(code: int, data: bytes) -> Any:
    if code == BIG_INTEGER:
        return int.from_bytes(data, "little", signed=True)
    return msgpack.ExtType(code, data)
