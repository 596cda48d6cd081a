"""Calls of functions: pickled once where that is safe, made on a worker, and what comes back is what was returned."""

from __future__ import annotations

import decimal
import functools
import logging
import pickle
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from dfz_ray.domains.registry import CALLS, REGISTRY
from dfz_ray.domains.user_domain import domain
from dfz_ray.errors import CallFailed, DfzError, InvalidInput, RemoteTraceback
from dfz_ray.execution.execute import Execution, Work, execute_chunk
from dfz_ray.executor import call_packing
from dfz_ray.executor.call_packing import KNOWN_BYTES, CallPacker, PackedCall, name_of, read_error
from dfz_ray.executor.function_domain import FUNCTION_DOMAIN, Form, PackedFunction, read_group, read_result
from dfz_ray.protocol.reports import pack_executions, unpack_executions
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.input_file import FileShelf

ROOT = Path(__file__).parents[3]


def execute(parameters: bytes, function: PackedFunction | None) -> Execution:
    """What a worker makes of a task."""
    shelf = FileShelf(contents={function.sha256: function.content} if function else {})
    (execution,) = execute_chunk(FUNCTION_DOMAIN, [Work(0, 0, parameters)], 1, shelf)
    return execution


def execute_call(packed: PackedCall) -> Execution:
    """What a worker makes of a call."""
    return execute(packed.parameters, packed.function)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returns for who waits for it, or raises."""
    done = execute_call(CallPacker().pack(function, args, kwargs))
    if done.failure is None:
        return read_result(done.result or b"")
    raise read_error(*done.failure)


def local(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one that no other process can import."""
    function.__module__ = "__main__"
    return function


class Counter:
    """It changes when it is called."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, amount: int) -> int:
        """Count."""
        self.count += amount
        return self.count


class Picky(Exception):
    """It is made of two values, and pickled as one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)
        self.second = second


class Lost(Exception):
    """It does not survive pickling at all: it holds a thing of its process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.frame = sys._getframe()


class Boom(Exception):
    """It survives."""


def boom(error: type[Exception], *args: Any) -> None:
    """Raise."""
    raise error(*args)


def test_all_that_can_be_called() -> None:
    """Functions, lambdas, closures, partials, methods and classes are called with what they were given."""
    offset = 10
    counter = Counter()

    assert call(pow, 2, 8) == 256
    assert call(int, "ff", base=16) == 255
    assert call(lambda x: x + offset, 1) == 11
    assert call(functools.partial(pow, exp=3), 2) == 8
    assert call(counter.add, 5) == 5
    assert call("-".join, ["a", "b"]) == "a-b"
    assert call(Counter).count == 0


@pytest.mark.parametrize(
    "value",
    [None, 1, 2**80, "text", b"bytes", 1.5, [1, "a"], {"a": 1}, {1, 2}, (1, (2, 3)), [[1], [2]], {(1, 2): {3}}, 1j],
)
def test_values_come_back_as_they_are(value: Any) -> None:
    """Arguments and results keep their types, tuples and sets included."""
    back = call(lambda given: given, value)
    assert back == value
    assert type(back) is type(value)


def test_arrays_and_classes_of_the_script_travel() -> None:
    """An array arrives as it was, and what is of a class of the script's own comes back as that very class."""
    array = np.arange(6.0).reshape(2, 3)
    own = type("Own", (), {"__module__": "__main__"})

    assert (call(lambda given: given * 2, array) == array * 2).all()
    assert type(call(own)) is own
    assert type(call(lambda given: given, [own()])[0]) is own


def test_a_function_is_pickled_once() -> None:
    """A function that is called again, and refers to nothing that can change, is a file; it is pickled no more."""
    packer, number = CallPacker(), 3

    def add(x: int) -> int:
        return x + number

    first, second, third = (packer.pack(add, (n,), {}) for n in (1, 2, 3))

    assert first.function is None
    assert second.function is not None
    assert third.function is second.function
    assert third.function.is_fixed
    assert [read_result(execute_call(one).result or b"") for one in (first, second, third)] == [4, 5, 6]


