// The command palette (Ctrl+K): finds actions, layers, runs, episodes and settings by a few letters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QFrame>
#include <QString>
#include <QVector>

#include <functional>
#include <optional>

class QLineEdit;
class QListWidget;

namespace rankwise::common {

/// One thing that can be found.
struct PaletteEntry {
    QString text;
    QString category;
    QString key;     ///< Shortcut, shown at the right.
    QString command; ///< Shell line that does the same; Ctrl+C copies it. May be empty.
    std::function<void()> run;
    bool enabled = true;
};

/// Each word of `query` must be in `text`, at least as letters in this order; nothing otherwise. Higher is better:
/// whole words and starts of words count more.
[[nodiscard]] std::optional<int> fuzzyScore(const QString& query, const QString& text);

/// Pops up over a window. Thread: GUI.
class Palette : public QFrame {
    Q_OBJECT

public:
    explicit Palette(QWidget* window);

    /// `entries` is asked each time the palette opens.
    void setSource(std::function<QVector<PaletteEntry>()> entries) { m_source = std::move(entries); }
    void openPalette();
    [[nodiscard]] QLineEdit* input() const { return m_input; }
    [[nodiscard]] QListWidget* list() const { return m_list; }

Q_SIGNALS:
    void message(const QString& text);

protected:
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    void refill();
    void runCurrent();
    void copyCurrent();

    std::function<QVector<PaletteEntry>()> m_source;
    QVector<PaletteEntry> m_entries;
    QLineEdit* m_input;
    QListWidget* m_list;
};

} // namespace rankwise::common
