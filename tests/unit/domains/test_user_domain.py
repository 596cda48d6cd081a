"""`@domain`: a function of the user's is a kind of work, and stays a function."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import numpy as np
import pytest
from pydantic import Field

from dfz_ray import InvalidInput, domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.domains.user_domain import DomainFunction
from dfz_ray.execution.execute import Execution, Work, execute_chunk
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.encoding import decode, digest
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.resources import Resources


@pytest.fixture(autouse=True)
def _own_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test defines is forgotten when it ends."""
    monkeypatch.setattr(REGISTRY, "defined", {})


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def execute(function: DomainFunction[..., Any], threads: int = 2, /, **parameters: Any) -> Execution:
    """What a worker makes of a task: it is checked, encoded, decoded and executed."""
    (task,) = read_batch([function.task(**parameters)], REGISTRY).tasks
    work = Work(0, task.seed, task.parameters)
    (execution,) = execute_chunk(function.domain, [work], threads, FileShelf())
    return execution


def result_of(function: DomainFunction[..., Any], threads: int = 2, /, **parameters: Any) -> Any:
    """The result of a task that succeeds."""
    execution = execute(function, threads, **parameters)
    assert execution.failure is None
    assert execution.result is not None
    return decode(execution.result)


def refusal(act: Callable[[], Any]) -> str:
    """What is said against a domain or a task, on one line."""
    with pytest.raises(InvalidInput) as caught:
        act()
    text = str(caught.value)
    assert text.isprintable()
    return text


def test_it_stays_a_plain_function() -> None:
    """A decorated function is called, named and inspected as before."""

    @domain("coin")
    def coin(flips: int = 10, *, seed: int) -> dict[str, int]:
        """Toss a coin."""
        return {"heads": flips + seed}

    assert coin(3, seed=1) == coin(flips=3, seed=1) == {"heads": 4}
    assert (coin.__name__, coin.__doc__) == ("coin", "Toss a coin.")
    assert str(inspect.signature(coin)) == "(flips: 'int' = 10, *, seed: 'int') -> 'dict[str, int]'"
    assert coin.domain.summary == "Toss a coin."
    with pytest.raises(TypeError, match="seed"):
        coin(flips=3)  # type: ignore[call-arg]


def test_tasks_of_it() -> None:
    """`task` makes a task for a batch, and a batch file may name the domain just as well."""

    @domain("coin", cpus=2, gpus=0.5, memory="2GiB")
    def coin(flips: int = 10) -> int:
        return flips

    assert coin.task(flips=3) == {"domain": "coin", "parameters": {"flips": 3}}
    (task,) = read_batch([coin.task(flips=3)], REGISTRY).tasks
    assert decode(task.parameters) == {"flips": 3}
    assert task.kind == "coin"
    assert task.resources == Resources(cpus=2, gpus=0.5, memory=2 * 2**30)


def no_parameters() -> list[Any]:
    return []


def names_seed(seed: int) -> list[Any]:
    return [seed]


def names_threads(threads: int, n: int = 1) -> list[Any]:
    return [threads, n]


def names_both(n: int = 1, *, threads: int = 7, seed: int = 7) -> list[Any]:
    return [n, seed, threads]


def names_them_as_variables(*seed: int, **threads: int) -> list[Any]:
    return [seed, threads]


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (no_parameters, {}, []),
        (names_seed, {}, [11]),
        (names_threads, {"n": 5}, [3, 5]),
        (names_both, {}, [1, 11, 3]),
        (names_them_as_variables, {"a": 1}, [[], {"a": 1}]),
    ],
)
def test_seed_and_threads(function: Callable[..., Any], given: dict[str, Any], expected: list[Any]) -> None:
    """`seed` and `threads` are passed to those functions that name them, in place of their defaults."""
    made = domain("own")(function)
    (task,) = read_batch([made.task(**given) | {"seed": 11}], REGISTRY).tasks

    (execution,) = execute_chunk(made.domain, [Work(0, task.seed, task.parameters)], 3, FileShelf())

    assert decode(execution.result or b"") == expected


def test_seed_is_no_parameter() -> None:
    """A task's seed stands beside its parameters, never among them, also where any parameter is taken."""
    strict = domain("strict")(names_both)

    @domain("open")
    def takes_all(seed: int, **others: Any) -> None: ...

    assert "tasks[0].parameters.seed: found an unknown key" in refusal(lambda: execute(strict, seed=1))
    assert "expected no 'seed'" in refusal(lambda: execute(takes_all, seed=1))
    assert execute(takes_all, threads=1).failure is None


