"""Compares our safetensors writer with the reference library: a file that goes through ours is the same, byte for byte.

Usage: compare_safetensors.py COPY_PROGRAM. Needs torch and safetensors; exit code 77 (skipped) without them.
"""
# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64,
    torch.complex64,
]
SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (5, 3), (2, 3, 4)]


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for dtype in DTYPES:
        for shape in SHAPES:
            size = dtype.itemsize * int(torch.Size(shape).numel())
            high = 2 if dtype == torch.bool else 256
            raw = torch.randint(0, high, (size,), dtype=torch.uint8, generator=generator)
            name = f"{str(dtype)[6:]}.{'x'.join(map(str, shape))} \"\u00fc\n"
            result[name] = raw.view(dtype).reshape(shape) if size else torch.zeros(shape, dtype=dtype)
    return result


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "a.safetensors"), pathlib.Path(folder, "b.safetensors")
        for seed, metadata in enumerate([None, {"format": "pt"}, {"k\"\\\u00fc": "\t\u0001\u2028"}]):
            saved = tensors(seed)
            save_file(saved, source, metadata=metadata)
            subprocess.run([program, source, target], check=True)
            assert source.read_bytes() == target.read_bytes(), f"seed {seed}: the files differ"
            with safe_open(target, framework="pt") as loaded:
                assert set(loaded.keys()) == set(saved)
                for name, tensor in saved.items():
                    ours = loaded.get_tensor(name)
                    assert ours.dtype == tensor.dtype and ours.shape == tensor.shape, name
                    assert ours.numpy(force=True).tobytes() == tensor.numpy().tobytes() if tensor.dtype not in (
                        torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2) else True, name
        print(f"{len(saved)} tensors, 3 files: byte-identical")


main()
