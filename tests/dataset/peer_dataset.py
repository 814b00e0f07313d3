#!/usr/bin/env python3
# Real lerobot opens what tst_dataset records: it loads offline, every frame decodes, windows and tasks are right, the
# statistics match lerobot's own, and what a killed recorder leaves opens as it lies there.
#
# usage: peer_dataset.py TST_DATASET        (a Python with lerobot 0.4)
# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np
from lerobot.datasets.compute_stats import get_feature_stats
from lerobot.datasets import lerobot_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset

try:
    from torchcodec.decoders import VideoDecoder  # noqa: F401

    BACKEND = "torchcodec"
except Exception:  # noqa: BLE001
    # lerobot's other path needs an old torchvision: the same lookup by PyAV.
    import av
    import torch

    BACKEND = "pyav"

    def decode_video_frames(path, timestamps, tolerance, backend=None):
        shown = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in av.open(str(path)).decode(video=0)]
        nearest = [min(shown, key=lambda s: abs(s[0] - t)) for t in timestamps]
        assert all(abs(s[0] - t) < tolerance for s, t in zip(nearest, timestamps, strict=True))
        return torch.stack([torch.from_numpy(s[1]).permute(2, 0, 1).float() / 255 for s in nearest])

    lerobot_dataset.decode_video_frames = decode_video_frames

program = sys.argv[1]
HEIGHT, WIDTH, BASE = 48, 64, -(2**40)


def picture(index, camera, height, width):
    image = np.zeros((height, width, 3), np.float64)
    x, y = np.arange(width), np.arange(height)
    image[..., 0] = 40 + (x[None] + index) % 60
    image[..., 1] = (70 + y % 50)[:, None]
    image[..., 2] = 60 if camera == 0 else 140
    left = (index * 5 + camera * 9) % (width - 8)
    image[height // 3 : height * 2 // 3, left : left + 8, 0] = 220
    image[height // 3 : height * 2 // 3, left : left + 8, 1] = 60
    return image


def state(index):
    return np.sin(np.float32(index) * np.float32(0.1) + np.arange(7, dtype=np.float32)).astype(np.float32)


def check_frame(item, index):
    assert np.allclose(item["observation.state"].numpy(), state(index), atol=1e-6), index
    assert np.allclose(item["action"].numpy().reshape(-1, 7)[0], state(index + 1), atol=1e-6), index
    assert int(item["observation.counter"]) == index * 1_000_003 + BASE, index
    assert int(item["index"]) == index
    for camera, key in enumerate(["observation.images.front", "observation.images.wrist"]):
        frame = item[key].numpy().transpose(1, 2, 0) * 255
        rms = float(np.sqrt(((frame - picture(index, camera, HEIGHT, WIDTH)) ** 2).mean()))
        assert rms < 14, (key, index, rms)


def check_sample(root):
    dataset = LeRobotDataset("rankwise/sample", root=root, video_backend=BACKEND, delta_timestamps={"action": [i / 30 for i in range(5)]})
    assert len(dataset) == 11 + 18 + 25 + 32 and dataset.num_episodes == 4
    index = 0
    for episode in range(4):
        length = 11 + 7 * episode
        for frame in range(length):
            item = dataset[index]
            check_frame(item, index)
            thumb = item["observation.images.thumb"].numpy().transpose(1, 2, 0) * 255
            assert np.abs(thumb - picture(index, 0, 24, 32)).max() < 0.51, index
            assert item["task"] == ("lege den Würfel in die Schüssel" if episode == 2 and frame >= length // 2 else "pick up the red cube")
            assert item["action_is_pad"].tolist() == [frame + k >= length for k in range(5)]
            assert math.isclose(float(item["timestamp"]), frame / 30, abs_tol=1e-6)
            index += 1
    row = dataset.meta.episodes[2]
    assert row["seed"] == 2 and row["success"] is True and row["tasks"] == ["pick up the red cube", "lege den Würfel in die Schüssel"]
    check_statistics(root, dataset)


def check_statistics(root, dataset):
    import pyarrow.parquet as pq

    rows = pq.read_table(sorted((root / "meta/episodes").glob("*/*.parquet"))[0]).to_pylist()
    data = dataset.hf_dataset.with_format("numpy")
    columns = {k: np.asarray(data[k]) for k in ("observation.state", "action", "timestamp", "frame_index", "index", "task_index")}
    for row in rows:
        begin, end = row["dataset_from_index"], row["dataset_to_index"]
        for key, values in columns.items():
            part = values[begin:end]
            theirs = get_feature_stats(part.astype(np.float64), axis=0, keepdims=part.ndim == 1)
            for name, value in theirs.items():
                ours = np.asarray(row[f"stats/{key}/{name}"])
                spread = max(float(np.max(theirs["max"] - theirs["min"])), 1e-6)
                tolerance = spread / 2500 if name.startswith("q") else 1e-5 * max(1.0, float(np.abs(value).max()))
                assert np.allclose(ours.reshape(-1), value.reshape(-1), atol=tolerance), (key, name, ours, value)
        # Pictures before encoding: lerobot squares bytes in bytes, so its deviation is not compared with ours.
        pictures = np.stack([picture(i, 0, HEIGHT, WIDTH) for i in range(begin, end)]).transpose(0, 3, 1, 2)
        theirs = get_feature_stats(pictures.astype(np.float64), axis=(0, 2, 3), keepdims=True)
        for name, value in theirs.items():
            ours = np.asarray(row[f"stats/observation.images.front/{name}"]).reshape(-1)
            expected = value.reshape(-1) / (1 if name == "count" else 255)
            assert np.allclose(ours, expected, atol=2e-4), (name, ours, expected)
    for key, values in columns.items():
        stats = dataset.meta.stats[key]
        flat = values.reshape(len(values), -1).astype(np.float64)
        for name, value in {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}.items():
            assert np.allclose(np.asarray(stats[name]).reshape(-1), value, rtol=1e-6, atol=1e-6), (key, name)
        for q in (1, 10, 50, 90, 99):
            assert np.allclose(np.asarray(stats[f"q{q:02d}"]).reshape(-1), np.quantile(flat, q / 100, axis=0), rtol=1e-6, atol=1e-6), (key, q)


def check_killed(root, rounds):
    generator = random.Random(7)
    for _ in range(rounds):
        child = subprocess.Popen([program, "--record", str(root)], stdout=subprocess.PIPE)
        for _ in range(generator.randint(1, 3)):
            child.stdout.read(1)
        time.sleep(generator.random() * 0.06)
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
        dataset = LeRobotDataset("rankwise/killed", root=root, video_backend=BACKEND)
        assert len(dataset) == json.loads((root / "meta/info.json").read_text())["total_frames"]
        for index in sorted({0, len(dataset) - 1, generator.randrange(len(dataset))}):
            check_frame(dataset[index], index)
    return len(dataset)


with tempfile.TemporaryDirectory() as folder:
    sample = Path(folder) / "sample"
    subprocess.run([program, "--sample", str(sample)], check=True)
    check_sample(sample)
    print("sample: lerobot opens it, every frame and statistic agrees")
    killed = Path(folder) / "killed"
    subprocess.run([program, "--create", str(killed)], check=True)
    print("killed recorder: lerobot opens it each time;", check_killed(killed, int(os.environ.get("RANKWISE_KILL_ROUNDS", "6"))), "frames")
