// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/jobs_panel.h"

#include <QApplication>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QKeyEvent>
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
        // On one line: a progress bar of the style would break a long text.
        bar.text = option.fontMetrics.elidedText(index.data().toString(), Qt::ElideRight, bar.rect.width() - 8);
        bar.textVisible = true;
        bar.textAlignment = Qt::AlignCenter;
        QApplication::style()->drawControl(QStyle::CE_ProgressBar, &bar, painter);
    }
};

} // namespace

JobsPanel::JobsPanel(bridge::JobsModel& model, QWidget* parent)
    : QWidget(parent), m_model(model), m_table(new QTableView), m_pause(new QPushButton(tr("Pause"))),
      m_cancel(new QPushButton(tr("Stop"))), m_log(new QPushButton(tr("Log lines")))
{
    m_table->setModel(&model);
    m_table->setItemDelegateForColumn(bridge::JobsModel::Progress, new ProgressDelegate(m_table));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setSelectionMode(QAbstractItemView::SingleSelection);
    m_table->setShowGrid(false);
    m_table->setWordWrap(false);
    m_table->setTabKeyNavigation(false); // Tab goes on to the buttons; arrows go through the rows.
    m_table->installEventFilter(this);
    m_table->setAccessibleName(tr("Jobs"));
    m_table->verticalHeader()->hide();
    m_table->verticalHeader()->setDefaultSectionSize(m_table->fontMetrics().height() + 8);
    m_table->horizontalHeader()->setStretchLastSection(true);
    m_table->setColumnWidth(bridge::JobsModel::Title, 220);
    m_table->setColumnWidth(bridge::JobsModel::Progress, 180);
    m_table->setColumnWidth(bridge::JobsModel::Rate, 100);
    m_table->setColumnWidth(bridge::JobsModel::Remaining, 130);
    m_log->setToolTip(tr("What was logged while the selected job ran"));
    auto* clear = new QPushButton(tr("Clear finished"));
    auto* buttons = new QVBoxLayout;
    buttons->addWidget(m_pause);
    buttons->addWidget(m_cancel);
    buttons->addWidget(m_log);
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
    connect(m_pause, &QPushButton::clicked, this, &JobsPanel::pauseCurrent);
    connect(m_cancel, &QPushButton::clicked, this, &JobsPanel::stopCurrent);
    connect(m_log, &QPushButton::clicked, this, &JobsPanel::showLogOfCurrent);
    connect(clear, &QPushButton::clicked, &model, &bridge::JobsModel::clearFinished);
    refresh();
}

void JobsPanel::stopCurrent()
{
    m_model.cancel(m_table->currentIndex().row());
}

void JobsPanel::pauseCurrent()
{
    m_model.togglePause(m_table->currentIndex().row());
}

void JobsPanel::showLogOfCurrent()
{
    const QModelIndex index = m_table->currentIndex();
    if (index.isValid()) {
        Q_EMIT logAsked(index.siblingAtColumn(bridge::JobsModel::Title).data().toString(),
                        index.data(bridge::JobsModel::BeganRole).toDouble(),
                        index.data(bridge::JobsModel::EndedRole).toDouble());
    }
}

bool JobsPanel::eventFilter(QObject* object, QEvent* event)
{
    if (object == m_table && event->type() == QEvent::KeyPress) {
        switch (static_cast<QKeyEvent*>(event)->key()) {
        case Qt::Key_Delete:
            stopCurrent();
            return true;
        case Qt::Key_Return:
        case Qt::Key_Enter:
            showLogOfCurrent();
            return true;
        default:
            break;
        }
    }
    return QWidget::eventFilter(object, event);
}

void JobsPanel::refreshButtons()
{
    const QModelIndex index = m_table->currentIndex();
    const QString title = index.siblingAtColumn(bridge::JobsModel::Title).data().toString();
    m_pause->setEnabled(index.data(bridge::JobsModel::CanPauseRole).toBool());
    m_pause->setText(index.data(bridge::JobsModel::PausedRole).toBool() ? tr("Resume") : tr("Pause"));
    m_pause->setAccessibleName(tr("%1: %2").arg(m_pause->text(), title));
    m_cancel->setEnabled(index.data(bridge::JobsModel::CanCancelRole).toBool());
    m_cancel->setAccessibleName(tr("Stop: %1").arg(title));
    m_log->setEnabled(index.isValid() && index.data(bridge::JobsModel::BeganRole).toDouble() > 0);
    m_log->setAccessibleName(tr("Log lines: %1").arg(title));
}

} // namespace rankwise::common