def test_a_function_that_is_called_once_is_no_file() -> None:
    """Partials and lambdas that are made for one call each travel within it: nobody keeps them; those of a map do."""
    packer = CallPacker()

    calls = [packer.pack(functools.partial(pow, n), (2,), {}) for n in range(3000)]

    assert {one.function for one in calls} == {None}
    large = [packer.pack(functools.partial(np.sum, np.full(10_000, n)), (), {}) for n in range(20)]
    assert {one.function for one in large} == {None}
    assert read_result(execute_call(large[3]).result or b"") == 30_000
    assert [read_result(execute_call(one).result or b"") for one in calls[:3]] == [0, 1, 4]
    square = functools.partial(pow, exp=2)
    assert packer.pack_function(square).is_fixed
    assert packer.pack(square, (3,), {}).function is packer.pack_function(square)


def test_functions_are_remembered_as_far_as_there_is_memory() -> None:
    """Large functions that are new each time do not pile up in the driver."""
    packer = CallPacker()

    made: list[weakref.ref[functools.partial[int]]] = []
    for n in range(200):
        function = functools.partial(len, bytes(2**20) + bytes([n]))
        made.append(weakref.ref(function))
        packer.pack(function, (), {})
        del function

    held = [function for reference in made if (function := reference()) is not None]
    assert 0 < sum(len(pickle.dumps(function)) for function in held) <= KNOWN_BYTES
    large = functools.partial(len, bytes(2**20))
    first, second, third = (packer.pack(large, (), {}).function for _ in range(3))
    assert first is None
    assert second is third is not None


def test_what_a_function_refers_to_is_as_it_is_at_the_call() -> None:
    """A number of a closure, a global name, a default: where it has changed the next call has the new one."""
    packer, number = CallPacker(), 3
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("step = 1\ndef inner(x): return x + step\ndef outer(x, *, more=0): return inner(x) + more", names)  # noqa: S102
    outer = names["outer"]

    def add(x: int) -> int:
        return x + number

    def now(function: Callable[..., Any]) -> Any:
        return read_result(execute_call(packer.pack(function, (1,), {})).result or b"")

    assert (now(add), now(outer)) == (4, 2)
    number = 5
    names["step"] = 10
    assert (now(add), now(outer)) == (6, 11)
    outer.__kwdefaults__["more"] = 100
    assert now(outer) == 111
    exec("def inner(x): return -x", names)  # noqa: S102
    assert now(outer) == 99


def test_a_class_of_the_script_is_as_it_is_at_the_call() -> None:
    """An attribute of a class that the script has changed since the last call is the new one in the next call."""
    packer = CallPacker()
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("class Scale:\n    factor = 2\n    def of(self, x): return x * self.factor", names)  # noqa: S102
    exec("def scaled(x): return Scale().of(x)", names)  # noqa: S102

    def now() -> Any:
        return read_result(execute_call(packer.pack(names["scaled"], (3,), {})).result or b"")

    assert now() == 6
    _, second, third = (packer.pack(names["scaled"], (3,), {}) for _ in range(3))
    assert second.function is third.function is not None
    names["Scale"].factor = 5
    assert now() == 15


def test_what_can_change_is_new_in_each_call() -> None:
    """A list of a closure, or the object of a method, is what it is in the driver; no call sees what another did."""
    packer, seen, counter = CallPacker(), [], Counter()

    def remember(x: int) -> int:
        seen.append(x)
        return len(seen)

    def now(function: Callable[..., Any]) -> Any:
        return read_result(execute_call(packer.pack(function, (1,), {})).result or b"")

    assert [now(remember), now(remember)] == [1, 1]
    seen.append(0)
    assert now(remember) == 2
    assert [now(counter.add), now(counter.add)] == [1, 1]
    counter.count = 7
    assert now(counter.add) == 8
    assert seen == [0]


