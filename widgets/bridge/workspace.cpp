// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/workspace.h"

#include "backend/data/run_directory.h"
#include "widgets/bridge/recognition.h"
#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"

#include <QFileInfo>
#include <QJsonArray>
#include <QTimerEvent>

#include <algorithm>
#include <array>

namespace rankwise::bridge {

namespace {
constexpr std::array kKindNames { "run", "dataset", "checkpoint", "adapter", "other", "spectra", "demo" };
}

QString itemKindName(ItemKind kind)
{
    return QLatin1String(kKindNames.at(static_cast<std::size_t>(kind)));
}

ItemKind itemKindFromName(const QString& name)
{
    for (std::size_t i = 0; i < kKindNames.size(); ++i) {
        if (name == QLatin1String(kKindNames[i])) {
            return static_cast<ItemKind>(i);
        }
    }
    return ItemKind::Other;
}

QString WorkspaceItem::title() const
{
    return QFileInfo(path).fileName();
}

ReplayClock::ReplayClock(QObject* parent) : QObject(parent) { }

void ReplayClock::setDuration(double seconds)
{
    pause();
    m_duration = std::max(0.0, seconds);
    m_seconds = 0;
    Q_EMIT changed(m_seconds);
}

void ReplayClock::seek(double seconds)
{
    m_seconds = std::clamp(seconds, 0.0, m_duration);
    m_from = m_seconds;
    m_watch.restart();
    Q_EMIT changed(m_seconds);
}

void ReplayClock::play()
{
    if (playing() || m_duration <= 0) {
        return;
    }
    m_from = m_seconds >= m_duration ? 0 : m_seconds;
    m_watch.restart();
    m_timer = startTimer(33, Qt::PreciseTimer);
    Q_EMIT playingChanged(true);
}

void ReplayClock::pause()
{
    if (playing()) {
        killTimer(m_timer);
        m_timer = 0;
        Q_EMIT playingChanged(false);
    }
}

void ReplayClock::timerEvent(QTimerEvent* event)
{
    if (event->timerId() != m_timer) {
        return;
    }
    m_seconds = std::min(m_duration, m_from + static_cast<double>(m_watch.elapsed()) / 1000.0);
    Q_EMIT changed(m_seconds);
    if (m_seconds >= m_duration) {
        pause();
    }
}

Workspace::Workspace(QObject* parent) : QObject(parent), m_jobs(new JobRunner(this)), m_clock(new ReplayClock(this)) { }

Workspace::~Workspace()
{
    for (const auto& [path, tail] : m_runs) {
        delete tail;
    }
}

void Workspace::openPath(const QString& path)
{
    const QString absolute = QFileInfo(path).absoluteFilePath();
    m_jobs->start<Recognized>(
        tr("Open %1").arg(QFileInfo(absolute).fileName()),
        [absolute](const JobContext& job) { return recognize(toPath(absolute), job); }, this,
        [this, absolute](Result<Recognized> result) {
            if (!result) {
                Q_EMIT openFailed(absolute, errorSentence(result.error()));
                return;
            }
            addItem({ result->kind, QFileInfo(pathText(result->path)).absoluteFilePath(), toQString(result->detail) });
        });
}

void Workspace::addItem(const WorkspaceItem& item)
{
    const bool known = std::any_of(m_items.begin(), m_items.end(), [&](const auto& i) { return i.path == item.path; });
    if (!known) {
        m_items.push_back(item);
        if (item.kind == ItemKind::Run) {
            m_runs.emplace(item.path, new RunTail(item.path));
        }
        Q_EMIT itemAdded(item);
    }
    if (item.kind == ItemKind::Run) {
        selectRun(item.path);
    } else if (item.kind == ItemKind::Dataset) {
        selectDataset(item.path);
    } else if (item.kind == ItemKind::Demo) {
        selectDemo(item.path);
    }
    Q_EMIT changed();
}

void Workspace::closeItem(const QString& path)
{
    const auto found = std::find_if(m_items.begin(), m_items.end(), [&](const auto& i) { return i.path == path; });
    if (found == m_items.end()) {
        return;
    }
    m_items.erase(found);
    if (m_selection.run == path) {
        const QVector<RunTail*> others = runs();
        QString next;
        for (const RunTail* tail : others) {
            next = tail->path() == path ? next : tail->path();
        }
        selectRun(next);
    }
    if (m_selection.dataset == path) {
        selectDataset({});
    }
    if (m_selection.demo == path) {
        selectDemo({});
    }
    Q_EMIT itemClosed(path);
    if (const auto tail = m_runs.find(path); tail != m_runs.end()) {
        tail->second->deleteLater();
        m_runs.erase(tail);
    }
    Q_EMIT changed();
}

void Workspace::closeAll()
{
    const QVector<WorkspaceItem> items = m_items;
    for (const WorkspaceItem& item : items) {
        closeItem(item.path);
    }
    selectLayers({});
    selectSpectra({}, {});
}

RunTail* Workspace::run(const QString& path) const
{
    const auto found = m_runs.find(path);
    return found == m_runs.end() ? nullptr : found->second;
}

QVector<RunTail*> Workspace::runs() const
{
    QVector<RunTail*> all;
    for (const WorkspaceItem& item : m_items) {
        if (RunTail* tail = run(item.path)) {
            all.push_back(tail);
        }
    }
    return all;
}

void Workspace::selectRun(const QString& path)
{
    if (m_selection.run != path) {
        m_selection.run = path;
        m_selection.step = -1;
        Q_EMIT runSelected(path);
        Q_EMIT changed();
    }
}

void Workspace::selectLayer(const QString& layer)
{
    selectLayers(layer.isEmpty() ? QStringList() : QStringList { layer });
}

void Workspace::selectLayers(const QStringList& layers)
{
    if (m_selection.layers == layers) {
        return;
    }
    const QString first = layers.value(0);
    const bool moved = m_selection.layer != first;
    m_selection.layers = layers;
    m_selection.layer = first;
    if (moved) {
        Q_EMIT layerSelected(first);
    }
    Q_EMIT layersSelected(layers);
    Q_EMIT changed();
}

void Workspace::selectStep(qint64 step)
{
    if (m_selection.step != step) {
        m_selection.step = step;
        Q_EMIT stepSelected(step);
        Q_EMIT changed();
    }
}

void Workspace::selectSpectra(const QString& subject, const QString& beside)
{
    if (m_selection.spectra != subject || m_selection.spectraBeside != beside) {
        m_selection.spectra = subject;
        m_selection.spectraBeside = beside;
        Q_EMIT spectraSelected(subject, beside);
        Q_EMIT changed();
    }
}

void Workspace::selectDataset(const QString& path)
{
    if (m_selection.dataset != path) {
        m_selection.dataset = path;
        m_selection.episode = -1;
        Q_EMIT datasetSelected(path);
        Q_EMIT changed();
    }
}

void Workspace::selectDemo(const QString& path)
{
    if (m_selection.demo != path) {
        m_selection.demo = path;
        Q_EMIT demoSelected(path);
        Q_EMIT changed();
    }
}

void Workspace::selectEpisode(qint64 episode)
{
    if (m_selection.episode != episode) {
        m_selection.episode = episode;
        Q_EMIT episodeSelected(episode);
        Q_EMIT changed();
    }
}

QJsonObject Workspace::save() const
{
    QJsonArray items;
    for (const WorkspaceItem& item : m_items) {
        items.append(QJsonObject { { QStringLiteral("kind"), itemKindName(item.kind) },
                                   { QStringLiteral("path"), item.path },
                                   { QStringLiteral("detail"), item.detail } });
    }
    return { { QStringLiteral("items"), items },
             { QStringLiteral("run"), m_selection.run },
             { QStringLiteral("layer"), m_selection.layer },
             { QStringLiteral("layers"), QJsonArray::fromStringList(m_selection.layers) },
             { QStringLiteral("step"), m_selection.step },
             { QStringLiteral("dataset"), m_selection.dataset },
             { QStringLiteral("episode"), m_selection.episode },
             { QStringLiteral("spectra"), m_selection.spectra },
             { QStringLiteral("spectra_beside"), m_selection.spectraBeside },
             { QStringLiteral("demo"), m_selection.demo } };
}

void Workspace::restore(const QJsonObject& saved)
{
    const QJsonArray items = saved.value(QStringLiteral("items")).toArray();
    for (const QJsonValue& value : items) {
        const QJsonObject item = value.toObject();
        const QString path = item.value(QStringLiteral("path")).toString();
        if (!path.isEmpty()) {
            addItem({ itemKindFromName(item.value(QStringLiteral("kind")).toString()), path,
                      item.value(QStringLiteral("detail")).toString() });
        }
    }
    Selection selection;
    const auto text = [&](const char* key) { return saved.value(QLatin1String(key)).toString(); };
    selection.run = text("run");
    selection.layer = text("layer");
    const QJsonArray layers = saved.value(QStringLiteral("layers")).toArray();
    for (const QJsonValue& layer : layers) {
        selection.layers << layer.toString();
    }
    selection.step = saved.value(QStringLiteral("step")).toInteger(-1);
    selection.spectra = text("spectra");
    selection.spectraBeside = text("spectra_beside");
    selection.dataset = text("dataset");
    selection.demo = text("demo");
    selection.episode = saved.value(QStringLiteral("episode")).toInteger(-1);
    select(selection);
}

void Workspace::select(const Selection& selection)
{
    if (m_runs.contains(selection.run)) {
        selectRun(selection.run);
    }
    if (selection.layers.isEmpty()) {
        selectLayer(selection.layer);
    } else {
        selectLayers(selection.layers);
    }
    selectStep(selection.step);
    selectSpectra(selection.spectra, selection.spectraBeside);
    const auto open = [this](const QString& path) {
        return std::any_of(m_items.begin(), m_items.end(), [&](const auto& i) { return i.path == path; });
    };
    if (open(selection.dataset)) {
        selectDataset(selection.dataset);
        selectEpisode(selection.episode);
    }
    if (open(selection.demo)) {
        selectDemo(selection.demo);
    }
}

} // namespace rankwise::bridge
