"""lerobot opens what `rankwise sim record` makes: loads, iterates, windows, its statistics match, and kill -9 leaves a
dataset that opens and goes on.

recorded_dataset.py RANKWISE_STATION

SPDX-License-Identifier: Apache-2.0
"""
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np  # noqa: E402
import torch  # noqa: E402
from lerobot.datasets import lerobot_dataset  # noqa: E402
from lerobot.datasets.compute_stats import get_feature_stats  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

decoded = {}  # by path
try:
    from torchcodec.decoders import VideoDecoder  # noqa: E402, F401

    BACKEND = "torchcodec"
except Exception:  # noqa: BLE001
    # lerobot's other path needs an old torchvision: the same lookup by PyAV.
    import av

    BACKEND = "pyav"

    def decode_video_frames(path, timestamps, tolerance, backend=None):
        if path not in decoded:
            decoded[path] = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in av.open(str(path)).decode(video=0)]
        shown = decoded[path]
        nearest = [min(shown, key=lambda s: abs(s[0] - t)) for t in timestamps]
        assert all(abs(s[0] - t) < tolerance for s, t in zip(nearest, timestamps, strict=True))
        return torch.stack([torch.from_numpy(s[1]).permute(2, 0, 1).float() / 255 for s in nearest])

    lerobot_dataset.decode_video_frames = decode_video_frames

SIZE, EPISODES, CHUNK = 64, 2, 12
CAMERAS = ["observation.images.front", "observation.images.wrist"]


def check_statistics(dataset):
    data = dataset.hf_dataset.with_format("numpy")
    for key in ("observation.state", "action", "timestamp", "frame_index", "episode_index", "index", "task_index"):
        values = np.asarray(data[key]).astype(np.float64)
        flat = values.reshape(len(values), -1)
        theirs = get_feature_stats(values, axis=0, keepdims=values.ndim == 1)
        ours = dataset.meta.stats[key]
        for name, value in theirs.items():
            if name.startswith("q"):
                value = np.quantile(flat, int(name[1:]) / 100, axis=0)  # theirs are of a histogram, ours exact
            found = np.asarray(ours[name]).reshape(-1)
            assert np.allclose(found, np.asarray(value).reshape(-1), rtol=1e-5, atol=1e-6), (key, name, found, value)
    for key in CAMERAS:
        # Ours are of the pictures before encoding; decoded ones lie within the codec's error.
        frames = torch.stack([dataset[i][key] for i in range(len(dataset))]).double()
        ours = dataset.meta.stats[key]
        mean = np.asarray(ours["mean"]).reshape(-1)
        assert np.abs(mean - frames.mean(dim=(0, 2, 3)).numpy()).max() < 0.01, (key, mean, frames.mean(dim=(0, 2, 3)))
        std = np.asarray(ours["std"]).reshape(-1)
        assert np.abs(std - frames.std(dim=(0, 2, 3)).numpy()).max() < 0.015, (key, std, frames.std(dim=(0, 2, 3)))
        assert np.asarray(ours["mean"]).shape == (3, 1, 1)


def record(root, *more, **options):
    command = [sys.argv[1], "sim", "record", "--task", "press_button,pick_place", "--episodes", str(EPISODES), "--seed", "5"]
    return subprocess.Popen([*command, "--image-size", str(SIZE), "--out", str(root), *more], stderr=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, **options)


def check_killed(whole, root):
    """kill -9 leaves a dataset that opens, and going on gives the one that was never killed."""
    generator, kills = random.Random(3), 0
    for _ in range(20):
        child = record(root, "--resume")
        try:
            child.wait(timeout=0.6 + 0.8 * generator.random())
            break
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            kills += 1
        if (root / "meta/info.json").exists() and json.loads((root / "meta/info.json").read_text())["total_episodes"] > 0:
            os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
            decoded.clear()
            part = LeRobotDataset("rankwise/killed", root=root, video_backend=BACKEND)
            assert len(part) == json.loads((root / "meta/info.json").read_text())["total_frames"]
            assert part[len(part) - 1][CAMERAS[0]].shape == (3, SIZE, SIZE)
    assert record(root, "--resume").wait() == 0
    decoded.clear()
    resumed = LeRobotDataset("rankwise/killed", root=root, video_backend=BACKEND)
    assert len(resumed) == len(whole) and resumed.num_episodes == whole.num_episodes
    for key in ("observation.state", "action", "episode_index", "task_index"):
        one, two = (np.asarray(d.hf_dataset.with_format("numpy")[key]) for d in (whole, resumed))
        assert (one == two).all(), key
    for index in (0, len(whole) // 2, len(whole) - 1):
        assert torch.equal(whole[index][CAMERAS[1]], resumed[index][CAMERAS[1]]), index
    return kills


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dataset"
        assert record(root).wait() == 0
        info = json.loads((root / "meta/info.json").read_text())
        chunk = [i / info["fps"] for i in range(CHUNK)]
        dataset = LeRobotDataset("rankwise/recorded", root=root, video_backend=BACKEND, delta_timestamps={"action": chunk})
        assert dataset.num_episodes == 2 * EPISODES and len(dataset) == info["total_frames"] > 0
        starts = [row["dataset_from_index"] for row in dataset.meta.episodes]
        ends = [row["dataset_to_index"] for row in dataset.meta.episodes]
        for index in range(len(dataset)):
            item = dataset[index]
            episode = int(item["episode_index"])
            assert starts[episode] <= index < ends[episode]
            assert int(item["frame_index"]) == index - starts[episode]
            assert item["observation.state"].shape == (7,) and item["action"].shape == (CHUNK, 7)
            assert item["action_is_pad"].tolist() == [index + k >= ends[episode] for k in range(CHUNK)]
            for key in CAMERAS:
                assert item[key].shape == (3, SIZE, SIZE) and 0 <= item[key].min() and item[key].max() <= 1
            assert item["task"] in dataset.meta.episodes[episode]["tasks"], item["task"]
            assert bool(item["next.success"]) == (index == ends[episode] - 1)
        loader = torch.utils.data.DataLoader(dataset, batch_size=8, shuffle=True)
        seen = sum(len(batch["index"]) for batch in loader)
        assert seen == len(dataset)
        check_statistics(dataset)
        kills = check_killed(LeRobotDataset("rankwise/recorded", root=root, video_backend=BACKEND), Path(folder) / "killed")
        print(f"killed {kills} times and gone on: lerobot opens each, the last equals one that was never killed")
        print(f"{dataset.num_episodes} episodes, {len(dataset)} frames: lerobot loads and iterates them, statistics match ({BACKEND})")


main()
