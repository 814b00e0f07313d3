// The Datasets tab: episodes with what is remarkable about them, and a player whose cameras, curves and arm follow one
// clock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/commands.h"
#include "widgets/bridge/dataset_session.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/workspace.h"
#include "widgets/common/actions.h"
#include "widgets/common/line_chart.h"

#include <QPointer>
#include <QWidget>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

class QHBoxLayout;
class QLabel;
class QPushButton;
class QSlider;
class QStackedWidget;
class QTableView;

namespace rankwise::datasets_view {

class StatisticsPanel;
class ThumbnailDelegate;

class DatasetsView : public QWidget {
    Q_OBJECT

public:
    DatasetsView(bridge::Workspace& workspace, bridge::Settings& settings, common::ActionBinder& actions,
                 QWidget* parent = nullptr);

    [[nodiscard]] bridge::EpisodeModel& episodes() { return *m_model; }
    [[nodiscard]] QTableView& table() { return *m_table; }
    [[nodiscard]] StatisticsPanel& statistics() { return *m_statistics; }
    [[nodiscard]] ThumbnailDelegate& thumbnails() { return *m_thumbnails; }
    [[nodiscard]] common::LineChart& states() { return *m_states; }
    /// Frames of the cameras that were shown so far.
    [[nodiscard]] int framesShown() const { return m_framesShown; }
    void togglePlay();
    /// Records ten episodes of the expert beside the runs, in a process of its own, and opens them.
    void recordSample();

    static void addCommands(bridge::CommandRegistry& commands, bridge::Workspace& workspace, bridge::Settings& settings,
                            std::function<DatasetsView*()> view);
    [[nodiscard]] static QStringList commandIds();

Q_SIGNALS:
    void message(const QString& text);

private:
    void openSelected();
    void showEpisode(qint64 episode);
    void showTime(double seconds);
    void requestFrames(std::int64_t index);
    void makeTiles();
    void judgeNext();

    struct Frames {
        std::int64_t index = -1;
        std::vector<data::ImagePtr> images;
    };
    bridge::Workspace& m_workspace;
    bridge::Settings& m_settings;
    QPointer<bridge::Job> m_opening;
    std::shared_ptr<const bridge::OpenedDataset> m_dataset;
    QString m_shownPath;
    bridge::EpisodeModel* m_model;
    ThumbnailDelegate* m_thumbnails;
    QStackedWidget* m_stack;
    QTableView* m_table;
    QLabel* m_info;
    QLabel* m_emptyText;
    QHBoxLayout* m_tiles;
    std::vector<QLabel*> m_pictures;
    common::LineChart* m_states;
    common::LineChart* m_actions;
    QSlider* m_slider;
    QPushButton* m_play;
    QLabel* m_time;
    StatisticsPanel* m_statistics;
    std::vector<std::vector<double>> m_stateRows;
    qint64 m_episode = -1;
    bool m_decoding = false;
    std::optional<std::int64_t> m_wanted; ///< Frame asked for while another is being decoded.
    int m_framesShown = 0;
    bool m_following = false;
};

} // namespace rankwise::datasets_view
