// From raw observations to what a network eats, and from its output to robot units: the step lists of
// policy_preprocessor.json and policy_postprocessor.json, from a checkpoint or made for a new training run.
//
// Notation: B batch, T chunk, D state width, A action width, L tokens.
// Source: lerobot 0.6 (processor/, policies/*/processor_*.py); OpenVLA's own processor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/io/policy_config.h"
#include "backend/io/tokenizer.h"
#include "backend/models/image_transform.h"
#include "backend/models/normalizer.h"
#include "backend/models/policy.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace rankwise::models {

inline constexpr const char* kStateKey = "observation.state";
inline constexpr const char* kActionKey = "action";
inline constexpr const char* kTokensKey = "observation.language.tokens";
inline constexpr const char* kTokenMaskKey = "observation.language.attention_mask";

/// One observation, or a batch of them, with the actions that belong to it when training.
struct Transition {
    /// By the data set's names. State [B, D] or [D]; images as resizeWithPad() takes them, uint8 as they come from a
    /// camera; "<camera>_padding_mask" [B] bool: false where a present camera shows nothing real.
    std::map<std::string, at::Tensor> observation;
    at::Tensor action;              ///< [B, T, A], [B, A] or [A]; undefined when there is none.
    at::Tensor actionIsPad;         ///< [B, T] bool; may be undefined.
    std::vector<std::string> tasks; ///< B texts.
    at::Tensor referenceState;      ///< Out: the state before normalisation, for postprocess().
};

/// Which dimensions of the action are relative to the state.
struct RelativeActions {
    bool enabled = false;
    std::vector<std::string> excludedJoints;
    std::vector<std::string> actionNames; ///< Empty: none known, so nothing is excluded.

    /// [A] of 0 and 1: a name is excluded when it contains one of the excluded joints, case aside.
    [[nodiscard]] at::Tensor mask(std::int64_t width, const at::TensorOptions& options) const;
    /// actions + sign * mask * state; actions [B, T, A], [B, A] or [A].
    [[nodiscard]] Result<at::Tensor> shifted(const at::Tensor& actions, const at::Tensor& state, double sign) const;
};

struct ProcessorOptions {
    /// Where the tokenizer is; empty: the checkpoint's folder, then `findTokenizer`.
    std::filesystem::path tokenizer {};
    /// Finds a tokenizer by its hub name ("google/paligemma-3b-pt-224"), e.g. in the hub's cache; an empty path: not
    /// there.
    std::function<std::filesystem::path(const std::string& name)> findTokenizer {};
    /// Takes the place of the device that the file names, which is that of the machine that trained.
    std::string device = "cpu";
    /// pi0.5 of lerobot before March 2026: the prompt's state is padded to max_state_dim. The files do not tell.
    bool padPromptState = false;
    /// Which data set's statistics un-normalise OpenVLA's actions; may be empty where there is one.
    std::string unnormKey {};
    /// Names of the action's dimensions, e.g. "gripper.pos", for leaving some out of relative actions.
    std::vector<std::string> actionNames {};
    /// For create(): takes the place of what the configuration says of relative actions; SmolVLA's has no field for it.
    std::optional<RelativeActions> relative {};
    /// Data-set keys to policy keys; for create().
    std::map<std::string, std::string> renameMap {};
};

struct PolicyProcessorData;

/// Both pipelines of one policy. Immutable; copies share their parts. Thread: any.
class PolicyProcessor {
public:
    /// Reads the pipelines, statistics and tokenizer of a checkpoint folder. Without pipeline files (lerobot before
    /// September 2025) they are made from config.json and the statistics among the weights.
    ///
    /// `warnings` also tells when the policy wants normalisation and no statistics are there, as in base models.
    /// Errors: those of the readers, Unsupported (a step of an unknown registry name, an option of a step that is not
    ///         implemented), FieldInvalid, FileNotFound (state file or tokenizer, with the places looked at).
    [[nodiscard]] static Result<PolicyProcessor> load(const std::filesystem::path& folder,
                                                      const ProcessorOptions& options, std::vector<Warning>& warnings);

    /// The pipelines that lerobot's factory makes for `config`, in memory: for training and rollout of our own.
    ///
    /// The tokenizer may be missing for policies that are only asked to normalise; preprocess() then fails on a task.
    /// Errors: Unsupported (type), FieldInvalid (device).
    [[nodiscard]] static Result<PolicyProcessor> create(const io::PolicyConfig& config, const Statistics& statistics,
                                                        std::optional<io::Tokenizer> tokenizer,
                                                        const ProcessorOptions& options = {});

    /// Runs the preprocessor's steps in their order.
    /// Errors: FieldMissing (no task or state where a step needs one), and those of the steps.
    [[nodiscard]] Result<Transition> preprocess(Transition transition) const;

    /// What the network takes: images resized in the cameras' order with those that are missing filled in, state and
    /// actions padded to the network's widths. `transition` is preprocess()'s.
    /// Errors: FieldMissing (no camera at all, no tokens, no state), ShapeMismatch.
    [[nodiscard]] Result<PolicyBatch> batch(const Transition& transition) const;

    /// preprocess() and batch() in one.
    [[nodiscard]] Result<PolicyBatch> makeBatch(Transition transition) const;

    /// Normalised actions [B, T, A] or [B, A] to robot units, on the CPU. `referenceState` is preprocess()'s; needed
    /// only for relative actions.
    /// Errors: FieldMissing (relative actions without a state), ShapeMismatch, DataInvalid.
    [[nodiscard]] Result<at::Tensor> postprocess(const at::Tensor& actions,
                                                 const at::Tensor& referenceState = {}) const;

    /// Writes policy_preprocessor.json, policy_postprocessor.json and their state files into an existing folder,
    /// as lerobot lays them out. Nothing for OpenVLA, whose statistics are in its config.json.
    /// Errors: IoFailed, DiskFull.
    [[nodiscard]] Result<void> save(const std::filesystem::path& folder) const;

    [[nodiscard]] const io::PolicyConfig& config() const;
    /// The statistics of the preprocessor's normaliser, or the postprocessor's where it has none.
    [[nodiscard]] const Statistics& statistics() const;
    [[nodiscard]] const io::Tokenizer* tokenizer() const; ///< Null where there is none.
    /// As the preprocessor's step has it; not enabled where there is none.
    [[nodiscard]] const RelativeActions& relativeActions() const;
    /// Registry names in order, for display.
    [[nodiscard]] std::vector<std::string> preprocessorSteps() const;
    [[nodiscard]] std::vector<std::string> postprocessorSteps() const;

private:
    explicit PolicyProcessor(std::shared_ptr<const PolicyProcessorData> data) : m_data(std::move(data)) { }

    std::shared_ptr<const PolicyProcessorData> m_data;
};

} // namespace rankwise::models
