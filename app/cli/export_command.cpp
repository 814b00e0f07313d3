// `rankwise export`: a policy with its adapter merged in, as a checkpoint folder of its own that lerobot loads.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/base/file.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

Result<fs::path> exportPolicy(const ExportOptions& options, const JobContext& job)
{
    serve::RuntimeOptions load { .policy = options.policy };
    if (!options.adapter.empty()) {
        RW_TRY(load.adapter, adapterFolder(options.adapter));
    } else {
        RW_TRY(load.policy, adapterFolder(options.policy));
    }
    std::vector<Warning> warnings;
    RW_TRY(const auto runtime, serve::PolicyRuntime::load(load, warnings, job));
    if (runtime->method() != nullptr) {
        return fail(Errc::Unsupported, "the update depends on the input and cannot be merged into the weights; keep the adapter",
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
    for (const fs::path& base : { load.adapter, load.policy }) {
        if (const fs::path tokenizer = base / "tokenizer"; !base.empty() && fs::is_directory(tokenizer)) {
            std::error_code error;
            fs::copy(tokenizer, folder.path() / "tokenizer", fs::copy_options::recursive | fs::copy_options::skip_existing, error);
            if (error) {
                return failErrno(error.value(), "copy the tokenizer to", folder.path());
            }
        }
    }
    RW_TRY_VOID(folder.commit());
    return out;
}

}  // namespace

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

}  // namespace rankwise::cli
