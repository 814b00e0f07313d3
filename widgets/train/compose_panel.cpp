// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/compose_panel.h"

#include "backend/base/file.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDateTime>
#include <QDir>
#include <QFileDialog>
#include <QFileInfo>
#include <QFormLayout>
#include <QFrame>
#include <QGroupBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QProcess>
#include <QPushButton>
#include <QScrollArea>
#include <QSignalBlocker>
#include <QTimer>
#include <QUndoStack>
#include <QVBoxLayout>

#include <functional>

namespace rankwise::train_view {

using bridge::FormField;

namespace {

/// A change of one field; successive changes of the same field become one.
class FieldEdit : public QUndoCommand {
public:
    FieldEdit(bridge::ConfigForm& form, QString name, QString before, QString after)
        : m_form(form), m_name(std::move(name)), m_before(std::move(before)), m_after(std::move(after))
    {
        setText(QObject::tr("Change %1").arg(m_name));
    }
    void undo() override { m_form.setValue(m_name, m_before); }
    void redo() override { m_form.setValue(m_name, m_after); }
    [[nodiscard]] int id() const override { return 0x466f726d; }
    bool mergeWith(const QUndoCommand* other) override
    {
        const auto* next = dynamic_cast<const FieldEdit*>(other);
        if (next == nullptr || next->m_name != m_name) {
            return false;
        }
        m_after = next->m_after;
        setObsolete(m_after == m_before);
        return true;
    }

private:
    bridge::ConfigForm& m_form;
    QString m_name, m_before, m_after;
};

QString groupTitle(const QString& group)
{
    if (group == QLatin1String("policy")) {
        return QObject::tr("Policy");
    }
    if (group == QLatin1String("dataset")) {
        return QObject::tr("Dataset");
    }
    if (group == QLatin1String("method")) {
        return QObject::tr("Method");
    }
    if (group == QLatin1String("optimizer")) {
        return QObject::tr("Optimizer");
    }
    if (group == QLatin1String("schedule")) {
        return QObject::tr("Schedule");
    }
    if (group == QLatin1String("ema")) {
        return QObject::tr("Running average of the weights");
    }
    if (group == QLatin1String("preflight")) {
        return QObject::tr("Pre-flight");
    }
    return QObject::tr("Run");
}

QString defaultName()
{
    return QStringLiteral("run-") + QDateTime::currentDateTime().toString(QStringLiteral("yyyyMMdd-HHmmss"));
}

} // namespace

ComposePanel::ComposePanel(bridge::Workspace& workspace, bridge::Settings& settings, QUndoStack& undo, QWidget* parent)
    : QWidget(parent), m_workspace(workspace), m_settings(settings), m_undo(undo), m_form(new bridge::ConfigForm(this)),
      m_name(new QLineEdit(defaultName())), m_card(new QLabel), m_preflight(new QLabel),
      m_start(new QPushButton(tr("Start run"))), m_check(new QPushButton(tr("Pre-flight")))
{
    build();
    connect(m_form, &bridge::ConfigForm::changed, this, &ComposePanel::refreshField);
    connect(&workspace, &bridge::Workspace::itemAdded, this, [this](const bridge::WorkspaceItem& item) {
        // What is opened is what one wants to train on, unless something was chosen.
        if (item.kind == bridge::ItemKind::Dataset && m_form->value(QStringLiteral("dataset.path")).isEmpty()) {
            m_form->setValue(QStringLiteral("dataset.path"), item.path);
        }
        if (item.kind == bridge::ItemKind::Checkpoint && m_form->value(QStringLiteral("policy.path")).isEmpty()) {
            m_form->setValue(QStringLiteral("policy.path"), item.path);
        }
    });
    for (const FormField& field : m_form->fields()) {
        refreshField(field.name);
    }
    refreshActive();
    refreshCard();
}

void ComposePanel::build()
{
    auto* inner = new QWidget;
    auto* columns = new QHBoxLayout(inner);
    auto* left = new QVBoxLayout;
    auto* right = new QVBoxLayout;
    columns->addLayout(left, 1);
    columns->addLayout(right, 1);
    // The order of the columns is that of a reader: what, on what, how; then the details.
    const QStringList leftGroups { QStringLiteral("policy"), QStringLiteral("dataset"), QStringLiteral("method"),
                                   QStringLiteral("preflight") };
    QHash<QString, QFormLayout*> forms;
    for (const char* group : { "policy", "dataset", "method", "run", "optimizer", "schedule", "ema", "preflight" }) {
        auto* box = new QGroupBox(groupTitle(QLatin1String(group)));
        auto* form = new QFormLayout(box);
        form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
        forms.insert(QLatin1String(group), form);
        (leftGroups.contains(QLatin1String(group)) ? left : right)->addWidget(box);
    }
    for (const FormField& field : m_form->fields()) {
        QFormLayout*& form = forms[field.group];
        if (form == nullptr) {
            auto* box = new QGroupBox(groupTitle(field.group));
            form = new QFormLayout(box);
            form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
            (leftGroups.contains(field.group) ? left : right)->addWidget(box);
        }
        auto* label = new QLabel(field.label);
        label->setToolTip(field.help);
        QWidget* editor = makeEditor(field);
        editor->setToolTip(field.help);
        form->addRow(label, editor);
        label->setBuddy(editor);
        m_rows.insert(field.name, { form, editor, label });
    }
    left->addStretch();
    right->addStretch();
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    scroll->setWidget(inner);

    auto* card = new QFrame;
    card->setProperty("role", QStringLiteral("card"));
    card->setFixedWidth(270);
    auto* cardLayout = new QVBoxLayout(card);
    auto* heading = new QLabel(tr("This run"));
    heading->setProperty("role", QStringLiteral("heading"));
    m_card->setWordWrap(true);
    m_card->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_preflight->setWordWrap(true);
    m_preflight->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_name->setAccessibleName(tr("Name of the run"));
    auto* open = new QPushButton(tr("Load configuration…"));
    auto* reset = new QPushButton(tr("All defaults"));
    cardLayout->addWidget(heading);
    cardLayout->addWidget(new QLabel(tr("Name")));
    cardLayout->addWidget(m_name);
    cardLayout->addWidget(m_card);
    cardLayout->addWidget(m_preflight);
    cardLayout->addStretch();
    cardLayout->addWidget(open);
    cardLayout->addWidget(reset);
    cardLayout->addWidget(m_check);
    cardLayout->addWidget(m_start);
    m_start->setDefault(true);
    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addWidget(scroll, 1);
    layout->addWidget(card);

    connect(m_start, &QPushButton::clicked, this, &ComposePanel::start);
    connect(m_check, &QPushButton::clicked, this, &ComposePanel::runPreflight);
    connect(m_name, &QLineEdit::textChanged, this, &ComposePanel::refreshCard);
    connect(reset, &QPushButton::clicked, this, [this] { m_form->clear(); });
    connect(open, &QPushButton::clicked, this, [this] {
        auto* dialog = new QFileDialog(this, tr("Load configuration"), QString(), tr("JSON (*.json)"));
        dialog->setAttribute(Qt::WA_DeleteOnClose);
        dialog->setFileMode(QFileDialog::ExistingFile);
        connect(dialog, &QFileDialog::fileSelected, this, [this](const QString& file) {
            const auto json = readJsonFile(bridge::toPath(file));
            if (!json) {
                Q_EMIT message(bridge::errorSentence(json.error()));
                return;
            }
            // run.json holds the configuration inside.
            m_form->load(json->contains("config") ? (*json)["config"] : *json);
            Q_EMIT message(tr("Took over %1").arg(file));
        });
        dialog->open();
    });
}

QWidget* ComposePanel::makeEditor(const FormField& field)
{
    const QString name = field.name;
    if (field.kind == FormField::Kind::Boolean) {
        auto* box = new QCheckBox;
        connect(box, &QCheckBox::toggled, this,
                [this, name](bool on) { setFromUser(name, on ? QStringLiteral("true") : QStringLiteral("false")); });
        box->setAccessibleName(field.label);
        return box;
    }
    if (field.kind == FormField::Kind::Choice) {
        auto* combo = new QComboBox;
        combo->addItems(field.choices);
        combo->setAccessibleName(field.label);
        connect(combo, &QComboBox::currentTextChanged, this,
                [this, name](const QString& text) { setFromUser(name, text); });
        return combo;
    }
    auto* edit = new QLineEdit;
    edit->setAccessibleName(field.label);
    edit->setMinimumWidth(60);
    if (field.kind == FormField::Kind::Json) {
        edit->setPlaceholderText(tr("JSON"));
    }
    connect(edit, &QLineEdit::textEdited, this, [this, name](const QString& text) { setFromUser(name, text); });
    if (!field.path) {
        return edit;
    }
    auto* row = new QWidget;
    auto* layout = new QHBoxLayout(row);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(edit, 1);
    auto* browse = new QPushButton(QStringLiteral("…"));
    browse->setFixedWidth(28);
    browse->setAccessibleName(tr("Choose the folder: %1").arg(field.label));
    layout->addWidget(browse);
    row->setFocusProxy(edit);
    connect(browse, &QPushButton::clicked, this, [this, name] {
        auto* dialog = new QFileDialog(this, tr("Choose a folder"), m_form->value(name));
        dialog->setAttribute(Qt::WA_DeleteOnClose);
        dialog->setFileMode(QFileDialog::Directory);
        connect(dialog, &QFileDialog::fileSelected, this,
                [this, name](const QString& folder) { setFromUser(name, folder); });
        dialog->open();
    });
    return row;
}

void ComposePanel::setFromUser(const QString& name, const QString& given)
{
    const FormField* field = m_form->find(name);
    const QString value = field != nullptr && field->path ? bridge::expandedPath(given) : given;
    if (m_updating || m_form->value(name) == value) {
        return;
    }
    m_undo.push(new FieldEdit(*m_form, name, m_form->value(name), value));
}

void ComposePanel::refreshField(const QString& name)
{
    const FormField* field = m_form->find(name);
    const Row row = m_rows.value(name);
    if (field == nullptr || row.editor == nullptr) {
        return;
    }
    m_updating = true;
    const QString value = m_form->value(name);
    if (auto* box = qobject_cast<QCheckBox*>(row.editor)) {
        box->setChecked(value == QLatin1String("true"));
    } else if (auto* combo = qobject_cast<QComboBox*>(row.editor)) {
        combo->setCurrentText(value);
    } else {
        auto* edit = qobject_cast<QLineEdit*>(row.editor);
        edit = edit != nullptr ? edit : row.editor->findChild<QLineEdit*>();
        const QString shown = field->path ? bridge::shownPath(value) : value;
        if (edit->text() != shown) {
            edit->setText(shown);
        }
    }
    m_updating = false;
    const QString wrong = m_form->problem(*field);
    QFont font = row.label->font();
    font.setBold(!m_form->isDefault(name));
    row.label->setFont(font);
    row.label->setText(wrong.isEmpty() ? field->label : QStringLiteral("⚠ ") + field->label);
    row.label->setToolTip(wrong.isEmpty() ? field->help : wrong);
    if (name == QLatin1String("method.type")) {
        refreshActive();
    }
    refreshCard();
}

void ComposePanel::refreshActive()
{
    for (const FormField& field : m_form->fields()) {
        const Row row = m_rows.value(field.name);
        const bool active = m_form->isActive(field);
        row.label->setVisible(active);
        row.editor->setVisible(active);
    }
}

void ComposePanel::refreshCard()
{
    const auto value = [this](const char* name) { return m_form->value(QLatin1String(name)); };
    const auto config = m_form->config();
    const qint64 batch = value("batch_size").toLongLong() * value("accumulation").toLongLong();
    QString text =
        tr("Method %1 on %2\nData %3\n%4 steps of %5 samples\nLearning rate %6")
            .arg(value("method.type"),
                 value("policy.path").isEmpty() ? tr("(no policy)") : QFileInfo(value("policy.path")).fileName(),
                 value("dataset.path").isEmpty() ? tr("(no dataset)") : QFileInfo(value("dataset.path")).fileName(),
                 value("steps"))
            .arg(batch)
            .arg(value("optimizer.lr"));
    text += QStringLiteral("\n\n")
        + tr("Goes to %1").arg(bridge::shownPath(QDir(m_settings.runsFolder()).filePath(m_name->text())));
    if (!config) {
        text += QStringLiteral("\n\n⚠ %1: %2")
                    .arg(bridge::toQString(config.error().subject), bridge::toQString(config.error().message));
    }
    m_card->setText(text);
    m_start->setEnabled(config.has_value());
    m_check->setEnabled(config.has_value());
    m_start->setToolTip(config ? tr("Starts a worker process that goes on when this window closes")
                               : bridge::errorSentence(config.error()));
}

QString ComposePanel::commandLine() const
{
    QStringList words { QStringLiteral("rankwise") };
    words += bridge::trainArguments(m_settings.runsFolder(), m_name->text());
    return bridge::shellLine(words);
}

void ComposePanel::runPreflight()
{
    const auto config = m_form->config();
    const QString program = bridge::commandProgram();
    if (!config || program.isEmpty()) {
        m_preflight->setText(config ? tr("⚠ The rankwise program is not beside this one.")
                                    : bridge::errorSentence(config.error()));
        return;
    }
    const QString file =
        QDir::temp().filePath(QStringLiteral("rankwise-preflight-%1.json").arg(QDateTime::currentMSecsSinceEpoch()));
    if (const auto written = writeFileAtomically(bridge::toPath(file), jsonText(*config)); !written) {
        m_preflight->setText(bridge::errorSentence(written.error()));
        return;
    }
    m_preflight->setText(tr("Checking…"));
    m_check->setEnabled(false);
    auto* process = new QProcess(this);
    process->setProcessChannelMode(QProcess::MergedChannels);
    const auto finish = [this, process, file](const QString& verdict) {
        QFile::remove(file);
        m_check->setEnabled(true);
        QString output = QString::fromUtf8(process->readAll()).trimmed();
        output = output.size() > 900 ? output.right(900) : output;
        m_preflight->setText(verdict + (output.isEmpty() ? QString() : QLatin1Char('\n') + output));
        process->deleteLater();
    };
    connect(process, &QProcess::finished, this, [finish](int code, QProcess::ExitStatus) {
        finish(code == 0 ? tr("✓ Pre-flight passed") : tr("⚠ Pre-flight refused this run"));
    });
    connect(process, &QProcess::errorOccurred, this, [finish, process](QProcess::ProcessError error) {
        if (error == QProcess::FailedToStart) {
            finish(tr("⚠ %1").arg(process->errorString()));
        }
    });
    const QString run = file.chopped(5);
    process->start(program,
                   { QStringLiteral("train"), file, QStringLiteral("--run"), run, QStringLiteral("--preflight") });
}

void ComposePanel::start()
{
    auto config = m_form->config();
    if (!config) {
        Q_EMIT message(bridge::errorSentence(config.error()));
        return;
    }
    const QString name = m_name->text().trimmed();
    if (name.isEmpty() || name.contains(QLatin1Char('/'))) {
        Q_EMIT message(tr("Give the run a name without slashes."));
        return;
    }
    const auto run = bridge::startTraining(m_settings.runsFolder(), name, *config);
    if (!run) {
        Q_EMIT message(bridge::errorSentence(run.error()));
        return;
    }
    m_workspace.addItem({ bridge::ItemKind::Run, *run, tr("started here") });
    m_name->setText(defaultName());
    Q_EMIT started(*run);
}

} // namespace rankwise::train_view
