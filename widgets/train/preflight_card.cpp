// SPDX-License-Identifier: Apache-2.0
#include "widgets/train/preflight_card.h"

#include "widgets/bridge/text.h"

#include <QFormLayout>
#include <QLabel>
#include <QLocale>
#include <QVBoxLayout>

#include <nlohmann/json.hpp>

namespace rankwise::train_view {

namespace {

double numberAt(const Json& report, const char* key)
{
    const auto found = report.find(key);
    return found != report.end() && found->is_number() ? found->get<double>() : -1;
}

QString textAt(const Json& object, const char* key)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? bridge::toQString(found->get<std::string>()) : QString();
}

QString counted(double number)
{
    return QLocale(QLocale::English).toString(static_cast<qint64>(number));
}

QLabel* wrapped(const QString& text)
{
    auto* label = new QLabel(text);
    label->setWordWrap(true);
    label->setTextFormat(Qt::PlainText);
    label->setTextInteractionFlags(Qt::TextSelectableByMouse | Qt::TextSelectableByKeyboard);
    return label;
}

void removeAll(QLayout& layout)
{
    while (layout.count() > 0) {
        QLayoutItem* const item = layout.takeAt(0);
        delete item->widget();
        delete item;
    }
}

} // namespace

PreflightCard::PreflightCard(QWidget* parent)
    : QWidget(parent), m_verdict(wrapped({})), m_numbers(new QFormLayout), m_checks(new QVBoxLayout)
{
    m_verdict->setProperty("role", QStringLiteral("heading"));
    m_numbers->setContentsMargins(0, 0, 0, 0);
    m_numbers->setVerticalSpacing(2);
    m_checks->setContentsMargins(0, 0, 0, 0);
    m_checks->setSpacing(4);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(m_verdict);
    layout->addLayout(m_numbers);
    layout->addLayout(m_checks);
    setAccessibleName(tr("Pre-flight"));
    clear();
}

void PreflightCard::clear()
{
    m_lines.clear();
    removeAll(*m_numbers);
    removeAll(*m_checks);
    m_verdict->clear();
    m_verdict->hide();
}

void PreflightCard::showBusy()
{
    clear();
    m_verdict->setText(tr("Checking: loads the policy and one batch, trains nothing…"));
    m_verdict->show();
}

void PreflightCard::showFailure(const Error& error)
{
    clear();
    m_verdict->setText(tr("⚠ Pre-flight could not be made"));
    m_verdict->show();
    addCheck(QStringLiteral("red"), bridge::toQString(error.subject), bridge::errorSentence(error));
}

void PreflightCard::showReport(const Json& report)
{
    clear();
    const auto passed = report.find("passed");
    const bool good = passed != report.end() && passed->is_boolean() && passed->get<bool>();
    m_verdict->setText(good ? tr("✓ Pre-flight passed") : tr("⚠ Pre-flight refuses this run"));
    m_verdict->show();
    const double trained = numberAt(report, "trained_numbers");
    const double all = numberAt(report, "policy_numbers");
    addNumber(
        tr("Layers adapted"),
        tr("%1 of %2").arg(counted(numberAt(report, "adapted_layers")), counted(numberAt(report, "linear_layers"))));
    if (trained > 0 && all > 0) {
        addNumber(tr("Parameters trained"),
                  tr("%1 (%2 % of the policy's)").arg(counted(trained), bridge::numberText(100 * trained / all)));
    }
    if (numberAt(report, "memory_bytes") > 0) {
        addNumber(tr("Memory, estimate"), bridge::bytesText(numberAt(report, "memory_bytes")));
    }
    if (numberAt(report, "seconds_per_step") > 0) {
        addNumber(tr("Time of a step"), bridge::durationText(numberAt(report, "seconds_per_step")));
        addNumber(tr("Whole run, estimate"), bridge::durationText(numberAt(report, "seconds_total")));
    }
    if (numberAt(report, "first_loss") >= 0) {
        addNumber(tr("Loss of the first batch"), bridge::numberText(numberAt(report, "first_loss")));
    }
    const auto checks = report.find("checks");
    if (checks != report.end() && checks->is_array()) {
        for (const Json& check : *checks) {
            addCheck(textAt(check, "level"), textAt(check, "name"), textAt(check, "text"));
        }
    }
}

void PreflightCard::addNumber(const QString& name, const QString& value)
{
    m_numbers->addRow(name, wrapped(value));
    m_lines << name + QStringLiteral(": ") + value;
}

void PreflightCard::addCheck(const QString& level, const QString& name, const QString& text)
{
    // A sign and a word, not only a colour.
    const QString sign = level == QLatin1String("red") ? tr("⚠ refused")
        : level == QLatin1String("note")               ? tr("ℹ note")
                                                       : tr("✓");
    const QString line = QStringLiteral("%1 · %2: %3").arg(sign, name, text);
    auto* label = wrapped(line);
    if (level == QLatin1String("ok")) {
        label->setProperty("role", QStringLiteral("dim"));
    }
    m_checks->addWidget(label);
    m_lines << line;
}

QString PreflightCard::text() const
{
    return m_verdict->text() + QLatin1Char('\n') + m_lines.join(QLatin1Char('\n'));
}

} // namespace rankwise::train_view
