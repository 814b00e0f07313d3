// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/config_form.h"

#include "backend/train/train_config.h"
#include "widgets/bridge/text.h"

#include <array>

namespace rankwise::bridge {

namespace {

/// An option of an adaptation method; `methods` lists those that know it.
struct MethodOption {
    const char* name;
    FormField::Kind kind;
    const char* defaultValue;
    double low;
    double high;
    const char* methods;
    const char* help;
};

constexpr std::array kMethodOptions {
    MethodOption { "r", FormField::Kind::Integer, "32", 1, 65536, "lora", "Rank of the LoRA matrices." },
    MethodOption { "lora_alpha", FormField::Kind::Real, "64", 0, 1e6, "lora", "Numerator of the scale alpha / rank." },
    MethodOption { "use_rslora", FormField::Kind::Boolean, "false", 0, 0, "lora", "Scale by alpha / √rank instead." },
    MethodOption { "lora_dropout", FormField::Kind::Real, "0", 0, 0.99, "lora", "Dropout of the adapters' input." },
    MethodOption { "bank", FormField::Kind::Integer, "128", 1, 65536, "lora_sp",
                   "Directions in the bank of a layer; a multiple of the blocks." },
    MethodOption { "blocks", FormField::Kind::Integer, "4", 1, 4096, "lora_sp", "Blocks that the router weighs." },
    MethodOption { "eta", FormField::Kind::Real, "0.9", 0, 1, "lora_sp",
                   "Share of the score energy that the active directions of a token keep. Can change while training." },
    MethodOption { "router_dropout", FormField::Kind::Real, "0.05", 0, 0.99, "lora_sp",
                   "Dropout of the router's input." },
};

bool isMethod(const FormField& field)
{
    return field.name.startsWith(QLatin1String("method."));
}

QString jsonToText(const Json& value)
{
    if (value.is_string()) {
        return toQString(value.get<std::string>());
    }
    if (value.is_number_float()) {
        return QString::number(value.get<double>(), 'g', 12);
    }
    return value.is_null() ? QString() : toQString(value.dump());
}

QString labelOf(const QString& name)
{
    QString label = name.section(QLatin1Char('.'), -1);
    static const QHash<QString, QString> kWords {
        { QStringLiteral("lr"), QStringLiteral("Learning rate") },
        { QStringLiteral("decay_lr"), QStringLiteral("Learning rate at the end") },
        { QStringLiteral("eps"), QStringLiteral("Epsilon") },
        { QStringLiteral("r"), QStringLiteral("Rank") },
        { QStringLiteral("lora_alpha"), QStringLiteral("Alpha") },
        { QStringLiteral("use_rslora"), QStringLiteral("Rank-stabilized") },
        { QStringLiteral("lora_dropout"), QStringLiteral("Dropout") },
        { QStringLiteral("eta"), QString::fromUtf8("Kept energy η") },
        { QStringLiteral("std_floor"), QStringLiteral("Least deviation") },
        { QStringLiteral("tensorboard"), QStringLiteral("TensorBoard files") },
    };
    if (const auto found = kWords.constFind(label); found != kWords.constEnd()) {
        return *found;
    }
    label.replace(QLatin1Char('_'), QLatin1Char(' '));
    label[0] = label[0].toUpper();
    return label;
}

Result<Json> textToJson(const FormField& field, const QString& text)
{
    switch (field.kind) {
    case FormField::Kind::Integer: {
        bool ok = false;
        const qlonglong number = text.trimmed().toLongLong(&ok);
        if (!ok) {
            return fail(Errc::FieldInvalid, "is not a whole number", field.name.toStdString());
        }
        return Json(static_cast<std::int64_t>(number));
    }
    case FormField::Kind::Real: {
        bool ok = false;
        const double number = text.trimmed().toDouble(&ok);
        if (!ok) {
            return fail(Errc::FieldInvalid, "is not a number", field.name.toStdString());
        }
        return Json(number);
    }
    case FormField::Kind::Boolean:
        return Json(text == QLatin1String("true"));
    case FormField::Kind::Json:
        return text.trimmed().isEmpty() ? Result<Json>(Json())
                                        : parseJson(text.toStdString(), field.name.toStdString());
    case FormField::Kind::Text:
    case FormField::Kind::Choice:
        return Json(text.toStdString());
    }
    return Json();
}

/// Puts `value` at a dotted path.
void insertAt(Json& root, const QString& name, Json value)
{
    Json* place = &root;
    const QStringList parts = name.split(QLatin1Char('.'));
    for (const QString& part : parts) {
        place = &(*place)[part.toStdString()];
    }
    *place = std::move(value);
}

const Json* valueAt(const Json& root, const QString& name)
{
    const Json* place = &root;
    const QStringList parts = name.split(QLatin1Char('.'));
    for (const QString& part : parts) {
        if (!place->is_object()) {
            return nullptr;
        }
        const auto found = place->find(part.toStdString());
        if (found == place->end()) {
            return nullptr;
        }
        place = &*found;
    }
    return place;
}

FormField::Kind kindOf(train::FieldKind kind)
{
    switch (kind) {
    case train::FieldKind::Integer:
        return FormField::Kind::Integer;
    case train::FieldKind::Real:
        return FormField::Kind::Real;
    case train::FieldKind::Boolean:
        return FormField::Kind::Boolean;
    case train::FieldKind::Text:
        return FormField::Kind::Text;
    case train::FieldKind::Choice:
        return FormField::Kind::Choice;
    default:
        return FormField::Kind::Json;
    }
}

} // namespace

ConfigForm::ConfigForm(QObject* parent) : QObject(parent)
{
    addBackendFields();
    addMethodFields();
    for (qsizetype i = 0; i < m_fields.size(); ++i) {
        m_index.insert(m_fields[i].name, i);
    }
}

void ConfigForm::addBackendFields()
{
    for (const train::FieldDescription& described : train::trainConfigFields()) {
        if (described.name == "method") {
            continue; // Its options have fields of their own.
        }
        FormField field;
        field.name = toQString(described.name);
        field.group =
            field.name.contains(QLatin1Char('.')) ? field.name.section(QLatin1Char('.'), 0, 0) : QStringLiteral("run");
        field.label = labelOf(field.name);
        field.help = toQString(described.help);
        field.kind = kindOf(described.kind);
        field.defaultValue = jsonToText(described.defaultValue);
        field.low = described.low;
        field.high = described.high;
        for (const std::string& choice : described.choices) {
            field.choices << toQString(choice);
        }
        field.path = field.name == QLatin1String("policy.path") || field.name == QLatin1String("dataset.path");
        m_fields.push_back(field);
    }
}

void ConfigForm::addMethodFields()
{
    FormField type;
    type.name = QStringLiteral("method.type");
    type.group = QStringLiteral("method");
    type.label = tr("Method");
    type.help = tr("How the policy is adapted: lora_sp chooses directions per token, lora has a fixed rank, full "
                   "trains the weights themselves.");
    type.kind = FormField::Kind::Choice;
    type.choices = QStringList { QStringLiteral("lora_sp"), QStringLiteral("lora"), QStringLiteral("full") };
    type.defaultValue = type.choices.front();
    m_fields.push_back(type);
    for (const MethodOption& option : kMethodOptions) {
        FormField field;
        field.name = QStringLiteral("method.") + QLatin1String(option.name);
        field.group = QStringLiteral("method");
        field.label = labelOf(field.name);
        field.help = QString::fromUtf8(option.help);
        field.kind = option.kind;
        field.defaultValue = QLatin1String(option.defaultValue);
        if (option.high > option.low) {
            field.low = option.low;
            field.high = option.high;
        }
        field.choices = QStringList { QLatin1String(option.methods) };
        m_fields.push_back(field);
    }
    FormField more;
    more.name = QStringLiteral("method.*");
    more.group = QStringLiteral("method");
    more.label = tr("More options");
    more.help = tr("Further options of the method as a JSON object, e.g. {\"target_modules\": \"all-linear\"}.");
    more.kind = FormField::Kind::Json;
    m_fields.push_back(more);
}

const FormField* ConfigForm::find(const QString& name) const
{
    const auto found = m_index.constFind(name);
    return found == m_index.constEnd() ? nullptr : &m_fields[*found];
}

bool ConfigForm::isActive(const FormField& field) const
{
    if (!isMethod(field) || field.kind == FormField::Kind::Choice || field.kind == FormField::Kind::Json) {
        return true;
    }
    return field.choices.contains(value(QStringLiteral("method.type")));
}

QString ConfigForm::value(const QString& name) const
{
    const auto own = m_values.constFind(name);
    if (own != m_values.constEnd()) {
        return *own;
    }
    const FormField* field = find(name);
    return field == nullptr ? QString() : field->defaultValue;
}

void ConfigForm::setValue(const QString& name, const QString& text)
{
    const FormField* field = find(name);
    if (field == nullptr || value(name) == text) {
        return;
    }
    if (text == field->defaultValue) {
        m_values.remove(name);
    } else {
        m_values.insert(name, text);
    }
    Q_EMIT changed(name);
}

void ConfigForm::clear()
{
    m_values.clear();
    for (const FormField& field : m_fields) {
        Q_EMIT changed(field.name);
    }
}

QString ConfigForm::problem(const FormField& field) const
{
    if (!isActive(field)) {
        return {};
    }
    const QString text = value(field.name);
    const auto parsed = textToJson(field, text);
    if (!parsed) {
        return toQString(parsed.error().message);
    }
    if (parsed->is_number()) {
        const double number = parsed->get<double>();
        if ((field.low && number < *field.low) || (field.high && number > *field.high)) {
            return tr("must lie between %1 and %2")
                .arg(field.low ? numberText(*field.low) : QStringLiteral("−∞"),
                     field.high ? numberText(*field.high) : QStringLiteral("∞"));
        }
    }
    return {};
}

Result<Json> ConfigForm::config() const
{
    Json root = Json::object();
    Json method = Json::object();
    for (const FormField& field : m_fields) {
        const bool always =
            field.name == QLatin1String("method.type") || (isMethod(field) && field.kind != FormField::Kind::Json);
        if (!isActive(field) || (isDefault(field.name) && !always)) {
            continue;
        }
        if (const QString wrong = problem(field); !wrong.isEmpty()) {
            return fail(Errc::FieldInvalid, wrong.toStdString(), field.name.toStdString());
        }
        RW_TRY(Json json, textToJson(field, value(field.name)));
        if (field.name == QLatin1String("method.*")) {
            if (json.is_null()) {
                continue;
            }
            if (!json.is_object()) {
                return fail(Errc::FieldInvalid, "must be a JSON object", field.name.toStdString());
            }
            method.update(json);
        } else if (isMethod(field)) {
            method[field.name.mid(7).toStdString()] = std::move(json);
        } else if (!json.is_null()) {
            insertAt(root, field.name, std::move(json));
        }
    }
    root["method"] = std::move(method);
    if (value(QStringLiteral("dataset.path")).trimmed().isEmpty()) {
        return fail(Errc::FieldMissing, "choose the dataset to train on", "dataset.path");
    }
    if (value(QStringLiteral("policy.path")).trimmed().isEmpty() && isDefault(QStringLiteral("policy.config"))) {
        return fail(Errc::FieldMissing, "choose the checkpoint to start from", "policy.path");
    }
    RW_TRY(const train::TrainConfig checked, train::parseTrainConfig(root, "configuration"));
    (void)checked;
    return root;
}

void ConfigForm::load(const Json& config)
{
    m_values.clear();
    Json rest = Json::object();
    if (const auto method = config.find("method"); method != config.end() && method->is_object()) {
        for (const auto& [key, item] : method->items()) {
            if (find(QStringLiteral("method.") + toQString(key)) == nullptr) {
                rest[key] = item;
            }
        }
    }
    for (const FormField& field : m_fields) {
        const Json* found = valueAt(config, field.name);
        if (field.name == QLatin1String("method.*")) {
            if (!rest.empty()) {
                m_values.insert(field.name, toQString(rest.dump()));
            }
        } else if (found != nullptr) {
            const QString text = jsonToText(*found);
            if (text != field.defaultValue) {
                m_values.insert(field.name, text);
            }
        }
    }
    for (const FormField& field : m_fields) {
        Q_EMIT changed(field.name);
    }
}

} // namespace rankwise::bridge
