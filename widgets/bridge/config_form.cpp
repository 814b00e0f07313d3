// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/config_form.h"

#include "backend/train/train_config.h"
#include "widgets/bridge/text.h"

#include <QRegularExpression>

#include <algorithm>
#include <array>

namespace rankwise::bridge {

namespace {

using Kind = FormField::Kind;

/// An option of an adaptation method; `methods` lists those that know it, `choices` what a Choice takes.
struct MethodOption {
    const char* name;
    Kind kind;
    const char* defaultValue;
    double low;
    double high;
    const char* methods;
    const char* choices;
    const char* help;
};

constexpr std::array kMethodOptions {
    MethodOption { "r", Kind::Integer, "32", 1, 65536, "lora", "", "Rank of the LoRA matrices." },
    MethodOption { "lora_alpha", Kind::Real, "64", 0, 1e6, "lora", "", "Numerator of the scale alpha / rank." },
    MethodOption { "use_rslora", Kind::Boolean, "false", 0, 0, "lora", "", "Scale by alpha / √rank instead." },
    MethodOption { "lora_dropout", Kind::Real, "0", 0, 0.99, "lora", "", "Dropout of the adapters' input." },
    MethodOption { "bank", Kind::Integer, "128", 1, 65536, "lora_sp", "",
                   "Directions in the bank of a layer; a multiple of the blocks." },
    MethodOption { "blocks", Kind::Integer, "4", 1, 4096, "lora_sp", "", "Blocks that the router weighs." },
    MethodOption { "eta", Kind::Real, "0.9", 1e-6, 1, "lora_sp", "",
                   "Share of the score energy that the active directions of a token keep. Can change while training." },
    MethodOption { "scale", Kind::Real, "2", -1e6, 1e6, "lora_sp", "", "Factor of what the adapters add." },
    MethodOption { "routing", Kind::Choice, "weighted", 0, 0, "lora_sp", "weighted top1 top2",
                   "All blocks by their gates, or only the best one or two of a token." },
    MethodOption { "router_dropout", Kind::Real, "0.05", 0, 0.99, "lora_sp", "", "Dropout of the router's input." },
    MethodOption { "weights.spectral", Kind::Real, "0.01", 0, 1e6, "lora_sp", "",
                   "Factor of the loss that concentrates the scores' energy." },
    MethodOption { "weights.balance", Kind::Real, "0.001", 0, 1e6, "lora_sp", "",
                   "Factor of the loss that spreads tokens over the blocks." },
    MethodOption { "target_modules", Kind::Text, "all-linear", 0, 0, "lora lora_sp", "",
                   "Layers that are adapted: all-linear; default (the policy's own choice); the ends of their names "
                   "(q_proj, v_proj); or a regular expression for the whole name." },
    MethodOption { "exclude_modules", Kind::Text, "", 0, 0, "lora lora_sp", "",
                   "Layers that are left out of those: ends of names, or a regular expression." },
    MethodOption { "trainable", Kind::Choice, "all", 0, 0, "full", "all config",
                   "All weights, or those that the checkpoint's config.json lets train." },
    MethodOption { "freeze", Kind::Json, "", 0, 0, "full", "",
                   "Parts that stay as they are, e.g. [\"vision\", \"language\"]; also action and projection." },
};

/// Units of the fields that have one.
QString unitOf(const QString& name)
{
    return name == QLatin1String("dataset.cache_megabytes")                                ? QStringLiteral("MB")
        : name.endsWith(QLatin1String("_steps")) || name.endsWith(QLatin1String("_every")) ? QStringLiteral("steps")
        : name == QLatin1String("batch_size")                                              ? QStringLiteral("samples")
                                                                                           : QString();
}

bool isMethod(const FormField& field)
{
    return field.name.startsWith(QLatin1String("method."));
}

QString presetField()
{
    return QStringLiteral("optimizer.preset");
}

/// Whether a preset decides on a field that is not given.
bool takesPreset(const FormField& field)
{
    return (field.group == QLatin1String("optimizer") && field.name != presetField())
        || field.group == QLatin1String("schedule") || field.name == QLatin1String("ema.decay");
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
        { QStringLiteral("cache_megabytes"), QStringLiteral("Cache") },
        { QStringLiteral("target_modules"), QStringLiteral("Layers adapted") },
        { QStringLiteral("exclude_modules"), QStringLiteral("Layers left out") },
        { QStringLiteral("spectral"), QStringLiteral("Spectral loss") },
        { QStringLiteral("balance"), QStringLiteral("Balance loss") },
    };
    if (const auto found = kWords.constFind(label); found != kWords.constEnd()) {
        return *found;
    }
    label.replace(QLatin1Char('_'), QLatin1Char(' '));
    label[0] = label[0].toUpper();
    return label;
}

/// Fields that take the ends of names beside an expression.
bool isNameList(const FormField& field)
{
    return field.name.endsWith(QLatin1String("_modules"));
}

/// "q_proj, v_proj" is a list of names; anything else is one word or one expression. Nothing: null.
Json namesToJson(const QString& text)
{
    static const QRegularExpression kList(QStringLiteral("^[\\w.]+(\\s*,\\s*[\\w.]+)+$"));
    static const QRegularExpression kName(QStringLiteral("^\\w+$"));
    const QString plain = text.trimmed();
    if (plain.isEmpty()) {
        return {};
    }
    const bool word = plain == QLatin1String("all-linear") || plain == QLatin1String("default");
    if (!word && (kName.match(plain).hasMatch() || kList.match(plain).hasMatch())) {
        Json names = Json::array();
        for (const QString& name : plain.split(QLatin1Char(','))) {
            names.push_back(name.trimmed().toStdString());
        }
        return names;
    }
    return plain.toStdString();
}

/// What namesToJson() made.
QString namesToText(const Json& names)
{
    QStringList words;
    for (const Json& name : names) {
        words << jsonToText(name);
    }
    return words.join(QStringLiteral(", "));
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
        return isNameList(field) ? namesToJson(text) : Json(text.toStdString());
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
    refreshPreset();
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
        field.unit = unitOf(field.name);
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
        field.methods = QString::fromLatin1(option.methods).split(QLatin1Char(' '));
        field.choices = QString::fromLatin1(option.choices).split(QLatin1Char(' '), Qt::SkipEmptyParts);
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
    return field.methods.isEmpty() || field.methods.contains(value(QStringLiteral("method.type")));
}

QString ConfigForm::value(const QString& name) const
{
    const auto own = m_values.constFind(name);
    if (own != m_values.constEnd()) {
        return *own;
    }
    return defaultOf(name);
}

QString ConfigForm::defaultOf(const QString& name) const
{
    if (const auto preset = m_preset.constFind(name); preset != m_preset.constEnd()) {
        return *preset;
    }
    const FormField* field = find(name);
    return field == nullptr ? QString() : field->defaultValue;
}

void ConfigForm::setPolicyConfig(std::optional<Json> config)
{
    m_policyConfig = std::move(config);
    refreshPreset();
}

/// Asks the backend's reader what the preset gives, as the worker will.
void ConfigForm::refreshPreset()
{
    const QString preset = value(presetField());
    const Json probe { { "policy", { { "path", "-" } } },
                       { "dataset", { { "path", "-" } } },
                       { "method", { { "type", "full" } } },
                       { "optimizer", { { "preset", preset.toStdString() } } } };
    const auto parsed = train::parseTrainConfig(probe, "preset", m_policyConfig ? &*m_policyConfig : nullptr);
    if (!parsed) {
        return; // not one that there is: the field says so
    }
    const Json whole = train::trainConfigJson(*parsed);
    for (const FormField& field : m_fields) {
        const Json* given = takesPreset(field) ? valueAt(whole, field.name) : nullptr;
        if (given == nullptr) {
            continue;
        }
        const QString before = value(field.name);
        m_preset.insert(field.name, jsonToText(*given));
        if (value(field.name) != before) {
            Q_EMIT changed(field.name);
        }
    }
}

void ConfigForm::setValue(const QString& name, const QString& text)
{
    const FormField* field = find(name);
    if (field == nullptr || value(name) == text) {
        return;
    }
    if (text == defaultOf(name)) {
        m_values.remove(name);
    } else {
        m_values.insert(name, text);
    }
    Q_EMIT changed(name);
    if (name == presetField()) {
        refreshPreset();
    }
}

void ConfigForm::clear()
{
    m_values.clear();
    refreshPreset();
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
            if (!json.is_null()) {
                insertAt(method, field.name.mid(7), std::move(json));
            }
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
            const QString name = QStringLiteral("method.") + toQString(key);
            const bool hasField = std::any_of(m_fields.begin(), m_fields.end(), [&](const FormField& field) {
                return field.name == name || field.name.startsWith(name + QLatin1Char('.'));
            });
            if (!hasField) {
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
            // What a preset would give is kept as it is: another checkpoint's may give something else.
            const QString text = isNameList(field) && found->is_array() ? namesToText(*found) : jsonToText(*found);
            if (text != field.defaultValue || takesPreset(field)) {
                m_values.insert(field.name, text);
            }
        }
    }
    refreshPreset();
    for (const FormField& field : m_fields) {
        Q_EMIT changed(field.name);
    }
}

} // namespace rankwise::bridge
