// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/log_panel.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLineEdit>
#include <QScrollBar>
#include <QSortFilterProxyModel>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>

#include <limits>

namespace rankwise::common {

class LogFilter : public QSortFilterProxyModel {
public:
    using QSortFilterProxyModel::QSortFilterProxyModel;

    void setLevel(int level)
    {
        m_level = level;
        invalidateFilter();
    }
    void setSpan(double from, double to)
    {
        m_from = from;
        m_to = to;
        invalidateFilter();
    }
    [[nodiscard]] bool spanned() const { return m_from > 0; }
    void setWords(const QString& words)
    {
        m_words = words;
        invalidateFilter();
    }

protected:
    [[nodiscard]] bool filterAcceptsRow(int row, const QModelIndex& parent) const override
    {
        const QModelIndex level = sourceModel()->index(row, bridge::LogModel::Level, parent);
        if (spanned()) {
            const double at = level.data(bridge::LogModel::UnixSecondsRole).toDouble();
            if (at < m_from || at > m_to) {
                return false;
            }
        } else if (level.data(bridge::LogModel::LevelRole).toInt() < m_level) {
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
    double m_from = 0; ///< 0: no span.
    double m_to = 0;
};

LogPanel::LogPanel(bridge::LogModel& model, QWidget* parent)
    : QWidget(parent), m_filter(new LogFilter(this)), m_level(new QComboBox), m_search(new QLineEdit),
      m_span(new QToolButton), m_table(new QTableView)
{
    m_filter->setSourceModel(&model);
    m_level->addItem(tr("All levels"), static_cast<int>(log::Level::Trace));
    m_level->addItem(tr("Debug and above"), static_cast<int>(log::Level::Debug));
    m_level->addItem(tr("Info and above"), static_cast<int>(log::Level::Info));
    m_level->addItem(tr("Warnings and errors"), static_cast<int>(log::Level::Warn));
    m_level->addItem(tr("Errors"), static_cast<int>(log::Level::Error));
    m_level->setCurrentIndex(2);
    m_level->setAccessibleName(tr("Lowest level shown"));
    m_search->setPlaceholderText(tr("Search module and message"));
    m_search->setAccessibleName(tr("Search the log"));
    m_search->setClearButtonEnabled(true);
    m_span->setToolTip(tr("Back to all lines"));
    m_span->hide();
    m_table->setModel(m_filter);
    m_table->setAccessibleName(tr("Log"));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setShowGrid(false);
    m_table->setWordWrap(false);
    m_table->setTabKeyNavigation(false);
    m_table->verticalHeader()->hide();
    m_table->verticalHeader()->setDefaultSectionSize(m_table->fontMetrics().height() + 4);
    m_table->horizontalHeader()->setStretchLastSection(true);
    m_table->setColumnWidth(bridge::LogModel::Time, 105);
    m_table->setColumnWidth(bridge::LogModel::Level, 75);
    m_table->setColumnWidth(bridge::LogModel::Module, 80);
    auto* top = new QHBoxLayout;
    top->addWidget(m_level);
    top->addWidget(m_span);
    top->addWidget(m_search, 1);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addLayout(top);
    layout->addWidget(m_table, 1);
    connect(m_level, &QComboBox::currentIndexChanged, this,
            [this] { m_filter->setLevel(m_level->currentData().toInt()); });
    connect(m_search, &QLineEdit::textChanged, this, [this](const QString& text) { m_filter->setWords(text); });
    connect(m_span, &QToolButton::clicked, this, &LogPanel::showAll);
    // Follows the end unless the user looks further up.
    connect(m_filter, &QAbstractItemModel::rowsInserted, m_table, [table = m_table] {
        const QScrollBar* bar = table->verticalScrollBar();
        if (bar->value() >= bar->maximum() - bar->pageStep() / 2) {
            QMetaObject::invokeMethod(table, &QTableView::scrollToBottom, Qt::QueuedConnection);
        }
    });
}

void LogPanel::showSpan(const QString& title, double from, double to)
{
    constexpr double kMargin = 0.05; // What is logged about the end comes with it.
    m_search->clear();
    m_filter->setSpan(from - kMargin, to > 0 ? to + kMargin : std::numeric_limits<double>::infinity());
    m_span->setText(tr("While “%1” ran ✕").arg(title));
    m_span->setAccessibleName(tr("Lines while %1 ran; press for all lines").arg(title));
    m_span->show();
    m_level->setEnabled(false);
    m_table->scrollToBottom();
    m_table->setFocus();
}

void LogPanel::showAll()
{
    m_filter->setSpan(0, 0);
    m_span->hide();
    m_level->setEnabled(true);
}

} // namespace rankwise::common
