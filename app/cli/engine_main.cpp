// rankwise-engine: everything that needs LibTorch. Private; started by rankwise, which sets OMP_WAIT_POLICY.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "app/cli/rollout_output.h"

#include <algorithm>
#include <string_view>
#include <thread>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <torch/headeronly/version.h>

namespace rankwise::cli {

int tensorThreads(const Invocation& invocation)
{
    return invocation.threads > 0 ? static_cast<int>(invocation.threads)
                                  : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

ExitCode runEngineProbe()
{
    const std::string version = fmt::format("{}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH);
    const OrderedJson findings =
        OrderedJson::array({ { { "part", "LibTorch" },
                               { "state", "ok" },
                               { "detail",
                                 fmt::format("{}, {} threads, {}, {}", version, at::get_num_threads(),
                                             at::get_cpu_capability(), at::hasCUDA() ? "CUDA" : "no CUDA") },
                               { "remedy", "" } } });
    fmt::print("{}", jsonText(findings));
    return ExitCode::Success;
}

namespace {

ExitCode run(const Invocation& invocation)
{
    if (std::holds_alternative<ProbeOptions>(invocation.command)) {
        return runEngineProbe();
    }
    ConsoleJob job(invocation);
    if (const auto logging = configureLogging(invocation); !logging) {
        return printError(invocation, logging.error());
    }
    at::set_num_threads(tensorThreads(invocation));
    if (const auto* certify = std::get_if<CertifyOptions>(&invocation.command)) {
        return runCertify(invocation, *certify, job);
    }
    if (const auto* train = std::get_if<TrainOptions>(&invocation.command)) {
        return runTrain(invocation, *train, job);
    }
    if (const auto* eval = std::get_if<EvalOptions>(&invocation.command)) {
        return runEval(invocation, *eval, job);
    }
    if (const auto* exported = std::get_if<ExportOptions>(&invocation.command)) {
        return runExport(invocation, *exported, job);
    }
    if (const auto* rollout = std::get_if<RolloutCommandOptions>(&invocation.command)) {
        return runRollout(invocation, *rollout, job);
    }
    if (const auto* spectra = std::get_if<SpectraOptions>(&invocation.command)) {
        return runSpectra(invocation, *spectra, job);
    }
    if (const auto* para = std::get_if<ParaOptions>(&invocation.command)) {
        return runPara(invocation, *para, job);
    }
    if (const auto* compact = std::get_if<CompactCommandOptions>(&invocation.command)) {
        return runCompact(invocation, *compact, job);
    }
    if (const auto* demo = std::get_if<DemoOptions>(&invocation.command)) {
        return runDemo(invocation, *demo, job);
    }
    return printError(invocation, { Errc::UsageInvalid, "this command is not for rankwise-engine; start rankwise" });
}

} // namespace

} // namespace rankwise::cli

int main(int argc, char** argv)
{
    using namespace rankwise::cli;
    if (argc == 2 && std::string_view(argv[1]) == kRolloutWorker) {
        return rankwise::eval::serveRollouts(rankwise::eval::kRolloutChannel);
    }
    const auto parsed = parseCommandLine(argc, argv);
    if (const auto* code = std::get_if<ExitCode>(&parsed)) {
        return static_cast<int>(*code);
    }
    const auto& invocation = std::get<Invocation>(parsed);
    return static_cast<int>(guarded(invocation, [&] { return run(invocation); }));
}
