// SPDX-License-Identifier: Apache-2.0
#include "app/gui/shell_commands.h"

#include "app/gui/dialogs.h"
#include "app/gui/main_window.h"
#include "widgets/common/palette.h"

#include <QUndoStack>

namespace rankwise::gui {

namespace {

/// Adds commands of one category.
class Adder {
public:
    Adder(bridge::CommandRegistry& commands, QString category) : m_commands(commands), m_category(std::move(category))
    {
    }
    void operator()(const char* id, const QString& text, const char* key, const QString& help,
                    std::function<void()> run, std::function<bool()> enabled = {}) const
    {
        m_commands.add({ .id = QLatin1String(id),
                         .category = m_category,
                         .text = text,
                         .key = QLatin1String(key),
                         .help = help,
                         .run = std::move(run),
                         .enabled = std::move(enabled) });
    }

private:
    bridge::CommandRegistry& m_commands;
    QString m_category;
};

void addFileCommands(MainWindow& window)
{
    const Adder add(window.commands(), MainWindow::tr("File"));
    add("file.open", MainWindow::tr("Open…"), "Ctrl+O",
        MainWindow::tr("Open a run, dataset, checkpoint or adapter folder"), [&window] { window.dialogs().askOpen(); });
    add(
        "file.close", MainWindow::tr("Close the selected item"), "Ctrl+W",
        MainWindow::tr("Only here: a worker goes on, files stay. Can be undone"),
        [&window] { window.closeItem(window.itemInView()); }, [&window] { return !window.itemInView().isEmpty(); });
    add(
        "file.clear_recent", MainWindow::tr("Clear the list of recent items"), "", {},
        [&window] { window.settings().clearRecent(); }, [&window] { return !window.settings().recent().isEmpty(); });
    add("file.quit", MainWindow::tr("Quit"), "Ctrl+Q",
        MainWindow::tr("Training goes on; everything comes back with the session"), [&window] { window.close(); });
}

/// "Undo Hide Jobs": both say what they would do, wherever they stand.
void addUndoCommands(MainWindow& window)
{
    const Adder add(window.commands(), MainWindow::tr("Edit"));
    QUndoStack& undo = window.undoStack();
    add(
        "edit.undo", MainWindow::tr("Undo"), "Ctrl+Z",
        MainWindow::tr("Edits of data, layout and plans; robot motion cannot be undone"),
        [&window] {
            window.layoutHistory().settle();
            window.undoStack().undo();
        },
        [&window, &undo] { return undo.canUndo() || window.layoutHistory().pending(); });
    add(
        "edit.redo", MainWindow::tr("Redo"), "Ctrl+Shift+Z", {}, [&undo] { undo.redo(); },
        [&undo] { return undo.canRedo(); });
    const auto name = [&window](const char* id, const QString& verb, const QString& what) {
        window.commands().setText(QLatin1String(id), what.isEmpty() ? verb : verb + QStringLiteral(": ") + what);
        window.commands().refresh();
    };
    QObject::connect(&undo, &QUndoStack::undoTextChanged, &window.commands(),
                     [name](const QString& what) { name("edit.undo", MainWindow::tr("Undo"), what); });
    QObject::connect(&undo, &QUndoStack::redoTextChanged, &window.commands(),
                     [name](const QString& what) { name("edit.redo", MainWindow::tr("Redo"), what); });
}

void addViewCommands(MainWindow& window)
{
    const Adder add(window.commands(), MainWindow::tr("View"));
    const auto zoom = [&window](double factor) {
        return [&window, factor] { window.settings().setZoom(factor > 0 ? window.settings().zoom() * factor : 1); };
    };
    add("palette.open", MainWindow::tr("Find anything"), "Ctrl+K",
        MainWindow::tr("Actions, layers, runs, episodes, sessions and settings"),
        [&window] { window.palettePopup().openPalette(); });
    add("zoom.in", MainWindow::tr("Larger text"), "Ctrl+=", {}, zoom(1.1));
    add("zoom.out", MainWindow::tr("Smaller text"), "Ctrl+-", {}, zoom(1 / 1.1));
    add("zoom.reset", MainWindow::tr("Normal text size"), "Ctrl+0", {}, zoom(0));
    add("layout.reset", MainWindow::tr("Reset layout"), "", MainWindow::tr("Puts all docks where they were delivered"),
        [&window] {
            window.layoutHistory().change(MainWindow::tr("Reset layout"), [&window] { window.resetLayout(); });
        });
}

void addHelpCommands(MainWindow& window)
{
    const Adder add(window.commands(), MainWindow::tr("Help"));
    add("help.keys", MainWindow::tr("Actions and keys"), "F1",
        MainWindow::tr("Every action with its key and command line"), [&window] { window.dialogs().showShortcuts(); });
    add("help.about", MainWindow::tr("About Rankwise"), "", {}, [&window] { window.dialogs().showAbout(); });
}

} // namespace

void addShellCommands(MainWindow& window)
{
    addFileCommands(window);
    addUndoCommands(window);
    addViewCommands(window);
    addHelpCommands(window);
}

} // namespace rankwise::gui
