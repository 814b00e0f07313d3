// SPDX-License-Identifier: Apache-2.0
#include "backend/analysis/spectra.h"

#include "backend/adapters/attachment.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::analysis {

namespace {

using data::SpectrumKind;
using data::SpectrumPass;

/// One spectrum to compute.
struct Task {
    std::size_t layer = 0;
    SpectrumKind kind = SpectrumKind::Base;
    SpectrumPass pass = SpectrumPass::Exact;
    double cost = 0;
};

/// All tasks of a pass, cheapest first, so that something is there at once.
std::vector<Task> tasksOf(const data::SpectraHeader& header, SpectrumPass pass)
{
    std::vector<Task> tasks;
    for (std::size_t i = 0; i < header.layers.size(); ++i) {
        for (const SpectrumKind kind : header.layers[i].kinds) {
            tasks.push_back({ i, kind, pass, data::spectrumCost(header.layers[i], kind) });
        }
    }
    std::ranges::stable_sort(tasks, {}, &Task::cost);
    return tasks;
}

/// Runs tasks on several threads; the first error stops all.
class Crew {
public:
    Crew(const SpectraSource& source, const SpectraOptions& options, const SpectraSink& sink, const JobContext& job)
        : m_source(source), m_options(options), m_sink(sink), m_job(job)
    {
        for (const auto& [key, pass] : options.known) {
            if (pass == SpectrumPass::Exact) {
                m_exact.push_back(key);
            }
        }
    }

    Result<void> run(const std::vector<Task>& tasks, double progressFrom, double progressTo)
    {
        m_next = 0;
        m_doneCost = 0;
        double total = 0;
        for (const Task& task : tasks) {
            total += task.cost;
        }
        const auto work = [&](bool reports) {
            const int before = at::get_num_threads();
            at::set_num_threads(1); // small factorisations lose to hand-overs between threads
            try {
                for (std::size_t i = m_next++; i < tasks.size() && !m_stop; i = m_next++) {
                    if (reports) {
                        const double fraction = total > 0 ? m_doneCost.load() / total : 0;
                        m_job.report(progressFrom + (progressTo - progressFrom) * fraction,
                                     m_source.header().layers[tasks[i].layer].path);
                    }
                    one(tasks[i]);
                    m_doneCost.fetch_add(tasks[i].cost);
                }
            } catch (...) {
                const std::lock_guard lock(m_mutex);
                m_thrown = m_thrown ? m_thrown : std::current_exception();
                m_stop = true;
            }
            at::set_num_threads(before);
        };
        {
            std::vector<std::jthread> others;
            for (std::int64_t i = 1; i < m_options.threads && i < static_cast<std::int64_t>(tasks.size()); ++i) {
                others.emplace_back([&] { work(false); });
            }
            work(true);
        }
        if (m_thrown) {
            std::rethrow_exception(m_thrown);
        }
        if (m_error) {
            return tl::unexpected(*m_error);
        }
        if (m_job.stopped()) {
            return fail(Errc::Cancelled, "stopped; what was computed is kept");
        }
        return {};
    }

    /// Whether an earlier computation or the first pass gave the exact values already.
    [[nodiscard]] bool exactAlready(const Task& task) const
    {
        return std::ranges::find(m_exact, std::pair { task.layer, task.kind }) != m_exact.end();
    }

private:
    void one(const Task& task)
    {
        auto record = compute(task);
        const std::lock_guard lock(m_mutex);
        if (!m_error && record) {
            if (record->pass == SpectrumPass::Exact) {
                m_exact.emplace_back(task.layer, task.kind);
            }
            if (auto taken = m_sink.spectrum(*record); !taken) {
                m_error = std::move(taken).error();
            }
        } else if (!m_error) {
            m_error = std::move(record).error();
            if (m_error->code != Errc::Cancelled) {
                m_error->subject = m_source.header().layers[task.layer].path;
            }
        }
        m_stop = m_stop || m_error.has_value();
    }

