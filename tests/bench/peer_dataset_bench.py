#!/usr/bin/env python3
# lerobot's side of the dataset benchmark: the same frames written, the same samples read, CPU seconds of the process
# and its children. Prints one JSON line.
#
# usage: peer_dataset_bench.py frames RAW PAIRS            makes the raw frames both sides write
#        peer_dataset_bench.py write DIR EPISODES FRAMES RAW
#        peer_dataset_bench.py read DIR random|sequential COUNT
#        peer_dataset_bench.py compare DIR DIGESTS          digests of bench_dataset against lerobot's tensors
# SPDX-License-Identifier: Apache-2.0
import json
import os
import resource
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np

H, W = 480, 640
JOINTS = [f"joint_{i}" for i in range(1, 7)] + ["gripper"]


def cpu():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in both)


def make_frames(path, pairs):
    """A smooth moving background, a disc, and the noise of a camera."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    with open(path, "wb") as out:
        for t in range(pairs):
            for camera in range(2):
                phase = camera * 1.3
                image = np.stack([80 + 60 * np.sin(x / W * 3 + phase + t * 0.05), 100 + 70 * np.cos(y / H * 2 + t * 0.03),
                                  90 + 50 * np.sin((x + y) / (H + W) * 4 + phase * 2)], -1)
                cx, cy = W * (0.5 + 0.35 * np.cos(t * 0.1 + phase)), H * (0.5 + 0.35 * np.sin(t * 0.1 + phase))
                image[(x - cx) ** 2 + (y - cy) ** 2 < (H / 7) ** 2] = (230, 40 + (t * 7) % 150, 30)
                image += rng.normal(0, 2, image.shape)
                out.write(np.clip(image, 0, 255).astype(np.uint8).tobytes())


def write(folder, episodes, frames, raw):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    pixels = np.memmap(raw, np.uint8, "r").reshape(-1, 2, H, W, 3)
    names = ["height", "width", "channels"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (7,), "names": JOINTS},
        "action": {"dtype": "float32", "shape": (7,), "names": JOINTS},
        "observation.images.front": {"dtype": "video", "shape": (H, W, 3), "names": names},
        "observation.images.wrist": {"dtype": "video", "shape": (H, W, 3), "names": names},
    }
    dataset = LeRobotDataset.create("rankwise/bench", fps=30, features=features, root=folder, vcodec="h264",
                                    image_writer_threads=8)
    begin, wall, pair = cpu(), time.perf_counter(), 0
    for _ in range(episodes):
        for i in range(frames):
            values = np.full(7, i * 0.01, np.float32)
            front, wrist = pixels[pair % len(pixels)]
            dataset.add_frame({"observation.state": values, "action": values, "observation.images.front": np.array(front),
                               "observation.images.wrist": np.array(wrist), "task": "bench"})
            pair += 1
        dataset.save_episode()
    used, spent = cpu() - begin, time.perf_counter() - wall
    dataset.finalize()
    print(json.dumps({"pairs": pair, "cpu_s": used, "wall_s": spent, "cpu_ms_per_pair": used * 1000 / pair}))


def open_dataset(folder, chunk):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [i / 30 for i in range(chunk)]} if chunk else None
    return LeRobotDataset("rankwise/bench", root=folder, delta_timestamps=deltas, video_backend=backend())


def backend():
    try:
        import torchcodec.decoders  # noqa: F401

        return "torchcodec"
    except Exception:  # noqa: BLE001
        return "pyav"


def read(folder, order, count):
    import torch

    torch.set_num_threads(1)
    dataset = open_dataset(folder, 50)
    indices = np.arange(count) % len(dataset)
    if order == "random":
        indices = np.random.default_rng(1).permutation(len(dataset))[indices]
    dataset[0]
    begin, wall = cpu(), time.perf_counter()
    for index in indices:
        dataset[int(index)]
    used = cpu() - begin
    print(json.dumps({"samples": count, "cpu_s": used, "wall_s": time.perf_counter() - wall,
                      "cpu_ms_per_sample": used * 1000 / count, "backend": backend()}))


def compare(folder, digests):
    dataset = open_dataset(folder, 0)
    weights = np.arange(H * W * 3, dtype=np.uint64) % 8191 + 1
    equal = total = 0
    for line in open(digests):
        parts = line.split()
        if len(parts) != 3 or line.startswith("{"):
            continue
        frame = (dataset[int(parts[0])][parts[1]].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint64).reshape(-1)
        total += 1
        equal += int((frame * weights).sum() == int(parts[2]))
    print(json.dumps({"frames": total, "equal": equal, "backend": backend()}))
    return 0 if total and equal == total else 1


mode = sys.argv[1]
if mode == "frames":
    make_frames(sys.argv[2], int(sys.argv[3]))
elif mode == "write":
    write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
elif mode == "read":
    read(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    sys.exit(compare(sys.argv[2], sys.argv[3]))
