"""torch.linalg.svdvals of every linear layer of a checkpoint, one thread: the yardstick of run_spectra_bench.sh.

usage: spectra_peer.py CHECKPOINT_FOLDER OURS.safetensors
Prints one JSON object: matrices, cpu_s, and how far our values are from an SVD in double of the smaller matrices.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import sys
import time

import torch
from safetensors import safe_open

torch.set_num_threads(1)


def main():
    folder, ours = pathlib.Path(sys.argv[1]), sys.argv[2]
    cpu = count = 0
    worst = worst_single = 0.0
    checked = 0
    with safe_open(folder / "model.safetensors", "pt") as f, safe_open(ours, "pt") as mine:
        known = set(mine.keys())
        for name in f.keys():
            w = f.get_tensor(name)
            key = name.removesuffix(".weight") + ".base.singular_values"
            if key not in known:
                continue
            start = time.process_time()
            values = torch.linalg.svdvals(w.float())
            cpu += time.process_time() - start
            count += 1
            sigma = mine.get_tensor(key)
            # The arbiter is slow: every eighth matrix, and none of the largest.
            if count % 8 == 0 and w.numel() < 4_000_000:
                exact = torch.linalg.svdvals(w.double())
                worst = max(worst, ((sigma - exact).abs().max() / exact[0]).item())
                worst_single = max(worst_single, ((values.double() - exact).abs().max() / exact[0]).item())
                checked += 1
    assert count == len(known), f"{len(known) - count} of our matrices are not in the checkpoint"
    print(json.dumps({"matrices": count, "cpu_s": cpu, "checked": checked, "worst_ours": worst, "worst_single": worst_single}))


main()
