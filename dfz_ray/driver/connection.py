"""The connection to Ray: finds the Ray that a run uses, or starts one."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import psutil
import ray
from ray._private.node import Node

from dfz_ray.driver.cores import usable_cores
from dfz_ray.driver.forked_process import check_not_forked, connecting
from dfz_ray.driver.ray_node import RAY_SETTINGS
from dfz_ray.driver.token import HOW_TO_GIVE_ONE, describe_token, make_token, token_header, use_local_token
from dfz_ray.errors import ClusterUnusable, DfzError
from dfz_ray.journal.regular_file import read_small

logger = logging.getLogger("dfz_ray")

ANSWER_S = 2.0
"""Seconds that a Ray that was found on this machine has to answer."""
PATIENCE_S = 10.0
"""Seconds that a Ray whose address was given has to answer: a busy one takes longer."""
SIGACTION_BYTES = 256
"""More than C's struct sigaction has on any system."""
STARTS = 5
"""How often an embedded Ray is started if it does not come up in time."""

_environment_at_start: dict[str, dict[str, str]] = {}
"""By the address of a Ray that this process has embedded."""


def connect(address: str | None = None, *, logical_cpus: int | None = None, boots_workers: bool = True) -> None:
    """Connect this process to a Ray, or start one in it. A process that is connected stays connected.

    In this order: the address (`local` for an embedded Ray, `auto` for the one on this machine, or host:port); a Ray
    that this process has initialised; RAY_ADDRESS; a cluster that `ray start` left on this machine and that answers; an
    embedded one, which lives as long as the process, and offers as many CPUs as the process may use, or `logical_cpus`.
    Its first workers start at once, unless `boots_workers` is False.

    Raises:
        ClusterUnusable: no Ray can be started, none answers at the address, or it refuses the token; or it is a Ray
            Client address; or this process is connected to another Ray, or was forked from one that is connected.
    """
    check_not_forked()
    with connecting:
        _route_notices()
        if ray.is_initialized():
            _check_connected_to(address)
        else:
            _connect(address, logical_cpus, boots_workers)


def connect_to_running(address: str | None = None) -> bool:
    """Connect this process to the Ray that `connect` would use; returns False if `connect` would start one.

    Raises ClusterUnusable as `connect` does.
    """
    check_not_forked()
    with connecting:
        _route_notices()
        if ray.is_initialized():
            _check_connected_to(address)
            return True
        wanted = _find_address(address)
        if wanted is not None:
            _join(wanted)
        return wanted is not None


def environment_of_embedded() -> dict[str, str] | None:
    """The environment with which the embedded Ray was started that this process uses; None if it uses another Ray."""
    return _environment_at_start.get(ray.get_runtime_context().gcs_address) if ray.is_initialized() else None


def is_connected() -> bool:
    """True if this process is connected to a Ray."""
    return bool(ray.is_initialized())


def _connect(address: str | None, logical_cpus: int | None, boots_workers: bool) -> None:
    wanted = _find_address(address)
    if wanted is not None:
        _join(wanted)
        return
    cpus = logical_cpus or usable_cores()
    _start_embedded(cpus)
    if boots_workers:
        boot_workers(min(cpus, usable_cores()))


def _find_address(address: str | None) -> str | None:
    """The address of the Ray that is to be used; None: an embedded one."""
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted == "auto":
        named = os.environ.get("RAY_ADDRESS")
        wanted = named if named not in (None, "", "auto") else _find_ray(left_only=False)
    elif wanted is None:
        wanted = _find_ray(left_only=True)
    return None if wanted == "local" else wanted


def _join(wanted: str) -> None:
    if wanted.startswith("ray://"):
        raise ClusterUnusable(
            f"{wanted} is a Ray Client address: the driver must run in the cluster; use `ray job submit -- dfz ...`"
        )
    _check_answers(wanted, PATIENCE_S)
    _check_node_here(wanted)
    # Ray turns a loopback address into the machine's own, where an embedded Ray does not listen.
    is_loopback = wanted.startswith(("127.", "localhost:", "[::1]:"))
    try:
        with _on_loopback() if is_loopback else contextlib.nullcontext():
            _init(address=wanted)
    except Exception as error:
        raise ClusterUnusable(f"no Ray can be used at {wanted!r}: {_in_a_line(error)}") from None