def ints(n: int) -> Any:
    return n


def floats(n: float) -> Any:
    return n


def maybe(n: Optional[int] = None) -> Any:  # noqa: UP045 - as many write it
    return n


def either(n: int | str) -> Any:
    return n


def either_or_none(n: Union[float, list[int], None] = None) -> Any:  # noqa: UP007 - as many write it
    return n


def lists(n: list[int]) -> Any:
    return n


def mappings(n: dict[str, float]) -> Any:
    return n


def pairs(n: tuple[int, str] = (1, "a")) -> Any:
    return [type(n).__name__, *n]


def sets(n: set[int] = {3}) -> Any:  # noqa: B006 - what users write
    return [type(n).__name__, *sorted(n)]


def words(n: Literal["red", "green"] = "red") -> Any:
    return n


def bounded(n: Annotated[int, Field(ge=1, le=6)]) -> Any:
    return n


def points(n: Point = Point(1)) -> Any:  # noqa: B008 - what users write
    return [type(n).__name__, n.x, n.y]


def arrays(n: np.ndarray) -> Any:  # type: ignore[type-arg]
    return n


def untyped(n) -> Any:  # type: ignore[no-untyped-def]
    return n


def unknown(n: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return n


def mistyped_default(n: int = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013 - what users write
    return n


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (ints, 3, 3),
        (ints, np.int8(3), 3),
        (floats, 3, 3.0),
        (maybe, 3, 3),
        (maybe, None, None),
        (either, "a", "a"),
        (either_or_none, [1], [1]),
        (lists, [1, 2], [1, 2]),
        (lists, np.arange(3), [0, 1, 2]),
        (mappings, {"a": 1}, {"a": 1.0}),
        (pairs, [2, "b"], ["tuple", 2, "b"]),
        (sets, [2, 1], ["set", 1, 2]),
        (words, "green", "green"),
        (bounded, 6, 6),
        (points, {"x": 5}, ["Point", 5, 0]),
        (arrays, np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        (untyped, {"any": [1.5, b"x"]}, {"any": [1.5, b"x"]}),
        (unknown, "any", "any"),
        (mistyped_default, 3, 3),
    ],
)
def test_annotations_are_met(function: Callable[..., Any], given: Any, expected: Any) -> None:
    """A function gets each parameter as its annotation says, however the task was written down."""
    assert result_of(domain("own")(function), n=given) == expected


@pytest.mark.parametrize(
    ("function", "given", "where", "expected"),
    [
        (ints, "3", "", "found '3'; expected a valid integer"),
        (ints, True, "", "found True; expected a valid integer"),
        (ints, 3.0, "", "found 3.0; expected a valid integer"),
        (floats, "3", "", "found '3'; expected a valid number"),
        (maybe, "3", "", "found '3'; expected a valid integer"),
        (either, 1.5, "", "found 1.5; expected int or str"),
        (either, True, "", "found True; expected int or str"),
        (either_or_none, "a", "", "found 'a'; expected float or list[int] or None"),
        (lists, [1, "2"], "[1]", "found '2'; expected a valid integer"),
        (lists, 3, "", "found 3; expected a valid list"),
        (mappings, {"a": "1"}, ".a", "found '1'; expected a valid number"),
        (pairs, [1], "[1]", "found nothing; expected"),
        (words, "gren", "", "found 'gren'; expected 'red' or 'green' (did you mean 'green'?)"),
        (bounded, 7, "", "found 7; expected 1 to 6"),
        (bounded, "6", "", "found '6'; expected a valid integer"),
        (points, {"y": 1}, ".x", "found nothing"),
        (untyped, object, "", "found <class 'object'>; expected plain data; a value of type 'type' can't be stored"),
    ],
)
def test_annotations_are_checked(function: Callable[..., Any], given: Any, where: str, expected: str) -> None:
    """A parameter that its annotation does not allow is refused, in one line, before anything runs."""
    made = domain("own")(function)

    assert f"tasks[0].parameters.n{where}: {expected}" in refusal(lambda: execute(made, n=given))


def test_parameters_without_a_default_are_needed() -> None:
    """A parameter that a function can't do without must be given, and none but its own may be."""
    made = domain("own")(ints)

    assert "tasks[0].parameters.n: found nothing; expected a value" in refusal(lambda: execute(made))
    told = refusal(lambda: execute(made, n=1, nn=2))
    assert told == "batch: tasks[0].parameters.nn: found an unknown key; expected one of n (did you mean 'n'?)"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (maybe, None),
        (mistyped_default, None),
        (pairs, ["tuple", 1, "a"]),
        (sets, ["set", 3]),
        (words, "red"),
        (points, ["Point", 1, 0]),
    ],
)
def test_defaults(function: Callable[..., Any], expected: Any) -> None:
    """A default reaches the worker as the function knows it, also None where the annotation forgot it."""
    assert result_of(domain("own")(function)) == expected


