"""Loads the pipelines that bench_processor saved with lerobot, and compares their results with a recorded case.

Usage: compare_processor.py path/to/bench_processor CASE_FOLDER...
A case folder holds config.json, policy_*processor.json with state files, case.json, inputs and outputs .safetensors.
Pipelines with steps that the installed lerobot does not know (relative actions before 0.6) are reported as skipped.
SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

import lerobot.policies.pi0.processor_pi0  # noqa: F401  registers its steps
import lerobot.policies.pi05.processor_pi05  # noqa: F401
import lerobot.policies.smolvla.processor_smolvla  # noqa: F401
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.processor.pipeline import ProcessorStepRegistry


STATE_PROMPT = "pi05_prepare_state_tokenizer_processor_step"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """By its files, whatever class of whatever release they name."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    keys = ("truncation_side", "bos_token", "eos_token", "unk_token", "pad_token")
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **{k: config[k] for k in keys if k in config})


def compare(program: str, folder: Path) -> dict:
    case = json.loads((folder / "case.json").read_text())
    tokenizer = str((folder / case["tokenizer"]).resolve())
    inputs, outputs = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([program, str(folder), tokenizer, out], check=True)
        steps = json.loads((Path(out) / "policy_preprocessor.json").read_text())["steps"]
        unknown = [s["registry_name"] for s in steps if s["registry_name"] not in ProcessorStepRegistry.list()]
        if unknown:
            return {"case": folder.name, "skipped": unknown}
        overrides = {"tokenizer_processor": {"tokenizer": load_tokenizer(Path(tokenizer))}}
        if any(s["registry_name"] == STATE_PROMPT for s in steps):  # older releases pad the prompt's state to 32
            overrides[STATE_PROMPT] = {"max_state_dim": inputs["observation.state"].shape[-1]}
        pre = PolicyProcessorPipeline.from_pretrained(out, config_filename="policy_preprocessor.json", overrides=overrides)
        post = PolicyProcessorPipeline.from_pretrained(
            out, config_filename="policy_postprocessor.json",
            to_transition=policy_action_to_transition, to_output=transition_to_policy_action)
        batch = {k: v for k, v in inputs.items() if not k.startswith("predicted.")}
        result = pre({**batch, "task": list(case["tasks"])})
        worst, wrong = 0.0, []
        for name, expected in outputs.items():
            if name.startswith("unbatched."):
                continue
            ours = post(inputs["predicted." + name[5:]]) if name.startswith("post.") else result[name]
            if ours.shape != expected.shape or ours.dtype != expected.dtype:
                wrong.append(name)
            elif expected.is_floating_point():
                worst = max(worst, (ours - expected).abs().max().item())
            elif not torch.equal(ours, expected):
                wrong.append(name)
        return {"case": folder.name, "largest_difference": worst, "wrong": wrong}


def main() -> int:
    results = [compare(sys.argv[1], Path(folder)) for folder in sys.argv[2:]]
    for result in results:
        print(json.dumps(result))
    return 1 if any(r.get("wrong") or r.get("largest_difference", 0) > 1e-5 for r in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