    Result<data::SpectrumRecord> compute(const Task& task) const
    {
        RW_TRY(const MatrixParts matrix, m_source.matrix(task.layer, task.kind));
        data::SpectrumRecord record { .layer = task.layer, .kind = task.kind, .pass = task.pass };
        if (task.pass == SpectrumPass::Coarse) {
            RW_TRY(SingularValues estimate,
                   estimateSingularValues(matrix, { .seed = m_options.seed + task.layer }, m_job));
            record.sigma = std::move(estimate.sigma);
            record.error = estimate.error;
            // Estimates carry an error that no exact computation has.
            constexpr double kExact = 1e-6;
            record.pass = record.error < kExact ? SpectrumPass::Exact : SpectrumPass::Coarse;
        } else {
            RW_TRY(SingularValues exact, singularValues(matrix, m_job));
            record.sigma = std::move(exact.sigma);
            record.error = exact.error;
        }
        if (m_options.powerLaws && record.pass == SpectrumPass::Exact) {
            record.power = data::fitPowerLaw(record.sigma);
        }
        return record;
    }

    const SpectraSource& m_source;
    const SpectraOptions& m_options;
    const SpectraSink& m_sink;
    const JobContext& m_job;
    std::atomic<std::size_t> m_next { 0 };
    std::atomic<double> m_doneCost { 0 };
    std::atomic<bool> m_stop { false };
    std::mutex m_mutex;
    std::optional<Error> m_error;
    std::exception_ptr m_thrown;
    std::vector<data::SpectrumKey> m_exact;
};

constexpr std::array kShares { 0.5, 0.6, 0.7, 0.8, 0.9, 0.99 };

std::string groupText(std::int64_t group)
{
    return std::string(adapters::groupName(static_cast<models::LayerGroup>(std::clamp<std::int64_t>(group, 0, 3))));
}

const data::SpectrumRecord* find(const data::SpectraContents& contents, std::size_t layer, SpectrumKind kind)
{
    const auto found = contents.spectra.find({ layer, kind });
    return found == contents.spectra.end() ? nullptr : &found->second;
}

OrderedJson measuresJson(const data::SpectraLayer& layer, const data::SpectrumRecord& record, double eta)
{
    const data::SpectrumMeasures m = data::measureSpectrum(record.sigma, layer.rows, layer.columns);
    OrderedJson json { { "pass", data::spectrumPassName(record.pass) },
                       { "k", data::energyRank(record.sigma, eta) },
                       { "values", record.sigma.size() },
                       { "spectral_norm", m.largest },
                       { "frobenius", m.frobenius },
                       { "nuclear", m.nuclear },
                       { "numerical_rank", m.numericalRank },
                       { "stable_rank", m.stableRank },
                       { "effective_rank", m.effectiveRank },
                       { "energy_effective_rank", m.energyEffectiveRank },
                       { "relative_error", record.error } };
    OrderedJson shares = OrderedJson::object();
    for (const double share : kShares) {
        shares[fmt::format("{:g}", share)] = data::energyRank(record.sigma, share);
    }
    json["k_by_energy"] = shares;
    if (record.power) {
        json["power_law"] = { { "alpha", record.power->alpha },
                              { "xmin", record.power->xmin },
                              { "distance", record.power->distance },
                              { "count", record.power->count } };
    }
    return json;
}

/// Σ k and Σ n of one group and matrix.
struct GroupSum {
    std::int64_t layers = 0;
    std::int64_t values = 0;
    std::array<std::int64_t, kShares.size()> ranks {};
};

GroupSum sumOf(const data::SpectraContents& contents, std::int64_t group, SpectrumKind kind)
{
    GroupSum sum;
    for (std::size_t i = 0; i < contents.header.layers.size(); ++i) {
        const data::SpectrumRecord* record = find(contents, i, kind);
        if (record == nullptr || contents.header.layers[i].group != group) {
            continue;
        }
        ++sum.layers;
        sum.values += static_cast<std::int64_t>(record->sigma.size());
        const std::vector<double> energy = data::cumulativeEnergy(record->sigma);
        const bool empty = !(data::totalEnergy(record->sigma) > 0);
        for (std::size_t s = 0; s < kShares.size(); ++s) {
            sum.ranks[s] += empty ? 0 : data::energyRankOf(energy, kShares[s]);
        }
    }
    return sum;
}

constexpr std::array kKinds { SpectrumKind::Base, SpectrumKind::Delta, SpectrumKind::Merged };

std::string symbol(SpectrumKind kind)
{
    return kind == SpectrumKind::Base ? "W" : (kind == SpectrumKind::Delta ? "ΔW" : "W'");
}

} // namespace

