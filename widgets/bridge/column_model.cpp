// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/column_model.h"

#include "widgets/bridge/text.h"

namespace rankwise::bridge {

namespace {

QString csvField(const QVariant& value)
{
    if (value.typeId() == QMetaType::Double || value.typeId() == QMetaType::Float) {
        return QString::number(value.toDouble(), 'g', 17);
    }
    QString text = value.toString();
    if (text.contains(QLatin1Char(',')) || text.contains(QLatin1Char('"')) || text.contains(QLatin1Char('\n'))) {
        text.replace(QLatin1Char('"'), QStringLiteral("\"\""));
        text = QLatin1Char('"') + text + QLatin1Char('"');
    }
    return text;
}

} // namespace

ColumnModel::ColumnModel(QObject* parent) : QAbstractTableModel(parent) { }

void ColumnModel::reset(const QStringList& headers, int rows, std::function<QVariant(int, int)> cell)
{
    beginResetModel();
    m_headers = headers;
    m_rows = rows;
    m_cell = std::move(cell);
    endResetModel();
}

void ColumnModel::grow(int rows)
{
    if (rows > m_rows) {
        beginInsertRows({}, m_rows, rows - 1);
        m_rows = rows;
        endInsertRows();
    }
}

void ColumnModel::touch()
{
    if (m_rows > 0 && !m_headers.isEmpty()) {
        Q_EMIT dataChanged(index(0, 0), index(m_rows - 1, static_cast<int>(m_headers.size()) - 1));
    }
}

int ColumnModel::rowCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : m_rows;
}

int ColumnModel::columnCount(const QModelIndex& parent) const
{
    return parent.isValid() ? 0 : static_cast<int>(m_headers.size());
}

QVariant ColumnModel::data(const QModelIndex& index, int role) const
{
    if (!checkIndex(index, CheckIndexOption::IndexIsValid) || !m_cell
        || (role != Qt::DisplayRole && role != Qt::EditRole && role != Qt::TextAlignmentRole)) {
        return {};
    }
    const QVariant value = m_cell(index.row(), index.column());
    const bool number = value.typeId() != QMetaType::QString;
    if (role == Qt::TextAlignmentRole) {
        return static_cast<int>(Qt::AlignVCenter | (number ? Qt::AlignRight : Qt::AlignLeft));
    }
    return role == Qt::DisplayRole && value.typeId() == QMetaType::Double ? numberText(value.toDouble()) : value;
}

QVariant ColumnModel::headerData(int section, Qt::Orientation orientation, int role) const
{
    if (role != Qt::DisplayRole) {
        return {};
    }
    if (orientation == Qt::Vertical) {
        return section + 1;
    }
    return section >= 0 && section < m_headers.size() ? m_headers[section] : QVariant();
}

QString csvText(const QAbstractItemModel& model)
{
    QString text;
    const int columns = model.columnCount();
    for (int c = 0; c < columns; ++c) {
        text += (c > 0 ? QStringLiteral(",") : QString()) + csvField(model.headerData(c, Qt::Horizontal));
    }
    text += QStringLiteral("\r\n");
    for (int r = 0; r < model.rowCount(); ++r) {
        for (int c = 0; c < columns; ++c) {
            text += (c > 0 ? QStringLiteral(",") : QString()) + csvField(model.index(r, c).data(Qt::EditRole));
        }
        text += QStringLiteral("\r\n");
    }
    return text;
}

} // namespace rankwise::bridge
