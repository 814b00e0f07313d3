// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/shortcut_sheet.h"

#include <QApplication>
#include <QClipboard>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QKeySequenceEdit>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QTreeWidget>
#include <QVBoxLayout>

#include <algorithm>

namespace rankwise::common {

ShortcutSheet::ShortcutSheet(bridge::CommandRegistry& registry, QWidget* parent)
    : QDialog(parent), m_registry(registry), m_tree(new QTreeWidget), m_edit(new QKeySequenceEdit),
      m_apply(new QPushButton(tr("Set key")))
{
    setWindowTitle(tr("Actions and keys"));
    setAttribute(Qt::WA_DeleteOnClose);
    resize(760, 560);
    auto* search = new QLineEdit;
    search->setPlaceholderText(tr("Search actions, keys and explanations"));
    search->setAccessibleName(tr("Search actions"));
    m_tree->setColumnCount(3);
    m_tree->setHeaderLabels({ tr("Action"), tr("Key"), tr("As command") });
    m_tree->setRootIsDecorated(true);
    m_tree->setAccessibleName(tr("Actions and keys"));
    m_tree->header()->resizeSection(0, 300);
    m_tree->header()->resizeSection(1, 110);
    m_edit->setAccessibleName(tr("New key"));
    auto* clear = new QPushButton(tr("No key"));
    auto* one = new QPushButton(tr("As delivered"));
    one->setToolTip(tr("The key of the selected action as it was delivered"));
    auto* reset = new QPushButton(tr("All keys as delivered"));
    auto* copy = new QPushButton(tr("Copy as command"));
    auto* bottom = new QHBoxLayout;
    bottom->addWidget(new QLabel(tr("Key of the selected action:")));
    bottom->addWidget(m_edit);
    bottom->addWidget(m_apply);
    bottom->addWidget(clear);
    bottom->addWidget(one);
    bottom->setStretch(1, 1);
    auto* all = new QHBoxLayout;
    all->addWidget(copy);
    all->addStretch();
    all->addWidget(reset);
    for (QPushButton* button : { m_apply, clear, one, copy, reset }) {
        button->setAutoDefault(false); // Return in the search changes no key.
    }
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(search);
    layout->addWidget(m_tree, 1);
    layout->addLayout(bottom);
    layout->addLayout(all);

    connect(search, &QLineEdit::textChanged, this, [this](const QString& text) {
        m_filter = text;
        refill();
    });
    connect(m_tree, &QTreeWidget::currentItemChanged, this, [this] {
        m_edit->setKeySequence(QKeySequence::fromString(m_registry.key(currentId()), QKeySequence::PortableText));
    });
    connect(m_apply, &QPushButton::clicked, this,
            [this] { giveKey(m_edit->keySequence().toString(QKeySequence::PortableText)); });
    connect(clear, &QPushButton::clicked, this, [this] { giveKey({}); });
    connect(one, &QPushButton::clicked, this, [this] {
        if (const bridge::Command* command = m_registry.find(currentId())) {
            giveKey(command->key);
        }
    });
    connect(reset, &QPushButton::clicked, this, [this] { m_registry.resetKeys(); });
    connect(copy, &QPushButton::clicked, this, [this] {
        if (!currentId().isEmpty()) {
            QApplication::clipboard()->setText(m_registry.commandLine(currentId()));
            Q_EMIT message(tr("Copied: %1").arg(m_registry.commandLine(currentId())));
        }
    });
    connect(&registry, &bridge::CommandRegistry::keysChanged, this, &ShortcutSheet::refill);
    refill();
}

/// A key has one owner; who loses it is told.
void ShortcutSheet::giveKey(const QString& key)
{
    const QString id = currentId();
    if (id.isEmpty()) {
        return;
    }
    QString loser;
    for (const bridge::Command& other : m_registry.commands()) {
        if (!key.isEmpty() && other.id != id && m_registry.key(other.id) == key) {
            loser = other.text;
        }
    }
    m_registry.setKey(id, key);
    const QString text = m_registry.find(id)->text;
    Q_EMIT message(key.isEmpty()         ? tr("“%1” has no key now").arg(text)
                       : loser.isEmpty() ? tr("“%1” has the key %2").arg(text, key)
                                         : tr("“%1” has the key %2; “%3” has none now").arg(text, key, loser));
}

QString ShortcutSheet::currentId() const
{
    const QTreeWidgetItem* item = m_tree->currentItem();
    return item == nullptr ? QString() : item->data(0, Qt::UserRole).toString();
}

void ShortcutSheet::refill()
{
    const QString current = currentId();
    m_tree->clear();
    QHash<QString, QTreeWidgetItem*> groups;
    const QStringList words = m_filter.split(QLatin1Char(' '), Qt::SkipEmptyParts);
    for (const bridge::Command& command : m_registry.commands()) {
        const QString all =
            QStringList { command.category, command.text, command.help, command.id, m_registry.key(command.id) }.join(
                QLatin1Char(' '));
        if (!std::all_of(words.begin(), words.end(),
                         [&](const QString& word) { return all.contains(word, Qt::CaseInsensitive); })) {
            continue;
        }
        QTreeWidgetItem*& group = groups[command.category];
        if (group == nullptr) {
            group = new QTreeWidgetItem(m_tree, { command.category });
            group->setFirstColumnSpanned(true);
            group->setExpanded(true);
        }
        const QString key = QKeySequence::fromString(m_registry.key(command.id), QKeySequence::PortableText)
                                .toString(QKeySequence::NativeText);
        auto* item = new QTreeWidgetItem(group, { command.text, key, m_registry.commandLine(command.id) });
        item->setData(0, Qt::UserRole, command.id);
        item->setToolTip(0, command.help);
        item->setToolTip(2, m_registry.commandLine(command.id));
        if (command.id == current) {
            m_tree->setCurrentItem(item);
        }
    }
}

} // namespace rankwise::common
