"""One 2048 x 2048 update of rank 32 to a lower rank by peft: its dense singular value decomposition.

bench_para_peer.py: prints {"seconds"} of add_weighted_adapter("svd") of one linear layer.

SPDX-License-Identifier: Apache-2.0
"""

import json
import os
import time

import torch
from peft import LoraConfig, get_peft_model

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
torch.manual_seed(0)
base = torch.nn.Sequential()
base.add_module("layer", torch.nn.Linear(2048, 2048, bias=False))
model = get_peft_model(base, LoraConfig(r=32, lora_alpha=32, target_modules=["layer"]))
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.normal_()
model.add_adapter("nothing", LoraConfig(r=32, lora_alpha=32, target_modules=["layer"]))  # one alone is not decomposed
start = time.perf_counter()
model.add_weighted_adapter(["default", "nothing"], [1.0, 1.0], "small", combination_type="svd", svd_rank=8, svd_full_matrices=False)
print(json.dumps({"seconds": time.perf_counter() - start}))
