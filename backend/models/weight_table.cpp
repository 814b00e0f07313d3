// SPDX-License-Identifier: Apache-2.0
#include "backend/models/weight_table.h"

#include "backend/io/safetensors_reader.h"

#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <string_view>

#include <fmt/core.h>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

namespace rankwise::models {

namespace {

/// At most this many names of one kind stand in an error message.
constexpr std::size_t kListedNames = 8;

/// Collects names for one message: "3 missing tensors: a, b, c".
class NameList {
public:
    void add(const std::string& name)
    {
        if (m_count++ < kListedNames) {
            m_text += (m_text.empty() ? "" : ", ") + name;
        }
    }
    [[nodiscard]] bool empty() const { return m_count == 0; }
    [[nodiscard]] std::string describe(std::string_view what) const
    {
        return fmt::format("{} {}: {}{}", m_count, what, m_text, m_count > kListedNames ? ", ..." : "");
    }

private:
    std::size_t m_count = 0;
    std::string m_text;
};

at::ScalarType targetType(const WeightSlot& slot, Precision precision, at::ScalarType stored)
{
    if (precision == Precision::Stored) {
        return stored;
    }
    return precision == Precision::Mixed && !slot.wide ? at::kBFloat16 : at::kFloat;
}

/// SplitMix64 (Steele et al. 2014) behind Box-Muller: normal numbers that depend on the seed and the tensor's name
/// alone.
class NormalNumbers {
public:
    NormalNumbers(std::uint64_t seed, std::string_view name) : m_state(seed)
    {
        for (const char c : name) {
            m_state = (m_state ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
            next();
        }
    }

    void fill(float* out, std::int64_t count, double deviation)
    {
        for (std::int64_t i = 0; i < count; i += 2) {
            const double radius = deviation * std::sqrt(-2.0 * std::log(unit()));
            const double angle = 2.0 * std::numbers::pi * unit();
            out[i] = static_cast<float>(radius * std::cos(angle));
            if (i + 1 < count) {
                out[i + 1] = static_cast<float>(radius * std::sin(angle));
            }
        }
    }

private:
    std::uint64_t next()
    {
        m_state += 0x9E3779B97F4A7C15ULL;
        std::uint64_t z = m_state;
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31U);
    }
    /// In (0, 1].
    double unit() { return (static_cast<double>(next() >> 11U) + 1.0) * 0x1p-53; }