def test_a_large_thing_that_can_change_travels_once() -> None:
    """A function with a large list is a file from its second call on, as long as the list has the same content.

    Each call still has a new list.
    """
    packer, large = CallPacker(), [0] * 100_000

    def change(x: int) -> int:
        large[0] += x
        return large[0]

    first, second, third = (packer.pack(change, (1,), {}) for _ in range(3))

    assert first.function is None
    assert second.function is not None
    assert third.function is not None
    assert second.function.sha256 == third.function.sha256
    assert len(third.parameters) < 500
    assert [read_result(execute_call(one).result or b"") for one in (first, second, third, second)] == [1, 1, 1, 1]


def test_a_logger_changes_nothing() -> None:
    """A function that logs is pickled once: a logger travels by its name."""
    logger = logging.getLogger("dfz_ray.test")
    packer = CallPacker()

    def tell() -> str:
        return logger.name

    _, second, third = (packer.pack(tell, (), {}) for _ in range(3))
    assert second.function is third.function is not None
    assert call(tell) == "dfz_ray.test"


def test_an_exception_is_the_one_that_was_raised() -> None:
    """What a call raises is of its own type, with its arguments and notes; its cause is the traceback on the worker."""
    with pytest.raises(Boom) as caught:
        call(boom, Boom, "one", 2)

    assert caught.value.args == ("one", 2)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "raise error(*args)" in str(caught.value.__cause__)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(5)])
def test_exceptions_that_end_other_things(error: BaseException) -> None:
    """What would end a program or a loop ends the call, and is raised for who waits for it."""

    def end() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        call(end)
    assert caught.value.args == error.args


def test_an_exception_that_can_not_travel() -> None:
    """An exception that pickling loses is told by its type and text, and by its traceback."""
    with pytest.raises(CallFailed, match="Lost: ab") as caught:
        call(boom, Lost, "ab")

    assert caught.value.reason == "exception"
    assert "raise error(*args)" in (caught.value.traceback or "")
    with pytest.raises(CallFailed, match="ValueError: "):
        call(boom, ValueError, "x" * 2**21)  # too large


def test_an_exception_with_an_init_of_its_own() -> None:
    """An exception that pickling alone loses is rebuilt: of its type, with its text, arguments and attributes."""
    with pytest.raises(Picky) as caught:
        call(boom, Picky, "a", "b")
    assert (str(caught.value), caught.value.args, caught.value.second) == ("ab", ("ab",), "b")
    assert isinstance(caught.value.__cause__, RemoteTraceback)


def test_a_deadline_is_a_timeout_error() -> None:
    """The error of a call that overran its deadline is a TimeoutError and a CallFailed, also in another process."""
    error = read_error("timeout", "it took too long", None, None)
    for one in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert isinstance(one, TimeoutError)
        assert isinstance(one, CallFailed)
        assert (one.reason, one.message, str(one)) == ("timeout", "it took too long", "timeout: it took too long")
    assert not isinstance(read_error("worker_crashed", "it died", None, None), TimeoutError)


@pytest.mark.parametrize("mode", ["r", "rb", "w", "ab", "r+b"])
def test_an_open_file_is_refused(tmp_path: Path, mode: str) -> None:
    """An open file is no argument and no result: the error names it, and says what to pass instead."""
    path = tmp_path / "data.txt"
    path.write_text("content")
    with open(path, mode) as file, pytest.raises(DfzError, match=r"data\.txt.*mode.*expected its path"):
        CallPacker().pack(len, (file,), {})
    with pytest.raises(DfzError, match=r"data\.txt.*expected its path"):
        call(lambda: open(path))  # noqa: SIM115 - it is the result


