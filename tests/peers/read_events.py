"""TensorBoard's own EventAccumulator reads our event files: read_events.py WRITE_EVENTS.

SPDX-License-Identifier: Apache-2.0
"""
import math
import struct
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main():
    count = 40
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder, str(count)], check=True)
        events = EventAccumulator(folder, size_guidance={"scalars": 0})
        events.Reload()
        tags = set(events.Tags()["scalars"])
        assert tags == {"train/loss", "train/lr", 'tag with "ünïcode"'}, tags
        expected = {
            "train/loss": lambda step: math.exp(-0.1 * step),
            "train/lr": lambda step: 1e-3 / (1 + step),
            'tag with "ünïcode"': lambda step: -float(step),
        }
        for tag, function in expected.items():
            scalars = events.Scalars(tag)
            assert [s.step for s in scalars] == list(range(count)), (tag, [s.step for s in scalars])
            for scalar in scalars:
                assert scalar.value == single(function(scalar.step)), (tag, scalar)
                fraction = 0.25 if tag.startswith("train/") else 0.0
                assert scalar.wall_time == 1_700_000_000 + fraction + scalar.step, (tag, scalar)
    print(f"{len(expected)} tags, {count} steps each, over a resume and a torn end: equal")


main()
