// SPDX-License-Identifier: Apache-2.0
#include "backend/models/policy_registry.h"

#include "backend/base/log.h"
#include "backend/io/policy_config.h"
#include "backend/models/smolvla.h"
#include "backend/models/weight_table.h"

#include <array>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string_view>

#include <c10/core/Device.h>
#include <c10/util/Exception.h>
#include <fmt/core.h>

namespace rankwise::models {

namespace {

struct PolicyType {
    std::string_view name;
    Result<std::unique_ptr<Policy>> (*make)(const io::PolicyConfig& config, const WeightFill& fill);
};

/// Sorted by name.
constexpr std::array kTypes {
    PolicyType { "smolvla", makeSmolVla },
};

/// Keeps freed activations in the process instead of handing their pages back and taking new ones at every layer:
/// page faults were 6 % of sampling a chunk and 20 % of a small training step.
void keepFreedMemory()
{
#ifdef __GLIBC__
    static const bool done = [] {
        constexpr int kLargestKept = 256 << 20;
        mallopt(M_MMAP_THRESHOLD, kLargestKept);
        mallopt(M_TRIM_THRESHOLD, 2 * kLargestKept);
        return true;
    }();
    static_cast<void>(done);
#endif
}

Result<std::unique_ptr<Policy>> make(const io::PolicyConfig& config, const PolicyOptions& options,
                                     const WeightFill& fill)
{
    try {
        static_cast<void>(at::Device(options.device));
    } catch (const c10::Error&) {
        return rankwise::fail(Errc::FieldInvalid, "no such device; write cpu or cuda:0", options.device);
    }
    keepFreedMemory();
    for (const PolicyType& type : kTypes) {
        if (type.name == config.type) {
            return type.make(config, fill);
        }
    }
    std::string known;
    for (const PolicyType& type : kTypes) {
        known += (known.empty() ? "" : ", ") + std::string(type.name);
    }
    return rankwise::fail(Errc::Unsupported,
                          fmt::format("policies of type \"{}\" cannot be run; known: {}", config.type, known), "type");
}

Result<void> loadInto(WeightTable& table, const std::filesystem::path& weights, const PolicyOptions& options,
                      const JobContext& job)
{
    RW_TRY(const tensor::TensorFile file, tensor::TensorFile::open(weights));
    auto loaded = table.load(file, canonicalName, options, job);
    if (!loaded && loaded.error().subject.empty()) {
        loaded.error().subject = weights.string();
    }
    return loaded;
}

} // namespace

Result<std::unique_ptr<Policy>> loadPolicy(const std::filesystem::path& folder, const PolicyOptions& options,
                                           const JobContext& job)
{
    std::vector<Warning> warnings;
    RW_TRY(const io::PolicyConfig config, io::readPolicyConfig(folder, warnings));
    for (const Warning& warning : warnings) {
        log::warn("models", "{}: {}", warning.subject, warning.message);
    }
    return loadPolicy(config, folder, options, job);
}

Result<std::unique_ptr<Policy>> loadPolicy(const io::PolicyConfig& config, const std::filesystem::path& weights,
                                           const PolicyOptions& options, const JobContext& job)
{
    return make(config, options, [&](WeightTable& table) { return loadInto(table, weights, options, job); });
}

Result<std::unique_ptr<Policy>> createPolicy(const io::PolicyConfig& config, std::uint64_t seed,
                                             const PolicyOptions& options)
{
    return make(config, options, [&](WeightTable& table) -> Result<void> {
        table.initialise(seed, options);
        return {};
    });
}

Result<std::vector<WeightInfo>> describeWeights(const io::PolicyConfig& config)
{
    std::vector<WeightInfo> weights;
    const auto list = [&](WeightTable& table) -> Result<void> {
        for (const WeightSlot& slot : table.slots()) {
            weights.push_back({ .name = slot.name,
                                .shape = slot.shape,
                                .wide = slot.wide,
                                .trainableByConfig = slot.trainableByConfig });
        }
        return rankwise::fail(Errc::Cancelled, "only the list was wanted");
    };
    if (const auto made = make(config, {}, list); !made && made.error().code != Errc::Cancelled) {
        return tl::unexpected<Error>(made.error());
    }
    return weights;
}

Result<void> savePolicy(const Policy& policy, const std::filesystem::path& folder, Precision precision,
                        const JobContext& job)
{
    tensor::NamedTensors tensors;
    for (const NamedParameter& parameter : policy.parameters()) {
        at::ScalarType type = parameter.tensor.scalar_type();
        if (precision != Precision::Stored) {
            type = precision == Precision::Mixed && !parameter.wide ? at::kBFloat16 : at::kFloat;
        }
        tensors.emplace_back(parameter.name, parameter.tensor.detach().to(type));
    }
    RW_TRY_VOID(io::writePolicyConfig(policy.config(), folder));
    return tensor::saveTensors(folder / "model.safetensors", tensors, { { "format", "pt" } }, job);
}

std::vector<std::string> policyTypes()
{
    std::vector<std::string> names;
    for (const PolicyType& type : kTypes) {
        names.emplace_back(type.name);
    }
    return names;
}

} // namespace rankwise::models
