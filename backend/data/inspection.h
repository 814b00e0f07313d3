// What a file or folder is, what is in it and what is wrong with it: the answer behind `rankwise inspect` and the open
// dialogs. Looks at whatever the workbench can open; never changes anything.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::data {

/// Kind of thing. The names that --json prints never change.
enum class InspectionKind : std::uint8_t {
    Tensors,           ///< "tensors": a .safetensors file, or a folder with nothing but weights.
    ShardedTensors,    ///< "sharded_tensors": an index and its shards.
    Policy,            ///< "policy": config.json and weights.
    PolicyConfig,      ///< "policy_config": config.json alone.
    Adapter,           ///< "adapter": a PEFT folder.
    ProcessorPipeline, ///< "processor_pipeline": policy_preprocessor.json or policy_postprocessor.json.
    Tokenizer,         ///< "tokenizer": tokenizer.json, a SentencePiece model, or their folder.
    Dataset,           ///< "dataset": a LeRobotDataset.
    Run,               ///< "run": a directory of a fine-tune run.
    EventFile,         ///< "event_file": TensorBoard's.
};
[[nodiscard]] std::string_view inspectionKindName(InspectionKind kind);

/// Whether to look for NaN and infinity in every tensor, which reads all bytes.
enum class ValueScan : std::uint8_t {
    None,
    Small, ///< Checkpoints of at most kSmallCheckpointBytes: no time that anyone notices.
    All,
};
inline constexpr std::uint64_t kSmallCheckpointBytes = 64 << 20;

struct InspectionOptions {
    ValueScan values = ValueScan::Small;
    bool listTensors = true; ///< Fill Inspection::tensors.
};

/// One file or folder that belongs to it.
struct InspectedPart {
    std::string role; ///< "weights", "shard", "config", "preprocessor", "statistics", ...
    std::filesystem::path path;
    std::uint64_t bytes = 0;
};

struct TensorTotal {
    std::uint64_t tensors = 0;
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;
};

struct InspectedTensor {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;
    std::uint64_t nan = 0; ///< Zero also where values were not scanned.
    std::uint64_t infinite = 0;
};

/// Immutable result.
struct Inspection {
    InspectionKind kind = InspectionKind::Tensors;
    std::filesystem::path path;
    std::vector<InspectedPart> parts;
    TensorTotal total;
    std::map<std::string, TensorTotal> dtypes;               ///< By dtype name.
    std::vector<std::pair<std::string, TensorTotal>> groups; ///< By module, sorted by name.
    std::vector<InspectedTensor> tensors;                    ///< Sorted by name.
    std::string summary = "{}";                              ///< What the configuration says, as JSON of one object.
    bool valuesScanned = false;
    std::vector<Warning> problems;
};

/// Looks at the dataset with this root. A program that leaves inspectDataset() out links neither Arrow nor FFmpeg.
using DatasetInspector = std::function<Result<Inspection>(const std::filesystem::path& root, const JobContext& job)>;

/// Decides what `path` is, reads it with every check of its reader, and collects the numbers.
///
/// Errors: those of the readers; PickleRefused; Unsupported (nothing that is known), FileNotFound, Cancelled.
/// Thread: any. Memory: headers and configurations; tensors stay mapped.
[[nodiscard]] Result<Inspection> inspectPath(const std::filesystem::path& path, const InspectionOptions& options = {},
                                             const JobContext& job = {});
/// The same with `dataset` for what turns out to be a dataset.
[[nodiscard]] Result<Inspection> inspectPath(const std::filesystem::path& path, const InspectionOptions& options,
                                             const JobContext& job, const DatasetInspector& dataset);
/// A LeRobotDataset: its counters, features, and everything that the tables show to be wrong.
[[nodiscard]] Result<Inspection> inspectDataset(const std::filesystem::path& root, const JobContext& job = {});

[[nodiscard]] OrderedJson inspectionJson(const Inspection& inspection);
/// Tables for a terminal; `maxTensors` rows of the tensor list (0: none).
[[nodiscard]] std::string inspectionText(const Inspection& inspection, std::size_t maxTensors = 40);

/// The module groups of tensor names: paths cut before the first number or at a depth that leaves at most `maxGroups`.
[[nodiscard]] std::map<std::string, std::string> moduleGroups(const std::vector<std::string>& names,
                                                              std::size_t maxGroups = 24);

} // namespace rankwise::data
