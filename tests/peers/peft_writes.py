"""Adapter folders by the real peft, for us to read: peft_writes.py BASE.safetensors OUT.

OUT gets one folder a case with peft's two files and expected.safetensors: the update of each module by peft, "x" and
"<module path>.y", the adapted module's output for x cut to its width.

SPDX-License-Identifier: Apache-2.0
"""
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft_folder import build
from safetensors.torch import load_file, save_file

CASES = {
    "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"r": 6, "lora_alpha": 3, "use_rslora": True, "target_modules": "all-linear"},
    "patterns": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "o_proj"], "rank_pattern": {"q_proj": 2},
                 "alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 5}},
    "regex": {"r": 3, "lora_alpha": 6, "target_modules": r".*layers\.0\..*(q|o)_proj"},
}


def main():
    base, out = sys.argv[1], Path(sys.argv[2])
    for number, (name, options) in enumerate(CASES.items()):
        torch.manual_seed(number)
        model = get_peft_model(build(load_file(base)), LoraConfig(lora_dropout=0.0, **options))
        x = torch.randn(5, 4096)
        expected = {"x": x}
        with torch.no_grad():
            for path, module in model.named_modules():
                if hasattr(module, "get_delta_weight") and hasattr(module, "scaling"):
                    module.lora_B["default"].weight.normal_()
                    path = path.removeprefix("base_model.model.")
                    expected[path] = module.get_delta_weight("default").contiguous()
                    expected[path + ".y"] = (module(x[:, : module.in_features]) - module.base_layer(x[:, : module.in_features])).contiguous()
        model.save_pretrained(out / name)
        save_file(expected, out / name / "expected.safetensors")
    print(f"{len(CASES)} folders")


main()