def test_a_temporary_file_in_memory_is_refused() -> None:
    """A spooled temporary file is an open file, also before it rolls over: no copy of its content is made."""
    for max_size in (0, 2**20):
        with tempfile.SpooledTemporaryFile(max_size) as file:
            file.write(b"content")
            with pytest.raises(DfzError, match="an open file can't be sent"):
                CallPacker().pack(len, (file,), {})
    with tempfile.SpooledTemporaryFile(2**20) as file, pytest.raises(DfzError, match=r"'\(no name\)'.*'w\+b'"):
        CallPacker().pack(len, (file,), {})


def test_what_can_not_be_pickled() -> None:
    """An argument that can't be pickled is an error at the call; a result that can't is the error of the call."""
    with pytest.raises(TypeError, match="cannot pickle"):
        CallPacker().pack(len, (sys._getframe(),), {})
    with pytest.raises(TypeError, match="cannot pickle"):
        call(sys._getframe)


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that refers to more than may travel is refused at the call, with what to do instead."""
    monkeypatch.setattr(call_packing, "LIMIT_BYTES", 2**20)
    large = bytes(2**20)
    with pytest.raises(DfzError, match="let large data be read from a file"):
        CallPacker().pack(lambda: len(large), (), {})


def test_a_group_goes_on_after_an_exception() -> None:
    """Several calls in one task: each has its own result or exception, whatever the others do."""
    packer = CallPacker()
    packed = packer.pack_function(divmod)

    done = execute(packer.pack_group(packed, [(7, 2), (1, 0), (9, 4)]), packed)

    values, failures = read_group(done.result or b"")
    assert values == [(3, 1), None, (2, 1)]
    assert list(failures) == [1]
    with pytest.raises(ZeroDivisionError) as caught:
        raise read_error(*failures[1])
    assert "ZeroDivisionError" in str(caught.value.__cause__)


def test_a_group_with_results_that_can_not_travel() -> None:
    """Where one result of a group can't be pickled, that call alone has failed."""
    packer = CallPacker()

    def frame_or(number: int) -> Any:
        return sys._getframe() if number == 1 else [number, {number}]

    packed = packer.pack_function(frame_or)
    values, failures = read_group(execute(packer.pack_group(packed, [(0,), (1,), (2,)]), packed).result or b"")

    assert values == [[0, {0}], None, [2, {2}]]
    assert failures[1].message.startswith("TypeError: cannot pickle")


def test_calls_of_a_group_share_no_argument() -> None:
    """What one call of a group does to an argument no other one sees, though all were given the same object."""
    packer, shared = CallPacker(), [0]

    def add(number: int, to: list[int]) -> list[int]:
        to.append(number)
        return to

    packed = packer.pack_function(add)
    parameters = packer.pack_group(packed, [(1, shared), (2, shared), (3, shared)])
    values, failures = read_group(execute(parameters, packed).result or b"")

    assert (values, failures, shared) == ([[0, 1], [0, 2], [0, 3]], {}, [0])


