"""What this machine's processor is called."""

import platform
from pathlib import Path

__all__ = ["processor_name"]


def processor_name(threads: int) -> str:
    """The model of the processor and the threads it is used with, such as ``AMD EPYC, 1 threads``.

    Where the system does not say the model, it is the name of the architecture, without the threads.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if models:
            return f"{models[0]}, {threads} threads"
    return platform.processor() or platform.machine()
