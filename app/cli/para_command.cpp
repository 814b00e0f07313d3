// `rankwise para`.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"
#include "backend/compress/para.h"
#include "backend/data/run_directory.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

compress::ParaPolicy policyOf(const ParaOptions& options)
{
    using Kind = compress::ParaPolicy::Kind;
    if (options.gamma) {
        return { .kind = Kind::Gamma, .value = *options.gamma };
    }
    if (options.energy) {
        return { .kind = Kind::Energy, .value = *options.energy };
    }
    if (options.tau) {
        return { .kind = Kind::Threshold, .value = *options.tau };
    }
    return { .kind = Kind::Bytes, .value = static_cast<double>(*options.bytes) };
}

} // namespace

ExitCode runPara(const Invocation& invocation, const ParaOptions& options, ConsoleJob& job)
{
    const auto adapter = data::newestCheckpointOr(options.adapter);
    if (!adapter) {
        return printError(invocation, adapter.error());
    }
    const auto receipt =
        compress::compressAdapter(*adapter, options.out, { .policy = policyOf(options) }, job.context());
    job.clearLine();
    if (!receipt) {
        return printError(invocation, receipt.error());
    }
    if (const auto copied = copyPipelines(*adapter, options.out); !copied) {
        return printError(invocation, copied.error());
    }
    printResult(invocation, jsonText(*receipt), jsonText(*receipt));
    return ExitCode::Success;
}

} // namespace rankwise::cli