Result<void> computeSpectra(const SpectraSource& source, const SpectraOptions& options, const SpectraSink& sink,
                            const JobContext& job)
{
    constexpr double kCoarseShare = 0.15; // of the time
    Crew crew(source, options, sink, job);
    const bool both = options.coarsePass && options.exactPass;
    if (options.coarsePass) {
        std::vector<Task> tasks = tasksOf(source.header(), SpectrumPass::Coarse);
        std::erase_if(tasks, [&](const Task& task) { return options.known.contains({ task.layer, task.kind }); });
        RW_TRY_VOID(crew.run(tasks, 0, both ? kCoarseShare : 1));
        RW_TRY_VOID(sink.passEnded(SpectrumPass::Coarse));
    }
    if (options.exactPass) {
        std::vector<Task> tasks = tasksOf(source.header(), SpectrumPass::Exact);
        std::erase_if(tasks, [&](const Task& task) { return crew.exactAlready(task); });
        RW_TRY_VOID(crew.run(tasks, both ? kCoarseShare : 0, 1));
        RW_TRY_VOID(sink.passEnded(SpectrumPass::Exact));
    }
    job.report(1, "done");
    return {};
}

Result<data::SpectraContents> computeSpectraFolder(const SpectraSource& source, const SpectraOptions& options,
                                                   const std::filesystem::path& folder, const JobContext& job)
{
    data::SpectraContents contents { .header = source.header() };
    const bool onDisk = !folder.empty();
    std::optional<data::SpectraWriter> writer;
    if (onDisk) {
        RW_TRY(writer, data::SpectraWriter::create(folder, source.header()));
    }
    const SpectraSink sink {
        .spectrum = [&](const data::SpectrumRecord& record) -> Result<void> {
            contents.spectra[{ record.layer, record.kind }] = record;
            return writer ? writer->add(record) : Result<void>();
        },
        .passEnded = [&](SpectrumPass pass) { return writer ? writer->endPass(pass) : Result<void>(); },
    };
    SpectraOptions rest = options;
    if (writer) {
        contents.spectra = writer->newest();
        for (const auto& [key, record] : contents.spectra) {
            rest.known[key] = record.pass;
        }
    }
    const auto done = computeSpectra(source, rest, sink, job);
    if (!done) {
        const bool stopped = done.error().code == Errc::Cancelled;
        if (writer) {
            // The first error is the one to tell.
            (void)writer->finish(stopped ? data::SpectraState::Stopped : data::SpectraState::Failed,
                                 stopped ? std::nullopt : std::optional(done.error()));
        }
        return tl::unexpected(done.error());
    }
    if (writer) {
        RW_TRY_VOID(writer->finish(data::SpectraState::Finished));
    }
    contents.state = data::SpectraState::Finished;
    return contents;
}

