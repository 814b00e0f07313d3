// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/compose_panel.h"

#include "backend/base/file.h"
#include "backend/base/resources.h"
#include "widgets/bridge/run_control.h"
#include "widgets/bridge/text.h"
#include "widgets/train/preflight_card.h"

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
#include <QPushButton>
#include <QScrollArea>
#include <QUndoStack>
#include <QVBoxLayout>

#include <optional>
#include <utility>

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

constexpr int kPolicyDelayMs = 250;
constexpr int kCardCharacters = 40; ///< Width of the card.

/// A field's help with its range and default, for tooltips and screen readers.
QString helpOf(const FormField& field, const QString& otherwise)
{
    QString text = field.help;
    if (field.low && field.high && *field.high < 1e9) {
        text += QLatin1Char('\n')
            + QObject::tr("From %1 to %2.").arg(bridge::numberText(*field.low), bridge::numberText(*field.high));
    } else if (field.low) {
        text += QLatin1Char('\n') + QObject::tr("At least %1.").arg(bridge::numberText(*field.low));
    }
    if (!otherwise.isEmpty()) {
        text += QLatin1Char('\n') + QObject::tr("Without a value of its own: %1").arg(otherwise);
    }
    return text + QLatin1Char('\n') + field.name;
}

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
    if (group == QLatin1String("localization")) {
        return QObject::tr("Where things are in the pictures");
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
      m_name(new QLineEdit(defaultName())), m_card(new QLabel), m_preflight(new PreflightCard),
      m_start(new QPushButton(tr("Start run"))), m_check(new QPushButton(tr("Pre-flight")))
{
    build();
    connect(m_form, &bridge::ConfigForm::changed, this, &ComposePanel::refreshField);
    m_cardDelay.setSingleShot(true);
    connect(&m_cardDelay, &QTimer::timeout, this, &ComposePanel::refreshCard);
    m_policyDelay.setSingleShot(true);
    m_policyDelay.setInterval(kPolicyDelayMs);
    connect(&m_policyDelay, &QTimer::timeout, this, &ComposePanel::readPolicyConfig);
    if (const auto nano = resourcePath("nano")) {
        m_ownPolicy = bridge::pathText(*nano);
        m_form->setValue(QStringLiteral("policy.path"), m_ownPolicy);
    }
    connect(&workspace, &bridge::Workspace::itemAdded, this, &ComposePanel::takeItem);
    for (const bridge::WorkspaceItem& item : workspace.items()) {
        takeItem(item);
    }
    for (const FormField& field : m_form->fields()) {
        refreshField(field.name);
    }
    refreshActive();
    refreshCard();
}

/// What is opened is what one wants to train on, unless something was chosen.
void ComposePanel::takeItem(const bridge::WorkspaceItem& item)
{
    if (item.kind == bridge::ItemKind::Dataset && m_form->value(QStringLiteral("dataset.path")).isEmpty()) {
        m_form->setValue(QStringLiteral("dataset.path"), item.path);
    }
    const QString policy = m_form->value(QStringLiteral("policy.path"));
    if (item.kind == bridge::ItemKind::Checkpoint && (policy.isEmpty() || policy == m_ownPolicy)) {
        m_form->setValue(QStringLiteral("policy.path"), item.path);
    }
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
                                   QStringLiteral("localization"), QStringLiteral("preflight") };
    QHash<QString, QFormLayout*> forms;
    for (const char* group :
         { "policy", "dataset", "method", "run", "optimizer", "schedule", "ema", "localization", "preflight" }) {
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
        QWidget* editor = makeEditor(field);
        auto* problem = new QLabel;
        problem->setWordWrap(true);
        problem->setProperty("role", QStringLiteral("bad"));
        problem->hide();
        auto* cell = new QWidget;
        auto* column = new QVBoxLayout(cell);
        column->setContentsMargins(0, 0, 0, 0);
        column->setSpacing(1);
        column->addWidget(editor);
        column->addWidget(problem);
        auto* label = new QLabel(field.unit.isEmpty() ? field.label : tr("%1 (%2)").arg(field.label, field.unit));
        form->addRow(label, cell);
        label->setBuddy(editor);
        m_rows.insert(field.name, { cell, editor, label, problem });
    }
    left->addStretch();
    right->addStretch();
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    scroll->setWidget(inner);

    auto* layout = new QHBoxLayout(this);
    layout->setContentsMargins(4, 4, 4, 4);
    layout->addWidget(scroll, 1);
    layout->addWidget(makeCard());
}

