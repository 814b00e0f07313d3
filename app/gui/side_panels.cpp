// SPDX-License-Identifier: Apache-2.0
#include "app/gui/side_panels.h"

#include "widgets/bridge/run_tail.h"
#include "widgets/bridge/text.h"

#include <nlohmann/json.hpp>

#include <QApplication>
#include <QClipboard>
#include <QHeaderView>
#include <QKeyEvent>
#include <QMenu>
#include <QTimer>

#include <array>

namespace rankwise::gui {

using bridge::ItemKind;
using bridge::numberText;
using bridge::toQString;

namespace {

QTreeWidgetItem* addRow(QTreeWidgetItem* parent, const QString& name, const QString& value)
{
    auto* item = new QTreeWidgetItem(parent, { name, bridge::shownPath(value) });
    item->setToolTip(0, name);
    item->setToolTip(1, value);
    return item;
}

void addJson(QTreeWidgetItem* parent, const Json& value)
{
    for (const auto& [key, item] : value.items()) {
        if (item.is_object()) {
            auto* group = addRow(parent, toQString(key), QString());
            addJson(group, item);
        } else {
            addRow(parent, toQString(key),
                   item.is_string() ? toQString(item.get<std::string>()) : toQString(item.dump()));
        }
    }
}

} // namespace

WorkspaceTree::WorkspaceTree(bridge::Workspace& workspace, QWidget* parent)
    : QTreeWidget(parent), m_workspace(workspace)
{
    setHeaderHidden(true);
    setAccessibleName(tr("Open items"));
    setContextMenuPolicy(Qt::CustomContextMenu);
    setTextElideMode(Qt::ElideMiddle);
    const std::array titles { tr("Runs"),  tr("Datasets"), tr("Checkpoints"), tr("Adapters"),
                              tr("Other"), tr("Spectra"),  tr("Demos") };
    for (std::size_t i = 0; i < titles.size(); ++i) {
        m_groups[i] = new QTreeWidgetItem(this, { titles[i] });
        m_groups[i]->setExpanded(true);
        m_groups[i]->setHidden(true);
        m_groups[i]->setFlags(Qt::ItemIsEnabled);
    }
    for (const bridge::WorkspaceItem& item : workspace.items()) {
        add(item);
    }
    connect(&workspace, &bridge::Workspace::itemAdded, this, &WorkspaceTree::add);
    connect(&workspace, &bridge::Workspace::itemClosed, this, &WorkspaceTree::remove);
    connect(&workspace, &bridge::Workspace::runSelected, this, &WorkspaceTree::markCurrent);
    connect(&workspace, &bridge::Workspace::datasetSelected, this, &WorkspaceTree::markCurrent);
    connect(&workspace, &bridge::Workspace::spectraSelected, this, &WorkspaceTree::markCurrent);
    connect(this, &QTreeWidget::itemClicked, this, &WorkspaceTree::pick);
    connect(this, &QWidget::customContextMenuRequested, this, &WorkspaceTree::showMenu);
}

void WorkspaceTree::pick(const QTreeWidgetItem* item)
{
    const QString path = item != nullptr ? item->data(0, Qt::UserRole).toString() : QString();
    if (path.isEmpty()) {
        return;
    }
    const auto kind = static_cast<ItemKind>(item->data(0, Qt::UserRole + 1).toInt());
    if (kind == ItemKind::Run) {
        m_workspace.selectRun(path);
    } else if (kind == ItemKind::Dataset) {
        m_workspace.selectDataset(path);
    } else if (kind == ItemKind::Demo) {
        m_workspace.selectDemo(path);
    } else if (kind != ItemKind::Other) {
        m_workspace.selectSpectra(path, m_workspace.selection().spectraBeside);
    }
    Q_EMIT picked(kind);
}

void WorkspaceTree::keyPressEvent(QKeyEvent* event)
{
    const QTreeWidgetItem* item = currentItem();
    const QString path = item != nullptr ? item->data(0, Qt::UserRole).toString() : QString();
    if (!path.isEmpty() && event->key() == Qt::Key_Delete) {
        Q_EMIT closeAsked(path);
    } else if (!path.isEmpty() && (event->key() == Qt::Key_Return || event->key() == Qt::Key_Enter)) {
        pick(item);
    } else {
        QTreeWidget::keyPressEvent(event);
    }
}

void WorkspaceTree::add(const bridge::WorkspaceItem& item)
{
    QTreeWidgetItem* group = m_groups[static_cast<std::size_t>(item.kind)];
    auto* row = new QTreeWidgetItem(group, { item.title() });
    row->setData(0, Qt::UserRole, item.path);
    row->setData(0, Qt::UserRole + 1, static_cast<int>(item.kind));
    row->setToolTip(0, item.path + QLatin1Char('\n') + item.detail);
    group->setHidden(false);
    markCurrent();
}

void WorkspaceTree::remove(const QString& path)
{
    for (QTreeWidgetItem* group : m_groups) {
        for (int i = group->childCount() - 1; i >= 0; --i) {
            if (group->child(i)->data(0, Qt::UserRole).toString() == path) {
                delete group->takeChild(i);
            }
        }
        group->setHidden(group->childCount() == 0);
    }
}

void WorkspaceTree::markCurrent()
{
    for (QTreeWidgetItem* group : m_groups) {
        for (int i = 0; i < group->childCount(); ++i) {
            const QString path = group->child(i)->data(0, Qt::UserRole).toString();
            QFont font = group->child(i)->font(0);
            font.setBold(path == m_workspace.selection().run || path == m_workspace.selection().dataset
                         || path == m_workspace.selection().spectra);
            group->child(i)->setFont(0, font);
        }
    }
}

void WorkspaceTree::showMenu(const QPoint& at)
{
    const QTreeWidgetItem* item = itemAt(at);
    const QString path = item != nullptr ? item->data(0, Qt::UserRole).toString() : QString();
    if (path.isEmpty()) {
        return;
    }
    auto* menu = new QMenu(this);
    menu->setAttribute(Qt::WA_DeleteOnClose);
    menu->addAction(tr("Copy path"), this, [path] { QApplication::clipboard()->setText(path); });
    menu->addAction(tr("Copy as command"), this, [path] {
        QApplication::clipboard()->setText(
            bridge::shellLine({ QStringLiteral("rankwise"), QStringLiteral("inspect"), path }));
    });
    menu->addSeparator();
    menu->addAction(tr("Close"), this, [this, path] { Q_EMIT closeAsked(path); });
    menu->popup(viewport()->mapToGlobal(at));
}

Inspector::Inspector(bridge::Workspace& workspace, QWidget* parent) : QTreeWidget(parent), m_workspace(workspace)
{
    setColumnCount(2);
    setHeaderLabels({ tr("Property"), tr("Value") });
    setAccessibleName(tr("Inspector"));
    setAlternatingRowColors(true);
    setTextElideMode(Qt::ElideMiddle);
    setIndentation(12);
    header()->setSectionResizeMode(0, QHeaderView::Interactive);
    header()->resizeSection(0, 110);
    connect(&workspace, &bridge::Workspace::changed, this, &Inspector::scheduleRefill);
    scheduleRefill();
}

void Inspector::scheduleRefill()
{
    if (!m_scheduled) {
        m_scheduled = true;
        QTimer::singleShot(60, this, &Inspector::refill);
    }
}

void Inspector::refill()
{
    m_scheduled = false;
    const QString run = m_workspace.selection().run;
    if (run != m_followed) {
        m_followed = run;
        if (const bridge::RunTail* tail = m_workspace.currentRun()) {
            connect(tail, &bridge::RunTail::statusChanged, this, &Inspector::scheduleRefill);
            connect(tail, &bridge::RunTail::updated, this, &Inspector::scheduleRefill);
        }
    }
    // What is folded stays folded, by the path of its names.
    QStringList folded;
    const std::function<void(QTreeWidgetItem*, const QString&)> note = [&](QTreeWidgetItem* item, const QString& path) {
        const QString own = path + QLatin1Char('/') + item->text(0);
        if (item->childCount() > 0 && !item->isExpanded()) {
            folded << own;
        }
        for (int i = 0; i < item->childCount(); ++i) {
            note(item->child(i), own);
        }
    };
    for (int i = 0; i < topLevelItemCount(); ++i) {
        note(topLevelItem(i), QString());
    }
    const bool first = topLevelItemCount() == 0;
    clear();
    if (const bridge::RunTail* tail = m_workspace.currentRun()) {
        addLayer(*tail);
        addRun(*tail);
    }
    for (const bridge::WorkspaceItem& item : m_workspace.items()) {
        if (item.path == m_workspace.selection().spectra && item.kind != ItemKind::Run) {
            auto* group = new QTreeWidgetItem(this, { tr("Spectra of"), item.title() });
            addRow(group, tr("path"), item.path);
            addRow(group, tr("contents"), item.detail);
            const QStringList& layers = m_workspace.selection().layers;
            if (!layers.isEmpty()) {
                addRow(group, tr("layer"), layers.first());
            }
            if (layers.size() > 1) {
                addRow(group, tr("selected layers"), QString::number(layers.size()));
            }
        }
        if (item.path == m_workspace.selection().dataset) {
            auto* group = new QTreeWidgetItem(this, { tr("Dataset"), item.title() });
            addRow(group, tr("path"), item.path);
            addRow(group, tr("contents"), item.detail);
            if (m_workspace.selection().episode >= 0) {
                addRow(group, tr("episode"), QString::number(m_workspace.selection().episode));
            }
        }
    }
    if (topLevelItemCount() == 0) {
        auto* item = new QTreeWidgetItem(this, { tr("Nothing is selected") });
        item->setFirstColumnSpanned(true);
        return;
    }
    const std::function<void(QTreeWidgetItem*, const QString&)> unfold = [&](QTreeWidgetItem* item,
                                                                             const QString& path) {
        const QString own = path + QLatin1Char('/') + item->text(0);
        item->setExpanded(!folded.contains(own) && !(first && path.count(QLatin1Char('/')) > 0));
        for (int i = 0; i < item->childCount(); ++i) {
            unfold(item->child(i), own);
        }
    };
    for (int i = 0; i < topLevelItemCount(); ++i) {
        unfold(topLevelItem(i), QString());
    }
}

void Inspector::addLayer(const bridge::RunTail& run)
{
    const QString path = m_workspace.selection().layer;
    const bridge::DigestPtr digest = run.record().digestAt(m_workspace.selection().step);
    if (path.isEmpty() || !digest) {
        return;
    }
    const bridge::LayerTable& layers = run.record().layersOf(*digest);
    for (std::size_t i = 0; i < layers.size(); ++i) {
        if (toQString(layers[i].path) != path) {
            continue;
        }
        auto* group = new QTreeWidgetItem(this, { tr("Layer"), bridge::shortLayerName(layers[i].path) });
        addRow(group, tr("module"), path);
        addRow(group, tr("part"), bridge::groupName(layers[i].group));
        if (layers[i].depth >= 0) {
            addRow(group, tr("depth"), QString::number(layers[i].depth));
        }
        addRow(group, tr("capacity"), QString::number(layers[i].capacity));
        addRow(group, tr("at step"), QString::number(digest->step));
        if (i < digest->rank.size()) {
            addRow(group, tr("active rank"), numberText(digest->rank[i]));
        }
        const bridge::DigestPtr start = run.record().firstDigest();
        if (start && i < start->rank.size()) {
            addRow(group, tr("at step %1").arg(start->step), numberText(start->rank[i]));
        }
        if (i < digest->energy.size()) {
            addRow(group, tr("kept energy"), numberText(digest->energy[i]));
        }
        if (i < digest->tokens.size()) {
            addRow(group, tr("tokens"), QString::number(digest->tokens[i]));
        }
    }
}

void Inspector::addRun(const bridge::RunTail& run)
{
    const bridge::RunRecord& record = run.record();
    auto* group = new QTreeWidgetItem(this, { tr("Run"), run.title() });
    addRow(group, tr("path"), run.path());
    addRow(group, tr("state"), run.stateText());
    if (record.status) {
        addRow(group, tr("step"), tr("%1 of %2").arg(record.status->step).arg(record.status->total));
        addRow(group, tr("worker"), tr("pid %1 on %2").arg(record.status->pid).arg(toQString(record.status->host)));
        if (record.status->error) {
            addRow(group, tr("error"), toQString(record.status->error->describe()));
        }
    }
    addRow(group, tr("layers"), QString::number(record.layers().size()));
    addRow(group, tr("digests"), QString::number(record.digests.size()));
    addRow(group, tr("snapshots"), QString::number(record.snapshots.size()));
    addRow(group, tr("checkpoints"), QString::number(record.checkpoints.size()));
    if (record.skippedLines > 0) {
        addRow(group, tr("unreadable lines"), QString::number(record.skippedLines));
    }
    if (record.tornBytes > 0) {
        addRow(group, tr("torn end"), tr("%1 bytes").arg(record.tornBytes));
    }
    if (record.run) {
        for (const char* key : { "method", "trained", "hashes", "versions", "config" }) {
            if (const auto found = record.run->find(key); found != record.run->end() && found->is_object()) {
                auto* part = addRow(group, QLatin1String(key), QString());
                addJson(part, *found);
            }
        }
    }
}

} // namespace rankwise::gui
