// Adapter folders of PEFT (adapter_config.json + adapter_model.safetensors): reading with every check that the library
// leaves out, the arithmetic of each variant, and writing what the library loads.
//
// Notation: A [r, in] down projection, B [out, r] up projection, s scale, W [out, in].
// Facts: PEFT 0.18.1 and 0.21.2; keys "base_model.model.<module path>.lora_A.weight".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/adapters/target_selection.h"
#include "backend/base/json.h"
#include "backend/base/result.h"
#include "backend/models/policy.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

namespace rankwise::adapters {

/// The low-rank update of one module.
struct PeftModule {
    enum class Kind : std::uint8_t { Linear, Conv2d, Embedding };
    std::string path; ///< Module path in the policy.
    Kind kind = Kind::Linear;
    at::Tensor a;         ///< [r, in]; conv [r, in, kh, kw]; embedding [r, rows]
    at::Tensor b;         ///< [out, r]; conv [out, r, 1, 1]; embedding [columns, r]
    at::Tensor e;         ///< [r, 1], AdaLoRA only.
    at::Tensor magnitude; ///< [out], DoRA only.
    at::Tensor upBias;    ///< [out] bias of B (lora_bias); may be undefined.
    at::Tensor baseBias;  ///< [out] trained bias of the base layer; may be undefined.
    double alpha = 8;
    double scale = 1;        ///< s: alpha / r, alpha / √r, or alpha / (init_r + 1e-5).
    bool transposed = false; ///< fan_in_fan_out

    [[nodiscard]] std::int64_t rank() const { return a.size(0); }
};

/// One folder, checked. Tensors are views into the mapped file.
struct PeftFolder {
    std::string type;   ///< "LORA" or "ADALORA".
    OrderedJson config; ///< As stored, in the file's order.
    bool dora = false;
    bool rankStabilized = false;
    std::string baseChanging; ///< Initialiser that altered the base weights ("pissa", ...), or empty.
    double alpha = 8;
    std::vector<PeftModule> modules;          ///< Sorted by path.
    std::map<std::string, at::Tensor> saved;  ///< Whole tensors (modules_to_save) by parameter name.
    std::map<std::string, at::Tensor> tokens; ///< Trained token rows, by module path.
    std::vector<Warning> warnings;
};

/// Reads a folder that PEFT or writePeftFolder() wrote.
///
/// Refused although PEFT loads them: a factor without its partner, tensors under other prefixes or names of other
/// trainers, tensors that are not numbers, NaN and infinity. Only reported: tensors of modules that the configuration
/// does not choose, pattern keys that hit nothing, unknown fields, alpha = 0.
///
/// Errors: FileNotFound, JsonInvalid, FieldMissing, FieldInvalid, Unsupported (other methods, target_parameters, aLoRA,
///         ...), ShapeMismatch, TensorNotFound, DtypeUnknown, NotFinite, DataInvalid and those of TensorFile::open().
[[nodiscard]] Result<PeftFolder> readPeftFolder(const std::filesystem::path& folder);

/// The update ΔW that `module` adds to W in the shape of W, in `type` (f32 or f64). For DoRA without the norm.
[[nodiscard]] at::Tensor peftDelta(const PeftModule& module, at::ScalarType type);

/// W with the update merged in, rounded once to the type of W.
/// DoRA: m ⊙ (W + ΔW) / ‖W + ΔW‖, norm of each output row.
/// Errors: ShapeMismatch.
[[nodiscard]] Result<at::Tensor> peftMergedWeight(const PeftModule& module, const at::Tensor& weight);

/// The adapted output of a linear layer for x [..., in], without merging; a bias of the base goes in as it is.
/// Errors: ShapeMismatch.
[[nodiscard]] Result<at::Tensor> peftForward(const PeftModule& module, const at::Tensor& weight, const at::Tensor& bias,
                                             const at::Tensor& x);

/// Merges the folder into the policy's weights in place: updates, biases and whole tensors. Nothing is changed after
/// an error. Errors: those of reading; TensorNotFound (a module that the policy lacks, with near misses),
/// ShapeMismatch, Unsupported (token rows; an initialiser that changed the base).
[[nodiscard]] Result<std::vector<Warning>> mergePeftFolder(const std::filesystem::path& folder, models::Policy& policy);

/// What writePeftFolder() writes of one module.
struct PeftOutput {
    std::string path;
    at::Tensor a;     ///< [r, in]
    at::Tensor b;     ///< [out, r]
    double alpha = 8; ///< In the file; the scale follows by PEFT's rules.
};

struct PeftWriteOptions {
    Json targetModules; ///< A list or an expression; see peftTargets().
    std::string baseModel;
    bool rankStabilized = false;
    double dropout = 0;
    std::vector<std::string> modulesToSave;
    std::map<std::string, at::Tensor> saved; ///< Whole tensors by parameter name.
    OrderedJson inherit;              ///< Fields taken over from another configuration unless set here; may be null.
    at::ScalarType type = at::kFloat; ///< Of the factors.
    bool largestRank = false;         ///< "r" is the largest rank instead of the most common.
};

/// Writes adapter_config.json and adapter_model.safetensors into the existing `folder`.
///
/// Ranks and alphas that differ from the most common go into rank_pattern and alpha_pattern, under keys that give
/// every module its own value in whatever order they are read (anchored where one path ends with another).
/// Errors: IoFailed, DiskFull, those of saveTensors().
[[nodiscard]] Result<void> writePeftFolder(const std::filesystem::path& folder, const std::vector<PeftOutput>& modules,
                                           const PeftWriteOptions& options);

/// Pattern keys for `values` that differ from `standard`; `paths` are all modules with factors.
[[nodiscard]] OrderedJson patternFor(const std::map<std::string, double>& values, double standard);

} // namespace rankwise::adapters
