// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/canvas_frame.h"

#include "widgets/bridge/column_model.h"
#include "widgets/bridge/text.h"
#include "widgets/common/export.h"
#include "widgets/common/theme.h"

#include <QAbstractItemModel>
#include <QApplication>
#include <QClipboard>
#include <QContextMenuEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QMenu>
#include <QPainter>
#include <QStackedWidget>
#include <QTableView>
#include <QToolButton>

#include <algorithm>

namespace rankwise::common {

CanvasFrame::CanvasFrame(const QString& title, QAbstractItemModel* table, QWidget* parent)
    : QWidget(parent), m_title(new QLabel(title)), m_tools(new QHBoxLayout), m_tableButton(new QToolButton),
      m_stack(new QStackedWidget), m_table(table)
{
    m_title->setProperty("role", QStringLiteral("heading"));
    m_title->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    m_title->setMinimumWidth(60);
    m_tableButton->setText(tr("Table"));
    m_tableButton->setCheckable(true);
    m_tableButton->setAutoRaise(true);
    m_tableButton->setToolTip(tr("Show the numbers of this picture as a table"));
    m_tableButton->setAccessibleName(tr("%1: show as table").arg(title));
    connect(m_tableButton, &QToolButton::toggled, this, &CanvasFrame::showTable);
    auto* save = new QToolButton;
    save->setText(tr("Export"));
    save->setAutoRaise(true);
    save->setToolTip(tr("Save as SVG, PDF, PNG or CSV"));
    save->setAccessibleName(tr("%1: export").arg(title));
    connect(save, &QToolButton::clicked, this, &CanvasFrame::exportWithDialog);

    m_tools->setContentsMargins(6, 2, 2, 0);
    m_tools->setSpacing(4);
    m_tools->addWidget(m_title, 1);
    m_tools->addWidget(m_tableButton);
    m_tools->addWidget(save);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(2);
    layout->addLayout(m_tools);
    layout->addWidget(m_stack, 1);
    setAccessibleName(title);
    setMinimumSize(160, 110);
}

QString CanvasFrame::title() const
{
    return m_title->text();
}

void CanvasFrame::setTitle(const QString& title)
{
    m_title->setText(title);
    m_title->setToolTip((QStringList { title } + m_usage).join(QLatin1Char('\n')));
    setAccessibleName(title);
}

void CanvasFrame::setUsage(const QStringList& lines)
{
    m_usage = lines;
    setTitle(title());
}

bool CanvasFrame::tableShown() const
{
    return m_view != nullptr && m_stack->currentWidget() == m_view;
}

void CanvasFrame::showTable(bool on)
{
    if (on && m_view == nullptr) {
        m_view = new QTableView;
        m_view->setModel(m_table);
        m_view->setAlternatingRowColors(true);
        m_view->setSelectionBehavior(QAbstractItemView::SelectRows);
        m_view->horizontalHeader()->setStretchLastSection(true);
        m_view->horizontalHeader()->setDefaultSectionSize(120);
        m_view->verticalHeader()->setDefaultSectionSize(m_view->fontMetrics().height() + 6);
        m_view->setAccessibleName(tr("Numbers of %1").arg(title()));
        connect(m_view, &QTableView::activated, this,
                [this](const QModelIndex& index) { Q_EMIT rowActivated(index.row()); });
        connect(m_view, &QTableView::clicked, this,
                [this](const QModelIndex& index) { Q_EMIT rowActivated(index.row()); });
        m_stack->addWidget(m_view);
    }
    if (on) {
        m_stack->setCurrentWidget(m_view);
    } else if (m_canvas != nullptr) {
        m_stack->setCurrentWidget(m_canvas);
    }
    m_tableButton->setChecked(on);
}

void CanvasFrame::setCanvas(QWidget* canvas)
{
    const bool table = tableShown();
    if (m_canvas != nullptr) {
        m_stack->removeWidget(m_canvas);
        m_canvas->deleteLater();
    }
    m_canvas = canvas;
    m_stack->insertWidget(0, canvas);
    if (!table) {
        m_stack->setCurrentWidget(canvas);
    }
}

void CanvasFrame::addTool(QWidget* tool)
{
    m_tools->insertWidget(m_tools->count() - 2, tool);
}

Result<void> CanvasFrame::exportTo(const QString& file)
{
    const QSize size = m_stack->size().expandedTo(QSize(640, 360));
    return exportPicture(
        file, title(), size, [this](QPainter& painter, const QSizeF& area) { paintPicture(painter, area); }, *m_table);
}

void CanvasFrame::exportWithDialog()
{
    auto* dialog = new QFileDialog(this, tr("Export %1").arg(title()), QString(), exportFilters());
    dialog->setAcceptMode(QFileDialog::AcceptSave);
    dialog->setDefaultSuffix(QStringLiteral("svg"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    connect(dialog, &QFileDialog::filterSelected, dialog, [dialog](const QString& filter) {
        const qsizetype at = filter.indexOf(QLatin1String("*."));
        dialog->setDefaultSuffix(filter.mid(at + 2, 3));
    });
    connect(dialog, &QFileDialog::fileSelected, this, [this](const QString& file) {
        const auto done = exportTo(file);
        Q_EMIT message(done ? tr("Saved %1").arg(file) : bridge::errorSentence(done.error()));
    });
    dialog->open();
}

void CanvasFrame::copyNumbers()
{
    if (!tableShown() || !m_view->selectionModel()->hasSelection()) {
        QApplication::clipboard()->setText(bridge::csvText(*m_table));
        Q_EMIT message(tr("Copied %1 rows").arg(m_table->rowCount()));
        return;
    }
    QModelIndexList rows = m_view->selectionModel()->selectedRows();
    std::sort(rows.begin(), rows.end());
    QStringList lines;
    for (const QModelIndex& row : rows) {
        QStringList cells;
        for (int c = 0; c < m_table->columnCount(); ++c) {
            cells << m_table->index(row.row(), c).data(Qt::EditRole).toString();
        }
        lines << cells.join(QLatin1Char('\t'));
    }
    QApplication::clipboard()->setText(lines.join(QLatin1Char('\n')));
    Q_EMIT message(tr("Copied %1 rows").arg(rows.size()));
}

void CanvasFrame::copyPicture()
{
    QImage image(m_stack->size() * 2, QImage::Format_ARGB32_Premultiplied);
    image.fill(currentTheme().base);
    image.setDevicePixelRatio(2);
    QPainter painter(&image);
    painter.setFont(font());
    paintPicture(painter, m_stack->size());
    painter.end();
    QApplication::clipboard()->setImage(image);
    Q_EMIT message(tr("Copied the picture"));
}

void CanvasFrame::contextMenuEvent(QContextMenuEvent* event)
{
    auto* menu = new QMenu(this);
    menu->setAttribute(Qt::WA_DeleteOnClose);
    menu->addAction(tr("Export…"), this, &CanvasFrame::exportWithDialog);
    menu->addAction(tr("Copy picture"), this, &CanvasFrame::copyPicture);
    menu->addAction(tr("Copy numbers"), this, &CanvasFrame::copyNumbers);
    QAction* table = menu->addAction(tr("Show as table"), this, [this](bool on) { showTable(on); });
    table->setCheckable(true);
    table->setChecked(tableShown());
    if (!m_usage.isEmpty()) {
        QMenu* keys = menu->addMenu(tr("Mouse and keys"));
        for (const QString& line : std::as_const(m_usage)) {
            keys->addAction(line)->setEnabled(false);
        }
    }
    menu->popup(event->globalPos());
}

} // namespace rankwise::common
