// `rankwise export`: a policy with its adapter merged in, as a checkpoint folder of its own that lerobot loads.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/base/file.h"
#include "backend/base/json.h"
#include "backend/data/run_directory.h"

#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

/// Folders that may hold the tokenizer: the adapter's, the policy's, and the base that either names.
std::vector<fs::path> tokenizerPlaces(const serve::RuntimeOptions& load)
{
    std::vector<fs::path> places;
    for (const fs::path& folder : { load.adapter, load.policy }) {
        if (folder.empty()) {
            continue;
        }
        places.push_back(folder / "tokenizer");
        if (const auto config = readJsonFile(folder / "adapter_config.json"); config && config->is_object()) {
            places.push_back(folder / config->value("base_model_name_or_path", std::string()) / "tokenizer");
        }
    }
    return places;
}

Result<fs::path> exportPolicy(const ExportOptions& options, const JobContext& job)
{
    serve::RuntimeOptions load { .policy = options.policy };
    if (!options.adapter.empty()) {
        RW_TRY(load.adapter, data::newestCheckpointOr(options.adapter));
    } else {
        RW_TRY(load.policy, data::newestCheckpointOr(options.policy));
    }
    std::vector<Warning> warnings;
    RW_TRY(const auto runtime, serve::PolicyRuntime::load(load, warnings, job));
    if (runtime->method() != nullptr) {
        return fail(Errc::Unsupported,
                    "the update depends on the input and cannot be merged into the weights; keep the adapter",
                    load.adapter.string());
    }
    const fs::path out = options.out;
    if (fs::exists(out)) {
        return fail(Errc::AlreadyExists, "exists already; choose another --out or remove it", out.string());
    }
    RW_TRY(auto folder, AtomicFolder::create(out));
    const auto precision = options.precision == "bf16" ? models::Precision::Mixed : models::Precision::F32;
    RW_TRY_VOID(models::savePolicy(runtime->policy(), folder.path(), precision, job));
    RW_TRY_VOID(runtime->processor().save(folder.path()));
    for (const fs::path& tokenizer : tokenizerPlaces(load)) {
        if (fs::is_directory(tokenizer)) {
            std::error_code error;
            fs::copy(tokenizer, folder.path() / "tokenizer", fs::copy_options::recursive, error);
            if (error) {
                return failErrno(error.value(), "copy the tokenizer to", folder.path());
            }
            break;
        }
    }
    RW_TRY_VOID(folder.commit());
    return out;
}

} // namespace

ExitCode runExport(const Invocation& invocation, const ExportOptions& options, ConsoleJob& job)
{
    const auto out = exportPolicy(options, job.context());
    job.clearLine();
    if (!out) {
        return printError(invocation, out.error());
    }
    printResult(invocation, fmt::format("{}\n", out->string()), jsonText(OrderedJson { { "policy", out->string() } }));
    return ExitCode::Success;
}

} // namespace rankwise::cli
