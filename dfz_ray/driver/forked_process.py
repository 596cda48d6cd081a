"""Keeps a process that was forked beside a connection to Ray from using it: Ray works in the parent alone."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading

import ray
import ray.experimental.internal_kv

from dfz_ray.errors import ClusterUnusable

connecting = threading.Lock()
"""Held to connect: several adapters may try at the same time, and Ray allows one connection."""
_is_inherited = False
"""True in a process that was forked from one that was connected to Ray, or about to be."""


def check_not_forked() -> None:
    """Raise ClusterUnusable if the connection to Ray is that of the parent."""
    if _is_inherited:
        raise ClusterUnusable(
            "this process was forked from one that is connected to Ray, whose connection does not work here; start it "
            "by the method `spawn` or `forkserver` of multiprocessing, or fork it before the first use of Ray"
        )


def _leave_to_parent() -> None:
    """In a forked process: to close the connection, or to delete its parts, would wait for ever, or crash.

    So its parts outlive the interpreter, and the process ends before the handlers that Ray's library has registered.
    """
    global _is_inherited  # noqa: PLW0603 - one for all, as there is one process
    _is_inherited = _is_inherited or bool(ray.is_initialized()) or connecting.locked()
    if not _is_inherited:
        return
    atexit.unregister(ray._private.worker.shutdown)
    worker, state, kv = ray._private.worker, ray._private.state, ray.experimental.internal_kv
    for part in (worker.global_worker, worker._global_node, state.state, kv.global_gcs_client):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    process = ctypes.CDLL(None)
    if hasattr(process, "on_exit"):  # Linux has it
        process.on_exit(process._exit, None)  # handlers are called in reverse order, this kind with the exit code


os.register_at_fork(after_in_child=_leave_to_parent)