    std::uint64_t m_state;
};

double deviationOf(const WeightSlot& slot)
{
    std::int64_t fanIn = 1;
    for (std::size_t dim = 1; dim < slot.shape.size(); ++dim) {
        fanIn *= slot.shape[dim];
    }
    const double gain = 0.8 / std::sqrt(static_cast<double>(fanIn));
    switch (slot.init) {
    case WeightInit::Linear:
        return gain;
    case WeightInit::Residual:
        return gain * 0.5;
    case WeightInit::Output:
        return gain * 0.1;
    case WeightInit::Embedding:
        return 1.0 / std::sqrt(static_cast<double>(slot.shape.back()));
    case WeightInit::Position:
        return 0.02;
    case WeightInit::One:
    case WeightInit::Zero:
        break;
    }
    return 0.0;
}

} // namespace

Result<void> WeightTable::load(const tensor::TensorFile& file,
                               const std::function<std::optional<std::string>(const std::string&)>& canonical,
                               const PolicyOptions& options, const JobContext& job)
{
    const at::NoGradGuard noGrad;
    std::map<std::string, std::string> storedByName;
    NameList twice;
    for (const std::string& stored : file.names()) {
        if (const auto name = canonical(stored); name && !storedByName.try_emplace(*name, stored).second) {
            twice.add(*name);
        }
    }
    NameList missing;
    NameList misshaped;
    std::vector<at::Tensor> found;
    for (const WeightSlot& slot : m_slots) {
        auto stored = storedByName.find(slot.name);
        if (stored == storedByName.end() && slot.optional) {
            stored = storedByName.find(slot.fallback);
        }
        if (stored == storedByName.end()) {
            missing.add(slot.name);
            continue;
        }
        RW_TRY(at::Tensor value, file.tensor(stored->second));
        if (!value.sizes().equals(slot.shape)) {
            misshaped.add(fmt::format("{} is {}, expected {}", slot.name, io::shapeText(value.sizes().vec()),
                                      io::shapeText(slot.shape)));
        } else if (!at::isFloatingType(value.scalar_type())) {
            misshaped.add(fmt::format("{} holds {}", slot.name, tensor::dtypeName(value.scalar_type())));
        }
        found.push_back(std::move(value));
    }
    for (const WeightSlot& slot : m_slots) {
        storedByName.erase(slot.name);
    }
    NameList unexpected;
    for (const auto& [name, stored] : storedByName) {
        unexpected.add(stored);
    }
    if (!missing.empty()) {
        const std::string rest = unexpected.empty() ? "" : "; " + unexpected.describe("unexpected tensors");
        return fail(Errc::TensorNotFound, missing.describe("missing tensors") + rest);
    }
    if (!misshaped.empty()) {
        return fail(Errc::ShapeMismatch, misshaped.describe("tensors do not fit the configuration"));
    }
    if (!unexpected.empty() || !twice.empty()) {
        return fail(Errc::DataInvalid,
                    unexpected.empty() ? twice.describe("tensors stand twice under old and new names")
                                       : unexpected.describe("unexpected tensors"));
    }
    std::vector<at::Tensor> values;
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while loading weights");
        }
        values.push_back(
            found[i].to(at::Device(options.device), targetType(m_slots[i], options.precision, found[i].scalar_type())));
        job.report(static_cast<double>(i + 1) / static_cast<double>(m_slots.size()), "load weights");
    }
    for (std::size_t i = 0; i < m_slots.size(); ++i) {
        *m_slots[i].tensor = std::move(values[i]);
    }
    return {};
}

void WeightTable::initialise(std::uint64_t seed, const PolicyOptions& options)
{
    const at::NoGradGuard noGrad;
    for (const WeightSlot& slot : m_slots) {
        at::Tensor value = at::empty(slot.shape, at::TensorOptions().dtype(at::kFloat));
        if (slot.init == WeightInit::One || slot.init == WeightInit::Zero) {
            value.fill_(slot.init == WeightInit::One ? 1.0 : 0.0);
        } else {
            NormalNumbers(seed, slot.name).fill(value.mutable_data_ptr<float>(), value.numel(), deviationOf(slot));
        }
        *slot.tensor = value.to(at::Device(options.device), targetType(slot, options.precision, at::kFloat));
    }
}

std::vector<NamedParameter> WeightTable::parameters() const
{
    std::vector<NamedParameter> parameters;
    parameters.reserve(m_slots.size());
    for (const WeightSlot& slot : m_slots) {
        parameters.push_back({ .name = slot.name,
                               .tensor = *slot.tensor,
                               .trainableByConfig = slot.trainableByConfig,
                               .wide = slot.wide });
    }
    return parameters;
}

std::optional<std::string> canonicalName(const std::string& stored)
{
    constexpr std::array<std::string_view, 7> kStatistics { "normalize_inputs.",    "normalize_targets.",
                                                            "unnormalize_outputs.", "normalize.",
                                                            "unnormalize.",         "input_normalizer.",
                                                            "output_normalizer." };
    for (const std::string_view prefix : kStatistics) {
        if (stored.starts_with(prefix)) {
            return std::nullopt;
        }
    }
    std::string name = stored;
    constexpr std::string_view kCompiled = "_orig_mod.";
    for (std::size_t at = name.find(kCompiled); at != std::string::npos; at = name.find(kCompiled)) {
        name.erase(at, kCompiled.size());
    }
    if (!name.starts_with("model.")) {
        name.insert(0, "model.");
    }
    return name;
}

} // namespace rankwise::models
