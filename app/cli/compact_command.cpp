// `rankwise compact`.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/compress/compact.h"
#include "backend/data/run_directory.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

std::string compactText(const Json& receipt)
{
    const Json& actions = receipt.at("actions");
    return fmt::format("{} of {} vectors, {} of {} parameters; actions differ by {:.2g} (rms, of {:.2g}) on {} frames",
                       receipt.at("vectors_after").get<std::int64_t>(),
                       receipt.at("vectors_before").get<std::int64_t>(),
                       receipt.at("parameters_after").get<std::int64_t>(),
                       receipt.at("parameters_before").get<std::int64_t>(), actions.at("rms_difference").get<double>(),
                       actions.at("rms").get<double>(), receipt.at("frames").get<std::int64_t>());
}

ExitCode runCompact(const Invocation& invocation, const CompactCommandOptions& options, ConsoleJob& job)
{
    const auto adapter = data::newestCheckpointOr(options.adapter);
    if (!adapter) {
        return printError(invocation, adapter.error());
    }
    const auto receipt =
        compress::compactAdapter(options.policy, *adapter, options.dataset, options.out,
                                 { .leastShare = options.share, .frames = options.frames }, job.context());
    job.clearLine();
    if (!receipt) {
        return printError(invocation, receipt.error());
    }
    printResult(invocation, compactText(*receipt) + "\n", jsonText(*receipt));
    return ExitCode::Success;
}

} // namespace rankwise::cli
