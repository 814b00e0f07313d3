// What every canvas has around it, whether it is a chart or a 3D scene: a title, a switch to the table with the same
// numbers, and export.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <QString>
#include <QStringList>
#include <QWidget>

class QAbstractItemModel;
class QHBoxLayout;
class QLabel;
class QPainter;
class QStackedWidget;
class QTableView;
class QToolButton;

namespace rankwise::common {

/// Thread: GUI.
class CanvasFrame : public QWidget {
    Q_OBJECT

public:
    CanvasFrame(const QString& title, QAbstractItemModel* table, QWidget* parent = nullptr);

    [[nodiscard]] QString title() const;
    void setTitle(const QString& title);
    [[nodiscard]] QAbstractItemModel* table() const { return m_table; }
    [[nodiscard]] bool tableShown() const;
    void showTable(bool on);

    /// By the suffix: .svg, .pdf, .png or .csv. Errors: as exportPicture().
    [[nodiscard]] Result<void> exportTo(const QString& file);
    /// Asks for a file, then exportTo().
    void exportWithDialog();
    /// Copies all cells, or the selected ones while the table is shown.
    void copyNumbers();
    void copyPicture();

    /// Puts a widget into the title line, left of the buttons.
    void addTool(QWidget* tool);
    /// What mouse and keys do on the canvas, a line each: in the tooltip of the title, and in the menu.
    void setUsage(const QStringList& lines);
    [[nodiscard]] const QStringList& usage() const { return m_usage; }

Q_SIGNALS:
    void message(const QString& text); ///< For the status bar.
    void rowActivated(int row);        ///< A row of the table was chosen.

protected:
    void setCanvas(QWidget* canvas);
    virtual void paintPicture(QPainter& painter, const QSizeF& size) = 0;
    void contextMenuEvent(QContextMenuEvent* event) override;

private:
    QLabel* m_title;
    QHBoxLayout* m_tools;
    QToolButton* m_tableButton;
    QStackedWidget* m_stack;
    QWidget* m_canvas = nullptr;
    QTableView* m_view = nullptr;
    QAbstractItemModel* m_table;
    QStringList m_usage;
};

} // namespace rankwise::common
