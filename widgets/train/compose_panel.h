// Compose a run: a form made from the configuration's description, the pre-flight card, and the start.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/config_form.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/workspace.h"

#include <QHash>
#include <QWidget>

class QFormLayout;
class QGroupBox;
class QLabel;
class QLineEdit;
class QPlainTextEdit;
class QPushButton;
class QUndoStack;

namespace rankwise::train_view {

class ComposePanel : public QWidget {
    Q_OBJECT

public:
    ComposePanel(bridge::Workspace& workspace, bridge::Settings& settings, QUndoStack& undo, QWidget* parent = nullptr);

    [[nodiscard]] bridge::ConfigForm& form() { return *m_form; }
    [[nodiscard]] QLineEdit* nameEdit() const { return m_name; }
    void start();
    /// The shell line that start() amounts to.
    [[nodiscard]] QString commandLine() const;

Q_SIGNALS:
    void started(const QString& run);
    void message(const QString& text);

private:
    void build();
    QWidget* makeEditor(const bridge::FormField& field);
    void setFromUser(const QString& name, const QString& given);
    void refreshField(const QString& name);
    void refreshActive();
    void refreshCard();
    void checkConfiguration();
    void runPreflight();

    struct Row {
        QFormLayout* layout = nullptr;
        QWidget* editor = nullptr;
        QLabel* label = nullptr;
    };
    bridge::Workspace& m_workspace;
    bridge::Settings& m_settings;
    QUndoStack& m_undo;
    bridge::ConfigForm* m_form;
    QHash<QString, Row> m_rows;
    QLineEdit* m_name;
    QLabel* m_card;
    QLabel* m_preflight;
    QPushButton* m_start;
    QPushButton* m_check;
    bool m_updating = false;
};

} // namespace rankwise::train_view
