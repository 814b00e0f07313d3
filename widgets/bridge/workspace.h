// What is open and what is selected, shared by every view: views meet here and nowhere else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/job_runner.h"

#include <QJsonObject>
#include <QObject>
#include <QString>
#include <QStringList>
#include <QVector>

#include <map>
#include <memory>

namespace rankwise::bridge {

class RunTail;

/// Kinds of things that can be opened. Names in sessions: stable.
enum class ItemKind { Run, Dataset, Checkpoint, Adapter, Other, Spectra, Demo };
[[nodiscard]] QString itemKindName(ItemKind kind);
[[nodiscard]] ItemKind itemKindFromName(const QString& name);

/// One open thing. The path is absolute and names it.
struct WorkspaceItem {
    ItemKind kind = ItemKind::Other;
    QString path;
    QString detail; ///< One line: what it is.

    [[nodiscard]] QString title() const;
};

/// The common selection. Empty or negative: nothing of that kind.
struct Selection {
    QString run;
    QString layer;      ///< Module path of the linear layer that is looked at.
    QStringList layers; ///< All selected ones; `layer` is the first.
    qint64 step = -1;
    QString dataset;
    qint64 episode = -1;
    QString spectra;       ///< Path of the item whose spectra are shown,
    QString spectraBeside; ///< and of the one beside it.
    QString demo;
};

/// The time that everything which replays an episode shows, in seconds from its start.
class ReplayClock : public QObject {
    Q_OBJECT

public:
    explicit ReplayClock(QObject* parent = nullptr);

    [[nodiscard]] double seconds() const { return m_seconds; }
    [[nodiscard]] double duration() const { return m_duration; }
    [[nodiscard]] bool playing() const { return m_timer != 0; }

    void setDuration(double seconds); ///< Stops and goes back to 0.
    void seek(double seconds);
    void play();
    void pause();

Q_SIGNALS:
    void changed(double seconds);
    void playingChanged(bool playing);

protected:
    void timerEvent(QTimerEvent* event) override;

private:
    double m_seconds = 0;
    double m_duration = 0;
    int m_timer = 0;
    QElapsedTimer m_watch;
    double m_from = 0;
};

/// Thread: GUI.
class Workspace : public QObject {
    Q_OBJECT

public:
    explicit Workspace(QObject* parent = nullptr);
    ~Workspace() override;

    [[nodiscard]] JobRunner& jobs() { return *m_jobs; }
    [[nodiscard]] ReplayClock& clock() { return *m_clock; }
    [[nodiscard]] const QVector<WorkspaceItem>& items() const { return m_items; }
    [[nodiscard]] const Selection& selection() const { return m_selection; }

    /// Finds out what `path` is (in a job) and opens it. openFailed() follows when it is nothing known.
    void openPath(const QString& path);
    /// Adds an item of known kind, or moves to it when it is open already.
    void addItem(const WorkspaceItem& item);
    void closeItem(const QString& path);
    void closeAll();

    /// The follower of an open run; nullptr when `path` is no open run. Owned here.
    [[nodiscard]] RunTail* run(const QString& path) const;
    [[nodiscard]] RunTail* currentRun() const { return run(m_selection.run); }
    [[nodiscard]] QVector<RunTail*> runs() const;

    /// All of a selection at once; what is not open is left out.
    void select(const Selection& selection);
    void selectRun(const QString& path);
    void selectLayer(const QString& layer);
    /// Several at once, e.g. a brushed region. layerSelected() follows too when the first one changes.
    void selectLayers(const QStringList& layers);
    void selectStep(qint64 step);
    void selectSpectra(const QString& subject, const QString& beside);
    void selectDataset(const QString& path);
    void selectDemo(const QString& path);
    void selectEpisode(qint64 episode);
    /// Tells whoever shows an arm the state of the replayed episode now: six joints (rad) and the opening (m).
    void replayState(const QVector<double>& state) { Q_EMIT stateReplayed(state); }

    /// Open items and selection, for sessions.
    [[nodiscard]] QJsonObject save() const;
    void restore(const QJsonObject& saved);

Q_SIGNALS:
    void itemAdded(const rankwise::bridge::WorkspaceItem& item);
    void itemClosed(const QString& path);
    void openFailed(const QString& path, const QString& reason);
    void runSelected(const QString& path);
    void layerSelected(const QString& layer);
    void layersSelected(const QStringList& layers); ///< After every change, also of one layer.
    void stepSelected(qint64 step);
    void datasetSelected(const QString& path);
    void demoSelected(const QString& path);
    void episodeSelected(qint64 episode);
    void spectraSelected(const QString& subject, const QString& beside);
    void stateReplayed(const QVector<double>& state);
    void changed(); ///< Anything that a session stores.

private:
    JobRunner* m_jobs;
    ReplayClock* m_clock;
    QVector<WorkspaceItem> m_items;
    std::map<QString, RunTail*> m_runs;
    Selection m_selection;
};

} // namespace rankwise::bridge
