"""The connection to Ray: finds the Ray that a run uses, or starts one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import grpc
import ray

from dfz_ray.errors import ClusterUnusable

logger = logging.getLogger("dfz_ray")

ANSWER_S = 2.0
"""Seconds that a cluster has to answer."""
_CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 - where `ray start` writes its address


_connecting = threading.Lock()
"""Held to connect: several adapters may try at the same time, and Ray allows one connection."""


def connect(address: str | None = None, *, logical_cpus: int | None = None) -> None:
    """Connect this process to a Ray, or start one in it. A process that is connected stays connected.

    In this order: the address (`local` for an embedded Ray, `auto` for the one on this machine, or host:port); a Ray
    that this process has initialised; RAY_ADDRESS; a cluster that `ray start` left on this machine and that answers; an
    embedded one, which lives as long as the process, and offers as many CPUs as the process may use, or `logical_cpus`.

    Raises:
        ClusterUnusable: no Ray answers at the address, or it is a Ray Client address, or this process is connected to
            another Ray.
    """
    with _connecting:
        if ray.is_initialized():
            _check_connected_to(address)
        else:
            _connect(address, logical_cpus)


def is_connected() -> bool:
    """True if this process is connected to a Ray."""
    return bool(ray.is_initialized())


def _connect(address: str | None, logical_cpus: int | None) -> None:
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted is None and _left_cluster_answers():
        wanted = "auto"  # not its address: only for "auto" Ray looks for the token that a local cluster may ask for
    if wanted is None or wanted == "local":
        cpus = logical_cpus or usable_cores()
        # Else Ray waits for its first workers while it connects, and no other thread runs meanwhile.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        # No dashboard: it would take a share of a core. A cluster that `ray start` makes has one.
        _init(address="local", num_cpus=cpus, include_dashboard=False)
        boot_workers(min(cpus, usable_cores()))
        return
    if wanted.startswith("ray://"):
        raise ClusterUnusable(
            f"{wanted} is a Ray Client address: the driver must run in the cluster; use `ray job submit -- dfz ...`"
        )
    if wanted != "auto" and not _answers(wanted):
        raise ClusterUnusable(f"no Ray answers at {wanted!r} within {ANSWER_S:g} s; start one with `ray start --head`")
    try:
        _init(address=wanted)
    except (ConnectionError, RuntimeError, ValueError) as error:
        token = "" if os.environ.get("RAY_AUTH_MODE") else " (if it asks for a token, set RAY_AUTH_MODE=token)"
        raise ClusterUnusable(f"no Ray can be used at {wanted!r}{token}: {str(error).splitlines()[0]}") from None


def boot_workers(count: int) -> None:
    """Make Ray start workers, without waiting for them."""
    boot = ray.remote(num_cpus=1, max_retries=0)(_do_nothing)
    for _ in range(count):
        boot.remote()


def _do_nothing() -> None:
    """Does nothing: a worker is started for it, and stays."""


def usable_cores() -> int:
    """The number of cores that this process may use, by its affinity and its Slurm job."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return max(1, min(cores, int(slurm)) if slurm.isdigit() else cores)


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
    # Ray's future default; without it Ray warns each time.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # If memory runs out, Ray kills one worker at a time: else many tasks would be charged for one, and the manager
    # could be among the victims. It concerns a Ray that is started here.
    os.environ.setdefault("RAY_worker_killing_policy_by_group", "true")

    def init() -> None:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)

    if threading.current_thread() is not threading.main_thread():
        _in_lasting_thread(init)
        return
    # ray.init replaces the SIGTERM handler; the user's handler is put back.
    before = signal.getsignal(signal.SIGTERM)
    init()
    signal.signal(signal.SIGTERM, before)


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


def _left_cluster_answers() -> bool:
    """True if `ray start` left a cluster on this machine, and it answers."""
    try:
        address = _CURRENT_CLUSTER.read_text().strip()
    except OSError:
        return False
    if not address or not _answers(address):
        logger.warning("passed over the Ray at %s, which %s names: it does not answer", address, _CURRENT_CLUSTER)
        return False
    return True


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterUnusable(f"{address!r} is no address: give host:port, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError):
        return False
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True
    # A head that is stopped still accepts connections; one that lives answers the handshake.
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
        except grpc.FutureTimeoutError:
            return False
    return True
