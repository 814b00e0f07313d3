// rankwise: the light front. Answers help, inspect, doctor and hub itself and starts a private program for the rest.
// It links neither LibTorch (0.2 s of start-up in every process) nor Arrow, FFmpeg or MuJoCo.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/console.h"
#include "app/cli/doctor.h"
#include "app/cli/inspect_command.h"
#include "app/cli/programs.h"

#include <algorithm>

namespace {

using namespace rankwise;
using namespace rankwise::cli;

ExitCode runHere(const Invocation& invocation, const std::vector<std::string>& arguments)
{
    if (const auto* inspect = std::get_if<InspectOptions>(&invocation.command)) {
        // A dataset goes to rankwise-station, which has Arrow and FFmpeg; this process becomes that one.
        return runInspect(invocation, *inspect, [&](const auto&, const auto&) -> Result<data::Inspection> {
            return tl::unexpected(execProgram(Host::Station, arguments));
        });
    }
    if (std::holds_alternative<HubOptions>(invocation.command)) {
        return runHub(invocation);
    }
    if (std::holds_alternative<DoctorOptions>(invocation.command)) {
        const auto findings = examineMachine();
        printResult(invocation, findingsText(findings), findingsJson(findings));
        const bool broken =
            std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.state == "broken"; });
        return broken ? ExitCode::Failure : ExitCode::Success;
    }
    return printError(invocation, { Errc::UsageInvalid, "this command is for the private programs" });
}

} // namespace

int main(int argc, char** argv)
{
    const auto parsed = parseCommandLine(argc, argv);
    if (const auto* code = std::get_if<ExitCode>(&parsed)) {
        return static_cast<int>(*code);
    }
    const auto& invocation = std::get<Invocation>(parsed);
    std::vector<std::string> arguments(argv + 1, argv + argc);
    if (invocation.host != Host::Front) {
        if (const auto* gui = std::get_if<GuiOptions>(&invocation.command)) {
            arguments = gui->arguments;
        }
        return static_cast<int>(printError(invocation, execProgram(invocation.host, arguments)));
    }
    return static_cast<int>(guarded(invocation, [&] {
        if (const auto logging = configureLogging(invocation); !logging) {
            return printError(invocation, logging.error());
        }
        return runHere(invocation, arguments);
    }));
}
