"""Compares bench_tokenizer with the Python package `tokenizers`: equal ids on random text, and the ratio of speeds.

Usage: compare_tokenizer.py path/to/bench_tokenizer path/to/tokenizer.json [--lines 2000] [--seed 0]
Prints one JSON object; the exit status is 1 when any line differs.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import random
import subprocess
import tempfile
import time

import tokenizers

WORDS = ("pick up the red block and place it in bin left drawer open gripper 0 7 12 255 3.14 don't it's I'LL "
         "naïve façade Würfel 把红色的积木放进盒子里 赤いブロック 블록 المكعب Привет 🙂 👩‍🔬 é̂ ½ Ⅷ ١٢ snake_case "
         "http://x.y/z <image> </s> <|im_end|> <bos> <unk> ▁ ▁▁ Ġ \u200b \u00a0 \u2009 \u3000 \u0085 ... !? -1 ' 's ''").split(" ")
GAPS = [" ", "  ", "   ", "\t", "", "", " ", " "]


def randomLine(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randrange(0, 40)):
        if rng.random() < 0.05:
            parts.append(chr(rng.choice([rng.randrange(32, 0x250), rng.randrange(0x250, 0x3000),
                                         rng.randrange(0x3000, 0xD7FF), rng.randrange(0x1F000, 0x1FAFF)])))
        else:
            parts.append(rng.choice(WORDS))
        parts.append(rng.choice(GAPS))
    return "".join(parts).replace("\n", " ").replace("\r", " ")


def run(arguments: list[str]) -> str:
    return subprocess.run(arguments, check=True, capture_output=True).stdout.decode("utf-8", "surrogatepass")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("tokenizer")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    lines = [randomLine(rng) for _ in range(options.lines)]
    peer = tokenizers.Tokenizer.from_file(options.tokenizer)
    peer.no_truncation()
    peer.no_padding()
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        command = [options.program, options.tokenizer, file.name]
        ours = run(command + ["--ids"]).split("\n")
        texts = run(command + ["--text"])
        speed = json.loads(run(command))

    encodings = [peer.encode(line) for line in lines]
    differing = []
    offsetDifferences = 0
    for line, mine, encoding in zip(lines, ours, encodings):
        fields = [tuple(map(int, field.split(":"))) for field in mine.split()]
        if [field[0] for field in fields] != encoding.ids:
            differing.append({"text": line, "ours": [field[0] for field in fields], "theirs": encoding.ids})
        else:
            starts = [len(line[:i].encode()) for i in range(len(line) + 1)]
            theirs = [(starts[begin], starts[end]) for begin, end in encoding.offsets]
            offsetDifferences += [field[1:] for field in fields] != theirs
    decoded = "".join(peer.decode(encoding.ids, skip_special_tokens=False) + "\n" for encoding in encodings)

    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        for line in lines:
            peer.encode(line)
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"lines": len(lines), "differing": len(differing), "first": differing[:2],
                      "lines_with_other_offsets": offsetDifferences, "decoded_equal": texts == decoded,
                      "ours_s": speed["best_s"], "tokenizers_s": round(best, 6),
                      "times_as_fast": round(best / speed["best_s"], 2)}, ensure_ascii=False, indent=1))
    return 1 if differing or texts != decoded else 0


if __name__ == "__main__":
    raise SystemExit(main())
