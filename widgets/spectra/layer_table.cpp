// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/layer_table.h"

#include "backend/base/file.h"
#include "widgets/bridge/column_model.h"
#include "widgets/bridge/job_runner.h"
#include "widgets/bridge/text.h"
#include "widgets/common/actions.h"

#include <QAction>
#include <QApplication>
#include <QClipboard>
#include <QEvent>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

namespace rankwise::spectra_view {

using bridge::toQString;

namespace {

constexpr int kFixedColumns = 3; ///< Layer, part, shape.
constexpr std::array kColumns { Quantity::Rank, Quantity::EffectiveRank, Quantity::StableRank,
                                Quantity::Norm, Quantity::Change,        Quantity::PowerLaw };

QString shortQuantity(Quantity quantity)
{
    switch (quantity) {
    case Quantity::EffectiveRank:
        return LayerTable::tr("effective");
    case Quantity::StableRank:
        return LayerTable::tr("stable");
    case Quantity::Norm:
        return LayerTable::tr("norm");
    case Quantity::Change:
        return LayerTable::tr("ΔW/W");
    case Quantity::PowerLaw:
        return QStringLiteral("α");
    case Quantity::Rank:
    case Quantity::RankShare:
        break;
    }
    return QStringLiteral("k(η)");
}

/// Scores have no norm, and their tails are no spectrum of weights; ‖ΔW‖ / ‖W‖ stands with ΔW.
bool makesSense(Curve curve, Quantity quantity)
{
    return quantity == Quantity::Change
        ? curve == Curve::Delta
        : curve != Curve::Scores || (quantity != Quantity::Norm && quantity != Quantity::PowerLaw);
}

} // namespace

LayerTable::LayerTable(SpectraState& state, bridge::JobRunner& jobs, common::ActionBinder& actions, QWidget* parent)
    : QWidget(parent), m_state(state), m_jobs(jobs), m_table(new QTableView), m_rows(new bridge::ColumnModel(this))
{
    m_table->setModel(m_rows);
    m_table->setAccessibleName(tr("Ranks and norms of all layers"));
    m_table->setSelectionBehavior(QAbstractItemView::SelectRows);
    m_table->setAlternatingRowColors(true);
    m_table->verticalHeader()->hide();
    m_table->setTextElideMode(Qt::ElideLeft);
    m_table->setWordWrap(false);
    auto* tools = new QHBoxLayout;
    tools->addStretch();
    tools->addWidget(actions.button(QStringLiteral("spectra.copy_table")));
    tools->addWidget(actions.button(QStringLiteral("spectra.export_table")));
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addLayout(tools);
    layout->addWidget(m_table, 1);
    connect(m_table->selectionModel(), &QItemSelectionModel::selectionChanged, this, &LayerTable::pickRows);
    connect(&state, &SpectraState::setsChanged, this, &LayerTable::refresh);
    connect(&state, &SpectraState::shownChanged, this, &LayerTable::refresh);
    connect(&state, &SpectraState::etaChanged, this, &LayerTable::refresh);
    connect(&state, &SpectraState::layersChanged, this, &LayerTable::markRows);
    refresh();
}

std::vector<LayerTable::Column> LayerTable::columns() const
{
    std::vector<Column> columns;
    for (const Curve curve : m_state.curves()) {
        for (const bool other : { false, true }) {
            for (const Quantity quantity : kColumns) {
                if ((!other || m_state.other() != nullptr) && makesSense(curve, quantity)) {
                    columns.push_back({ curve, quantity, other });
                }
            }
        }
    }
    return columns;
}

QVariant LayerTable::value(int row, const Column& column) const
{
    const bridge::SpectraSet* from = column.other ? m_state.other() : &m_state.set();
    const int index = column.other ? m_state.otherIndex(static_cast<std::size_t>(row)) : row;
    if (from == nullptr || index < 0) {
        return {};
    }
    const double number =
        quantityOf(*from, static_cast<std::size_t>(index), column.curve, column.quantity, m_state.eta());
    if (!std::isfinite(number)) {
        return {};
    }
    return column.quantity == Quantity::Rank ? QVariant(static_cast<qint64>(number)) : QVariant(number);
}

void LayerTable::refresh()
{
    const std::vector<Column> shown = columns();
    QStringList headers { tr("Layer"), tr("Part"), tr("Shape") };
    for (const Column& column : shown) {
        headers << QStringLiteral("%1%2 %3").arg(bridge::curveName(column.curve),
                                                 column.other ? QStringLiteral("₂") : QString(),
                                                 shortQuantity(column.quantity));
    }
    const auto rows = static_cast<int>(m_state.set().layers.size());
    if (headers == m_headers && rows == m_rows->rowCount()) { // the place in the table stays
        m_rows->touch();
        markRows();
        return;
    }
    m_marking = true;
    m_rows->reset(headers, rows, [this, shown](int row, int column) -> QVariant {
        const auto layer = static_cast<std::size_t>(row);
        if (layer >= m_state.set().layers.size()) {
            return {};
        }
        const data::SpectraLayer& info = m_state.set().layers[layer];
        switch (column) {
        case 0:
            return toQString(info.path);
        case 1:
            return bridge::groupName(info.group);
        case 2:
            return QStringLiteral("%1 × %2").arg(info.rows).arg(info.columns);
        default:
            return value(row, shown[static_cast<std::size_t>(column - kFixedColumns)]);
        }
    });
    m_marking = false;
    if (headers != m_headers) {
        m_headers = headers;
        layOut();
    }
    markRows();
}

/// Widths that hold every header and the usual contents at the present size of letters.
void LayerTable::layOut()
{
    QFont bold = m_table->horizontalHeader()->font();
    bold.setBold(true);
    const QFontMetrics header(bold);
    const QFontMetrics cell(m_table->font());
    const int margin = cell.averageCharWidth() * 3;
    const auto widest = [&](int column, const QString& usual) {
        return std::max(
                   header.horizontalAdvance(m_rows->headerData(column, Qt::Horizontal, Qt::DisplayRole).toString()),
                   cell.horizontalAdvance(usual))
            + margin;
    };
    m_table->setColumnWidth(0, cell.averageCharWidth() * 46);
    m_table->setColumnWidth(1, widest(1, QStringLiteral("language")));
    m_table->setColumnWidth(2, widest(2, QStringLiteral("0000 × 0000")));
    for (int c = kFixedColumns; c < m_rows->columnCount(); ++c) {
        m_table->setColumnWidth(c, widest(c, QStringLiteral("00.000")));
    }
}

void LayerTable::changeEvent(QEvent* event)
{
    QWidget::changeEvent(event);
    if (event->type() == QEvent::FontChange) {
        layOut();
    }
}

void LayerTable::markRows()
{
    QItemSelection rows;
    int first = -1;
    for (const QString& layer : m_state.layers()) {
        const int row = m_state.set().indexOf(layer);
        if (row >= 0) {
            first = first < 0 ? row : first;
            rows.select(m_rows->index(row, 0), m_rows->index(row, m_rows->columnCount() - 1));
        }
    }
    m_marking = true;
    auto* selection = m_table->selectionModel();
    if (first >= 0) {
        selection->setCurrentIndex(m_rows->index(first, 0), QItemSelectionModel::NoUpdate);
        m_table->scrollTo(m_rows->index(first, 0));
    }
    selection->select(rows, QItemSelectionModel::ClearAndSelect);
    m_marking = false;
}

void LayerTable::pickRows()
{
    if (m_marking) {
        return;
    }
    QStringList layers;
    const QModelIndexList rows = m_table->selectionModel()->selectedRows();
    for (const QModelIndex& row : rows) {
        if (static_cast<std::size_t>(row.row()) < m_state.set().layers.size()) {
            layers << toQString(m_state.set().layers[static_cast<std::size_t>(row.row())].path);
        }
    }
    if (!layers.isEmpty()) {
        Q_EMIT picked(layers);
    }
}

void LayerTable::copy()
{
    QApplication::clipboard()->setText(bridge::csvText(*m_rows));
    Q_EMIT message(tr("Copied %1 rows").arg(m_rows->rowCount()));
}

void LayerTable::exportDialog()
{
    auto* dialog = new QFileDialog(this, tr("Export the table"), QString(), tr("Numbers (*.csv)"));
    dialog->setAcceptMode(QFileDialog::AcceptSave);
    dialog->setDefaultSuffix(QStringLiteral("csv"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    connect(dialog, &QFileDialog::fileSelected, this, [this](const QString& file) {
        m_jobs.start<std::monostate>(
            tr("Export %1").arg(QFileInfo(file).fileName()),
            [file, text = bridge::csvText(*m_rows).toStdString()](const JobContext&) -> Result<std::monostate> {
                RW_TRY_VOID(writeFileAtomically(bridge::toPath(file), text));
                return std::monostate {};
            },
            this,
            [this, file](Result<std::monostate> written) {
                Q_EMIT message(written ? tr("Saved %1").arg(file) : bridge::errorSentence(written.error()));
            });
    });
    dialog->open();
}

} // namespace rankwise::spectra_view
