// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/palette.h"

#include <QApplication>
#include <QClipboard>
#include <QElapsedTimer>
#include <QKeyEvent>
#include <QLabel>
#include <QLineEdit>
#include <QListWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <memory>
#include <optional>

namespace rankwise::common {

namespace {

constexpr std::size_t kMaxShown = 60;
constexpr qint64 kSliceNs = 2'500'000;
constexpr int kClockEvery = 16; ///< Entries between two looks at the clock.
constexpr int kDisabledPenalty = 400;

/// Both folded.
std::optional<int> wordScore(QStringView query, QStringView text)
{
    const qsizetype whole = text.indexOf(query);
    if (whole >= 0) {
        const bool wordStart = whole == 0 || !text[whole - 1].isLetterOrNumber();
        return 1000 - static_cast<int>(std::min<qsizetype>(whole, 100)) + (wordStart ? 500 : 0);
    }
    int score = 0;
    qsizetype at = 0;
    for (const QChar letter : query) {
        const qsizetype found = text.indexOf(letter, at);
        if (found < 0) {
            return std::nullopt;
        }
        const bool wordStart = found == 0 || !text[found - 1].isLetterOrNumber();
        score += (wordStart ? 20 : 0) + (found == at ? 10 : 0) - static_cast<int>(std::min<qsizetype>(found - at, 10));
        at = found + 1;
    }
    return score;
}

std::optional<int> wordsScore(const QStringList& words, QStringView text)
{
    int sum = 0;
    for (const QString& word : words) {
        const auto score = wordScore(word, text);
        if (!score) {
            return std::nullopt;
        }
        sum += *score;
    }
    return sum;
}

QStringList wordsOf(const QString& query)
{
    return query.toCaseFolded().split(QLatin1Char(' '), Qt::SkipEmptyParts);
}

} // namespace

std::optional<int> fuzzyScore(const QString& query, const QString& text)
{
    return wordsScore(wordsOf(query), text.toCaseFolded());
}

PaletteSource paletteSource(QVector<PaletteEntry> entries)
{
    const qsizetype count = entries.size();
    return { count, [list = std::make_shared<const QVector<PaletteEntry>>(std::move(entries))](qsizetype i) {
                return (*list)[i];
            } };
}

Palette::Palette(QWidget* window)
    : QFrame(window), m_input(new QLineEdit), m_list(new QListWidget),
      m_hint(new QLabel(tr("Enter runs · Ctrl+C copies as command · Esc closes")))
{
    setFrameShape(QFrame::StyledPanel);
    setAutoFillBackground(true);
    setAccessibleName(tr("Command palette"));
    m_input->setPlaceholderText(tr("Type an action, a layer, a run, an episode or a setting"));
    m_input->setAccessibleName(tr("Search"));
    m_input->setClearButtonEnabled(true);
    m_list->setAccessibleName(tr("Matches"));
    m_list->setFocusPolicy(Qt::NoFocus);
    m_list->setUniformItemSizes(true);
    m_hint->setProperty("role", QStringLiteral("dim"));
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(m_input);
    layout->addWidget(m_list);
    layout->addWidget(m_hint);
    m_slices.setInterval(0);
    connect(&m_slices, &QTimer::timeout, this, &Palette::work);
    m_input->installEventFilter(this);
    connect(m_input, &QLineEdit::textChanged, this, &Palette::restart);
    connect(m_list, &QListWidget::itemClicked, this, &Palette::runCurrent);
    hide();
}

void Palette::openPalette(const QString& query)
{
    m_sources = m_ask ? m_ask() : std::vector<PaletteSource>();
    m_index.clear();
    m_source = 0;
    m_next = 0;
    m_shown.clear();
    m_list->clear();
    const QSize area = parentWidget()->size();
    const QSize size(std::min(720, area.width() - 40), std::min(460, area.height() - 80));
    setGeometry((area.width() - size.width()) / 2, 48, size.width(), size.height());
    m_opening = true;
    m_input->setText(query);
    m_opening = false;
    restart();
    show();
    raise();
    m_input->setFocus();
}

bool Palette::settled() const
{
    return m_source == m_sources.size() && m_scored == m_index.size();
}

/// Scores anew what is indexed; the index itself goes on growing.
void Palette::restart()
{
    if (m_opening) {
        return;
    }
    m_query = wordsOf(m_input->text());
    m_matches.clear();
    m_scored = 0;
    work();
}

void Palette::work()
{
    const bool indexed = indexSome();
    const bool scored = scoreSome();
    if (indexed && scored) {
        m_slices.stop();
    } else if (!m_slices.isActive()) {
        m_slices.start();
    }
    showMatches();
}

bool Palette::indexSome()
{
    QElapsedTimer watch;
    watch.start();
    for (int n = 1; m_source < m_sources.size(); ++n) {
        const PaletteSource& source = m_sources[m_source];
        if (m_next >= source.count) {
            ++m_source;
            m_next = 0;
            continue;
        }
        const PaletteEntry entry = source.entry(m_next);
        const QString category = entry.category.toCaseFolded() + QLatin1Char(' ');
        m_index.push_back({ category + entry.text.toCaseFolded(), category.size(), m_source, m_next, entry.enabled });
        ++m_next;
        if (n % kClockEvery == 0 && watch.nsecsElapsed() > kSliceNs) {
            return false;
        }
    }
    return true;
}

bool Palette::scoreSome()
{
    QElapsedTimer watch;
    watch.start();
    for (int n = 1; m_scored < m_index.size(); ++n) {
        const Indexed& indexed = m_index[m_scored];
        if (const auto score = wordsScore(m_query, indexed.words)) {
            // A match in the text itself beats one in the category.
            const int own = wordsScore(m_query, QStringView(indexed.words).mid(indexed.text)).value_or(0);
            m_matches.push_back({ *score + 2 * own - (indexed.enabled ? 0 : kDisabledPenalty), m_scored });
        }
        ++m_scored;
        if (n % kClockEvery == 0 && watch.nsecsElapsed() > kSliceNs) {
            break;
        }
    }
    // Only the best are ever shown.
    const auto better = [](const Match& a, const Match& b) {
        return a.score != b.score ? a.score > b.score : a.at < b.at;
    };
    const std::size_t kept = std::min(kMaxShown, m_matches.size());
    std::partial_sort(m_matches.begin(), m_matches.begin() + static_cast<std::ptrdiff_t>(kept), m_matches.end(),
                      better);
    m_matches.resize(kept);
    return m_scored == m_index.size();
}

void Palette::showMatches()
{
    std::vector<std::size_t> wanted;
    for (const Match& match : m_matches) {
        wanted.push_back(match.at);
    }
    if (wanted == m_shown && m_list->count() == static_cast<int>(wanted.size())) {
        return;
    }
    // Who has gone down the list keeps what they are at while better matches come.
    const int row = m_list->currentRow();
    const bool picked = row > 0 && m_pickedQuery == m_query;
    const std::size_t at = picked ? m_shown[static_cast<std::size_t>(row)] : 0;
    m_shown = std::move(wanted);
    m_pickedQuery = m_query;
    m_list->clear();
    for (const std::size_t shown : m_shown) {
        const Indexed& indexed = m_index[shown];
        const PaletteEntry entry = m_sources[indexed.source].entry(indexed.index);
        QString text = QStringLiteral("%1:  %2").arg(entry.category, entry.text);
        if (!entry.key.isEmpty()) {
            text += QStringLiteral("    [%1]").arg(entry.key);
        }
        auto* item = new QListWidgetItem(text, m_list);
        if (!entry.enabled) {
            item->setForeground(palette().color(QPalette::Disabled, QPalette::Text));
        }
    }
    const auto again = picked ? std::find(m_shown.begin(), m_shown.end(), at) : m_shown.end();
    m_list->setCurrentRow(again == m_shown.end() ? 0 : static_cast<int>(again - m_shown.begin()));
}

std::optional<PaletteEntry> Palette::current() const
{
    const int row = m_list->currentRow();
    if (row < 0) {
        return std::nullopt;
    }
    const Indexed& indexed = m_index[m_shown[static_cast<std::size_t>(row)]];
    return m_sources[indexed.source].entry(indexed.index);
}

void Palette::dismiss()
{
    m_slices.stop();
    hide();
}

void Palette::runCurrent()
{
    const std::optional<PaletteEntry> entry = current();
    if (!entry) {
        return;
    }
    if (!entry->enabled) {
        Q_EMIT message(tr("“%1” is not possible at present.").arg(entry->text));
        return;
    }
    dismiss();
    parentWidget()->setFocus();
    if (entry->run) {
        entry->run();
    }
}

void Palette::copyCurrent()
{
    const std::optional<PaletteEntry> entry = current();
    if (!entry) {
        return;
    }
    const QString line = entry->command ? entry->command() : QString();
    if (line.isEmpty()) {
        Q_EMIT message(tr("There is no command for “%1”.").arg(entry->text));
        return;
    }
    QApplication::clipboard()->setText(line);
    Q_EMIT message(tr("Copied: %1").arg(line));
}

/// Keys that move in the list while the input has the focus.
bool Palette::moveBy(int key)
{
    const int row = m_list->currentRow();
    const int last = m_list->count() - 1;
    switch (key) {
    case Qt::Key_Down:
        m_list->setCurrentRow(std::min(row + 1, last));
        return true;
    case Qt::Key_Up:
        m_list->setCurrentRow(std::max(row - 1, 0));
        return true;
    case Qt::Key_PageDown:
        m_list->setCurrentRow(std::min(row + 10, last));
        return true;
    case Qt::Key_PageUp:
        m_list->setCurrentRow(std::max(row - 10, 0));
        return true;
    default:
        return false;
    }
}

bool Palette::eventFilter(QObject* object, QEvent* event)
{
    if (object == m_input && event->type() == QEvent::FocusOut && isVisible()) {
        const QWidget* now = QApplication::focusWidget();
        if (now == nullptr || !isAncestorOf(now)) {
            dismiss();
        }
    }
    if (object == m_input && event->type() == QEvent::KeyPress) {
        const auto* key = static_cast<QKeyEvent*>(event);
        switch (key->key()) {
        case Qt::Key_Escape:
            dismiss();
            parentWidget()->setFocus();
            return true;
        case Qt::Key_Return:
        case Qt::Key_Enter:
            runCurrent();
            return true;
        case Qt::Key_C:
            if (key->modifiers() == Qt::ControlModifier && !m_input->hasSelectedText()) {
                copyCurrent();
                return true;
            }
            break;
        default:
            if (moveBy(key->key())) {
                return true;
            }
        }
    }
    return QFrame::eventFilter(object, event);
}

} // namespace rankwise::common