def test_calls_of_a_group_share_no_result() -> None:
    """Calls that return one and the same object give each caller one of its own, also beside one that raises."""
    packer = CallPacker()
    packed = packer.pack_function(lambda n: decimal.getcontext() if n else 1 // n)

    values, failures = read_group(execute(packer.pack_group(packed, [(1,), (0,), (2,)]), packed).result or b"")

    assert list(failures) == [1]
    values[0].prec += 1
    assert values[2].prec == values[0].prec - 1


def test_bytes_in_a_group_stay_bytes() -> None:
    """Arguments and results that are bytes, even pickled ones, are what they were, whatever is in the same group."""
    packer, pickled = CallPacker(), pickle.dumps("text")
    packed = packer.pack_function(local(lambda given: given))

    for items in ([(pickled,), (b"",), (1,)], [(pickled,), ([pickled],), (None,)]):
        values, _ = read_group(execute(packer.pack_group(packed, items), packed).result or b"")
        assert values == [item for (item,) in items]


def test_a_group_of_a_function_that_can_change() -> None:
    """In a group, too, no call sees what another one did to what the function refers to."""
    packer, seen = CallPacker(), []

    def remember(x: int) -> int:
        seen.append(x)
        return len(seen)

    packed = packer.pack_function(remember)
    values, _ = read_group(execute(packer.pack_group(packed, [(1,), (2,), (3,)]), packed).result or b"")
    assert values == [1, 1, 1]


def test_kinds_are_names() -> None:
    """Calls of one function are of one kind, under the name that its module gives it."""
    assert name_of(pow) == "builtins.pow"
    assert name_of(functools.partial(boom, Boom)).endswith("test_function_domain.boom")
    assert name_of(Counter().add).endswith("test_function_domain.Counter.add")
    assert len(name_of(type("x" * 1000, (), {}))) < 300


def test_an_exception_travels_beside_its_text() -> None:
    """The exception itself is told to the manager beside the text; the text is all that is written down."""
    done = execute_call(CallPacker().pack(boom, (Boom, 1), {}))

    ((number, *_, reason, message, traceback, payload),) = unpack_executions(pack_executions([done])).failures

    assert (number, reason, message) == (0, "exception", "Boom: 1")
    assert "raise error(*args)" in traceback
    assert pickle.loads(payload).args == (1,)  # noqa: S301 - our own


def test_no_batch_can_call() -> None:
    """A batch can't name the domain of calls, nobody can define another one of its name, and no run goes on with it."""
    given = {"function": "", "form": 2, "arguments": cloudpickle.dumps((pow, (2, 3), {}))}
    with pytest.raises(InvalidInput, match="domain"):
        read_batch([{"domain": CALLS, "parameters": given}], REGISTRY)
    with pytest.raises(InvalidInput, match="a name that no built-in domain has"):
        domain(CALLS)(name_of)
    with pytest.raises(DfzError, match="never taken for code"):
        REGISTRY.get(CALLS)
    assert CALLS not in REGISTRY.names()


def test_a_function_that_was_not_sent_is_refused() -> None:
    """A task that names a function which its run was not sent fails, and says so."""
    packed = CallPacker().pack_function(local(lambda: "never sent"))

    done = execute(packed.pack_parameters(Form.CALL, pickle.dumps(((), {}))), None)

    assert done.failure is not None
    assert done.failure.message.startswith("ValueError: the run was not sent the function")


def test_functions_of_a_script(tmp_path: Path) -> None:
    """What a script defines, classes and helpers included, is called in a process that has never seen the script."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom dataclasses import dataclass\n"
        "from dfz_ray.executor.call_packing import CallPacker\n"
        "from dfz_ray.executor.function_domain import FUNCTION_DOMAIN\n"
        "from ray import cloudpickle\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "STEP = 2\n"
        "def helper(point): return Point(point.x + STEP)\n"
        "def move(point, *, times=1):\n    for _ in range(times): point = helper(point)\n    return point.x\n"
        "call = CallPacker().pack(move, (Point(1),), {'times': 3})\n"
        "open(sys.argv[1], 'wb').write(cloudpickle.dumps((FUNCTION_DOMAIN, call)))\n"
    )
    other = (
        "import sys\nfrom ray import cloudpickle\nfrom dfz_ray.execution.execute import Work, execute_chunk\n"
        "from dfz_ray.executor.function_domain import read_result\nfrom dfz_ray.specs.input_file import FileShelf\n"
        "domain, call = cloudpickle.loads(open(sys.argv[1], 'rb').read())\n"
        "files = {call.function.sha256: call.function.content} if call.function else {}\n"
        "(done,) = execute_chunk(domain, [Work(0, 0, call.parameters)], 1, FileShelf(contents=files))\n"
        "print(read_result(done.result))"
    )
    for program in ([str(script)], ["-c", other]):
        done = subprocess.run(
            [sys.executable, *program, str(tmp_path / "call")], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "7\n"
