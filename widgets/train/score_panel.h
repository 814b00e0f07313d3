// Inside one layer: how the scores' energy spreads over the bank and where it is cut, how often each rank occurs, from
// the snapshots of a run; and how the routing is shared, in every layer and by the kind of token, from its digests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/snapshot.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/bar_chart.h"

#include <QPointer>
#include <QWidget>

#include <memory>

class QComboBox;
class QLabel;

namespace rankwise::train_view {

class ScorePanel : public QWidget {
    Q_OBJECT

public:
    explicit ScorePanel(bridge::Workspace& workspace, QWidget* parent = nullptr);

    void setRun(bridge::RunTail* run);
    [[nodiscard]] common::BarChart& scores() { return *m_scores; }
    [[nodiscard]] common::BarChart& routing() { return *m_routing; }
    [[nodiscard]] common::BarChart& kinds() { return *m_kinds; }
    /// Kinds of token, and all of them, for the routing of every layer.
    [[nodiscard]] QComboBox* tokenChoice() const { return m_tokens; }

private:
    void load();
    void fillLayers();
    void showLayer();
    void showRouting();
    void showKinds(const data::DigestColumns* digest);

    bridge::Workspace& m_workspace;
    QPointer<bridge::RunTail> m_run;
    QPointer<bridge::Job> m_job;
    std::shared_ptr<const bridge::Snapshot> m_snapshot;
    std::int64_t m_snapshotStep = -1;
    std::int64_t m_loadingStep = -1;
    common::BarChart* m_scores;
    common::BarChart* m_ranks;
    common::BarChart* m_routing;
    common::BarChart* m_kinds;
    QComboBox* m_layer;
    QComboBox* m_tokens;
    QLabel* m_note;
    std::vector<QString> m_routingPaths;
    bridge::DigestPtr m_shownDigest;
};

} // namespace rankwise::train_view
