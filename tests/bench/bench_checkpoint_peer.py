"""The same as `bench_checkpoint load FILE` through safetensors.torch.load_file.

SPDX-License-Identifier: Apache-2.0
"""

import json
import resource
import sys
import time

import torch
from safetensors.torch import load_file

torch.set_num_threads(1)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6


memory, used, start = peak_mb(), cpu(), time.monotonic()
total = 0
for tensor in load_file(sys.argv[1]).values():
    total += tensor.flatten().view(torch.uint8)[::4096].sum().item()
print(json.dumps({"wall_s": time.monotonic() - start, "cpu_s": cpu() - used, "more_mb": peak_mb() - memory,
                  "peak_mb": peak_mb(), "result": total}))