QWidget* ComposePanel::makeCard()
{
    auto* card = new QFrame;
    card->setProperty("role", QStringLiteral("card"));
    card->setFixedWidth(kCardCharacters * fontMetrics().averageCharWidth());
    auto* heading = new QLabel(tr("This run"));
    heading->setProperty("role", QStringLiteral("heading"));
    m_card->setWordWrap(true);
    m_card->setTextInteractionFlags(Qt::TextSelectableByMouse);
    m_name->setAccessibleName(tr("Name of the run"));
    auto* open = new QPushButton(tr("Load…"));
    auto* reset = new QPushButton(tr("All defaults"));
    auto* found = new QWidget;
    auto* foundLayout = new QVBoxLayout(found);
    foundLayout->setContentsMargins(0, 0, 4, 0);
    foundLayout->addWidget(m_card);
    foundLayout->addWidget(m_preflight);
    foundLayout->addStretch();
    auto* scroll = new QScrollArea;
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    scroll->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
    scroll->setWidget(found);
    auto* cardLayout = new QVBoxLayout(card);
    cardLayout->addWidget(heading);
    cardLayout->addWidget(new QLabel(tr("Name")));
    cardLayout->addWidget(m_name);
    cardLayout->addWidget(scroll, 1);
    auto* few = new QHBoxLayout;
    few->addWidget(open);
    few->addWidget(reset);
    cardLayout->addLayout(few);
    auto* last = new QHBoxLayout;
    last->addWidget(m_check);
    last->addWidget(m_start);
    cardLayout->addLayout(last);
    m_check->setToolTip(tr("Loads the policy and one batch and tells what would be trained; trains nothing"));
    m_start->setDefault(true);
    connect(m_start, &QPushButton::clicked, this, &ComposePanel::start);
    connect(m_check, &QPushButton::clicked, this, &ComposePanel::runPreflight);
    connect(m_name, &QLineEdit::textChanged, this, &ComposePanel::refreshCard);
    connect(reset, &QPushButton::clicked, this, [this] { m_form->clear(); });
    connect(open, &QPushButton::clicked, this, &ComposePanel::loadConfiguration);
    return card;
}

void ComposePanel::loadConfiguration()
{
    auto* dialog = new QFileDialog(this, tr("Load configuration"), QString(), tr("JSON (*.json)"));
    dialog->setAttribute(Qt::WA_DeleteOnClose);
    dialog->setFileMode(QFileDialog::ExistingFile);
    connect(dialog, &QFileDialog::fileSelected, this, [this](const QString& file) {
        m_workspace.jobs().start<Json>(
            QString(), [path = bridge::toPath(file)](const JobContext&) { return readJsonFile(path); }, this,
            [this, file](const Result<Json>& json) {
                if (!json) {
                    Q_EMIT message(bridge::errorSentence(json.error()));
                    return;
                }
                // run.json holds the configuration inside.
                m_form->load(json->contains("config") ? (*json)["config"] : *json);
                Q_EMIT message(tr("Took over %1").arg(file));
            });
    });
    dialog->open();
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
    QFont font = row.label->font();
    font.setBold(value != m_form->defaultOf(name));
    row.label->setFont(font);
    const QString help = helpOf(*field, m_form->defaultOf(name));
    row.label->setToolTip(help);
    row.editor->setToolTip(help);
    row.editor->setAccessibleDescription(help);
    if (name == QLatin1String("method.type")) {
        refreshActive();
    }
    if (name == QLatin1String("policy.path")) {
        m_policyDelay.start();
    }
    m_cardDelay.start(); // once for all fields that change together
}

