"""How much memory a call takes."""

from __future__ import annotations

import os

import torch
from torch.autograd import profiler

from ganengine.bench.case import Call


def peak_bytes(call: Call, device: torch.device) -> int:
    """Return the most bytes that were allocated at once during a call: its result included, its inputs not."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler announces each start on standard error
    with profiler.profile(profile_memory=True) as profile:
        result = call()
    del result
    assert profile.kineto_results is not None
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most