def test_defaults_are_not_shared() -> None:
    """A task that changes a default changes it for no other."""

    @domain("own")
    def grows(found: list[int] = []) -> list[int]:  # noqa: B006 - what users write
        found.append(1)
        return found

    assert result_of(grows) == result_of(grows) == [1]


def bad_default(n: int = 1.5) -> Any:  # type: ignore[assignment]
    return n


def impossible_default(n: Any = object) -> Any:
    return n


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (bad_default, "tasks[0].parameters.n: found 1.5; expected a valid integer"),
        (impossible_default, "tasks[0].parameters.n: found <class 'object'>; expected plain data"),
    ],
)
def test_defaults_are_checked(function: Callable[..., Any], expected: str) -> None:
    """A default that can't be is refused like a given value, for the tasks that use it."""
    made = domain("own")(function)

    assert expected in refusal(lambda: execute(made))
    assert result_of(made, n=2) == 2


def test_any_keyword() -> None:
    """A function with `**kwargs` takes any parameter, also those that are called like pydantic's own."""

    @domain("own")
    def takes_all(n: int, **others: Any) -> dict[str, Any]:
        return {"n": n, **others}

    given = {"n": 1, "self": 2, "name": 3, "parameters": 4, "model_extra": 5, "model_fields": 6, "nested": {"a": [1]}}

    assert result_of(takes_all, **given) == given
    assert "tasks[0].parameters.n: found 'x'" in refusal(lambda: execute(takes_all, n="x"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["copy", "json", "schema", "dict", "self", "model_name", "check", "validate"])
def test_names_of_parameters(name: str) -> None:
    """Parameters may have the names that pydantic's models use, and nothing is warned about."""
    namespace: dict[str, Any] = {}
    exec(f"def own({name}: int = 1, **others): return [{name}]", namespace)  # noqa: S102 - our own text

    made = domain("own")(namespace["own"])

    assert result_of(made) == [1]
    assert result_of(made, **{name: 5}) == [5]


def positional_only(n: int, /) -> None: ...
def seed_positional_only(seed: int, /) -> None: ...
def underscored(_n: int = 1) -> None: ...
def configuring(model_config: int = 1) -> None: ...
def dumping(model_dump: int = 1) -> None: ...
async def waiting() -> None: ...
def yielding() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (positional_only, "positional_only(n): found a positional-only parameter; expected one with a name"),
        (seed_positional_only, "seed_positional_only(seed): found a positional-only parameter"),
        (underscored, "underscored(_n): found a name that pydantic keeps for itself"),
        (configuring, "configuring(model_config): found a name that pydantic keeps for itself"),
        (dumping, "dumping(model_dump): found a name that pydantic keeps for itself"),
        (waiting, "expected a plain function, neither async nor with yield"),
        (yielding, "expected a plain function, neither async nor with yield"),
        (3, "expected a plain function"),
    ],
)
def test_functions_that_cant_be_domains(function: Any, expected: str) -> None:
    """A function that tasks could not call is refused where it is defined, with the name of the parameter."""
    assert expected in refusal(lambda: domain("own")(function))
    assert REGISTRY.find("own") is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cpus": -1}, "domain('own').cpus: found -1; expected 0 to 100000"),
        ({"cpus": True}, "domain('own').cpus: found True; expected a valid number"),
        ({"gpus": 1.5}, "domain('own').gpus: found 1.5; expected a share of one GPU, or a whole number"),
        ({"memory": "2GX"}, "domain('own').memory: found '2GX'; expected bytes, or a text"),
        ({"volatile": "time"}, "volatile: found 'time'; expected several keys: ['time']"),
    ],
)
def test_options_are_checked(options: dict[str, Any], expected: str) -> None:
    """What can't be needed is refused by the decorator, before it sees a function."""
    assert expected in refusal(lambda: domain("own", **options))


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "\x1b[1m", 3, None, ints])
def test_a_domain_has_a_printable_name(name: Any) -> None:
    """A domain's name is a printable text; a decorator without parentheses is told so too."""
    assert "name: found" in refusal(lambda: domain(name))


def test_a_function_may_be_two_domains() -> None:
    """A function that is a domain can be another one as well, and each keeps its own name."""
    one = domain("one")(ints)
    two = domain("two", cpus=2)(one)

    assert (one.domain.name, two.domain.name) == ("one", "two")
    assert two(3) == 3
    assert result_of(two, n=3) == 3


