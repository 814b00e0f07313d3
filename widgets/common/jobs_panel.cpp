// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/jobs_panel.h"

#include <QApplication>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPushButton>
#include <QStackedLayout>
#include <QStyledItemDelegate>
#include <QTableView>
#include <QVBoxLayout>

namespace rankwise::common {

namespace {

/// A progress bar with the words in it.
class ProgressDelegate : public QStyledItemDelegate {
public:
    using QStyledItemDelegate::QStyledItemDelegate;

    void paint(QPainter* painter, const QStyleOptionViewItem& option, const QModelIndex& index) const override
    {
        QStyleOptionProgressBar bar;
        bar.rect = option.rect.adjusted(2, 2, -2, -2);
        bar.state = option.state | QStyle::State_Horizontal;
        bar.palette = option.palette;
        bar.minimum = 0;
        bar.maximum = 1000;
        bar.progress = static_cast<int>(index.data(bridge::JobsModel::FractionRole).toDouble() * 1000);
        bar.text = index.data().toString();
        bar.textVisible = true;
        bar.textAlignment = Qt::AlignCenter;
        QApplication::style()->drawControl(QStyle::CE_ProgressBar, &bar, painter);
    }
};

} // namespace

JobsPanel::JobsPanel(bridge::JobsModel& model, QWidget* parent)
    : QWidget(parent), m_model(model), m_table(new QTableView), m_pause(new QPushButton(tr("Pause"))),
      m_cancel(new QPushButton(tr("Stop")))
{
    m_table->setModel(&model);
    m_table->setItemDelegateForColumn(bridge::JobsModel::Progress, new ProgressDelegate(m_table));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setSelectionMode(QAbstractItemView::SingleSelection);
    m_table->setShowGrid(false);
    m_table->setWordWrap(false);
    m_table->setAccessibleName(tr("Jobs"));
    m_table->verticalHeader()->hide();
    m_table->verticalHeader()->setDefaultSectionSize(m_table->fontMetrics().height() + 8);
    m_table->horizontalHeader()->setStretchLastSection(true);
    m_table->setColumnWidth(bridge::JobsModel::Title, 220);
    m_table->setColumnWidth(bridge::JobsModel::Progress, 240);
    m_table->setColumnWidth(bridge::JobsModel::Rate, 120);
    m_table->setColumnWidth(bridge::JobsModel::Remaining, 140);
    auto* clear = new QPushButton(tr("Clear finished"));
    auto* buttons = new QVBoxLayout;
    buttons->addWidget(m_pause);
    buttons->addWidget(m_cancel);
    buttons->addWidget(clear);
    buttons->addStretch();
    auto* empty = new QLabel(tr("Nothing runs. Training runs and longer work appear here with their progress."));
    empty->setAlignment(Qt::AlignCenter);
    empty->setProperty("role", QStringLiteral("dim"));
    auto* stack = new QStackedLayout;
    stack->addWidget(empty);
    stack->addWidget(m_table);
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addLayout(stack, 1);
    layout->addLayout(buttons);

    const auto refresh = [this, stack] {
        stack->setCurrentIndex(m_model.rowCount() > 0 ? 1 : 0);
        if (m_model.rowCount() > 0 && !m_table->currentIndex().isValid()) {
            m_table->selectRow(0);
        }
        refreshButtons();
    };
    connect(&model, &QAbstractItemModel::rowsInserted, this, refresh);
    connect(&model, &QAbstractItemModel::rowsRemoved, this, refresh);
    connect(&model, &QAbstractItemModel::dataChanged, this, [this] { refreshButtons(); });
    connect(m_table->selectionModel(), &QItemSelectionModel::currentChanged, this, [this] { refreshButtons(); });
    connect(m_pause, &QPushButton::clicked, this, [this] { m_model.togglePause(m_table->currentIndex().row()); });
    connect(m_cancel, &QPushButton::clicked, this, [this] { m_model.cancel(m_table->currentIndex().row()); });
    connect(clear, &QPushButton::clicked, &model, &bridge::JobsModel::clearFinished);
    refresh();
}

void JobsPanel::refreshButtons()
{
    const QModelIndex index = m_table->currentIndex();
    m_pause->setEnabled(index.data(bridge::JobsModel::CanPauseRole).toBool());
    m_pause->setText(index.data(bridge::JobsModel::PausedRole).toBool() ? tr("Resume") : tr("Pause"));
    m_cancel->setEnabled(index.data(bridge::JobsModel::CanCancelRole).toBool());
}

} // namespace rankwise::common
