// SPDX-License-Identifier: Apache-2.0
#include "app/cli/inspect_command.h"

#include "app/cli/console.h"
#include "backend/io/hub_cache.h"

#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

ExitCode runInspect(const Invocation& invocation, const InspectOptions& options, const data::DatasetInspector& dataset)
{
    ConsoleJob job(invocation);
    const auto values = options.scan ? data::ValueScan::All
        : options.noScan             ? data::ValueScan::None
                                     : data::ValueScan::Small;
    const auto inspection =
        data::inspectPath(options.path, { .values = values, .listTensors = true }, job.context(), dataset);
    job.clearLine();
    if (!inspection) {
        return printError(invocation, inspection.error());
    }
    const std::size_t rows = options.allTensors ? std::numeric_limits<std::size_t>::max() : 40;
    printResult(invocation, invocation.json ? "" : data::inspectionText(*inspection, rows),
                invocation.json ? jsonText(data::inspectionJson(*inspection)) : "");
    return ExitCode::Success;
}

ExitCode runHub(const Invocation& invocation)
{
    ConsoleJob job(invocation);
    const auto cache = io::scanHubCache(io::hubCacheFolder(), job.context());
    job.clearLine();
    if (!cache) {
        return printError(invocation, cache.error());
    }
    std::string text = fmt::format("{}\n", cache->root.string());
    for (const io::HubRepo& repo : cache->repos) {
        const io::HubRevision* revision = repo.preferred();
        text += fmt::format("{:<8} {:<48} {:>9.1f} MB  {}\n", io::hubRepoTypeName(repo.type), repo.id,
                            static_cast<double>(repo.bytes) / 1e6,
                            revision == nullptr      ? "no revision"
                                : revision->complete ? std::string(io::hubUseName(revision->use))
                                                     : "incomplete");
    }
    if (cache->repos.empty()) {
        text += "nothing there\n";
    }
    printResult(invocation, text, jsonText(io::hubCacheJson(*cache)));
    return ExitCode::Success;
}

} // namespace rankwise::cli
