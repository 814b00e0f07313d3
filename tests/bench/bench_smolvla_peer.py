"""The same measurements as bench_smolvla.cpp through lerobot's own SmolVLA, on a checkpoint that ours wrote (loaded strictly).

    bench_smolvla_peer.py sample FOLDER f32|bf16 REPEATS
    bench_smolvla_peer.py train FOLDER config|all|lora STEPS

SPDX-License-Identifier: Apache-2.0
"""

import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch  # noqa: E402
from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.policies.smolvla import smolvlm_with_expert  # noqa: E402
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig  # noqa: E402
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy  # noqa: E402
from safetensors.torch import load_file, load_model  # noqa: E402
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration  # noqa: E402
from transformers.models.smolvlm import modeling_smolvlm  # noqa: E402



def embed_patches(self, pixel_values, patch_attention_mask):
    """transformers 4.57 moves every patch but the first one position back (it scales the coordinates by 1 - 1e-6 before it compares
    them with the bucket edges), which the versions before and after do not; full-size images have positions 0..n-1."""
    patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
    return patches + self.position_embedding(torch.arange(patches.shape[1]))


modeling_smolvlm.SmolVLMVisionEmbeddings.forward = embed_patches
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def load(folder: Path, dtype: torch.dtype) -> SmolVLAPolicy:
    vlm = SmolVLMConfig(**json.loads((folder / "vlm_config.json").read_text()))
    special = SimpleNamespace(fake_image_token_id=0, global_image_token_id=1)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(from_pretrained=lambda _n: SimpleNamespace(tokenizer=special))
    smolvlm_with_expert.AutoConfig = SimpleNamespace(from_pretrained=lambda _n: vlm)
    # With load_vlm_weights the reference takes the backbone's dtype, which is how bf16 policies come about.
    smolvlm_with_expert.AutoModelForImageTextToText = SimpleNamespace(
        from_pretrained=lambda _n, **_k: SmolVLMForConditionalGeneration._from_config(vlm, dtype=dtype))
    raw = json.loads((folder / "config.json").read_text())
    features = {side: {k: PolicyFeature(FeatureType(v["type"]), tuple(v["shape"])) for k, v in raw[f"{side}_features"].items()}
                for side in ("input", "output")}
    kept = {k: raw[k] for k in ("chunk_size", "n_action_steps", "max_state_dim", "max_action_dim", "tokenizer_max_length", "num_steps",
                                "attention_mode", "prefix_length", "pad_language_to", "num_expert_layers", "num_vlm_layers",
                                "self_attn_every_n_layers", "expert_width_multiplier", "min_period", "max_period",
                                "freeze_vision_encoder", "train_expert_only", "train_state_proj")}
    config = SmolVLAConfig(device="cpu", load_vlm_weights=dtype == torch.bfloat16, input_features=features["input"],
                           output_features=features["output"], **kept)
    policy = SmolVLAPolicy(config)
    load_model(policy, folder / "model.safetensors", strict=True)
    return policy.eval()


def with_adapter(policy: SmolVLAPolicy, folder: Path) -> SmolVLAPolicy:
    """peft's LoRA with the untrained weights that ours wrote, hooked into the policy."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(folder)
    config.inference_mode = False
    policy.requires_grad_(False)
    policy = inject_adapter_in_model(config, policy)
    weights = {k.removeprefix("base_model.model."): v for k, v in load_file(folder / "adapter_model.safetensors").items()}
    result = set_peft_model_state_dict(policy, weights)
    assert not result.unexpected_keys, result.unexpected_keys
    trained = [p for p in policy.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == sum(v.numel() for v in weights.values())
    return policy


def main() -> None:
    mode, folder, what, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    inputs = load_file(folder / "inputs.safetensors")
    images = [inputs[k] for k in sorted(inputs) if k.startswith("image.")]
    masks = [torch.ones(i.shape[0], dtype=torch.bool) for i in images]
    best, losses = 1e9, []
    if mode == "sample":
        policy = load(folder, torch.bfloat16 if what == "bf16" else torch.float32)
        ours = load_file(folder / "ours.safetensors")["actions"]
        with torch.no_grad():
            for _ in range(count):
                start = cpu()
                actions = policy.model.sample_actions(images, masks, inputs["tokens"], inputs["token_mask"], inputs["state"],
                                                      noise=inputs["noise"].clone())
                best = min(best, cpu() - start)
        actions = actions[..., : ours.shape[-1]].float()
        gap = (actions - ours).abs().max().item()
        print(json.dumps({"cpu_s": best, "largest_difference": gap, "peak": actions.abs().max().item(),
                          "max_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
        return
    policy = load(folder, torch.float32)
    if what == "all":
        for name, p in policy.named_parameters():
            p.requires_grad_("lm_head" not in name)
    if what == "lora":
        policy = with_adapter(policy, folder / "adapter")
    policy.train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-10)
    width = policy.config.action_feature.shape[0]
    for _ in range(count):
        start = cpu()
        elements = policy.model.forward(images, masks, inputs["tokens"], inputs["token_mask"], inputs["state"], inputs["actions"],
                                        inputs["noise"].clone(), inputs["time"].clone())
        loss = elements[:, :, :width].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, cpu() - start)
        losses.append(loss.item())
    print(json.dumps({"cpu_s": best, "first_loss": losses[0], "last_loss": losses[-1]}))


if __name__ == "__main__":
    main()
