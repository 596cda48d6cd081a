"""Values as bytes, and the digests by which results and runs are compared."""

from __future__ import annotations

import collections
import concurrent.futures
import datetime
import decimal
import enum
import hashlib
import math
import random
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from support.amount import amount
from support.batch_inputs import containing_itself, nested

from dfz_ray.errors import Unserializable
from dfz_ray.specs import encoding
from dfz_ray.specs.encoding import DEPTH_LIMIT, decode, digest, digest_of, digests_of, encode, plain, run_digest
from dfz_ray.specs.task import SeedSource, derive_seed

HUGE = st.integers(-(2**300), 2**300)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates among them
SCALARS = st.none() | st.booleans() | HUGE | st.floats() | TEXTS | st.binary(max_size=8)
KEYS = TEXTS | HUGE | st.booleans() | st.none() | st.floats(allow_nan=False) | st.binary(max_size=4)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.tuples(KEYS, st.tuples(KEYS)), inner, max_size=4)
    ),
    max_leaves=15,
)
ARRAYS = st_numpy.arrays(
    st_numpy.boolean_dtypes()
    | st_numpy.integer_dtypes()
    | st_numpy.floating_dtypes(sizes=(16, 32, 64))
    | st.just("<U3"),
    st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


class Colour(enum.Enum):
    RED = 1


class LevelStats(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):  # noqa: UP042 - what users write
    YES = "yes"


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, where NaN equals NaN and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return np.float64(one).tobytes() == np.float64(other).tobytes() or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(key, other_key) and same(one[key], other[other_key])
            for key, other_key in zip(sorted(one, key=repr), sorted(other, key=repr), strict=True)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def reordered(value: Any) -> Any:
    """The same value with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(PLAIN)
@settings(max_examples=amount(300), deadline=None)
def test_plain_data_survives(value: Any) -> None:
    """Plain data comes back as it was: NaN, infinities, huge integers, bytes, lone surrogates, tuples as keys."""
    assert same(decode(encode(value)), value)
    assert same(plain(value), value)


@given(ARRAYS)
@settings(max_examples=amount(150), deadline=None)
def test_arrays_are_lists_of_numbers(array: Any) -> None:
    """A NumPy array is stored and digested as the lists and numbers that it holds."""
    listed = array.tolist()

    assert encode(array) == encode(listed)
    assert digest({"a": array}) == digest({"a": listed})
    assert same(plain(array), listed)
    assert all(same(decode(encode(item)), item.item()) for item in array.ravel())


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.int64(-5), -5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float16(1.5), 1.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
        (np.array(10**30, dtype=object), 10**30),
        (np.array([{"a": np.int8(1)}, {2}], dtype=object), [{"a": 1}, [2]]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        ({np.int64(1): 2, np.str_("a"): 3}, {1: 2, "a": 3}),
        ((1, (2, [3])), [1, [2, [3]]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (LevelStats.HIGH, 3),
        (Word.YES, "yes"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
        ({(1, (2, 3)): "pair"}, {(1, (2, 3)): "pair"}),
        ({frozenset({1}): 2}, {(1,): 2}),
        ({2**70: 1}, {2**70: 1}),
    ],
)
def test_plain_forms(value: Any, stored: Any) -> None:
    """A value with a plain form is stored in it, in whichever way."""
    assert same(decode(encode(value)), stored)
    assert same(plain(value), stored)
    assert digest(value) == digest(stored)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "'object'"),
        (1j, "'complex'"),
        (np.complex64(1j), "'complex'"),
        (np.longdouble(1), "'longdouble'"),
        (np.datetime64("2020-01-01"), "'date'"),
        (datetime.datetime(2020, 1, 1), "'datetime'"),
        (decimal.Decimal(1), "'Decimal'"),
        (Colour.RED, "'Colour'"),
        (range(3), "'range'"),
        (iter([1]), "'list_iterator'"),
        (lambda: 1, "'function'"),
        (int, "'type'"),
        (collections.deque([1]), "'deque'"),
        ({"deep": [{"er": {object()}}]}, "'object'"),
        ({Colour.RED: 1}, "'Colour'"),
    ],
)
def test_what_cant_be_stored(value: Any, name: str) -> None:
    """A value without a plain form is refused by its type; making input plain leaves it to be refused later."""
    for refuse in (encode, digest):
        with pytest.raises(Unserializable, match=name):
            refuse(value)
    assert plain([value]) is not None


@pytest.mark.parametrize("value", [nested(2_000), nested(100_000), containing_itself()], ids=["deep", "abyss", "loop"])
def test_no_bottom(value: Any) -> None:
    """A value that nests without end is refused by a named error, never a RecursionError."""
    for refuse in (encode, digest, plain):
        with pytest.raises(Unserializable, match=r"nest|recursion"):
            refuse(value)


@pytest.mark.parametrize("levels", [*range(DEPTH_LIMIT - 1, DEPTH_LIMIT + 2), *range(400, 520, 7)])
def test_results_have_a_digest_or_an_error(levels: int) -> None:
    """At whatever depth a result is refused, its type is named; a result that is stored can be read again."""
    try:
        digest(nested(levels))
        data = encode(nested(levels))
    except Unserializable:
        assert levels > DEPTH_LIMIT
    else:
        assert decode(data) == nested(levels)


@given(PLAIN)
@settings(max_examples=amount(200), deadline=None)
def test_digest_knows_no_order_of_keys(value: Any) -> None:
    """Equal results have equal digests, in whatever order their keys were put in, and after being stored."""
    assert digest(value) == digest(reordered(value)) == digest(decode(encode(value)))


@given(PLAIN, st.frozensets(st.text(max_size=2), max_size=3))
@settings(max_examples=amount(300), deadline=None)
def test_a_digest_follows_from_the_encoded_result(value: Any, volatile: frozenset[str]) -> None:
    """A digest that is computed from the bytes of a result is the one that is computed value by value."""
    assert digest_of(encode(value), volatile) == digest(value, volatile)


@given(st.lists(PLAIN, max_size=5), st.frozensets(st.text(max_size=2), max_size=1))
@settings(max_examples=amount(300), deadline=None)
def test_several_results_have_the_digests_that_each_has(values: list[Any], volatile: frozenset[str]) -> None:
    """Digests of many at once are those of each result alone."""
    packed = list(map(encode, values))
    assert digests_of(packed, volatile) == [digest_of(one, volatile) for one in packed]


@pytest.mark.parametrize(
    "cut", [[b"\x01\x02", b""], [b"", b"\x01\x02"], [b"\x92\x01", b"\x02\x03"], [b"\x01", b"\x92"]]
)
def test_bytes_that_are_no_results_have_no_digests(cut: list[bytes]) -> None:
    """Two results that are cut at another place than between them are none, though together they can be read."""
    with pytest.raises((ValueError, msgpack.UnpackException, Unserializable)):
        digests_of(cut)


def test_a_digest_of_bytes_knows_equal_keys_apart() -> None:
    """Results whose keys are equal numbers of other types, or in another order, keep the digests that they had."""
    for value in ({1: 1, "a": 2}, {True: 1, "a": 2}, {1.0: 1, "a": 2}, {"a": 2, 1: 1}, {(1, 2): 3, "b": {2: 1, 1: 2}}):
        assert digest_of(encode(value)) == digest(value)
        assert digests_of([encode(value)] * 2) == [digest(value)] * 2
    with pytest.raises(Unserializable, match=r"ExtType|extension"):
        digest_of(msgpack.packb([msgpack.ExtType(7, b"x")]))


def test_digest_knows_no_order_of_keys_in_other_containers() -> None:
    """The order of keys does not count in any kind of mapping, nor in an array of mappings."""
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}

    assert digest(types.MappingProxyType(one)) == digest(other)
    assert digest(np.array([one], dtype=object)) == digest([other])
    assert digest({np.int64(10): 1, np.int64(9): 2}) == digest({9: 2, 10: 1})


@given(st.dictionaries(TEXTS, PLAIN, max_size=5), st.sets(TEXTS, max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=amount(100), deadline=None)
def test_digest_leaves_volatile_keys_out(value: dict[str, Any], volatile: set[str], rng: random.Random) -> None:
    """Values under the volatile keys of a result do not change its digest, and all others do."""
    chosen = frozenset(volatile | set(list(value)[:1]))
    noisy = {**value, **{key: rng.random() for key in chosen}}

    assert digest(noisy, chosen) == digest(value, chosen)
    assert digest({**noisy, "other": 1}, chosen - {"other"}) != digest({**noisy, "other": 2}, chosen - {"other"})
    assert digest({"inner": noisy}, chosen - {"inner"}) == digest({"inner": noisy}), "only keys at the top are left out"


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (0, False), (None, []), ("1", 1), (b"a", "a"), ([1, 2], [2, 1]), (0.0, -0.0)]
)
def test_digest_tells_results_apart(one: Any, other: Any) -> None:
    """Results that differ in type, sign or order have different digests."""
    assert digest({"x": one}) != digest({"x": other})


class Encoding(collections.UserDict[str, Any]):
    """A mapping that encodes others while it is encoded."""

    def __iter__(self) -> Iterator[str]:
        for key in self.data:
            assert decode(encode({"inner": {2**70}})) == {"inner": [2**70]}
            yield key


def test_encoding_within_encoding() -> None:
    """A value may encode others while it is encoded itself, and a refused value spoils nothing that follows."""
    value = {"a": [1, Encoding(b=Encoding(c="x" * 300_000)), "end"]}

    for _ in range(3):
        assert decode(encode(value)) == {"a": [1, {"b": {"c": "x" * 300_000}}, "end"]}
        with pytest.raises(Unserializable):
            encode(["half of it", Encoding(b=[object()])])
        assert encode({}) == b"\x80"


def test_encoding_in_many_threads() -> None:
    """Threads encode at the same time, and each gets its own value."""
    values = [{"number": number, "set": {number}, "big": 2**70 + number, "text": "x" * number} for number in range(200)]
    expected = [msgpack.packb(decode(encode(value)), default=_big) for value in values]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            encoded = list(pool.map(encode, values * 20))
    finally:
        sys.setswitchinterval(interval)

    assert encoded == expected * 20


def _big(value: int) -> msgpack.ExtType:
    return msgpack.ExtType(1, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


@given(st.dictionaries(st.text(max_size=6), st.binary(min_size=32, max_size=32), max_size=6), st.randoms())
@settings(max_examples=amount(100), deadline=None)
def test_run_digest_knows_no_order(digests: dict[str, bytes], rng: random.Random) -> None:
    """The digest of a run is that of its tasks' digests in the order of their ids, in whatever order they ended."""
    ended = list(digests.items())
    rng.shuffle(ended)
    whole = b"".join(
        len(name.encode()).to_bytes(8, "little") + name.encode() + digests[name]
        for name in sorted(digests, key=str.encode)
    )

    assert run_digest(iter(ended)) == hashlib.sha256(whole).hexdigest()


def test_run_digest_depends_on_all() -> None:
    """A task more, another id and another result each change the digest of a run, wherever an id ends."""
    one, two = bytes(32), bytes([1]) * 32
    runs: list[Mapping[str, bytes]] = [{}, {"a": one}, {"a": two}, {"b": one}, {"a": one, "b": one}, {"ab": one}]

    assert len({run_digest(run.items()) for run in runs}) == len(runs)


def test_seed_is_the_same_everywhere() -> None:
    """A task's seed is the first 63 bits of SHA-256 over batch seed and id: anyone can compute it again."""
    expected = int(hashlib.sha256(b"7:g4").hexdigest()[:16], 16) >> 1

    assert derive_seed(7, "g4") == expected < 2**63
    assert derive_seed(7, "g5") != derive_seed(7, "g4") != derive_seed(8, "g4")


@given(st.integers(0, 2**63 - 1), st.lists(TEXTS, max_size=3))
def test_one_source_of_seeds(batch_seed: int, ids: list[str]) -> None:
    """A batch's source of seeds derives the seed of every task as if it were the only one."""
    source = SeedSource(batch_seed)

    for task_id in ids:
        text = f"{batch_seed}:{task_id}".encode("utf-8", "surrogatepass")
        expected = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
        assert source.derive(task_id) == derive_seed(batch_seed, task_id) == expected


def test_a_key_that_python_can_not_write_is_refused() -> None:
    """A result whose keys have no text, and so no order, is refused like any other one that can not be stored."""
    with pytest.raises(Unserializable, match="a key has no text"):
        digest({7**8000: 1, 1: 2})
    assert digest({1: 7**8000}) != digest({1: 7**8001})


@pytest.mark.parametrize("value", [msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2)])
def test_extensions_of_others_are_refused(value: Any) -> None:
    """A value that MessagePack packs, and whose meaning no reader of a journal would know, is no result."""
    for result in (value, [value], {"nested": [1, value]}):
        with pytest.raises(Unserializable, match=type(value).__name__):
            digest(result)


def test_a_packer_of_someone_else_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task puts in the place of MessagePack's classes makes no packer that would serve the tasks after it."""
    monkeypatch.setattr(encoding, "_idle", [])
    monkeypatch.setattr(msgpack, "Packer", None)
    monkeypatch.setattr(msgpack, "unpackb", None)

    assert decode(encode({"a": [1, 2**70]})) == {"a": [1, 2**70]}
