// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/spectra_subject.h"

#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/snapshot.h"
#include "widgets/bridge/spectra_worker.h"
#include "widgets/bridge/text.h"

#include <algorithm>

namespace rankwise::spectra_view {

using bridge::SpectraSetPtr;

SpectraSubject::SpectraSubject(bridge::Workspace& workspace, bridge::SpectraComputations& computations, QObject* parent)
    : QObject(parent), m_workspace(workspace), m_computations(computations)
{
    connect(&computations, &bridge::SpectraComputations::located, this,
            [this](const QString& path, const std::shared_ptr<bridge::SpectraTail>& tail) {
                if (path == m_path) {
                    follow(tail);
                }
            });
}

void SpectraSubject::setPath(const QString& path)
{
    if (m_path == path) {
        return;
    }
    if (const bridge::RunTail* run = m_workspace.run(m_path)) {
        disconnect(run, nullptr, this, nullptr);
    }
    follow(nullptr);
    m_scores = m_made = nullptr;
    m_madeFrom = {};
    m_scoresStep = m_loadingStep = -1;
    m_path = path;
    const auto& items = m_workspace.items();
    const auto item = std::ranges::find(items, path, &bridge::WorkspaceItem::path);
    m_kind = item == items.end() ? bridge::ItemKind::Other : item->kind;
    if (path.isEmpty() || item == items.end()) {
        return;
    }
    m_computations.locate(path);
    if (const bridge::RunTail* run = m_workspace.run(path)) {
        connect(run, &bridge::RunTail::snapshotsChanged, this, [this] {
            loadScores();
            Q_EMIT snapshotsChanged();
        });
        loadScores();
    }
}

void SpectraSubject::follow(const std::shared_ptr<bridge::SpectraTail>& tail)
{
    if (m_tail == tail) {
        return;
    }
    if (m_tail) {
        disconnect(m_tail.get(), nullptr, this, nullptr);
    }
    m_tail = tail;
    if (m_tail) {
        connect(m_tail.get(), &bridge::SpectraTail::updated, this, &SpectraSubject::changed);
        Q_EMIT changed();
    }
}

const SpectraSubject::Snapshots* SpectraSubject::snapshots() const
{
    const bridge::RunTail* run = m_workspace.run(m_path);
    return run == nullptr || run->record().snapshots.empty() ? nullptr : &run->record().snapshots;
}

void SpectraSubject::loadScores()
{
    const Snapshots* files = snapshots();
    if (files == nullptr) {
        return;
    }
    const bridge::RunTail* run = m_workspace.run(m_path);
    const qint64 step = m_workspace.selection().step;
    auto chosen = std::prev(files->end());
    if (step >= 0) {
        const auto after = files->upper_bound(step);
        chosen = after == files->begin() ? files->begin() : std::prev(after);
    }
    if (chosen->first == m_scoresStep || chosen->first == m_loadingStep) {
        return;
    }
    m_loadingStep = chosen->first;
    m_workspace.jobs().start<SpectraSetPtr>(
        QString(),
        [file = chosen->second, layers = run->record().layers(),
         title = run->title()](const JobContext& job) -> Result<SpectraSetPtr> {
            RW_TRY(const bridge::Snapshot snapshot, bridge::readSnapshot(file, job));
            return bridge::spectraOfSnapshot(title, snapshot, layers);
        },
        this,
        [this, path = m_path, at = chosen->first](Result<SpectraSetPtr> set) {
            if (m_path != path || m_loadingStep != at) {
                return;
            }
            m_loadingStep = -1;
            if (set) {
                m_scores = *set;
                m_scoresStep = at;
            } else {
                Q_EMIT message(bridge::errorSentence(set.error()));
            }
            Q_EMIT changed();
        });
}

SpectraSetPtr SpectraSubject::set()
{
    if (m_path.isEmpty()) {
        return nullptr;
    }
    const SpectraSetPtr computed = m_tail ? m_tail->set() : nullptr;
    if (!m_made || m_madeFrom != std::pair(computed, m_scores)) {
        const SpectraSetPtr both = bridge::joined(computed, m_scores);
        auto named = both ? std::make_shared<bridge::SpectraSet>(*both) : std::make_shared<bridge::SpectraSet>();
        named->title = bridge::subjectName(m_path);
        m_made = std::move(named);
        m_madeFrom = { computed, m_scores };
    }
    return m_made;
}

bool SpectraSubject::settled() const
{
    return m_path.isEmpty()
        || (m_tail && m_tail->state() == data::SpectraState::Finished && m_tail->exact() == m_tail->expected()
            && m_tail->expected() > 0);
}

} // namespace rankwise::spectra_view
