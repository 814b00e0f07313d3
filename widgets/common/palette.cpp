// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/palette.h"

#include <QApplication>
#include <QClipboard>
#include <QKeyEvent>
#include <QLabel>
#include <QLineEdit>
#include <QListWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <optional>

namespace rankwise::common {

namespace {
constexpr int kMaxShown = 60;
}

namespace {

std::optional<int> wordScore(const QString& query, const QString& text)
{
    const qsizetype whole = text.indexOf(query, 0, Qt::CaseInsensitive);
    if (whole >= 0) {
        const bool wordStart = whole == 0 || !text[whole - 1].isLetterOrNumber();
        return 1000 - static_cast<int>(std::min<qsizetype>(whole, 100)) + (wordStart ? 500 : 0);
    }
    int score = 0;
    qsizetype at = 0;
    for (const QChar letter : query) {
        const qsizetype found = text.indexOf(letter, at, Qt::CaseInsensitive);
        if (found < 0) {
            return std::nullopt;
        }
        const bool wordStart = found == 0 || !text[found - 1].isLetterOrNumber();
        score += (wordStart ? 20 : 0) + (found == at ? 10 : 0) - static_cast<int>(std::min<qsizetype>(found - at, 10));
        at = found + 1;
    }
    return score;
}

} // namespace

std::optional<int> fuzzyScore(const QString& query, const QString& text)
{
    int sum = 0;
    const QStringList words = query.split(QLatin1Char(' '), Qt::SkipEmptyParts);
    for (const QString& word : words) {
        const auto score = wordScore(word, text);
        if (!score) {
            return std::nullopt;
        }
        sum += *score;
    }
    return sum;
}

Palette::Palette(QWidget* window) : QFrame(window), m_input(new QLineEdit), m_list(new QListWidget)
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
    auto* hint = new QLabel(tr("Enter runs · Ctrl+C copies as command · Esc closes"));
    hint->setProperty("role", QStringLiteral("dim"));
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(m_input);
    layout->addWidget(m_list);
    layout->addWidget(hint);
    m_input->installEventFilter(this);
    connect(m_input, &QLineEdit::textChanged, this, &Palette::refill);
    connect(m_list, &QListWidget::itemClicked, this, &Palette::runCurrent);
    hide();
}

void Palette::openPalette()
{
    m_entries = m_source ? m_source() : QVector<PaletteEntry>();
    const QSize area = parentWidget()->size();
    const QSize size(std::min(720, area.width() - 40), std::min(460, area.height() - 80));
    setGeometry((area.width() - size.width()) / 2, 48, size.width(), size.height());
    m_input->clear();
    refill();
    show();
    raise();
    m_input->setFocus();
}

void Palette::refill()
{
    const QString query = m_input->text().trimmed();
    std::vector<std::pair<int, qsizetype>> found;
    for (qsizetype i = 0; i < m_entries.size(); ++i) {
        const PaletteEntry& entry = m_entries[i];
        if (const auto score = fuzzyScore(query, entry.category + QLatin1Char(' ') + entry.text)) {
            // A match in the text itself beats one in the category.
            const int own = fuzzyScore(query, entry.text).value_or(0);
            found.emplace_back(*score + 2 * own - (entry.enabled ? 0 : 400), i);
        }
    }
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    m_list->clear();
    for (std::size_t n = 0; n < found.size() && n < kMaxShown; ++n) {
        const PaletteEntry& entry = m_entries[found[n].second];
        QString text = QStringLiteral("%1:  %2").arg(entry.category, entry.text);
        if (!entry.key.isEmpty()) {
            text += QStringLiteral("    [%1]").arg(entry.key);
        }
        auto* item = new QListWidgetItem(text, m_list);
        item->setData(Qt::UserRole, found[n].second);
        if (!entry.enabled) {
            item->setForeground(palette().color(QPalette::Disabled, QPalette::Text));
        }
    }
    m_list->setCurrentRow(0);
}

void Palette::runCurrent()
{
    QListWidgetItem* item = m_list->currentItem();
    if (item == nullptr) {
        return;
    }
    const PaletteEntry entry = m_entries[item->data(Qt::UserRole).toLongLong()];
    if (!entry.enabled) {
        Q_EMIT message(tr("“%1” is not possible at present.").arg(entry.text));
        return;
    }
    hide();
    parentWidget()->setFocus();
    if (entry.run) {
        entry.run();
    }
}

void Palette::copyCurrent()
{
    QListWidgetItem* item = m_list->currentItem();
    if (item == nullptr) {
        return;
    }
    const PaletteEntry& entry = m_entries[item->data(Qt::UserRole).toLongLong()];
    if (!entry.command.isEmpty()) {
        QApplication::clipboard()->setText(entry.command);
        Q_EMIT message(tr("Copied: %1").arg(entry.command));
    }
}

bool Palette::eventFilter(QObject* object, QEvent* event)
{
    if (object == m_input && event->type() == QEvent::FocusOut && isVisible()) {
        const QWidget* now = QApplication::focusWidget();
        if (now == nullptr || !isAncestorOf(now)) {
            hide();
        }
    }
    if (object == m_input && event->type() == QEvent::KeyPress) {
        const auto* key = static_cast<QKeyEvent*>(event);
        const int row = m_list->currentRow();
        switch (key->key()) {
        case Qt::Key_Escape:
            hide();
            parentWidget()->setFocus();
            return true;
        case Qt::Key_Return:
        case Qt::Key_Enter:
            runCurrent();
            return true;
        case Qt::Key_Down:
            m_list->setCurrentRow(std::min(row + 1, m_list->count() - 1));
            return true;
        case Qt::Key_Up:
            m_list->setCurrentRow(std::max(row - 1, 0));
            return true;
        case Qt::Key_PageDown:
            m_list->setCurrentRow(std::min(row + 10, m_list->count() - 1));
            return true;
        case Qt::Key_PageUp:
            m_list->setCurrentRow(std::max(row - 10, 0));
            return true;
        case Qt::Key_C:
            if (key->modifiers() == Qt::ControlModifier && !m_input->hasSelectedText()) {
                copyCurrent();
                return true;
            }
            break;
        default:
            break;
        }
    }
    return QFrame::eventFilter(object, event);
}

} // namespace rankwise::common
