"""Peak memory of one piece of work, on the host and on the device."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def reset_peaks(device: str) -> None:
    """Forget earlier peaks, where the system lets a process do so (Linux; CUDA)."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")  # resets VmHWM, proc(5)
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_host_bytes() -> int:
    """Peak resident bytes of this process since `reset_peaks`; since its start where that can't be reset."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: str) -> int:
    """Peak bytes allocated on an accelerator since `reset_peaks`; 0 on a CPU, whose memory is the host's."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    return 0