def _start_embedded(cpus: int) -> None:
    # Else Ray waits for its first workers while it connects, and no other thread runs meanwhile.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    make_token()
    for tries_left in reversed(range(STARTS)):
        environment = dict(os.environ)
        try:
            with _on_loopback():
                # No dashboard: it would take a share of a core. A cluster that `ray start` makes has one.
                _init(address="local", num_cpus=cpus, include_dashboard=False)
            _environment_at_start[ray.get_runtime_context().gcs_address] = environment
            break
        except Exception as error:
            _stop_half_started(error)
            # A folder that can't be written stays so; a machine that was too busy may have time now.
            is_final = isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError))
            if is_final or not tries_left:
                mend = "RAY_TMPDIR names the folder of its files" if is_final else f"it was tried {STARTS} times"
                raise ClusterUnusable(f"no Ray can be started here: {_in_a_line(error)}; {mend}") from None
            logger.warning("Ray did not start, and is started again: %s", _in_a_line(error))


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray that is started meanwhile listen on the loopback interface only, as Ray does on other systems."""
    constants = ray._private.ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _stop_half_started(error: Exception) -> None:
    """Stop the processes of a Ray whose start failed: Ray leaves them behind until this process ends."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False)
    ray.shutdown()


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def boot_workers(count: int) -> None:
    """Make Ray start workers, without waiting for them."""
    boot = ray.remote(num_cpus=1, max_retries=0)(_do_nothing).options(name="dfz boot a worker")
    for _ in range(count):
        boot.remote()


def _do_nothing() -> None:
    """Does nothing: a worker is started for it, and stays."""


def _check_connected_to(address: str | None) -> None:
    """Refuse the address of another Ray: it must not be ignored silently."""
    if ray.util.client.ray.is_connected():
        raise ClusterUnusable("this process is connected with Ray Client; use `ray job submit` for dfz_ray")
    connected = ray.get_runtime_context().gcs_address
    if address is None or address in ("local", "auto", connected):
        return
    host, _, port = address.rpartition(":")
    connected_host, _, connected_port = connected.rpartition(":")
    with contextlib.suppress(OSError):
        if port == connected_port and socket.gethostbyname(host) in (connected_host, "127.0.0.1"):
            return
    raise ClusterUnusable(
        f"this process is connected to the Ray at {connected}, not {address}; ray.shutdown() ends that"
    )


def _init(**options: object) -> None:
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)

    def init() -> None:
        with _handler_of_sigterm_kept(), _sendable_command_line():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)

    if threading.current_thread() is not threading.main_thread():
        _in_lasting_thread(init)
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        init()
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _handler_of_sigterm_kept() -> Iterator[None]:
    """Put the operating system's handler of SIGTERM back, in any thread; Python's own belongs to the main thread.

    ray.init installs one that prints a stack, and that aborts the process three seconds after the signal, in the middle
    of what SIGTERM made it do.
    """
    library, kept = ctypes.CDLL(None), ctypes.create_string_buffer(SIGACTION_BYTES)
    library.sigaction(int(signal.SIGTERM), None, kept)
    try:
        yield
    finally:
        library.sigaction(int(signal.SIGTERM), kept, None)


def _route_notices() -> None:
    """Let Ray's notices of lost workers go to the log of dfz_ray: Ray prints them to stdout, where results may be."""
    worker = ray._private.worker
    to_stdstream = getattr(worker, "print_to_stdstream", None)
    if to_stdstream is None or hasattr(to_stdstream, "by_dfz_ray"):
        return

    @functools.wraps(to_stdstream)
    def route(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if data.get("pid") != "raylet":
            to_stdstream(data, *arguments, **options)
            return
        for line in data.get("lines", ()):
            logger.warning("(raylet) %s", line)

    route.by_dfz_ray = True  # type: ignore[attr-defined]
    worker.print_to_stdstream = route


@contextlib.contextmanager
def _sendable_command_line() -> Iterator[None]:
    """Let Ray send this program's command line, which it takes to be UTF-8; file names in it may have any bytes."""
    utils = ray._private.utils
    get_name = getattr(utils, "get_entrypoint_name", None)
    if get_name is None:
        yield
        return
    utils.get_entrypoint_name = lambda: get_name().encode(errors="backslashreplace").decode()
    try:
        yield
    finally:
        utils.get_entrypoint_name = get_name


def _in_lasting_thread(function: Callable[[], None]) -> None:
    """Call a function in a thread that lives as long as the process.

    The processes of an embedded Ray die with the thread that started them (Linux sends PR_SET_PDEATHSIG when the
    parent's thread ends), and the threads of an asyncio loop's executor end with the loop.
    """
    done: Future[None] = Future()

    def call_and_stay() -> None:
        try:
            function()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)
            return
        threading.Event().wait()

    threading.Thread(target=call_and_stay, name="dfz_ray-holds-ray", daemon=True).start()
    done.result()


