// One table of fields, visited three ways: to read, to write and to describe.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/train_config.h"

#include "backend/base/sha256.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kManySteps = 1'000'000'000;
constexpr double kUnbounded = std::numeric_limits<double>::max();

/// Numbers of the references: lerobot's and openpi's policy configurations, OpenVLA's fine-tuning scripts.
struct Preset {
    std::string_view name;
    TrainConfig::OptimizerPart optimizer;
    TrainConfig::SchedulePart schedule;
    double emaDecay = 0;
};

std::vector<Preset> presets()
{
    using Optimizer = TrainConfig::OptimizerPart;
    using Schedule = TrainConfig::SchedulePart;
    const Schedule cosine { "cosine", 1000, 30'000, 2.5e-6 };
    const Optimizer pi { .lr = 2.5e-5, .weightDecay = 0.01, .clipNorm = 1.0 };
    return {
        { "smolvla", Optimizer {}, cosine },
        { "pi0", pi, cosine },
        { "pi05", pi, cosine },
        { "openpi",
          Optimizer { .lr = 2.5e-5, .weightDecay = 1e-10, .clipNorm = 1.0 },
          { "cosine_openpi", 1000, 30'000, 2.5e-6 },
          0.99 },
        { "openvla_lora",
          Optimizer { .lr = 5e-4, .betas = { 0.9, 0.999 }, .weightDecay = 0.01, .clipNorm = 0.0 },
          { "constant", 0, 0, 0.0 } },
        { "openvla_full",
          Optimizer { .lr = 2e-5, .betas = { 0.9, 0.999 }, .weightDecay = 0.0, .clipNorm = 1.0 },
          { "constant", 0, 0, 0.0 } },
        { "nano",
          Optimizer { .lr = 1e-3, .weightDecay = 0.01, .decayMatricesOnly = true, .clipNorm = 1.0 },
          { "cosine_openpi", 200, 0, 2e-5 },
          0.998 },
    };
}

/// The table. `Config` is TrainConfig or const TrainConfig.
template <class Config, class Visitor> void visitFields(Config& c, Visitor& v)
{
    v.group("policy", [&] {
        v.text("path", c.policy.path, "Folder of the checkpoint to start from.");
        v.choice("init", c.policy.init, std::vector<std::string> { "checkpoint", "random" },
                 "The folder's weights, or random ones of the size that its config.json gives.");
        v.integer("seed", c.policy.seed, 0, kManySteps, "Seed of random weights.");
        v.text("tokenizer", c.policy.tokenizer,
               "Folder or file of the tokenizer; empty: the checkpoint's own, or the hub's cache.");
        v.choice("relative_actions", c.policy.relativeActions, std::vector<std::string> { "checkpoint", "on", "off" },
                 "Whether actions are learnt relative to the state (grippers stay absolute): as the checkpoint's "
                 "processor has it, or on, or off.");
    });
    v.group("dataset", [&] {
        v.text("path", c.dataset.path, "Folder of a LeRobotDataset, v2.1 or v3.0.");
        v.integers("episodes", c.dataset.episodes, "Episodes to train on; empty takes all.");
        v.textMap("rename", c.dataset.rename, "Feature names of the dataset -> those that the policy expects.");
        v.numberMap("task_weights", c.dataset.taskWeights,
                    "Task text -> relative frequency with which its frames are drawn; others have 1.");
        v.choice(
            "statistics", c.dataset.statistics, std::vector<std::string> { "dataset", "checkpoint" },
            "Whose statistics normalise states and actions: the dataset's (exact, over all of it) or those that the "
            "checkpoint brings.");
        v.real("std_floor", c.dataset.stdFloor, 0, 1e6,
               "Least standard deviation (and range) that normalises: keeps a joint that hardly moves in the "
               "demonstrations from being blown up. Units of the dataset.");
        v.speed().integer("threads", c.dataset.threads, 1, 256, "Threads that read and decode.");
        v.speed().integer("cache_megabytes", c.dataset.cacheMegabytes, 0, 1 << 20,
                          "Memory for decoded frames that may be needed again.");
    });
    v.object(
        "method", c.method,
        "How the policy is adapted: {\"type\": \"lora\" | \"lora_sp\" | \"full\" | …} with the options of that type.");
    v.group("localization", [&] {
        v.text("feature", c.localization.feature,
               "Feature of the dataset that tells where things are in the pictures (sim record --labels writes "
               "labels.points): the vision tower learns to find them. Empty: no such loss.");
        v.real("weight", c.localization.weight, 0, 1e6, "Factor of that loss.");
    });
    v.integer("steps", c.steps, 1, kManySteps, "Optimiser steps of the run.");
    v.integer("batch_size", c.batchSize, 1, 65'536, "Samples of one backward pass.");
    v.integer("accumulation", c.accumulation, 1, 65'536,
              "Backward passes whose mean gradient makes one step; the effective batch is batch_size times this.");
    v.integer("seed", c.seed, 0, std::numeric_limits<std::int64_t>::max(),
              "Seed of adapters, sample order, noise, flow times and dropout.");
    v.choice("precision", c.precision, std::vector<std::string> { "f32", "bf16_autocast" },
             "f32, or matrix products in bf16 with f32 weights (faster for wide layers, slower for narrow ones).");
    v.integer("noise_draws", c.noiseDraws, 1, 64, "Noise and time draws for each sample of a batch.");
    v.group("optimizer", [&] {
        std::vector<std::string> names = presetNames();
        names.insert(names.begin(), "policy");
        v.choice("preset", c.optimizer.preset, names,
                 "Where optimizer, schedule and EMA values come from that are not given: the checkpoint's own, or a "
                 "reference's.");
        v.real("lr", c.optimizer.lr, 0, 1e3, "Peak learning rate.");
        v.reals("betas", c.optimizer.betas, "Decay rates of AdamW's two moments.");
        v.real("eps", c.optimizer.eps, 0, 1, "AdamW's epsilon.");
        v.real("weight_decay", c.optimizer.weightDecay, 0, 1e3, "Decoupled weight decay.");
        v.boolean("decay_matrices_only", c.optimizer.decayMatricesOnly,
                  "No weight decay for biases, norms and other vectors.");
        v.real("clip_norm", c.optimizer.clipNorm, 0, kUnbounded, "Largest global gradient norm; 0 does not clip.");
        v.parameterGroups("groups", c.optimizer.groups,
                          "[{\"match\": regular expression on the parameter's name, \"lr_scale\", \"weight_decay\"}]; "
                          "the first match counts.");
    });
    v.group("schedule", [&] {
        v.choice("type", c.schedule.type, scheduleNames(),
                 "constant; cosine: lerobot's, scaled to short runs; cosine_openpi: cosine after the warm-up.");
        v.integer("warmup_steps", c.schedule.warmupSteps, 0, kManySteps, "Steps of linear warm-up.");
        v.integer("decay_steps", c.schedule.decaySteps, 0, kManySteps,
                  "Step at which the rate has reached decay_lr; 0 takes the run's length.");
        v.real("decay_lr", c.schedule.decayLr, 0, 1e3, "Rate at the end of the decay.");
    });
    v.group("ema", [&] {
        v.real("decay", c.ema.decay, 0, 0.999999,
               "Decay of the running average of the trained weights, which is what gets saved; 0 keeps none.");
        v.boolean("warmup", c.ema.warmup, "Lower the decay over the first steps, so that short runs do not lag.");
    });
    v.files().integer("log_every", c.logEvery, 1, kManySteps, "Steps between lines of losses in events.jsonl.");
    v.files().integer("digest_every", c.digestEvery, 0, kManySteps,
                      "Steps between digests of all adapted layers; 0 spreads about 200 over the run.");
    v.files().integer("snapshot_every", c.snapshotEvery, 0, kManySteps,
                      "Steps between snapshot files; 0 spreads about 50 over the run. Step 0 always has one.");
    v.files().integer("checkpoint_every", c.checkpointEvery, 1, kManySteps,
                      "Steps between checkpoints; the last step always has one.");
    v.files().integer("keep_checkpoints", c.keepCheckpoints, 0, kManySteps,
                      "Newest checkpoints that stay; 0 keeps all.");
    v.files().boolean("tensorboard", c.tensorboard, "Write TensorBoard event files too.");
    v.group("preflight", [&] {
        v.files().integer(
            "overfit_steps", c.preflight.overfitSteps, 0, 100'000,
            "Steps on one batch that must lower its loss before the run starts; 0 leaves this check out.");
        v.files().real("memory_fraction", c.preflight.memoryFraction, 0, 100,
                       "Part of the free memory that the estimate may reach before the run is refused.");
    });
}

/// Shared by the visitors: `speed()` and `files()` mark the next field as one that does not change results.
template <class Self> class VisitorBase {
public:
    Self& speed()
    {
        m_neutral = true;
        return static_cast<Self&>(*this);
    }
    Self& files() { return speed(); }

protected:
    bool takeNeutral() { return std::exchange(m_neutral, false); }

private:
    bool m_neutral = false;
};

std::string nearest(const std::string& name, const std::vector<std::string>& known)
{
    const auto distance = [](const std::string& a, const std::string& b) {
        std::vector<std::size_t> row(b.size() + 1);
        std::iota(row.begin(), row.end(), std::size_t { 0 });
        for (std::size_t i = 1; i <= a.size(); ++i) {
            std::size_t diagonal = std::exchange(row[0], i);
            for (std::size_t j = 1; j <= b.size(); ++j) {
                const std::size_t above = row[j];
                row[j] = std::min({ above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1) });
                diagonal = above;
            }
        }
        return row[b.size()];
    };
    std::string best;
    std::size_t least = std::max<std::size_t>(3, name.size() / 2);
    for (const std::string& candidate : known) {
        if (candidate.starts_with(name) || name.starts_with(candidate)) {
            return candidate;
        }
        if (const std::size_t d = distance(name, candidate); d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

class ReadVisitor : public VisitorBase<ReadVisitor> {
public:
    ReadVisitor(const Json& root, std::string file) : m_file(std::move(file)) { m_levels.emplace_back(root, m_file); }

    template <class Body> void group(const char* name, const Body& body)
    {
        static const Json kEmpty = Json::object();
        FieldReader& outer = reader(name);
        const Json* found = outer.find(name);
        m_levels.emplace_back(found == nullptr ? kEmpty : *found, m_file, outer.fieldPath(name) + ".");
        m_names.emplace_back();
        body();
        finish();
        const FieldReader nested = std::move(m_levels.back());
        m_levels.pop_back();
        m_names.pop_back();
        m_levels.back().merge(nested);
    }
    void integer(const char* name, std::int64_t& value, std::int64_t low, std::int64_t high, const char*)
    {
        reader(name).optional(name, value, low, high);
    }
    void real(const char* name, double& value, double low, double high, const char*)
    {
        reader(name).optional(name, value, low, high);
    }
    void boolean(const char* name, bool& value, const char*) { reader(name).optional(name, value); }
    void text(const char* name, std::string& value, const char*) { reader(name).optional(name, value); }
    void choice(const char* name, std::string& value, const std::vector<std::string>& choices, const char*)
    {
        FieldReader& level = reader(name);
        level.optional(name, value);
        if (std::ranges::find(choices, value) == choices.end()) {
            level.reject(name, fmt::format("is \"{}\"; one of {} is expected", value, fmt::join(choices, ", ")));
        }
    }
    void integers(const char* name, std::vector<std::int64_t>& value, const char*)
    {
        reader(name).optional(name, value, 0, kManySteps);
    }
    void reals(const char* name, std::vector<double>& value, const char*) { reader(name).optional(name, value); }
    void textMap(const char* name, std::map<std::string, std::string>& value, const char*)
    {
        map(name, value, &Json::is_string, "an object of strings");
    }
    void numberMap(const char* name, std::map<std::string, double>& value, const char*)
    {
        map(name, value, &Json::is_number, "an object of numbers");
        if (std::ranges::any_of(value, [](const auto& item) { return item.second < 0; })) {
            m_levels.back().reject(name, "must not hold negative weights");
        }
    }
    void object(const char* name, Json& value, const char*)
    {
        FieldReader& level = reader(name);
        if (const Json* found = level.find(name)) {
            if (!found->is_object()) {
                level.reject(name, fmt::format("must be an object, not {}", found->type_name()));
                return;
            }
            value = *found;
        }
    }
    void parameterGroups(const char* name, std::vector<GroupConfig>& value, const char*)
    {
        FieldReader& level = reader(name);
        const Json* found = level.find(name);
        if (found == nullptr) {
            return;
        }
        if (!found->is_array()) {
            level.reject(name, "must be a list of objects");
            return;
        }
        value.clear();
        for (std::size_t i = 0; i < found->size(); ++i) {
            GroupConfig group;
            FieldReader item((*found)[i], m_file, fmt::format("{}[{}].", level.fieldPath(name), i));
            item.require("match", group.match);
            item.optional("lr_scale", group.lrScale, 0, 1e6);
            item.optional("weight_decay", group.weightDecay, -1, 1e3);
            for (const std::string& unknown : item.unknownKeys()) {
                item.reject(unknown, "is not a field of a parameter group");
            }
            level.merge(item);
            value.push_back(std::move(group));
        }
    }
    FieldReader& root() { return m_levels.front(); }
    /// Refuses what the table does not know.
    void finish()
    {
        for (const std::string& unknown : m_levels.back().unknownKeys()) {
            const std::string hint = nearest(unknown, m_names.back());
            m_levels.back().reject(unknown,
                                   hint.empty() ? "is not a field of a run's configuration"
                                                : fmt::format("is not known; did you mean \"{}\"?", hint));
        }
    }

private:
    FieldReader& reader(const char* name)
    {
        (void)takeNeutral();
        m_names.back().emplace_back(name);
        return m_levels.back();
    }
    template <class T>
    void map(const char* name, std::map<std::string, T>& value, bool (Json::*isType)() const noexcept,
             const char* expected)
    {
        FieldReader& level = reader(name);
        const Json* found = level.find(name);
        if (found == nullptr) {
            return;
        }
        if (!found->is_object() || !std::ranges::all_of(*found, [&](const Json& item) { return (item.*isType)(); })) {
            level.reject(name, fmt::format("must be {}", expected));
            return;
        }
        value.clear();
        for (const auto& [key, item] : found->items()) {
            value[key] = item.template get<T>();
        }
    }

    std::string m_file;
    std::vector<FieldReader> m_levels;
    std::vector<std::vector<std::string>> m_names { {} };
};

class WriteVisitor : public VisitorBase<WriteVisitor> {
public:
    template <class Body> void group(const char* name, const Body& body)
    {
        WriteVisitor* const outer = this;
        m_open.push_back(&(*outer->m_open.back())[name]);
        *m_open.back() = Json::object();
        body();
        m_open.pop_back();
    }
    template <class T> void integer(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void real(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void boolean(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void text(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void choice(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void integers(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void reals(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void textMap(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void numberMap(const char* name, const T& value, auto&&...) { put(name, value); }
    template <class T> void object(const char* name, const T& value, auto&&...) { put(name, value); }
    void parameterGroups(const char* name, const std::vector<GroupConfig>& groups, const char*)
    {
        Json list = Json::array();
        for (const GroupConfig& group : groups) {
            Json item { { "match", group.match }, { "lr_scale", group.lrScale } };
            if (group.weightDecay >= 0) {
                item["weight_decay"] = group.weightDecay;
            }
            list.push_back(std::move(item));
        }
        put(name, list);
    }
    [[nodiscard]] const Json& json() const { return m_root; }

private:
    template <class T> void put(const char* name, const T& value)
    {
        (void)takeNeutral();
        (*m_open.back())[name] = value;
    }

    Json m_root = Json::object();
    std::vector<Json*> m_open { &m_root };
};

class DescribeVisitor : public VisitorBase<DescribeVisitor> {
public:
    template <class Body> void group(const char* name, const Body& body)
    {
        const std::string outer = std::exchange(m_prefix, m_prefix + name + ".");
        body();
        m_prefix = outer;
    }
    void integer(const char* name, std::int64_t value, std::int64_t low, std::int64_t high, const char* help)
    {
        FieldDescription& field = add(name, FieldKind::Integer, value, help);
        field.low = static_cast<double>(low);
        field.high = static_cast<double>(high);
    }
    void real(const char* name, double value, double low, double high, const char* help)
    {
        FieldDescription& field = add(name, FieldKind::Real, value, help);
        field.low = low;
        if (high < kUnbounded) {
            field.high = high;
        }
    }
    void choice(const char* name, const std::string& value, const std::vector<std::string>& choices, const char* help)
    {
        add(name, FieldKind::Choice, value, help).choices = choices;
    }
    void boolean(const char* name, bool value, const char* help) { add(name, FieldKind::Boolean, value, help); }
    void text(const char* name, const std::string& value, const char* help) { add(name, FieldKind::Text, value, help); }
    void integers(const char* name, const std::vector<std::int64_t>& value, const char* help)
    {
        add(name, FieldKind::Integers, value, help);
    }
    void reals(const char* name, const std::vector<double>& value, const char* help)
    {
        add(name, FieldKind::Reals, value, help);
    }
    void textMap(const char* name, const std::map<std::string, std::string>& value, const char* help)
    {
        add(name, FieldKind::TextMap, value, help);
    }
    void numberMap(const char* name, const std::map<std::string, double>& value, const char* help)
    {
        add(name, FieldKind::NumberMap, value, help);
    }
    void object(const char* name, const Json& value, const char* help) { add(name, FieldKind::Object, value, help); }
    void parameterGroups(const char* name, const std::vector<GroupConfig>&, const char* help)
    {
        add(name, FieldKind::List, Json::array(), help);
    }
    [[nodiscard]] std::vector<FieldDescription> take() { return std::move(m_fields); }

private:
    FieldDescription& add(const char* name, FieldKind kind, Json value, const char* help)
    {
        m_fields.push_back({ .name = m_prefix + name,
                             .kind = kind,
                             .defaultValue = std::move(value),
                             .help = help,
                             .changesResults = !takeNeutral() });
        return m_fields.back();
    }

    std::string m_prefix;
    std::vector<FieldDescription> m_fields;
};

/// The object at `key`, or nullptr.
const Json* objectAt(const Json& json, const char* key)
{
    if (!json.contains(key)) {
        return nullptr;
    }
    const Json& found = json.at(key);
    return found.is_object() ? &found : nullptr;
}

std::optional<std::string> textAt(const Json* object, const char* key)
{
    if (object == nullptr || !object->contains(key) || !object->at(key).is_string()) {
        return std::nullopt;
    }
    return object->at(key).get<std::string>();
}

/// Takes optimizer_* and scheduler_* of a checkpoint's config.json, over the reference's numbers for its type.
Result<void> takePolicyPreset(TrainConfig& config, const Json& policyConfig, const std::string& file)
{
    const std::string type = textAt(&policyConfig, "type").value_or("");
    for (const Preset& preset : presets()) {
        if (type == preset.name) {
            const std::string name = config.optimizer.preset;
            config.optimizer = preset.optimizer;
            config.optimizer.preset = name;
            config.schedule = preset.schedule;
        }
    }
    FieldReader reader(policyConfig, file);
    reader.optional("optimizer_lr", config.optimizer.lr, 0, 1e3);
    reader.optional("optimizer_betas", config.optimizer.betas);
    reader.optional("optimizer_eps", config.optimizer.eps, 0, 1);
    reader.optional("optimizer_weight_decay", config.optimizer.weightDecay, 0, 1e3);
    reader.optional("optimizer_grad_clip_norm", config.optimizer.clipNorm, 0);
    reader.optional("scheduler_warmup_steps", config.schedule.warmupSteps, 0, kManySteps);
    reader.optional("scheduler_decay_steps", config.schedule.decaySteps, 0, kManySteps);
    reader.optional("scheduler_decay_lr", config.schedule.decayLr, 0, 1e3);
    return reader.result();
}

void checkTogether(FieldReader& reader, const TrainConfig& config)
{
    const auto& betas = config.optimizer.betas;
    if (betas.size() != 2 || std::ranges::any_of(betas, [](double beta) { return beta < 0 || beta >= 1; })) {
        reader.reject("optimizer.betas", "must be two numbers in [0, 1)");
    }
    if (config.policy.path.empty()) {
        reader.reject("policy.path", "is missing; the folder of a checkpoint is expected", Errc::FieldMissing);
    }
    if (config.dataset.path.empty()) {
        reader.reject("dataset.path", "is missing; the folder of a LeRobotDataset is expected", Errc::FieldMissing);
    }
    if (!config.method.contains("type")) {
        reader.reject("method", "is missing its \"type\", e.g. {\"type\": \"lora_sp\"}", Errc::FieldMissing);
    }
    if (config.schedule.type != "constant" && config.optimizer.lr <= 0) {
        reader.reject("optimizer.lr", "must be above 0 for a cosine schedule");
    }
}

constexpr std::array kKindNames { "integer", "number",  "boolean",    "string",     "choice", "integers",
                                  "numbers", "strings", "string_map", "number_map", "object", "list" };

/// `path` as written in a file in `folder`.
std::string resolved(const std::string& path, const fs::path& folder)
{
    return path.empty() || fs::path(path).is_absolute() ? path : (folder / path).lexically_normal().string();
}

} // namespace

std::int64_t TrainConfig::digestInterval() const
{
    return digestEvery > 0 ? digestEvery : std::max<std::int64_t>(1, steps / 200);
}

std::int64_t TrainConfig::snapshotInterval() const
{
    return snapshotEvery > 0 ? snapshotEvery : std::max<std::int64_t>(1, steps / 50);
}

Schedule TrainConfig::scheduleOf() const
{
    return { .kind = scheduleFromName(schedule.type).value(),
             .peakLr = optimizer.lr,
             .decayLr = schedule.decayLr,
             .warmupSteps = schedule.warmupSteps,
             .decaySteps = schedule.decaySteps > 0 ? schedule.decaySteps : steps };
}

std::vector<std::string> presetNames()
{
    std::vector<std::string> names;
    for (const Preset& preset : presets()) {
        names.emplace_back(preset.name);
    }
    return names;
}

std::vector<FieldDescription> trainConfigFields()
{
    DescribeVisitor visitor;
    const TrainConfig defaults;
    visitFields(defaults, visitor);
    return visitor.take();
}

Json trainConfigSchema()
{
    Json list = Json::array();
    for (const FieldDescription& field : trainConfigFields()) {
        Json item { { "name", field.name },
                    { "type", kKindNames[static_cast<std::size_t>(field.kind)] },
                    { "default", field.defaultValue },
                    { "help", field.help },
                    { "changes_results", field.changesResults } };
        if (field.low) {
            item["minimum"] = *field.low;
        }
        if (field.high) {
            item["maximum"] = *field.high;
        }
        if (!field.choices.empty()) {
            item["choices"] = field.choices;
        }
        list.push_back(std::move(item));
    }
    return list;
}

Result<TrainConfig> parseTrainConfig(const Json& json, const std::string& file, const Json* policyConfig)
{
    TrainConfig config;
    config.optimizer.preset = textAt(objectAt(json, "optimizer"), "preset").value_or("policy");
    for (const Preset& preset : presets()) {
        if (preset.name == config.optimizer.preset) {
            config.optimizer = preset.optimizer;
            config.optimizer.preset = preset.name;
            config.schedule = preset.schedule;
            config.ema.decay = preset.emaDecay;
        }
    }
    if (config.optimizer.preset == "policy" && policyConfig != nullptr) {
        RW_TRY_VOID(takePolicyPreset(config, *policyConfig, "config.json"));
    }
    ReadVisitor visitor(json, file);
    visitFields(config, visitor);
    visitor.finish();
    checkTogether(visitor.root(), config);
    RW_TRY_VOID(visitor.root().result());
    return config;
}

Result<TrainConfig> readTrainConfig(const fs::path& path)
{
    RW_TRY(Json json, readJsonFile(path));
    std::optional<Json> policyConfig;
    for (const char* part : { "policy", "dataset" }) {
        if (const auto given = textAt(objectAt(json, part), "path"); given && !given->empty()) {
            const std::string absolute = resolved(*given, path.parent_path());
            json.at(part).at("path") = absolute;
            if (std::string_view(part) == "policy") {
                RW_TRY(policyConfig, readJsonFile(fs::path(absolute) / "config.json"));
            }
        }
    }
    if (const auto tokenizer = textAt(objectAt(json, "policy"), "tokenizer"); tokenizer && !tokenizer->empty()) {
        json.at("policy").at("tokenizer") = resolved(*tokenizer, path.parent_path());
    }
    return parseTrainConfig(json, path.string(), policyConfig ? &*policyConfig : nullptr);
}

namespace {

/// The field of a dotted name, or nullptr.
const Json* fieldAt(const Json& json, const std::string& name)
{
    const Json* at = &json;
    for (std::size_t begin = 0; begin <= name.size();) {
        const std::size_t end = std::min(name.find('.', begin), name.size());
        const std::string key = name.substr(begin, end - begin);
        if (!at->contains(key)) {
            return nullptr;
        }
        at = &at->at(key);
        begin = end + 1;
    }
    return at;
}

} // namespace

std::string firstDifference(const Json& a, const Json& b)
{
    for (const FieldDescription& field : trainConfigFields()) {
        if (!field.changesResults || field.name == "steps") {
            continue;
        }
        const Json* left = fieldAt(a, field.name);
        const Json* right = fieldAt(b, field.name);
        if ((left == nullptr) != (right == nullptr) || (left != nullptr && *left != *right)) {
            return field.name;
        }
    }
    return {};
}

std::string configDigest(const TrainConfig& config)
{
    const Json json = trainConfigJson(config);
    Json kept = Json::object();
    for (const FieldDescription& field : trainConfigFields()) {
        if (field.changesResults && field.name != "steps") {
            kept[field.name] = *fieldAt(json, field.name);
        }
    }
    const std::string text = kept.dump();
    return sha256Hex(std::as_bytes(std::span(text)));
}

Json trainConfigJson(const TrainConfig& config)
{
    WriteVisitor visitor;
    visitFields(config, visitor);
    return visitor.json();
}

} // namespace rankwise::train