OrderedJson spectraJson(const data::SpectraContents& contents, double eta)
{
    OrderedJson layers = OrderedJson::array();
    for (std::size_t i = 0; i < contents.header.layers.size(); ++i) {
        const data::SpectraLayer& layer = contents.header.layers[i];
        OrderedJson entry {
            { "path", layer.path }, { "group", groupText(layer.group) }, { "depth", layer.depth },
            { "rows", layer.rows }, { "columns", layer.columns },        { "adapter_rank", layer.rank }
        };
        for (const SpectrumKind kind : kKinds) {
            if (const data::SpectrumRecord* record = find(contents, i, kind)) {
                entry[std::string(data::spectrumKindName(kind))] = measuresJson(layer, *record, eta);
            }
        }
        const data::SpectrumRecord* base = find(contents, i, SpectrumKind::Base);
        const data::SpectrumRecord* delta = find(contents, i, SpectrumKind::Delta);
        if (base != nullptr && delta != nullptr && data::totalEnergy(base->sigma) > 0) {
            entry["delta_over_base"] = std::sqrt(data::totalEnergy(delta->sigma) / data::totalEnergy(base->sigma));
        }
        layers.push_back(std::move(entry));
    }
    OrderedJson groups = OrderedJson::object();
    for (std::int64_t group = 0; group < 4; ++group) {
        for (const SpectrumKind kind : kKinds) {
            const GroupSum sum = sumOf(contents, group, kind);
            if (sum.layers == 0) {
                continue;
            }
            OrderedJson entry { { "layers", sum.layers }, { "values", sum.values } };
            for (std::size_t s = 0; s < kShares.size(); ++s) {
                entry["k_by_energy"][fmt::format("{:g}", kShares[s])] = sum.ranks[s];
            }
            groups[groupText(group)][std::string(data::spectrumKindName(kind))] = entry;
        }
    }
    return { { "checkpoint", contents.header.checkpoint },
             { "base", contents.header.base },
             { "adapter", contents.header.adapter },
             { "eta", eta },
             { "notes", contents.header.notes },
             { "groups", groups },
             { "layers", layers } };
}

std::string spectraText(const data::SpectraContents& contents, double eta)
{
    std::string text;
    std::size_t width = 5;
    for (const data::SpectraLayer& layer : contents.header.layers) {
        width = std::max(width, layer.path.size());
    }
    text += fmt::format("{:<{}}  {:>11} {:>3}  {:>11}  {:>9} {:>9}  {:>9} {:>10}\n", "layer", width, "shape", "",
                        fmt::format("k({:g})", eta), "effective", "stable", "norm", "largest");
    for (std::size_t i = 0; i < contents.header.layers.size(); ++i) {
        const data::SpectraLayer& layer = contents.header.layers[i];
        for (const SpectrumKind kind : kKinds) {
            const data::SpectrumRecord* record = find(contents, i, kind);
            if (record == nullptr) {
                continue;
            }
            const data::SpectrumMeasures m = data::measureSpectrum(record->sigma, layer.rows, layer.columns);
            text += fmt::format("{:<{}}  {:>11} {:>3}  {:>11}  {:>9.1f} {:>9.2f}  {:>9.4g} {:>10.4g}{}\n", layer.path,
                                width, fmt::format("{}×{}", layer.rows, layer.columns), symbol(kind),
                                fmt::format("{}/{}", data::energyRank(record->sigma, eta), record->sigma.size()),
                                m.effectiveRank, m.stableRank, m.frobenius, m.largest,
                                record->pass == SpectrumPass::Coarse ? "  estimated" : "");
        }
    }
    text += "\nshare of the singular values that hold a share of the energy\n";
    text += fmt::format("{:<11} {:>3} {:>7}", "part", "", "layers");
    for (const double share : kShares) {
        text += fmt::format(" {:>6.0f} %", 100 * share);
    }
    text += '\n';
    for (std::int64_t group = 0; group < 4; ++group) {
        for (const SpectrumKind kind : kKinds) {
            const GroupSum sum = sumOf(contents, group, kind);
            if (sum.layers > 0) {
                text += fmt::format("{:<11} {:>3} {:>7}", groupText(group), symbol(kind), sum.layers);
                for (const std::int64_t rank : sum.ranks) {
                    text += fmt::format(" {:>8.3f}", static_cast<double>(rank) / static_cast<double>(sum.values));
                }
                text += '\n';
            }
        }
    }
    for (const std::string& note : contents.header.notes) {
        text += fmt::format("note: {}\n", note);
    }
    return text;
}

} // namespace rankwise::analysis
