"""Connect to a Ray cluster.

Ray is imported only when it is used. A worker needs the same version of ssgan as the command.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import ssgan
from ssgan.errors import UserError, did_you_mean

__all__ = ["ENGINES", "check_engine", "connect", "count_processors", "gpus_for", "prepare_worker", "user_error"]

ENGINES = ("local", "ray")
INSTALL = "pip install 'ssgan[ray]'"
PACKAGES = ("ray", "pyarrow", "pandas")  # packages of the extra, with the names of their modules
ADDRESS = "RAY_ADDRESS"  # environment variable
CONNECT_SECONDS = 10.0


def check_engine(engine: str, address: str | None) -> None:
    """Check the options of an engine.

    Parameters
    ----------
    engine : str
        One of :data:`ENGINES`.
    address : str or None
        Address of a running cluster, ``HOST:PORT``, or ``auto`` for the one on this machine.

    Raises
    ------
    UserError
        For an unknown engine, an address without Ray or of another form, or if Ray is not installed.
    """
    if engine not in ENGINES:
        raise UserError(
            f"--engine is {engine}, but must be one of {', '.join(ENGINES)}.{did_you_mean(engine, ENGINES)}"
        )
    if engine != "ray":
        if address is not None:
            raise UserError(
                f"--ray-address {address} has no effect without --engine ray: add it, or omit --ray-address."
            )
        return
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        are = "is" if len(missing) == 1 else "are"
        raise UserError(f"--engine ray needs {' and '.join(missing)}, which {are} not installed: {INSTALL}.")
    if address is not None and address != "auto":
        _split(address, "--ray-address")


@contextmanager
def connect(address: str | None = None) -> Iterator[Any]:
    """Connect this process to a Ray cluster while the block runs; yield the module ``ray``.

    Without an address it is the cluster of ``RAY_ADDRESS``, or else one on this machine's processors, which is started
    and stopped here. An existing connection is reused and left open.

    Raises
    ------
    UserError
        If no cluster answers, or it has another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone
    import ray

    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get(ADDRESS) or "local"
    name = "--ray-address" if address else ADDRESS
    if where not in ("auto", "local"):
        _check_answers(where, name)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        dashboard = False if where == "local" else None
        ray.init(where, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as cause:
        ray.shutdown()
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__).rstrip(".")
        if where == "local":
            raise UserError(f"Ray cannot be started here ({reason}).") from None
        if where == "auto" and isinstance(cause, ConnectionError):
            advice = "start it with `ray start --head`, or name a cluster by HOST:PORT"
            raise UserError(f"{name} is auto, but Ray is not running on this machine: {advice}.") from None
        token = "" if where == "auto" else ": if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise UserError(f"{name} is {where}, which cannot be used ({reason}){token}.") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own handler would exit without a message
    try:
        yield ray
    finally:
        ray.shutdown()


def count_processors(ray: Any) -> int:
    """Return how many processors the cluster has now, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def gpus_for(ray: Any, device: str) -> int:
    """Return how many GPUs a task needs: one for ``cuda``, and for ``auto`` if the cluster has any.

    Raises
    ------
    UserError
        For ``cuda`` if the cluster has none, and for a specific GPU such as ``cuda:0``.
    """
    if device.startswith("cuda:"):
        raise UserError(f"device is {device!r}, but Ray gives each task its GPU: choose cuda.")
    has_gpus = ray.cluster_resources().get("GPU", 0) >= 1
    if device == "cuda" and not has_gpus:
        raise UserError(f"device is {device!r}, but the Ray cluster has no GPU: choose auto or cpu.")
    return int(has_gpus and device in ("auto", "cuda"))


def prepare_worker(version: str) -> None:
    """Limit a worker to one thread, and check that it has the same version of ssgan as the command.

    Raises
    ------
    UserError
        If it has another version.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)  # until the process ends, which is Ray's
    if version != ssgan.__version__:
        raise UserError(
            f"{socket.gethostname()} has ssgan {ssgan.__version__}, but this is ssgan {version}: install the same "
            f"version on every node of the Ray cluster."
        )


def user_error(error: BaseException) -> UserError | None:
    """Return the :class:`UserError` behind an error of a task; None if there is none."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if isinstance(seen, UserError) and cause is None:
            return seen
        if "No module named 'ssgan" in str(seen):
            return UserError(
                f"A node of the Ray cluster has no ssgan: install ssgan {ssgan.__version__} on every node, in the "
                f"Python that runs Ray."
            )
        seen = cause if cause is not seen else None
    return None


def _split(address: str, name: str) -> tuple[str, int]:
    """Return host and port of an address."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isdecimal() and port.isascii() and 0 < int(port) < 2**16):
        raise UserError(f"{name} is {address}, but must be HOST:PORT, such as 10.0.0.1:6379, or auto.")
    return host.strip("[]"), int(port)


def _check_answers(address: str, name: str) -> None:
    """Check that something listens at an address; Ray itself would try for minutes."""
    try:
        socket.create_connection(_split(address, name), timeout=CONNECT_SECONDS).close()
    except OSError as cause:
        reason = cause.strerror or str(cause) or type(cause).__name__
        raise UserError(
            f"{name} is {address}, but no Ray cluster answers there ({reason}): is it running, and this machine one "
            f"of its nodes?"
        ) from None
