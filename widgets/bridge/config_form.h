// The configuration of a training run as a form: fields from the backend's description, values as text, and the JSON
// that comes out of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/base/result.h"

#include <nlohmann/json.hpp>

#include <QHash>
#include <QObject>
#include <QString>
#include <QStringList>
#include <QVector>

#include <optional>

namespace rankwise::bridge {

struct FormField {
    enum class Kind { Integer, Real, Boolean, Text, Choice, Json };
    QString name;  ///< Dotted path in the configuration, e.g. "optimizer.lr".
    QString group; ///< First part of the path, or "run".
    QString label;
    QString help;
    Kind kind = Kind::Text;
    QString defaultValue; ///< As text; JSON for Kind::Json.
    std::optional<double> low, high;
    QStringList choices; ///< Kind Choice.
    QStringList methods; ///< Options of a method: those that know it. Empty: all.
    QString unit;        ///< Shown behind the label; empty: a count, a text or a plain number.
    bool path = false;   ///< Names a folder.
};

/// Thread: GUI.
class ConfigForm : public QObject {
    Q_OBJECT

public:
    /// Fields of backend/train's configuration, and those of the methods that have options worth a field.
    explicit ConfigForm(QObject* parent = nullptr);

    [[nodiscard]] const QVector<FormField>& fields() const { return m_fields; }
    [[nodiscard]] const FormField* find(const QString& name) const;
    /// Whether a field plays a part with the method chosen.
    [[nodiscard]] bool isActive(const FormField& field) const;

    [[nodiscard]] QString value(const QString& name) const;
    void setValue(const QString& name, const QString& value);
    [[nodiscard]] bool isDefault(const QString& name) const { return !m_values.contains(name); }
    /// What a field has that nobody gave: optimizer, schedule and averaging take theirs from the preset chosen.
    [[nodiscard]] QString defaultOf(const QString& name) const;
    void clear();
    /// config.json of the policy chosen, which the preset "policy" reads; nothing while it is not known.
    void setPolicyConfig(std::optional<Json> config);

    /// What is wrong with a value; empty when it is right.
    [[nodiscard]] QString problem(const FormField& field) const;
    /// The configuration: only what differs from the defaults, checked by the backend's own reader.
    /// Errors: FieldInvalid, FieldMissing.
    [[nodiscard]] Result<Json> config() const;
    /// Takes over the values of a configuration; fields that it leaves out get their defaults.
    void load(const Json& config);

Q_SIGNALS:
    void changed(const QString& name);

private:
    void addBackendFields();
    void addMethodFields();
    void refreshPreset();

    QVector<FormField> m_fields;
    QHash<QString, qsizetype> m_index;
    QHash<QString, QString> m_values; ///< Those that were given.
    QHash<QString, QString> m_preset; ///< Defaults that are not the description's.
    std::optional<Json> m_policyConfig;
};

} // namespace rankwise::bridge
