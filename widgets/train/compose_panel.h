// Compose a run: a form made from the configuration's description, the pre-flight card, and the start.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "widgets/bridge/config_form.h"
#include "widgets/bridge/settings.h"
#include "widgets/bridge/workspace.h"

#include <QHash>
#include <QPointer>
#include <QTimer>
#include <QWidget>

class QLabel;
class QLineEdit;
class QPushButton;
class QUndoStack;

namespace rankwise::train_view {

class PreflightCard;

class ComposePanel : public QWidget {
    Q_OBJECT

public:
    ComposePanel(bridge::Workspace& workspace, bridge::Settings& settings, QUndoStack& undo, QWidget* parent = nullptr);

    [[nodiscard]] bridge::ConfigForm& form() { return *m_form; }
    [[nodiscard]] QLineEdit* nameEdit() const { return m_name; }
    [[nodiscard]] PreflightCard& preflight() const { return *m_preflight; }
    /// What is told at a field; empty when it is right.
    [[nodiscard]] QString problemAt(const QString& field) const;
    /// Checks the composed run without training; the card tells what was found.
    void runPreflight();
    void start();
    /// The shell line that start() amounts to.
    [[nodiscard]] QString commandLine() const;

Q_SIGNALS:
    void started(const QString& run);
    void message(const QString& text);

private:
    void build();
    void takeItem(const bridge::WorkspaceItem& item);
    QWidget* makeEditor(const bridge::FormField& field);
    void setFromUser(const QString& name, const QString& given);
    void refreshField(const QString& name);
    void refreshActive();
    void refreshCard();
    void readPolicyConfig();
    void showProblems(const Result<Json>& config);
    [[nodiscard]] QWidget* makeCard();
    void loadConfiguration();

    struct Row {
        QWidget* cell = nullptr; ///< The editor with what is wrong below it.
        QWidget* editor = nullptr;
        QLabel* label = nullptr;
        QLabel* problem = nullptr;
    };
    bridge::Workspace& m_workspace;
    bridge::Settings& m_settings;
    QUndoStack& m_undo;
    bridge::ConfigForm* m_form;
    QHash<QString, Row> m_rows;
    QString m_ownPolicy; ///< The policy that comes with the program, which the form begins with.
    QLineEdit* m_name;
    QLabel* m_card;
    PreflightCard* m_preflight;
    QTimer m_cardDelay;
    QTimer m_policyDelay; ///< After the last change of the policy's path.
    QPushButton* m_start;
    QPushButton* m_check;
    QPointer<bridge::Job> m_checking;
    bool m_updating = false;
};

} // namespace rankwise::train_view
