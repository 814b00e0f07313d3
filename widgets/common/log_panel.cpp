// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/log_panel.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLineEdit>
#include <QScrollBar>
#include <QSortFilterProxyModel>
#include <QTableView>
#include <QVBoxLayout>

namespace rankwise::common {

namespace {

class LogFilter : public QSortFilterProxyModel {
public:
    using QSortFilterProxyModel::QSortFilterProxyModel;

    void setLevel(int level)
    {
        m_level = level;
        invalidateFilter();
    }
    void setWords(const QString& words)
    {
        m_words = words;
        invalidateFilter();
    }

protected:
    [[nodiscard]] bool filterAcceptsRow(int row, const QModelIndex& parent) const override
    {
        const QModelIndex level = sourceModel()->index(row, bridge::LogModel::Level, parent);
        if (level.data(bridge::LogModel::LevelRole).toInt() < m_level) {
            return false;
        }
        if (m_words.isEmpty()) {
            return true;
        }
        for (const int column : { bridge::LogModel::Module, bridge::LogModel::Message }) {
            if (sourceModel()->index(row, column, parent).data().toString().contains(m_words, Qt::CaseInsensitive)) {
                return true;
            }
        }
        return false;
    }

private:
    int m_level = static_cast<int>(log::Level::Info);
    QString m_words;
};

} // namespace

LogPanel::LogPanel(bridge::LogModel& model, QWidget* parent) : QWidget(parent)
{
    auto* filter = new LogFilter(this);
    filter->setSourceModel(&model);
    auto* level = new QComboBox;
    level->addItem(tr("All levels"), static_cast<int>(log::Level::Trace));
    level->addItem(tr("Debug and above"), static_cast<int>(log::Level::Debug));
    level->addItem(tr("Info and above"), static_cast<int>(log::Level::Info));
    level->addItem(tr("Warnings and errors"), static_cast<int>(log::Level::Warn));
    level->addItem(tr("Errors"), static_cast<int>(log::Level::Error));
    level->setCurrentIndex(2);
    level->setAccessibleName(tr("Lowest level shown"));
    auto* search = new QLineEdit;
    search->setPlaceholderText(tr("Search module and message"));
    search->setAccessibleName(tr("Search the log"));
    search->setClearButtonEnabled(true);
    auto* table = new QTableView;
    table->setModel(filter);
    table->setAccessibleName(tr("Log"));
    table->setSelectionBehavior(QAbstractItemView::SelectRows);
    table->setShowGrid(false);
    table->setWordWrap(false);
    table->verticalHeader()->hide();
    table->verticalHeader()->setDefaultSectionSize(table->fontMetrics().height() + 4);
    table->horizontalHeader()->setStretchLastSection(true);
    table->setColumnWidth(bridge::LogModel::Time, 105);
    table->setColumnWidth(bridge::LogModel::Level, 75);
    table->setColumnWidth(bridge::LogModel::Module, 80);
    auto* top = new QHBoxLayout;
    top->addWidget(level);
    top->addWidget(search, 1);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addLayout(top);
    layout->addWidget(table, 1);
    connect(level, &QComboBox::currentIndexChanged, this,
            [level, filter] { filter->setLevel(level->currentData().toInt()); });
    connect(search, &QLineEdit::textChanged, this, [filter](const QString& text) { filter->setWords(text); });
    // Follows the end unless the user looks further up.
    connect(filter, &QAbstractItemModel::rowsInserted, table, [table] {
        const QScrollBar* bar = table->verticalScrollBar();
        if (bar->value() >= bar->maximum() - bar->pageStep() / 2) {
            QMetaObject::invokeMethod(table, &QTableView::scrollToBottom, Qt::QueuedConnection);
        }
    });
}

} // namespace rankwise::common
