// SPDX-License-Identifier: Apache-2.0
#include "app/gui/session_actions.h"

#include "widgets/bridge/text.h"

#include <QHBoxLayout>
#include <QInputDialog>
#include <QLabel>
#include <QListWidget>
#include <QMenu>
#include <QMessageBox>
#include <QPushButton>
#include <QVBoxLayout>

namespace rankwise::gui {

namespace {

QString commandLineOf(const QString& session)
{
    return QStringLiteral("rankwise gui --session ") + bridge::shellWord(session);
}

} // namespace

SessionActions::SessionActions(Sessions& sessions, QWidget& window)
    : QObject(&window), m_sessions(sessions), m_window(window)
{
}

void SessionActions::addCommands(bridge::CommandRegistry& commands)
{
    m_commands = &commands;
    const auto add = [&](const char* id, const QString& text, const char* key, const QString& help,
                         std::function<void()> run, std::function<QString()> commandLine = {}) {
        commands.add({ .id = QLatin1String(id),
                       .category = tr("Session"),
                       .text = text,
                       .key = QLatin1String(key),
                       .help = help,
                       .run = std::move(run),
                       .commandLine = std::move(commandLine) });
    };
    add(
        "file.save_session", tr("Save session"), "Ctrl+S", tr("Sessions are saved by themselves as well"),
        [this] {
            m_sessions.save();
            Q_EMIT m_sessions.message(tr("Saved session “%1”").arg(m_sessions.name()));
        },
        [this] { return commandLineOf(m_sessions.name()); });
    add("session.save_as", tr("Save session as…"), "Ctrl+Shift+S",
        tr("The window goes on under another name; the session before stays as it is"), [this] { askSaveAs(); });
    add("session.new", tr("New session…"), "Ctrl+Shift+N", tr("An empty one, in this window"), [this] { askNew(); });
    add("session.manage", tr("Sessions…"), "Ctrl+Shift+O", tr("All sessions: go to one, rename, delete"),
        [this] { showDialog(); });
    add("session.rename", tr("Rename session…"), "", tr("Gives the session of this window another name"),
        [this] { askRename(m_sessions.name()); });
}

void SessionActions::fillMenu(QMenu& menu) const
{
    menu.clear();
    QAction* current = menu.addAction(tr("%1 (this window)").arg(m_sessions.name()));
    current->setEnabled(false);
    for (const QString& name : m_sessions.names()) {
        if (name != m_sessions.name()) {
            QAction* other = menu.addAction(name, this, [this, name] { m_sessions.switchTo(name); });
            other->setStatusTip(tr("Saves this session and goes to “%1”").arg(name));
        }
    }
}

common::PaletteSource SessionActions::paletteSource()
{
    QVector<common::PaletteEntry> entries;
    for (const QString& name : m_sessions.names()) {
        if (name != m_sessions.name()) {
            const auto line = [name] { return commandLineOf(name); };
            entries.push_back({ .text = name,
                                .category = tr("Session"),
                                .key = {},
                                .run = [this, name] { m_sessions.switchTo(name); },
                                .command = line });
            entries.push_back({ .text = name,
                                .category = tr("Delete session"),
                                .key = {},
                                .run = [this, name] { askDelete(name); },
                                .command = {} });
        }
    }
    return common::paletteSource(std::move(entries));
}

void SessionActions::ask(const QString& title, const QString& label, const QString& proposal,
                         std::function<void(const QString&)> done)
{
    auto* dialog = new QInputDialog(&m_window);
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setObjectName(QStringLiteral("session.name"));
    dialog->setWindowTitle(title);
    dialog->setLabelText(label);
    dialog->setTextValue(proposal);
    connect(dialog, &QInputDialog::textValueSelected, this,
            [done = std::move(done)](const QString& name) { done(name.trimmed()); });
    dialog->open();
}

void SessionActions::askSaveAs()
{
    ask(tr("Save session as"), tr("Name of the session:"), m_sessions.name(),
        [this](const QString& name) { m_sessions.saveAs(name); });
}

void SessionActions::askNew()
{
    ask(tr("New session"), tr("Name of the new session:"), QString(),
        [this](const QString& name) { m_sessions.create(name); });
}

void SessionActions::askRename(const QString& name)
{
    ask(tr("Rename session"), tr("New name of “%1”:").arg(name), name,
        [this, name](const QString& to) { m_sessions.rename(name, to); });
}

void SessionActions::askDelete(const QString& name)
{
    if (name == m_sessions.name()) {
        m_sessions.remove(name); // Refused with its reason.
        return;
    }
    auto* box =
        new QMessageBox(QMessageBox::Question, tr("Delete session"),
                        tr("Delete the session “%1”? What was open in it stays where it is on the disk.").arg(name),
                        QMessageBox::Cancel, &m_window);
    box->setAttribute(Qt::WA_DeleteOnClose);
    box->setObjectName(QStringLiteral("session.delete"));
    QPushButton* yes = box->addButton(tr("Delete"), QMessageBox::DestructiveRole);
    yes->setObjectName(QStringLiteral("session.delete.yes"));
    box->setDefaultButton(QMessageBox::Cancel);
    connect(yes, &QPushButton::clicked, this, [this, name] { m_sessions.remove(name); });
    box->open();
}

void SessionActions::showDialog()
{
    m_sessions.refreshNames();
    auto* dialog = m_window.findChild<SessionsDialog*>();
    if (dialog == nullptr) {
        dialog = new SessionsDialog(m_sessions, *this, &m_window);
    }
    dialog->show();
    dialog->raise();
    dialog->activateWindow();
}

SessionsDialog::SessionsDialog(Sessions& sessions, SessionActions& actions, QWidget* parent)
    : QDialog(parent), m_sessions(sessions), m_list(new QListWidget), m_open(new QPushButton(tr("Go to"))),
      m_rename(new QPushButton(tr("Rename…"))), m_delete(new QPushButton(tr("Delete…")))
{
    setWindowTitle(tr("Sessions"));
    setAttribute(Qt::WA_DeleteOnClose);
    resize(460, 320);
    m_list->setAccessibleName(tr("Sessions"));
    auto* create = new QPushButton(tr("New…"));
    auto* saveAs = new QPushButton(tr("Save as…"));
    auto* buttons = new QVBoxLayout;
    for (QPushButton* button : { m_open, m_rename, m_delete, create, saveAs }) {
        button->setAutoDefault(false);
        buttons->addWidget(button);
    }
    m_open->setDefault(true);
    buttons->addStretch();
    auto* layout = new QHBoxLayout(this);
    layout->addWidget(m_list, 1);
    layout->addLayout(buttons);
    connect(m_open, &QPushButton::clicked, this, [this] {
        m_sessions.switchTo(current());
        close();
    });
    connect(m_list, &QListWidget::itemDoubleClicked, m_open, &QPushButton::click);
    connect(m_rename, &QPushButton::clicked, &actions, [this, &actions] { actions.askRename(current()); });
    connect(m_delete, &QPushButton::clicked, &actions, [this, &actions] { actions.askDelete(current()); });
    connect(create, &QPushButton::clicked, &actions, &SessionActions::askNew);
    connect(saveAs, &QPushButton::clicked, &actions, &SessionActions::askSaveAs);
    connect(m_list, &QListWidget::currentItemChanged, this, &SessionsDialog::refreshButtons);
    connect(&sessions, &Sessions::changed, this, &SessionsDialog::refill);
    refill();
}

QString SessionsDialog::current() const
{
    const QListWidgetItem* item = m_list->currentItem();
    return item == nullptr ? QString() : item->data(Qt::UserRole).toString();
}

void SessionsDialog::refill()
{
    const QString before = current();
    m_list->clear();
    QStringList names = m_sessions.names();
    if (!names.contains(m_sessions.name())) {
        names.prepend(m_sessions.name());
    }
    for (const QString& name : std::as_const(names)) {
        auto* item = new QListWidgetItem(name == m_sessions.name() ? tr("%1 (this window)").arg(name) : name, m_list);
        item->setData(Qt::UserRole, name);
        if (name == before || m_list->currentItem() == nullptr) {
            m_list->setCurrentItem(item);
        }
    }
    refreshButtons();
}

void SessionsDialog::refreshButtons()
{
    const bool other = !current().isEmpty() && current() != m_sessions.name();
    m_open->setEnabled(other);
    m_rename->setEnabled(!current().isEmpty());
    m_delete->setEnabled(other);
}

} // namespace rankwise::gui
