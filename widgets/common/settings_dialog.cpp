// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/settings_dialog.h"

#include "widgets/bridge/text.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFileDialog>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QScrollArea>
#include <QSignalBlocker>
#include <QSpinBox>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>

namespace rankwise::common {

using bridge::SettingKind;
using bridge::SettingSpec;

SettingsDialog::SettingsDialog(bridge::Settings& settings, bridge::CommandRegistry& commands, QWidget* parent)
    : QDialog(parent), m_settings(settings), m_commands(commands), m_search(new QLineEdit), m_area(new QScrollArea),
      m_nothing(new QLabel(tr("There is no setting of that name.")))
{
    setWindowTitle(tr("Settings"));
    setAttribute(Qt::WA_DeleteOnClose);
    setModal(false);
    resize(680, 460);
    m_search->setPlaceholderText(tr("Search settings"));
    m_search->setAccessibleName(tr("Search settings"));
    m_search->setClearButtonEnabled(true);
    auto* page = new QWidget;
    auto* rows = new QVBoxLayout(page);
    for (const SettingSpec& spec : bridge::settingList()) {
        if (m_headings.empty() || m_headings.back()->objectName() != spec.group) {
            auto* heading = new QLabel(spec.group);
            heading->setObjectName(spec.group);
            heading->setProperty("role", QStringLiteral("heading"));
            m_headings.push_back(heading);
            rows->addWidget(heading);
        }
        addRow(*rows, spec);
    }
    m_nothing->setProperty("role", QStringLiteral("dim"));
    rows->addWidget(m_nothing);
    rows->addStretch();
    m_area->setWidget(page);
    m_area->setWidgetResizable(true);
    m_area->setFrameShape(QFrame::NoFrame);
    auto* close = new QPushButton(tr("Close"));
    close->setAutoDefault(false);
    auto* bottom = new QHBoxLayout;
    auto* hint = new QLabel(tr("Changes apply at once."));
    hint->setProperty("role", QStringLiteral("dim"));
    bottom->addWidget(hint);
    bottom->addStretch();
    bottom->addWidget(close);
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(m_search);
    layout->addWidget(m_area, 1);
    layout->addLayout(bottom);
    connect(m_search, &QLineEdit::textChanged, this, &SettingsDialog::filter);
    connect(close, &QPushButton::clicked, this, &QDialog::close);
    connect(&settings, &bridge::Settings::changed, this, &SettingsDialog::refresh);
    filter({});
    refresh();
}

void SettingsDialog::addRow(QVBoxLayout& layout, const SettingSpec& spec)
{
    Row row { .spec = &spec, .box = new QWidget };
    auto* line = new QHBoxLayout(row.box);
    line->setContentsMargins(8, 2, 0, 2);
    auto* name = new QLabel(spec.text);
    name->setToolTip(spec.help);
    name->setMinimumWidth(190);
    line->addWidget(name);
    row.editor = makeEditor(row);
    if (row.editor != nullptr) {
        row.editor->setAccessibleName(spec.text);
        row.editor->setAccessibleDescription(spec.help);
        row.editor->setToolTip(spec.help);
        name->setBuddy(row.editor);
    }
    if (spec.note) {
        row.note = new QLabel;
        row.note->setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
        row.note->setAccessibleName(spec.text);
        line->addWidget(row.note);
    }
    if (row.editor != nullptr) {
        // What a wrapped editor stands in goes into the row.
        QWidget* whole = row.editor->parentWidget() != nullptr ? row.editor->parentWidget() : row.editor;
        line->addWidget(whole, spec.kind == SettingKind::Folder ? 1 : 0);
    }
    line->addStretch(spec.kind == SettingKind::Folder ? 0 : 1);
    if (spec.standard.isValid()) {
        row.reset = new QToolButton;
        row.reset->setText(tr("Reset"));
        row.reset->setAccessibleName(tr("Reset: %1").arg(spec.text));
        row.reset->setToolTip(tr("Puts back what was delivered"));
        connect(row.reset, &QToolButton::clicked, this, [this, &spec] { m_settings.reset(spec.key); });
        line->addWidget(row.reset);
    }
    layout.addWidget(row.box);
    m_rows.push_back(std::move(row));
}

QWidget* SettingsDialog::makeEditor(Row& row)
{
    const SettingSpec& spec = *row.spec;
    switch (spec.kind) {
    case SettingKind::Choice: {
        auto* box = new QComboBox;
        for (const bridge::SettingChoice& choice : spec.choices) {
            box->addItem(choice.text, choice.value);
        }
        row.refresh = [this, &spec, box] { box->setCurrentIndex(box->findData(m_settings.value(spec.key))); };
        connect(box, &QComboBox::activated, this,
                [this, &spec, box] { m_settings.setValue(spec.key, box->currentData()); });
        return box;
    }
    case SettingKind::Percent: {
        auto* box = new QSpinBox;
        box->setRange(qRound(spec.lowest * 100), qRound(spec.highest * 100));
        box->setSingleStep(qRound(spec.step * 100));
        box->setSuffix(tr(" %"));
        box->setKeyboardTracking(false); // A text size of 1 % on the way to 120 % helps nobody.
        row.refresh = [this, &spec, box] {
            const QSignalBlocker quiet(box);
            box->setValue(qRound(m_settings.value(spec.key).toDouble() * 100));
        };
        connect(box, &QSpinBox::valueChanged, this,
                [this, &spec](int percent) { m_settings.setValue(spec.key, percent / 100.0); });
        return box;
    }
    case SettingKind::Toggle: {
        auto* box = new QCheckBox;
        row.refresh = [this, &spec, box] { box->setChecked(m_settings.value(spec.key).toBool()); };
        connect(box, &QCheckBox::clicked, this, [this, &spec](bool on) { m_settings.setValue(spec.key, on); });
        return box;
    }
    case SettingKind::Folder:
        return makeFolder(row);
    case SettingKind::Action: {
        const bridge::Command* command = m_commands.find(spec.command);
        auto* button = new QPushButton(command != nullptr ? command->text : spec.text);
        button->setAutoDefault(false);
        row.refresh = [this, &spec, button] { button->setEnabled(m_commands.isEnabled(spec.command)); };
        connect(button, &QPushButton::clicked, this, [this, &spec] { m_commands.trigger(spec.command); });
        return button;
    }
    case SettingKind::Note:
        break;
    }
    return nullptr;
}

QWidget* SettingsDialog::makeFolder(Row& row)
{
    const SettingSpec& spec = *row.spec;
    auto* whole = new QWidget;
    auto* line = new QHBoxLayout(whole);
    line->setContentsMargins(0, 0, 0, 0);
    auto* edit = new QLineEdit;
    auto* browse = new QPushButton(tr("Choose…"));
    browse->setAutoDefault(false);
    browse->setAccessibleName(tr("Choose: %1").arg(spec.text));
    line->addWidget(edit, 1);
    line->addWidget(browse);
    row.refresh = [this, &spec, edit] {
        const QString shown = bridge::shownPath(m_settings.value(spec.key).toString());
        if (!edit->hasFocus() || edit->text() != shown) {
            edit->setText(shown);
        }
    };
    connect(edit, &QLineEdit::editingFinished, this, [this, &spec, edit] {
        const QString folder = bridge::expandedPath(edit->text().trimmed());
        if (folder.isEmpty()) {
            m_settings.reset(spec.key);
        } else if (folder != m_settings.value(spec.key).toString()) {
            m_settings.setValue(spec.key, folder);
        }
    });
    connect(browse, &QPushButton::clicked, this, [this, &spec] {
        auto* dialog = new QFileDialog(this, spec.text, m_settings.value(spec.key).toString());
        dialog->setAttribute(Qt::WA_DeleteOnClose);
        dialog->setFileMode(QFileDialog::Directory);
        connect(dialog, &QFileDialog::fileSelected, this,
                [this, &spec](const QString& folder) { m_settings.setValue(spec.key, folder); });
        dialog->open();
    });
    return edit;
}

void SettingsDialog::refresh()
{
    for (const Row& row : m_rows) {
        if (row.refresh) {
            row.refresh();
        }
        if (row.note != nullptr) {
            row.note->setText(row.spec->note(m_settings));
        }
        if (row.reset != nullptr) {
            row.reset->setEnabled(!m_settings.isStandard(row.spec->key));
        }
    }
}

void SettingsDialog::filter(const QString& words)
{
    bool any = false;
    for (const Row& row : m_rows) {
        const SettingSpec& spec = *row.spec;
        QStringList text { spec.group, spec.text, spec.help, spec.key };
        for (const bridge::SettingChoice& choice : spec.choices) {
            text << choice.text;
        }
        const QString all = text.join(QLatin1Char(' '));
        const QStringList wanted = words.split(QLatin1Char(' '), Qt::SkipEmptyParts);
        row.box->setVisible(std::all_of(wanted.begin(), wanted.end(),
                                        [&](const QString& word) { return all.contains(word, Qt::CaseInsensitive); }));
        any = any || !row.box->isHidden();
    }
    for (QLabel* heading : m_headings) {
        heading->setVisible(std::any_of(m_rows.begin(), m_rows.end(), [&](const Row& row) {
            return row.spec->group == heading->objectName() && !row.box->isHidden();
        }));
    }
    m_nothing->setVisible(!any);
}

void SettingsDialog::showSetting(const QString& key)
{
    m_search->clear();
    const Row* row = find(key);
    if (row == nullptr) {
        m_search->setFocus();
        return;
    }
    m_area->ensureWidgetVisible(row->box);
    QWidget* focus = row->editor != nullptr ? row->editor : static_cast<QWidget*>(row->note);
    focus->setFocus(Qt::ShortcutFocusReason);
}

const SettingsDialog::Row* SettingsDialog::find(const QString& key) const
{
    const auto found = std::find_if(m_rows.begin(), m_rows.end(), [&](const Row& row) { return row.spec->key == key; });
    return found == m_rows.end() ? nullptr : &*found;
}

QWidget* SettingsDialog::editor(const QString& key) const
{
    const Row* row = find(key);
    return row == nullptr ? nullptr : row->editor;
}

QToolButton* SettingsDialog::resetButton(const QString& key) const
{
    const Row* row = find(key);
    return row == nullptr ? nullptr : row->reset;
}

} // namespace rankwise::common
