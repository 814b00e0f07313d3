# Loads an adapter folder with the real peft on a base of bare linear layers and compares every update with ours.
#   peft_folder.py BASE.safetensors FOLDER EXPECTED.safetensors
# EXPECTED holds "<module path>" -> the update as we compute it. Exit code 0: all equal to rounding, nothing warned of.
# SPDX-License-Identifier: Apache-2.0
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file


def build(weights):
    root = torch.nn.Module()
    for name, weight in weights.items():
        if not name.endswith(".weight") or weight.dim() != 2 or "embed_tokens" in name:
            continue
        parts = name.removesuffix(".weight").split(".")
        node = root
        for part in parts[:-1]:
            if not hasattr(node, part):
                node.add_module(part, torch.nn.Module())
            node = getattr(node, part)
        bias = weights.get(name.removesuffix("weight") + "bias")
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
        node.add_module(parts[-1], linear)
    return root


def main():
    base, folder, expected = sys.argv[1:4]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(build(load_file(base)), folder)
    for warning in seen:
        # Fields of a newer peft that the adapter was compressed from are carried over; an older one says so.
        known = "Unexpected keyword arguments" in str(warning.message)
        if issubclass(warning.category, (UserWarning, RuntimeWarning)) and not known:
            sys.exit(f"peft warns: {warning.message}")
    ours = load_file(expected)
    theirs = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "scaling")
    }
    if set(ours) != set(theirs):
        sys.exit(f"other modules: {sorted(set(ours) ^ set(theirs))}")
    modules = dict(model.named_modules())
    for name, delta in theirs.items():
        size = max(1e-3, ours[name].abs().max().item())
        difference = (delta - ours[name]).abs().max().item()
        if difference > 2e-5 * size:
            sys.exit(f"{name}: differs by {difference}")
        module = modules["base_model.model." + name]
        x = torch.randn(7, module.in_features, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = torch.nn.functional.linear(x, module.base_layer.weight + ours[name], module.base_layer.bias)
            difference = (module(x) - expected).abs().max().item()
        if difference > 1e-4 * max(1.0, expected.abs().max().item()):
            sys.exit(f"{name}: the forward pass differs by {difference}")
    print(f"{len(ours)} modules equal, update and forward pass")


if __name__ == "__main__":
    main()
