"""What a process is given before it makes calls of an executor: authkey, folder, variables, initializer."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfz_ray.driver.domain_shipping import ship_by_value
from dfz_ray.driver.pickling import dumps
from dfz_ray.errors import DfzError
from dfz_ray.executor import process_setup
from dfz_ray.executor.process_setup import AppliedSetup, InitializerFailed, ProcessSetup, Surroundings, make_call_domain

ship_by_value(sys.modules[__name__])  # as if it were a script
TABLE: list[int] | None = None
CACHE: dict[str, int] = {}
SCALE = 2
KEY = b"a key of a driver"


def fill(size: int) -> None:
    """An initializer as scripts have it."""
    global TABLE  # noqa: PLW0603 - that is what is tested
    assert SCALE == 2
    TABLE = list(range(size))
    CACHE["size"] = size
    os.environ["FILLED"] = str(size)
    with open("calls", "a") as file:
        file.write("x")


def fill_from(path: str) -> None:
    """An initializer that reads what it sets."""
    fill(int(Path(path).read_text()))


def look(position: int) -> tuple[Any, ...]:
    """A call as scripts have it."""
    return (TABLE or [])[position : position + 1], dict(CACHE), SCALE


class Model:
    """A class of a script that an initializer prepares."""

    size: int | None = None
    seen: dict[str, int] = {}  # noqa: RUF012 - as scripts have it

    @classmethod
    def prepare(cls, size: int) -> None:
        """Set one attribute, and fill another one."""
        cls.size = size
        cls.seen["size"] = size


def prepare(size: int) -> None:
    """An initializer that refers to the class."""
    Model.prepare(size)


def ask() -> tuple[Any, ...]:
    """A call that refers to the class."""
    return Model.size, Model.seen


@pytest.fixture(autouse=True)
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a worker that has served nobody; afterwards it is as before."""
    monkeypatch.chdir(tmp_path)
    environment, key = dict(os.environ), multiprocessing.current_process().authkey
    yield
    multiprocessing.current_process().authkey = key
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    for state in (process_setup._before, process_setup._left, process_setup._current):
        state.clear()  # type: ignore[attr-defined]


def setup_of(folder: Path, initializer: Any = None, *args: Any, **variables: str | None) -> AppliedSetup:
    """A setup as a worker gets it."""
    (folder).mkdir(exist_ok=True)
    packed = None if initializer is None else dumps((initializer, args))
    return AppliedSetup(KEY, Surroundings(str(folder), variables), packed)


def test_the_surroundings_of_the_driver(tmp_path: Path) -> None:
    """A process gets the driver's authkey, working directory and changed variables; the others it keeps."""
    os.environ["GONE"] = os.environ["KEPT"] = "as the node has it"
    setup_of(tmp_path / "a", NEW="1", GONE=None).apply()
    assert (os.getcwd(), os.environ["NEW"], os.environ["KEPT"]) == (str(tmp_path / "a"), "1", "as the node has it")
    assert "GONE" not in os.environ
    assert bytes(multiprocessing.current_process().authkey) == KEY


