// `rankwise spectra`: singular values of a checkpoint's or adapter's layers, from coarse to fine.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "backend/analysis/spectra.h"

#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

Result<data::SpectraContents> compute(const Invocation& invocation, const SpectraOptions& options,
                                      const std::string& subject, const fs::path& out, const JobContext& job)
{
    RW_TRY(const auto source, analysis::SpectraSource::open({ .subject = subject, .base = options.base }));
    // Estimates are for whoever follows the folder; a table alone waits for the exact values.
    const bool coarse = options.coarseOnly || (!options.exactOnly && !out.empty());
    return analysis::computeSpectraFolder(
        source, { .coarsePass = coarse, .exactPass = !options.coarseOnly, .threads = tensorThreads(invocation) }, out,
        job);
}

/// Layers of both, side by side: k(eta) and its change.
std::string comparison(const data::SpectraContents& one, const data::SpectraContents& other, double eta)
{
    std::map<std::pair<std::string, data::SpectrumKind>, const data::SpectrumRecord*> byPath;
    for (const auto& [key, record] : other.spectra) {
        byPath[{ other.header.layers[key.first].path, key.second }] = &record;
    }
    std::string text = fmt::format("\nk({:g}) here and there\n", eta);
    std::size_t shared = 0;
    for (const auto& [key, record] : one.spectra) {
        const std::string& path = one.header.layers[key.first].path;
        const auto there = byPath.find({ path, key.second });
        if (there != byPath.end()) {
            ++shared;
            const std::int64_t k = data::energyRank(record.sigma, eta);
            const std::int64_t l = data::energyRank(there->second->sigma, eta);
            text +=
                fmt::format("{:>6} {:>6} {:>+6}  {:<6} {}\n", k, l, l - k, data::spectrumKindName(key.second), path);
        }
    }
    return shared > 0 ? text : text + "no layer is in both\n";
}

} // namespace

ExitCode runSpectra(const Invocation& invocation, const SpectraOptions& options, ConsoleJob& job)
{
    const auto one = compute(invocation, options, options.subject, options.out, job.context());
    job.clearLine();
    if (!one) {
        return one.error().code == Errc::Cancelled ? ExitCode::Interrupted : printError(invocation, one.error());
    }
    std::string text = analysis::spectraText(*one, options.eta);
    OrderedJson json = analysis::spectraJson(*one, options.eta);
    if (!options.out.empty()) {
        json["folder"] = options.out;
    }
    if (!options.against.empty()) {
        const fs::path out = options.out.empty() ? fs::path() : fs::path(options.out) / "against";
        const auto other = compute(invocation, options, options.against, out, job.context());
        job.clearLine();
        if (!other) {
            return other.error().code == Errc::Cancelled ? ExitCode::Interrupted
                                                         : printError(invocation, other.error());
        }
        text += "\n" + analysis::spectraText(*other, options.eta) + comparison(*one, *other, options.eta);
        json["against"] = analysis::spectraJson(*other, options.eta);
    }
    printResult(invocation, text, jsonText(json));
    return ExitCode::Success;
}

} // namespace rankwise::cli
