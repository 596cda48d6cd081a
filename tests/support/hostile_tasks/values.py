"""Results that change, lie or never end."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import mmap
import os
import random
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
import ray

from support.hostile_tasks.deed import COMPLETED, DIED, LATE, NO_MEMORY, RAISED, UNSTORABLE, deed, loop, repeat

ANY = (COMPLETED, RAISED, UNSTORABLE)

# --- they change ------------------------------------------------------------------------------------------------------


@deed(*ANY, own_result=True)
def a_list_that_grows_when_it_is_returned() -> Any:
    grown = list(range(300_000))
    repeat(lambda: grown.append(len(grown)), each_s=0)
    return grown


@deed(*ANY, own_result=True)
def a_mapping_that_changes_when_it_is_returned() -> Any:
    changed: dict[Any, Any] = {str(number): {"n": number} for number in range(30_000)}

    def change() -> None:
        changed[str(random.randrange(60_000))] = random.random()
        changed.pop(str(random.randrange(60_000)), None)

    repeat(change, each_s=0)
    return changed


@deed(*ANY, own_result=True)
def bytes_that_change_when_they_are_returned() -> Any:
    changed = bytearray(os.urandom(1_000_000))
    repeat(lambda: changed.__setitem__(random.randrange(1_000_000), 7), each_s=0)
    return {"bytes": changed, "view": memoryview(changed)}


@deed(*ANY, own_result=True)
def an_array_that_changes_when_it_is_returned() -> Any:
    changed = np.zeros(200_000)
    repeat(lambda: changed.__iadd__(1), each_s=0)
    return changed


@deed(*ANY, own_result=True)
def a_shared_memory() -> Any:
    shared = mmap.mmap(-1, 100_000)
    repeat(lambda: shared.__setitem__(5, random.randrange(256)), each_s=0)
    return memoryview(shared)


@deed(*ANY, own_result=True)
def another_value_each_time() -> Any:
    class Changing(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return random.random()

        def __iter__(self) -> Iterator[str]:
            return iter([str(random.random()) for _ in range(5)])

        def __len__(self) -> int:
            return 5

    return Changing()


@deed(*ANY, own_result=True)
def items_that_change_by_being_read() -> Any:
    class Changing(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            self.append(len(self))
            return iter(range(len(self)))

    return {"list": Changing([1, 2])}


# --- they lie ---------------------------------------------------------------------------------------------------------


@deed(*ANY, own_result=True)
def a_list_that_has_no_length() -> Any:
    class Lying(list[Any]):
        def __len__(self) -> int:
            return -1

        def __bool__(self) -> bool:
            raise ValueError("no truth")

    return Lying([1, 2, 3])


@deed(*ANY, own_result=True)
def a_mapping_with_other_items() -> Any:
    class Lying(dict[str, Any]):
        def items(self) -> Any:
            return [("other", 1), ("other", 2), 3]

        keys = values = __iter__ = items  # type: ignore[assignment]

        def __getitem__(self, _: str) -> Any:
            raise SystemExit("no item")

    return Lying(own=1)


@deed(*ANY, own_result=True)
def a_text_that_is_none() -> Any:
    class Lying(str):
        __eq__ = __hash__ = __str__ = encode = __len__ = None  # type: ignore[assignment]

    return [Lying("a text?")]


@deed(*ANY, own_result=True)
def numbers_that_are_none() -> Any:
    class Lying(int):
        __int__ = __index__ = to_bytes = bit_length = __lt__ = __eq__ = None  # type: ignore[assignment]
        __hash__ = int.__hash__

    class Floating(float):
        __float__ = __repr__ = None  # type: ignore[assignment]

    return [Lying(5), Lying(2**70), Floating(0.5)]


@deed(*ANY, own_result=True)
def keys_that_equal_each_other() -> Any:
    class Key(str):
        def __eq__(self, _: object) -> bool:
            return bool(random.randrange(2))

        def __hash__(self) -> int:
            return 1

        def __lt__(self, _: object) -> bool:
            raise KeyboardInterrupt

    return {Key(number): number for number in range(10)}


@deed(*ANY, own_result=True)
def keys_that_can_not_be_told() -> Any:
    class Key:
        def __repr__(self) -> str:
            raise GeneratorExit

    return {Key(): 1, Key(): 2}


@deed(*ANY, own_result=True)
def a_class_that_lies_about_its_class() -> Any:
    class Lying:
        @property
        def __class__(self) -> Any:
            return dict

    return Lying()


@deed(*ANY, own_result=True)
def an_array_of_a_false_numpy() -> Any:
    class Array:
        def tolist(self) -> Any:
            return Array()

        dtype = property(lambda self: (_ for _ in ()).throw(SystemExit("no type")))

    Array.__module__ = "numpy"
    return Array()


@deed(*ANY, hangs=True, own_result=True)
def a_false_array_of_false_arrays() -> Any:
    class Other:
        def tolist(self) -> Any:
            return Array()

    class Array:
        def tolist(self) -> Any:
            return Other()

    Array.__module__ = Other.__module__ = "numpy"
    return Array()


@deed(*ANY, own_result=True)
def extensions_that_it_packed_itself() -> Any:
    return [msgpack.ExtType(1, b""), msgpack.ExtType(5, b"x" * 1000), msgpack.Timestamp(1, 2)]


# --- they never end ---------------------------------------------------------------------------------------------------


@deed(*ANY, own_result=True)
def a_list_that_contains_itself() -> Any:
    own: list[Any] = []
    own.append(own)
    return own


@deed(*ANY, own_result=True)
def a_mapping_that_contains_itself() -> Any:
    own: dict[str, Any] = {"a": 1}
    own["own"] = [own, own]
    return own


@deed(*ANY, own_result=True)
def a_result_100_000_levels_deep() -> Any:
    value: Any = "deep"
    for _ in range(100_000):
        value = [value]
    return value


@deed(*ANY, hangs=True, own_result=True)
def a_mapping_that_never_runs_out_of_keys() -> Any:
    class Endless(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return 1

        def __iter__(self) -> Iterator[str]:
            while True:
                yield "again"

        def __len__(self) -> int:
            return 1

    return Endless()


@deed(*ANY, hangs=True, own_result=True)
def a_value_of_four_million_members() -> Any:
    """A few lists that share each other; written out they are 30 MB."""
    value: Any = ["shared"]
    for _ in range(22):
        value = [value, value]
    return value


@deed(*ANY, own_result=True)
def a_generator() -> Any:
    return (number for number in range(10))


@deed(*ANY, hangs=True, own_result=True)
def keys_that_take_for_ever() -> Any:
    class Key(str):
        def __repr__(self) -> str:
            loop()
            return ""

    return {Key("a"): 1, Key("b"): 2}


# --- they are large, or odd -------------------------------------------------------------------------------------------


@deed(COMPLETED, own_result=True)
def an_integer_of_100_000_digits() -> Any:
    return {"big": -(10**100_000), "list": [2**64, -(2**63) - 1, 2**63]}


@deed(COMPLETED, UNSTORABLE, RAISED, own_result=True)
def keys_1_and_text_1() -> Any:
    return {1: "number", "1": "text", True: "truth", 1.0: "float"}


@deed(COMPLETED, UNSTORABLE, own_result=True)
def lone_surrogates() -> Any:
    return {"\ud800": "\udfff\x00", "text": "\ud83d"}


@deed(*ANY, own_result=True)
def keys_that_are_no_number() -> Any:
    return {float("nan"): 1, float("nan"): 2, None: 3, (1, (2, float("nan"))): 4, b"1": 5, float("-inf"): 6}


@deed(COMPLETED, own_result=True)
def numbers_at_the_edge() -> Any:
    return [float("nan"), float("inf"), -0.0, 5e-324, 2**64 - 1, -(2**63), sys.maxsize + 1, True]


@deed(COMPLETED, DIED, NO_MEMORY, UNSTORABLE, own_result=True, is_heavy=True)
def bytes_of_200_mb() -> Any:
    return b"x" * 200_000_000


@deed(COMPLETED, own_result=True)
def a_result_that_becomes_a_file() -> Any:
    return {"text": "x" * 5_000_000}


@deed(COMPLETED, own_result=True)
def many_keys() -> Any:
    return {f"key {number}": number for number in range(100_000)}


@deed(*ANY, own_result=True)
def an_array_of_objects() -> Any:
    array = np.empty(3, dtype=object)
    array[0], array[1], array[2] = array, {"b": 1, "a": 2}, {1, "1"}
    return array


@deed(*ANY, own_result=True)
def odd_arrays() -> Any:
    rows = np.array([(1, "a")], dtype=[("x", "i4"), ("y", "U1")])
    return [rows, np.datetime64("2020-01-01"), np.array(5), np.void(b"x"), np.float16(0.1), np.longdouble(1) / 3]


@deed(UNSTORABLE, RAISED, own_result=True)
def things_that_are_no_data() -> Any:
    return [threading.Lock(), sys.stdout, lambda: 1, type, sys, object()]


@deed(*ANY, own_result=True)
def data_of_the_standard_library() -> Any:
    point = dataclasses.make_dataclass("Point", ["x"])(1)
    colour = enum.Enum("Colour", "RED").RED
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return [point, colour, day, decimal.Decimal("0.1"), 1 + 2j, range(5), collections.Counter("aa"), ...]


@deed(*ANY, own_result=True)
def sets_of_everything() -> Any:
    return {1, "1", 1.5, None, (1, 2), frozenset({3, "3"}), b"1"}


@deed(*ANY, own_result=True)
def a_reference_of_ray() -> Any:
    return ray.put("far away")


@deed(*ANY, own_result=True)
def an_exception() -> Any:
    return RuntimeError("returned, not raised")


@deed(*ANY, own_result=True)
def a_view_of_its_own_namespace() -> Any:
    return types.MappingProxyType(globals())


@deed(RAISED, UNSTORABLE, LATE, hangs=True, own_result=True)
def values_that_leave_as_they_are_read() -> Any:
    class Leaving(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise SystemExit(key)

        def __iter__(self) -> Iterator[str]:
            yield "a"

        def __len__(self) -> int:
            return 1

    return Leaving()