@pytest.mark.parametrize("before", [None, "0"])
def test_a_process_keeps_the_gpu_that_ray_has_assigned(
    tmp_path: Path, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setups that take turns in a process leave each lease the GPU that Ray has assigned to it, also a first one."""
    name, setups = "CUDA_VISIBLE_DEVICES", (setup_of(tmp_path / "a", GONE=None), setup_of(tmp_path / "b", NEW="1"))
    monkeypatch.delenv(name, raising=False)
    for gpu, setup in zip((before, "1", "2", "3"), 2 * setups, strict=True):
        if gpu is not None:
            os.environ[name] = gpu
        setup.apply()
        assert os.environ.get(name) == gpu


def test_the_initializer_is_called_once(tmp_path: Path) -> None:
    """However often leases begin, and whoever uses the process meanwhile, the initializer is called once."""
    first, second = setup_of(tmp_path / "a", fill, 3), setup_of(tmp_path / "b", OTHER="1")
    for setup in (first, first, second, pickle.loads(pickle.dumps(first))):  # noqa: S301 - our own
        setup.apply()
        setup.require()
    assert (tmp_path / "a/calls").read_text() == "x"
    assert os.environ["FILLED"] == "3"
    assert "OTHER" not in os.environ
    second.apply()
    assert "FILLED" not in os.environ
    assert (os.environ["OTHER"], os.getcwd()) == ("1", str(tmp_path / "b"))


def test_each_executor_calls_its_initializer(tmp_path: Path) -> None:
    """A second executor with an equal initializer calls it again in the same process: what it reads may have changed.

    Each keeps what its own has set, also where it travels anew.
    """
    made = []
    for size in (3, 4):
        setup = ProcessSetup(fill_from, (str(tmp_path / "size"),))
        (tmp_path / "size").write_text(str(size))
        travelled = dumps(setup)
        made += [pickle.loads(dumps(setup)), pickle.loads(travelled)]  # noqa: S301 - our own
        made[-2].require()
        made[-1].require()

    for setup, size in zip(made, (3, 3, 4, 4), strict=True):
        setup.require()
        assert pickle.loads(dumps(look))(2)[1] == {"size": size}  # noqa: S301 - our own
    assert (tmp_path / "calls").read_text() == "xx"


def test_a_process_keeps_few_setups(tmp_path: Path) -> None:
    """What the initializers of many executors have made is not all kept in a process that they use in turn."""
    for number in range(3 * process_setup.KEPT_SETUPS):
        setup_of(tmp_path / "a", fill, number).require()
    assert len(process_setup._left) == process_setup.KEPT_SETUPS
    assert pickle.loads(dumps(look))(2)[1] == {"size": number}  # noqa: S301 - our own


def test_functions_of_the_script_see_what_its_initializer_has_set(tmp_path: Path) -> None:
    """Variables that an initializer of a script sets or fills are those that functions of the script see."""
    global SCALE  # noqa: PLW0603 - the driver changes it later on
    first, second = setup_of(tmp_path / "a", fill, 3), setup_of(tmp_path / "b")
    try:
        first.apply()
        SCALE = 5
        travelled = dumps(look)
        assert pickle.loads(travelled)(2) == ([2], {"size": 3}, 5)  # noqa: S301 - our own
        second.apply()
        assert pickle.loads(travelled)(2) == ([], {}, 5)  # noqa: S301 - our own
        assert (TABLE, CACHE) == (None, {})
    finally:
        SCALE = 2


@pytest.mark.parametrize("initializer", [prepare, Model.prepare])
def test_functions_of_the_script_see_the_attributes_that_its_initializer_has_set(
    tmp_path: Path, initializer: Any
) -> None:
    """A class of the script has the attributes that its executor's initializer has set, whenever it arrives again."""
    travelled = dumps(ask)
    first, second = setup_of(tmp_path / "a", initializer, 3), setup_of(tmp_path / "b")
    first.apply()
    assert pickle.loads(travelled)() == (3, {"size": 3})  # noqa: S301 - our own
    second.apply()
    assert pickle.loads(travelled)() == (None, {})  # noqa: S301 - our own
    first.apply()
    assert pickle.loads(travelled)() == (3, {"size": 3})  # noqa: S301 - our own
    second.apply()
    assert pickle.loads(travelled)() == (None, {})  # noqa: S301 - our own


def test_an_initializer_that_fails(tmp_path: Path) -> None:
    """Where an initializer has failed, each call fails with its error and traceback; it is not called again."""
    setup = setup_of(tmp_path / "a", divmod, 1, 0)
    setup.apply()
    for _ in range(2):
        with pytest.raises(InitializerFailed, match="ZeroDivisionError"):
            setup.require()


@pytest.mark.parametrize("name", ["RLock", "Event", "Queue"])
def test_a_lock_of_this_process(name: str) -> None:
    """A lock of multiprocessing as an argument of an initializer is refused, and the error says which ones travel."""
    with pytest.raises(RuntimeError, match=r"through inheritance; .* travel: multiprocessing\.Manager\(\)\.RLock\(\)"):
        ProcessSetup(len, (getattr(multiprocessing, name)(),))


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """A call is never made in another folder than the driver's: it fails, and says which one is missing."""
    setup = setup_of(tmp_path / "a")
    (tmp_path / "a").rmdir()
    for _ in range(2):
        with pytest.raises(DfzError, match="working directory in which its executor was made"):
            setup.require()


def test_a_setup_travels_within_its_domain() -> None:
    """The domain that workers get applies the setup when it is loaded, and makes calls after it."""
    made = pickle.loads(dumps(make_call_domain(ProcessSetup(fill, (4,)))))  # noqa: S301 - our own
    made.load()
    assert Path("calls").read_text() == "x"
    assert made.compute.setup is made.setup
    with pytest.raises(TypeError, match="callable"):
        ProcessSetup(3)  # type: ignore[arg-type]
    with pytest.raises(DfzError, match="at most"):
        ProcessSetup(len, (bytes(process_setup.LIMIT_BYTES),))