def _find_ray(*, left_only: bool) -> str | None:
    """The address of a Ray on this machine that answers and takes this driver.

    The cluster that `ray start` left comes first, then those of this user, then others. If only the one that was left
    may be taken, and it does not answer, there is a notice, and the address is None; else ClusterUnusable is raised.
    """
    left = _read_left_address()
    if left is None and left_only:
        return None
    reasons, users, me = [], _find_users(), psutil.Process().username()
    found = [] if left_only else sorted(users.keys() - {left}, key=lambda address: users[address] != me)
    for address in [left, *found] if left else found:
        try:
            _check_answers(address, ANSWER_S)
        except ClusterUnusable as error:
            reasons.append(str(error))
            continue
        others = [f"{other} of {user}" for other, user in users.items() if other != address]
        if others or users.get(address, me) != me:
            more = f"; others run at {', '.join(others)}: --address takes one of them" if others else ""
            logger.warning("takes the Ray at %s of the user %s%s", address, users.get(address, "(not known)"), more)
        return address
    if not left_only:
        why = "; ".join(reasons) or "none runs; `ray start --head` starts one"
        raise ClusterUnusable(f"no Ray on this machine can be used: {why}")
    for reason in reasons:
        logger.warning("the Ray that `ray start` left is passed over: %s", reason)
    return None


def _find_users() -> dict[str, str]:
    """The Rays that have a node on this machine: address, and the user whose it is."""
    users = {}
    for process in psutil.process_iter(["name", "cmdline", "username"]):
        if process.info["name"] == "raylet":
            for argument in process.info["cmdline"] or ():
                if argument.startswith("--gcs-address="):
                    users[argument.partition("=")[2]] = str(process.info["username"])
    return users


def _check_node_here(address: str) -> None:
    """Refuse a Ray that has no node on this machine, where a driver needs one: Ray itself would look for a minute.

    A head answers a little earlier than its node is there.
    """
    if not hasattr(ray._private.services, "find_node_ids"):  # an older Ray, which knows its nodes by their addresses
        return
    port, deadline = address.rpartition(":")[2], time.monotonic() + PATIENCE_S
    while not any(found.rpartition(":")[2] == port for found in _find_users()):
        if time.monotonic() > deadline:
            raise ClusterUnusable(
                f"no node of the Ray at {address} runs on this machine, where a driver needs one: start it with "
                f"`ray start --address={address}`, or run the driver in the cluster with `ray job submit -- dfz ...`"
            )
        time.sleep(0.2)


def _read_left_address() -> str | None:
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as `ray start` does
    try:
        return read_small(Path(folder) / "ray" / "ray_current_cluster").decode(errors="replace").strip() or None
    except (OSError, DfzError):
        return None


def _check_answers(address: str, wait_s: float) -> None:
    """Ask the Ray at an address whether it lives and takes the token. Raises ClusterUnusable if not."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterUnusable(f"{address!r} is no address: give host:port, auto or local")
    silent = f"no Ray answers at {address!r} within {wait_s:g} s; start one with `ray start --head`"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=wait_s) as connection:
            is_here = connection.getsockname()[0] == connection.getpeername()[0]
    except (OSError, OverflowError):
        raise ClusterUnusable(silent) from None
    if is_here:  # a token of this machine is never sent to another one, unless RAY_AUTH_MODE says so
        use_local_token()
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return
    # A head that is stopped still accepts connections; one that lives answers. Ray itself would try for 20 s.
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            ask(b"", timeout=wait_s, metadata=token_header(), wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                raise ClusterUnusable(silent) from None
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise ClusterUnusable(f"the Ray at {address} refuses {describe_token()}; {HOW_TO_GIVE_ONE}") from None