/// The preset "policy" takes its numbers from the checkpoint: the form shows what they are.
void ComposePanel::readPolicyConfig()
{
    const QString path = m_form->value(QStringLiteral("policy.path"));
    if (path.isEmpty()) {
        m_form->setPolicyConfig(std::nullopt);
        return;
    }
    m_workspace.jobs().start<Json>(
        QString(), [file = bridge::toPath(path) / "config.json"](const JobContext&) { return readJsonFile(file); },
        this,
        [this, path](Result<Json> config) {
            if (path == m_form->value(QStringLiteral("policy.path"))) {
                m_form->setPolicyConfig(config ? std::optional(std::move(*config)) : std::nullopt);
            }
        });
}

void ComposePanel::refreshActive()
{
    for (const FormField& field : m_form->fields()) {
        const Row row = m_rows.value(field.name);
        const bool active = m_form->isActive(field);
        row.label->setVisible(active);
        row.cell->setVisible(active);
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
    m_card->setText(text);
    m_start->setEnabled(config.has_value());
    m_check->setEnabled(config.has_value() && !m_checking);
    m_start->setToolTip(config ? tr("Starts a worker process that goes on when this window closes")
                               : bridge::errorSentence(config.error()));
    showProblems(config);
}

/// At each field what is wrong with it, and in the card what concerns no field that is shown.
void ComposePanel::showProblems(const Result<Json>& config)
{
    QString whole = config ? QString() : bridge::toQString(config.error().subject + ": " + config.error().message);
    for (const FormField& field : m_form->fields()) {
        const Row row = m_rows.value(field.name);
        QString wrong = m_form->problem(field);
        const bool named = !config
            && (config.error().subject == field.name.toStdString()
                || config.error().message.find('"' + field.name.toStdString() + '"') != std::string::npos);
        if (wrong.isEmpty() && named) {
            wrong = bridge::toQString(config.error().message);
        }
        whole = named ? QString() : whole;
        row.problem->setText(wrong.isEmpty() ? QString() : QStringLiteral("⚠ ") + wrong);
        row.problem->setVisible(!wrong.isEmpty());
    }
    if (!whole.isEmpty()) {
        m_card->setText(m_card->text() + QStringLiteral("\n\n⚠ ") + whole);
    }
}

QString ComposePanel::problemAt(const QString& field) const
{
    const Row row = m_rows.value(field);
    return row.problem == nullptr ? QString() : row.problem->text();
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
    if (!config || m_checking) {
        return;
    }
    m_preflight->showBusy();
    m_checking = m_workspace.jobs().start<Json>(
        tr("Pre-flight of %1").arg(m_name->text()),
        [config = *config](const JobContext& job) { return bridge::checkTraining(config, job); }, this,
        [this](const Result<Json>& report) {
            m_checking.clear();
            if (report) {
                m_preflight->showReport(*report);
            } else if (report.error().code == Errc::Cancelled) {
                m_preflight->clear();
            } else {
                m_preflight->showFailure(report.error());
            }
            refreshCard();
        });
    refreshCard();
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
    const QString folder = m_settings.runsFolder();
    const QString run = QDir(folder).filePath(name);
    m_workspace.jobs().start<bool>(
        tr("Start %1").arg(name),
        [folder, name, config = std::move(*config)](const JobContext& job) -> Result<bool> {
            qint64 pid = 0;
            RW_TRY(const QString started, bridge::startTraining(folder, name, config, &pid));
            RW_TRY_VOID(bridge::awaitWorker(started, pid, job));
            return true;
        },
        this,
        [this, run](const Result<bool>& started) {
            if (!started && started.error().code != Errc::Cancelled) {
                m_preflight->showFailure(started.error());
                Q_EMIT message(
                    tr("%1 does not train: %2").arg(bridge::shownPath(run), bridge::errorSentence(started.error())));
            }
        });
    m_workspace.addItem({ bridge::ItemKind::Run, run, tr("started here") });
    m_name->setText(defaultName());
    Q_EMIT this->started(run);
}

} // namespace rankwise::train_view
