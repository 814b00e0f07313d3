// SPDX-License-Identifier: Apache-2.0
#include "backend/train/resume_plan.h"

#include "backend/base/sha256.h"
#include "backend/data/dataset_digest.h"
#include "backend/data/run_directory.h"
#include "backend/train/train_config.h"

#include <algorithm>
#include <cmath>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

std::string textAt(const Json& json, const char* group, const char* key)
{
    if (!json.contains(group) || !json.at(group).is_object()) {
        return {};
    }
    const Json& object = json.at(group);
    return object.contains(key) && object.at(key).is_string() ? object.at(key).get<std::string>() : std::string();
}

Result<void> expectFolder(const std::string& path, const char* what)
{
    std::error_code error;
    if (!fs::is_directory(path, error)) {
        return fail(Errc::FileNotFound,
                    fmt::format("the {} of this run is not where it was; put it back to go on", what), path);
    }
    return {};
}

/// A hash of run.json against what is there now; an empty one was never taken.
void compareHash(ResumePlan& plan, const char* what, const std::string& before, const std::string& now)
{
    constexpr std::size_t kShown = 12; // digits: enough to tell two apart
    if (!before.empty() && before != now) {
        plan.differences.push_back({ what, before.substr(0, kShown), now.substr(0, kShown) });
    }
}

Result<void> compareInputs(ResumePlan& plan, const TrainConfig& config, const Json& run, const JobContext& job)
{
    RW_TRY_VOID(expectFolder(config.policy.path, "policy"));
    RW_TRY_VOID(expectFolder(config.dataset.path, "dataset"));
    job.report(0.3, "base weights");
    const fs::path weights = fs::path(config.policy.path) / "model.safetensors";
    if (const std::string before = textAt(run, "hashes", "base"); !before.empty()) {
        RW_TRY(const std::string now, sha256OfFile(weights, job));
        compareHash(plan, "base", before, now);
    }
    job.report(0.6, "dataset");
    RW_TRY(const std::string now, data::datasetDigest(config.dataset.path, job));
    compareHash(plan, "dataset", textAt(run, "hashes", "dataset"), now);
    return {};
}

void compareSteps(ResumePlan& plan, TrainConfig config)
{
    if (plan.total == plan.totalBefore) {
        return;
    }
    plan.differences.push_back({ "steps", std::to_string(plan.totalBefore), std::to_string(plan.total) });
    // A schedule that is spread over the run is spread over the longer one.
    const auto rateIn = [&](std::int64_t total) {
        config.steps = total;
        return config.scheduleOf().rate(plan.from(), total);
    };
    const double before = rateIn(plan.totalBefore);
    const double now = rateIn(plan.total);
    if (std::abs(now - before) > 1e-6 * std::abs(before)) {
        plan.differences.push_back({ "learning_rate", fmt::format("{:.3g}", before), fmt::format("{:.3g}", now) });
    }
}

} // namespace

Result<ResumePlan> planResume(const fs::path& folder, std::int64_t steps, const std::string& version,
                              const JobContext& job)
{
    const data::RunPaths paths { folder };
    RW_TRY(const Json run, data::readRunJson(paths));
    if (!run.contains("config")) {
        return fail(Errc::FieldMissing, "run.json has no configuration", paths.run().string());
    }
    RW_TRY(const TrainConfig config, parseTrainConfig(run.at("config"), paths.run().string()));
    RW_TRY_VOID(data::expectNoWorker(paths));
    ResumePlan plan { .totalBefore = config.steps };
    if (const auto status = data::readRunStatus(paths)) {
        if (status->active()) {
            return fail(Errc::AlreadyExists, "another worker is writing this run", folder.string());
        }
        plan.reached = status->step;
        plan.totalBefore = std::max(plan.totalBefore, status->total); // it may have been extended before
    }
    plan.total = steps > 0 ? steps : plan.totalBefore;
    job.report(0, "checkpoint");
    std::vector<Warning> damaged;
    RW_TRY(const auto newest, data::newestCheckpoint(paths, damaged, job));
    plan.checkpoint = newest ? newest->step : -1;
    if (!damaged.empty()) {
        plan.differences.push_back({ "checkpoint", fmt::format("{} damaged", damaged.size()),
                                     newest ? fmt::format("step {}", newest->step) : "none" });
    }
    if (plan.total < plan.from()) {
        return fail(Errc::FieldInvalid,
                    fmt::format("the run is at step {} already; give at least as many steps", plan.from()), "steps");
    }
    compareSteps(plan, config);
    RW_TRY_VOID(compareInputs(plan, config, run, job));
    const std::string oldVersion = textAt(run, "versions", "rankwise");
    if (!version.empty() && !oldVersion.empty() && oldVersion != version) {
        plan.differences.push_back({ "version", oldVersion, version });
    }
    const std::string host =
        run.contains("host") && run.at("host").is_string() ? run.at("host").get<std::string>() : "";
    if (!host.empty() && host != data::hostName()) {
        plan.differences.push_back({ "host", host, data::hostName() });
    }
    return plan;
}

} // namespace rankwise::train