def test_other_callables() -> None:
    """A partial function, a lambda, a method and an object that can be called are functions too."""

    class Adder:
        def __call__(self, n: int = 1) -> list[int]:
            return [n]

        def method(self, n: int = 2) -> list[int]:
            return [n]

    assert result_of(domain("own")(functools.partial(lambda a, b: [a, b], a=1)), b=2) == [1, 2]
    assert result_of(domain("own")(lambda n=3: [n])) == [3]
    assert result_of(domain("own")(Adder())) == [1]
    assert result_of(domain("own")(Adder().method)) == [2]


def test_kinds() -> None:
    """Tasks are of the kind that `kind` makes of their parameters, the defaults included; else all are of one."""
    by_size = domain("own", kind=lambda parameters: f"size {parameters['n'] // 10}")(ints)
    number = domain("other", kind=lambda parameters: 7)(maybe)  # type: ignore[arg-type, return-value]

    tasks = read_batch([by_size.task(n=5), by_size.task(n=25), number.task()], REGISTRY).tasks

    assert [task.kind for task in tasks] == ["size 0", "size 2", "7"]


def test_a_kind_function_that_fails() -> None:
    """A `kind` that raises is told with its task, before anything runs."""
    made = domain("own", kind=lambda parameters: parameters["m"])(ints)

    told = refusal(lambda: execute(made, n=1))

    assert "tasks[0].parameters: found {'n': 1}; expected what the kind function of 'own' takes" in told
    assert "KeyError('m')" in told


def test_a_kind_function_changes_nothing() -> None:
    """What `kind` does to the parameters that it is shown does not reach the task."""
    made = domain("own", kind=lambda parameters: str(parameters.pop("n")))(ints)

    assert result_of(made, n=5) == 5


def test_volatile_keys() -> None:
    """The digest leaves out the keys that differ from run to run."""
    seconds = iter(range(10))

    @domain("own", volatile=("time",))
    def timed(n: int) -> dict[str, int]:
        return {"n": n, "time": next(seconds)}

    one, two, other = execute(timed, n=1), execute(timed, n=1), execute(timed, n=2)

    assert one.result != two.result
    assert one.digest == two.digest == digest({"n": 1}) != other.digest


def test_what_a_domain_does_not_say() -> None:
    """Memory that a domain does not ask for is what the configuration says."""
    domain("own")(maybe)

    (task,) = read_batch([{"domain": "own"}], REGISTRY, Resources(memory=2**30, custom={"disk": 1})).tasks

    assert task.resources == Resources(cpus=1, memory=2**30, custom={"disk": 1})


WORKER = """
import pickle, sys
from dfz_ray.execution.execute import Work, execute_chunk
from dfz_ray.specs.encoding import decode
from dfz_ray.specs.input_file import FileShelf

assert not any(name.startswith("test_user_domain") for name in sys.modules)
domain, works = pickle.load(open(sys.argv[1], "rb"))
for execution in execute_chunk(domain, works, 4, FileShelf()):
    print(decode(execution.result) if execution.result else execution.failure)
"""


def test_a_domain_travels_by_value(tmp_path: Path) -> None:
    """A domain that is defined in a script is executed in a process that never saw the script."""
    from ray import cloudpickle

    factor = 3

    def double(n: int) -> int:
        return 2 * n

    @domain("own", kind=lambda parameters: "any", volatile=["x"])
    def travelling(n: int | str, p: Literal["a"] = "a", *, seed: int, threads: int, **more: Any) -> list[Any]:
        return [double(n) * factor if isinstance(n, int) else n, p, seed, threads, more]

    tasks = read_batch([travelling.task(n=2, extra=[1]) | {"seed": 9}, travelling.task(n="b")], REGISTRY).tasks
    works = [Work(number, task.seed, task.parameters) for number, task in enumerate(tasks)]
    wrong = Work(2, 0, tasks[0].parameters.replace(b"\xa1a", b"\xa1b"))  # as another version might send it
    (tmp_path / "domain.pickle").write_bytes(cloudpickle.dumps((travelling.domain, [*works, wrong])))

    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path / "domain.pickle")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert worker.stderr == ""
    first, second, *third = worker.stdout.splitlines()
    assert first == "[12, 'a', 9, 4, {'extra': [1]}]"
    assert second == f"['b', 'a', {tasks[1].seed}, 4, {{}}]"
    assert third[0].startswith("Failure(reason='invalid'")
