// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/spectra_computations.h"

#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"

#include <QCoreApplication>
#include <QTimer>

#include <algorithm>
#include <csignal>

namespace rankwise::bridge {

namespace {

struct Place {
    QString folder;
    bool running = false;
};

/// Where the spectra of a subject are, and whether somebody computes them now.
Place placeOf(ItemKind kind, const QString& subject, const QString& dataFolder)
{
    Place place { .folder = kind == ItemKind::Spectra ? subject : spectraFolder(dataFolder, subject) };
    const auto header = data::readSpectraHeader(toPath(place.folder));
    place.running = header && data::spectraWorkerLives(*header);
    return place;
}

} // namespace

bool hasSpectra(ItemKind kind)
{
    return kind == ItemKind::Run || kind == ItemKind::Checkpoint || kind == ItemKind::Adapter
        || kind == ItemKind::Spectra;
}

SpectraComputations::SpectraComputations(Workspace& workspace, const Settings& settings, QObject* parent)
    : QObject(parent), m_workspace(workspace), m_settings(settings)
{
    connect(&workspace, &Workspace::itemAdded, this, &SpectraComputations::probe);
    for (const WorkspaceItem& item : workspace.items()) {
        probe(item);
    }
}

SpectraComputations::~SpectraComputations() = default;

ItemKind SpectraComputations::kindOf(const QString& subject) const
{
    const auto& items = m_workspace.items();
    const auto item = std::ranges::find(items, subject, &WorkspaceItem::path);
    return item == items.end() ? ItemKind::Other : item->kind;
}

/// A computation that goes on from before this window is a job again.
void SpectraComputations::probe(const WorkspaceItem& item)
{
    if (!hasSpectra(item.kind)) {
        return;
    }
    m_workspace.jobs().start<Place>(
        QString(),
        [kind = item.kind, path = item.path, data = m_settings.dataFolder()](const JobContext&) -> Result<Place> {
            return placeOf(kind, path, data);
        },
        this,
        [this, path = item.path](Result<Place> place) {
            if (place && place->running) {
                const auto tail = follow(path, place->folder);
                m_computations[path].held = tail;
                update(path);
            }
        });
}

void SpectraComputations::locate(const QString& subject)
{
    if (const auto known = m_computations.find(subject); known != m_computations.end()) {
        if (const auto tail = known->second.tail.lock()) {
            Q_EMIT located(subject, tail);
            return;
        }
    }
    m_workspace.jobs().start<Place>(
        QString(),
        [kind = kindOf(subject), subject, data = m_settings.dataFolder()](const JobContext&) -> Result<Place> {
            return placeOf(kind, subject, data);
        },
        this,
        [this, subject](Result<Place> place) {
            if (place) {
                const auto tail = follow(subject, place->folder);
                Q_EMIT located(subject, tail);
            }
        });
}

QString SpectraComputations::folder(const QString& subject) const
{
    const auto known = m_computations.find(subject);
    return known == m_computations.end() ? QString() : known->second.folder;
}

std::shared_ptr<SpectraTail> SpectraComputations::follow(const QString& subject, const QString& folder)
{
    Computation& computation = m_computations[subject];
    if (auto tail = computation.tail.lock(); tail && computation.folder == folder) {
        return tail;
    }
    auto tail = std::make_shared<SpectraTail>(folder);
    connect(tail.get(), &SpectraTail::updated, this, [this, subject] { update(subject); });
    computation.folder = folder;
    computation.tail = tail;
    return tail;
}

bool SpectraComputations::busy(const QString& subject) const
{
    const auto known = m_computations.find(subject);
    return known != m_computations.end() && known->second.job != nullptr;
}

bool SpectraComputations::anyOfOurs() const
{
    return std::ranges::any_of(m_computations, [](const auto& each) { return each.second.job && each.second.ours; });
}

bool SpectraComputations::cancelled(const QString& subject) const
{
    const auto known = m_computations.find(subject);
    const auto tail = known == m_computations.end() ? nullptr : known->second.tail.lock();
    return tail && tail->header() && tail->header()->started == known->second.ended;
}

void SpectraComputations::announce(const QString& subject, Computation& computation)
{
    computation.job =
        m_workspace.jobs().announce(QCoreApplication::translate("Spectra", "Spectra of %1").arg(subjectName(subject)));
    connect(computation.job, &Job::cancelRequested, this, [this, subject] { cancel(subject); });
    Q_EMIT changed(subject);
}

void SpectraComputations::start(const QString& subject)
{
    Computation& computation = m_computations[subject];
    const ItemKind kind = kindOf(subject);
    if (computation.job || !hasSpectra(kind) || kind == ItemKind::Spectra) {
        return;
    }
    computation.launching = std::make_shared<std::atomic<bool>>(false);
    computation.ours = true;
    announce(subject, computation);
    struct Launch {
        QString folder;
        data::SpectraHeader header;
    };
    m_workspace.jobs().start<Launch>(
        QString(),
        [subject, data = m_settings.dataFolder(),
         cancelled = computation.launching](const JobContext& job) -> Result<Launch> {
            // The weights may have changed since they were located (a run that trains): then they have another folder.
            Launch launch { .folder = spectraFolder(data, subject) };
            RW_TRY(launch.header, launchSpectra({ .subject = subject, .folder = launch.folder }, job, *cancelled));
            return launch;
        },
        this,
        [this, subject](Result<Launch> launch) {
            Computation& mine = m_computations[subject];
            const bool wasCancelled = *mine.launching;
            mine.launching = nullptr;
            if (!launch) {
                const Error& error = launch.error();
                // A worker that ran has words of its own.
                const QString words = error.code == Errc::DataInvalid ? toQString(error.message) : errorSentence(error);
                end(subject, error.code == Errc::Cancelled ? Job::State::Cancelled : Job::State::Failed, words);
                return;
            }
            mine.since = launch->header.started;
            mine.worker = std::move(launch->header);
            mine.held = follow(subject, launch->folder);
            Q_EMIT located(subject, mine.held);
            if (wasCancelled) { // in the moment between
                cancel(subject);
            }
            update(subject);
        });
}

/// Brings the job up to what is in the folder.
void SpectraComputations::update(const QString& subject)
{
    Computation& computation = m_computations[subject];
    const std::shared_ptr<SpectraTail> tail = computation.tail.lock();
    if (computation.launching || !tail || !tail->header() || tail->header()->started < computation.since) {
        return;
    }
    if (!computation.job) {
        const bool elsewhere = std::ranges::any_of(m_computations, [&](const auto& other) {
            return other.second.job && other.second.folder == computation.folder;
        });
        if (!tail->running() || elsewhere || tail->header()->started == computation.ended) {
            return;
        }
        computation.held = tail;
        computation.ours = false;
        announce(subject, computation);
    }
    if (!computation.worker || computation.worker->started != tail->header()->started) {
        computation.worker = tail->header();
    }
    if (!computation.job->stopToken().stop_requested()) {
        m_workspace.jobs().report(*computation.job, tail->progress(),
                                  tr("%1 of %2 exact").arg(tail->exact()).arg(tail->expected()));
    }
    switch (tail->state()) {
    case data::SpectraState::Running:
        return;
    case data::SpectraState::Finished:
        return end(subject, Job::State::Done);
    case data::SpectraState::Stopped:
        return end(subject, Job::State::Cancelled);
    case data::SpectraState::Failed:
    case data::SpectraState::Lost:
        return end(subject, Job::State::Failed, tail->problem());
    }
}

void SpectraComputations::cancel(const QString& subject)
{
    Computation& computation = m_computations[subject];
    if (!computation.job) {
        return;
    }
    m_workspace.jobs().report(*computation.job, computation.job->fraction(), tr("stopping"));
    if (computation.launching) {
        *computation.launching = true;
        return;
    }
    if (!computation.worker) {
        return;
    }
    const data::SpectraHeader header = *computation.worker;
    computation.ended = header.started;
    signalSpectraWorker(header, SIGTERM);
    QTimer::singleShot(kPoliteMs, this, [this, subject, header] {
        signalSpectraWorker(header, SIGKILL); // what it wrote stays whole to the last line
        if (m_computations[subject].ended == header.started) {
            end(subject, Job::State::Cancelled);
        }
    });
}

void SpectraComputations::end(const QString& subject, Job::State state, const QString& failure)
{
    Computation& computation = m_computations[subject];
    if (!computation.job) {
        return;
    }
    Job& job = *computation.job;
    computation.job = nullptr;
    m_workspace.jobs().end(job, state, failure);
    // Not here: the follower may be the one that called.
    QMetaObject::invokeMethod(
        this, [tail = std::move(computation.held)] {}, Qt::QueuedConnection);
    computation.held = nullptr;
    computation.worker.reset();
    if (state == Job::State::Failed) {
        Q_EMIT failed(subject, failure);
    }
    Q_EMIT changed(subject);
}

} // namespace rankwise::bridge
