// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/spectra_tail.h"

#include "backend/base/worker_thread.h"
#include "widgets/bridge/text.h"

#include <QCoreApplication>
#include <QFileInfo>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>
#include <utility>

namespace rankwise::bridge {

namespace {

constexpr std::chrono::milliseconds kActiveInterval { 60 };
constexpr std::chrono::milliseconds kAbsentInterval { 200 };
constexpr std::chrono::milliseconds kIdleInterval { 300 };
/// Little enough that this thread can be joined from the window's without a wait that is felt.
constexpr std::uint64_t kPollBytes = 1u << 18;
constexpr double kCoarseShare = 0.15; ///< Of the work for a matrix.

Curve curveOf(data::SpectrumKind kind)
{
    switch (kind) {
    case data::SpectrumKind::Delta:
        return Curve::Delta;
    case data::SpectrumKind::Merged:
        return Curve::Merged;
    case data::SpectrumKind::Base:
        break;
    }
    return Curve::Base;
}

} // namespace

QString curveName(Curve curve)
{
    switch (curve) {
    case Curve::Base:
        return QStringLiteral("W");
    case Curve::Delta:
        return QStringLiteral("ΔW");
    case Curve::Merged:
        return QStringLiteral("W′");
    case Curve::Scores:
        return QCoreApplication::translate("Curve", "scores");
    }
    return {};
}

std::int64_t SpectrumData::rank(double eta) const
{
    return measures.frobenius > 0 ? data::energyRankOf(energy, eta) : 0;
}

SpectrumPtr makeSpectrum(const data::SpectraLayer& layer, const data::SpectrumRecord& record)
{
    auto made = std::make_shared<SpectrumData>();
    made->pass = record.pass;
    made->sigma = record.sigma;
    made->energy = data::cumulativeEnergy(record.sigma);
    made->measures = data::measureSpectrum(record.sigma, layer.rows, layer.columns);
    made->power = record.power;
    made->error = record.error;
    return made;
}

int SpectraSet::indexOf(const QString& path) const
{
    const std::string name = path.toStdString();
    const auto found = std::ranges::find(layers, name, &data::SpectraLayer::path);
    return found == layers.end() ? -1 : static_cast<int>(found - layers.begin());
}

bool SpectraSet::has(Curve curve) const
{
    return std::ranges::any_of(spectra, [&](const auto& of) { return of[static_cast<std::size_t>(curve)] != nullptr; });
}

std::optional<double> SpectraSet::change(std::size_t layer) const
{
    const SpectrumPtr& base = at(layer, Curve::Base);
    const SpectrumPtr& delta = at(layer, Curve::Delta);
    if (!base || !delta || !(base->measures.frobenius > 0)) {
        return std::nullopt;
    }
    return delta->measures.frobenius / base->measures.frobenius;
}

SpectraSetPtr spectraOfSnapshot(const QString& title, const Snapshot& snapshot, const LayerTable& table)
{
    auto set = std::make_shared<SpectraSet>();
    set->title = title;
    const auto add = [&](const std::string& path, Curve curve, data::SpectrumRecord record) {
        int index = set->indexOf(toQString(path));
        if (index < 0) {
            const auto known = std::ranges::find(table, path, &data::RunLayer::path);
            const auto n = static_cast<std::int64_t>(record.sigma.size());
            data::SpectraLayer layer { .path = path, .rows = n, .columns = n };
            if (known != table.end()) {
                layer.group = known->group;
                layer.depth = known->depth;
                layer.rank = known->capacity;
            }
            index = static_cast<int>(set->layers.size());
            set->layers.push_back(layer);
            set->spectra.emplace_back();
        }
        std::ranges::sort(record.sigma, std::greater<>());
        set->spectra[static_cast<std::size_t>(index)][static_cast<std::size_t>(curve)] =
            makeSpectrum(set->layers[static_cast<std::size_t>(index)], record);
    };
    for (const auto& [path, layer] : snapshot.layers) {
        data::SpectrumRecord record { .sigma = layer.sortedShares() };
        for (double& value : record.sigma) {
            value = std::sqrt(std::max(0.0, value)); // shares are of squared scores
        }
        if (!record.sigma.empty()) {
            add(path, Curve::Scores, std::move(record));
        }
    }
    for (const auto& [path, byName] : snapshot.spectra) {
        for (const auto& [name, sigma] : byName) {
            add(path, name.starts_with("base") ? Curve::Base : Curve::Delta, { .sigma = sigma });
        }
    }
    std::vector<std::size_t> order(set->layers.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        order[i] = i;
    }
    std::ranges::sort(order, {}, [&](std::size_t i) {
        const data::SpectraLayer& layer = set->layers[i];
        return std::tuple(layer.group, layer.depth, layer.path);
    });
    auto sorted = std::make_shared<SpectraSet>();
    sorted->title = title;
    for (const std::size_t i : order) {
        sorted->layers.push_back(std::move(set->layers[i]));
        sorted->spectra.push_back(std::move(set->spectra[i]));
    }
    return sorted;
}

SpectraSetPtr joined(const SpectraSetPtr& one, const SpectraSetPtr& other)
{
    if (!one || one->layers.empty()) {
        return other;
    }
    if (!other || other->layers.empty()) {
        return one;
    }
    auto set = std::make_shared<SpectraSet>(*one);
    for (std::size_t i = 0; i < other->layers.size(); ++i) {
        const int index = set->indexOf(toQString(other->layers[i].path));
        if (index < 0) {
            set->layers.push_back(other->layers[i]);
            set->spectra.push_back(other->spectra[i]);
            continue;
        }
        for (std::size_t c = 0; c < kCurveKinds; ++c) {
            SpectrumPtr& own = set->spectra[static_cast<std::size_t>(index)][c];
            own = own ? own : other->spectra[i][c];
        }
    }
    return set;
}

/// What the reading thread found; immutable.
struct SpectraTail::Update {
    std::optional<data::SpectraHeader> header;
    std::vector<std::tuple<std::size_t, Curve, SpectrumPtr>> spectra;
    data::SpectraState state = data::SpectraState::Running;
    bool running = false;
    QString problem;
};

SpectraTail::SpectraTail(QString folder, QObject* parent)
    : QObject(parent), m_folder(std::move(folder)), m_set(std::make_shared<SpectraSet>())
{
    m_worker = std::make_unique<WorkerThread>("spectra", [this, path = toPath(m_folder)](const std::stop_token& stop) {
        data::SpectraFollower follower(path);
        std::vector<data::SpectraLayer> layers;
        std::optional<std::tuple<data::SpectraState, bool, QString>> told;
        while (!stop.stop_requested()) {
            auto found = follower.poll(kPollBytes);
            auto update = std::make_shared<Update>();
            if (found) {
                if (found->header) {
                    layers = found->header->layers;
                    update->header = std::move(found->header);
                }
                for (const data::SpectrumRecord& record : found->records) {
                    update->spectra.emplace_back(record.layer, curveOf(record.kind),
                                                 makeSpectrum(layers[record.layer], record));
                }
                update->state = found->state;
                update->running = found->state == data::SpectraState::Running && found->workerLives;
                update->problem = found->failure ? toQString(found->failure->describe()) : QString();
            } else {
                update->state = data::SpectraState::Failed;
                update->problem = errorSentence(found.error());
            }
            const std::tuple now { update->state, update->running, update->problem };
            if (update->header || !update->spectra.empty() || told != now) {
                told = now;
                QMetaObject::invokeMethod(
                    this, [this, update] { apply(*update); }, Qt::QueuedConnection);
            }
            const bool busy = found && found->state == data::SpectraState::Running;
            const bool wait = !found || follower.caughtUp() || found->records.empty();
            const auto pause = !busy ? kIdleInterval : (layers.empty() ? kAbsentInterval : kActiveInterval);
            if (wait && !waitFor(stop, pause)) {
                return;
            }
        }
    });
}

SpectraTail::~SpectraTail()
{
    m_worker->requestStop();
    m_worker->join();
}

void SpectraTail::apply(const Update& update)
{
    auto set = std::make_shared<SpectraSet>(*m_set);
    if (update.header) {
        m_header = update.header;
        const data::SpectraHeader& header = *m_header;
        *set = {};
        set->title = QFileInfo(toQString(header.adapter.empty() ? header.checkpoint : header.adapter)).fileName();
        for (const std::string& note : header.notes) {
            set->notes << toQString(note);
        }
        set->layers = header.layers;
        set->spectra.resize(header.layers.size());
        m_expected = 0;
        for (const data::SpectraLayer& layer : header.layers) {
            m_expected += static_cast<int>(layer.kinds.size());
        }
    }
    for (const auto& [layer, curve, spectrum] : update.spectra) {
        if (layer < set->spectra.size()) {
            set->spectra[layer][static_cast<std::size_t>(curve)] = spectrum;
        }
    }
    m_set = std::move(set);
    m_state = update.state;
    m_running = update.running;
    m_problem = update.problem;
    if (m_state == data::SpectraState::Lost && m_problem.isEmpty()) {
        m_problem = tr("The worker was killed or broke down; what it computed is kept, Compute goes on from there.");
    }
    count();
    Q_EMIT updated();
}

void SpectraTail::count()
{
    m_present = m_exact = 0;
    double all = 0;
    double done = 0;
    for (std::size_t i = 0; i < m_set->layers.size(); ++i) {
        const data::SpectraLayer& layer = m_set->layers[i];
        for (const data::SpectrumKind kind : layer.kinds) {
            const SpectrumPtr& spectrum = m_set->at(i, curveOf(kind));
            const bool exact = spectrum && spectrum->pass == data::SpectrumPass::Exact;
            const double cost = data::spectrumCost(layer, kind);
            m_present += spectrum ? 1 : 0;
            m_exact += exact ? 1 : 0;
            all += cost;
            done += cost * (exact ? 1 : (spectrum ? kCoarseShare : 0));
        }
    }
    m_progress = all > 0 ? done / all : 0;
}

} // namespace rankwise::bridge
