// The command palette (Ctrl+K): finds actions, layers, runs, episodes and settings by a few letters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QFrame>
#include <QString>
#include <QStringList>
#include <QTimer>
#include <QVector>

#include <functional>
#include <optional>
#include <vector>

class QLabel;
class QLineEdit;
class QListWidget;

namespace rankwise::common {

/// One thing that can be found.
struct PaletteEntry {
    QString text;
    QString category;
    QString key; ///< Shortcut, shown at the right.
    std::function<void()> run;
    std::function<QString()> command = {}; ///< Shell line that does the same; Ctrl+C copies it. May be empty.
    bool enabled = true;
};

/// Things that can be found, asked for one at a time: a long list costs nothing before somebody looks for something.
struct PaletteSource {
    qsizetype count = 0;
    /// Of 0 … count - 1; may be asked again as long as the palette is open.
    std::function<PaletteEntry(qsizetype)> entry;
};

/// A source of what is in a list already.
[[nodiscard]] PaletteSource paletteSource(QVector<PaletteEntry> entries);

/// Each word of `query` must be in `text`, at least as letters in this order; nothing otherwise. Higher is better:
/// whole words and starts of words count more.
[[nodiscard]] std::optional<int> fuzzyScore(const QString& query, const QString& text);

/// Pops up over a window. Entries are made and searched in slices of a few milliseconds, in the order of the sources:
/// short lists at once, and of long ones the best so far is shown meanwhile. Thread: GUI.
class Palette : public QFrame {
    Q_OBJECT

public:
    explicit Palette(QWidget* window);

    /// `sources` is asked each time the palette opens.
    void setSources(std::function<std::vector<PaletteSource>()> sources) { m_ask = std::move(sources); }
    void openPalette(const QString& query = {});
    [[nodiscard]] QLineEdit* input() const { return m_input; }
    [[nodiscard]] QListWidget* list() const { return m_list; }
    /// Everything was looked at for the present words.
    [[nodiscard]] bool settled() const;

Q_SIGNALS:
    void message(const QString& text);

protected:
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    /// What is searched of an entry.
    struct Indexed {
        QString words;      ///< "category text", folded.
        qsizetype text = 0; ///< Where the text begins in it.
        std::size_t source = 0;
        qsizetype index = 0;
        bool enabled = true;
    };
    struct Match {
        int score = 0;
        std::size_t at = 0; ///< In m_index.
    };
    void restart();
    void work();
    bool indexSome();
    bool scoreSome();
    void showMatches();
    bool moveBy(int key);
    void dismiss();
    void runCurrent();
    void copyCurrent();
    [[nodiscard]] std::optional<PaletteEntry> current() const;

    std::function<std::vector<PaletteSource>()> m_ask;
    std::vector<PaletteSource> m_sources;
    std::vector<Indexed> m_index;
    std::size_t m_source = 0; ///< First that is not indexed,
    qsizetype m_next = 0;     ///< and its first entry.
    std::vector<Match> m_matches;
    std::size_t m_scored = 0;
    std::vector<std::size_t> m_shown; ///< Rows of the list, in m_index.
    QStringList m_pickedQuery;        ///< For which they were shown.
    QStringList m_query;
    QTimer m_slices;
    bool m_opening = false;
    QLineEdit* m_input;
    QListWidget* m_list;
    QLabel* m_hint;
};

} // namespace rankwise::common
