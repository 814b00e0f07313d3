// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/text.h"

#include <QCoreApplication>
#include <QDir>
#include <QRegularExpression>
#include <QStringList>

#include <cmath>

namespace rankwise::bridge {

namespace {

QString sentenceFor(Errc code)
{
    const auto say = [](const char* text) { return QCoreApplication::translate("Errors", text); };
    switch (code) {
    case Errc::FileNotFound:
        return say("It is not there, or cannot be read.");
    case Errc::FileTruncated:
        return say("The file ends too early; it was probably not written to its end.");
    case Errc::DiskFull:
        return say("The disk is full. Everything written before is whole.");
    case Errc::IoFailed:
        return say("The system refused to read or write.");
    case Errc::Cancelled:
        return say("Stopped on request.");
    case Errc::Unsupported:
        return say("This kind or version cannot be handled here.");
    case Errc::PickleRefused:
        return say("This is a Python pickle; it is refused because opening one runs foreign code.");
    case Errc::JsonInvalid:
        return say("The file is not valid JSON.");
    case Errc::FieldMissing:
        return say("A field that is needed is missing.");
    case Errc::FieldInvalid:
        return say("A field has a value that is not allowed.");
    case Errc::AlreadyExists:
        return say("It exists already and is not replaced.");
    case Errc::DeviceFailed:
        return say("A device or the display gave an error.");
    case Errc::ChecksumMismatch:
        return say("The contents changed since they were written.");
    case Errc::NotFinite:
        return say("There is a number that is not finite.");
    case Errc::TooLarge:
        return say("A size is beyond the limit.");
    case Errc::Internal:
        return say("This is a bug in Rankwise; please report it with the log. Your work is kept.");
    default:
        return say("The contents are not what their format asks for.");
    }
}

} // namespace

QString errorSentence(const Error& error)
{
    QString text = sentenceFor(error.code);
    if (!error.message.empty()) {
        text += QLatin1Char(' ') + toQString(error.message);
    }
    if (!error.subject.empty()) {
        text += QStringLiteral(" (") + toQString(error.subject) + QLatin1Char(')');
    }
    return text;
}

QString durationText(double seconds)
{
    if (!(seconds >= 0) || !std::isfinite(seconds)) {
        return QStringLiteral("—");
    }
    if (seconds < 10) {
        return QStringLiteral("%1 s").arg(seconds, 0, 'f', 1);
    }
    const auto whole = static_cast<qint64>(std::llround(seconds));
    if (whole < 60) {
        return QStringLiteral("%1 s").arg(whole);
    }
    if (whole < 3600) {
        return QStringLiteral("%1 min %2 s").arg(whole / 60).arg(whole % 60);
    }
    return QStringLiteral("%1 h %2 min").arg(whole / 3600).arg(whole % 3600 / 60);
}

QString bytesText(double bytes)
{
    static constexpr const char* kUnits[] = { "B", "kB", "MB", "GB", "TB" };
    int unit = 0;
    while (bytes >= 1000 && unit < 4) {
        bytes /= 1000;
        ++unit;
    }
    return QStringLiteral("%1 %2").arg(bytes, 0, 'f', unit == 0 ? 0 : 1).arg(QLatin1String(kUnits[unit]));
}

QString numberText(double value)
{
    if (std::isnan(value)) {
        return QStringLiteral("NaN");
    }
    if (std::isinf(value)) {
        return value > 0 ? QStringLiteral("∞") : QStringLiteral("−∞");
    }
    const double size = std::abs(value);
    QString text = size != 0 && (size < 1e-4 || size >= 1e6) ? QString::number(value, 'e', 2)
                                                             : QString::number(value, 'g', size >= 1000 ? 6 : 4);
    if (text.startsWith(QLatin1Char('-'))) {
        text[0] = QChar(0x2212);
    }
    return text;
}

QString shownPath(const QString& path)
{
    const QString home = QDir::homePath();
    const bool inside = home.size() > 1 && path.startsWith(home)
        && (path.size() == home.size() || path[home.size()] == QLatin1Char('/'));
    return inside ? QLatin1Char('~') + path.mid(home.size()) : path;
}

QString expandedPath(const QString& text)
{
    return text == QLatin1String("~") || text.startsWith(QLatin1String("~/")) ? QDir::homePath() + text.mid(1) : text;
}

QString shellWord(const QString& word)
{
    static const QRegularExpression kPlain(QStringLiteral("^[A-Za-z0-9_./:=@%+,-]+$"));
    if (kPlain.match(word).hasMatch()) {
        return word;
    }
    QString quoted = word;
    quoted.replace(QLatin1Char('\''), QStringLiteral("'\\''"));
    return QLatin1Char('\'') + quoted + QLatin1Char('\'');
}

QString shellLine(const QStringList& words)
{
    QStringList quoted;
    for (const QString& word : words) {
        quoted << shellWord(word);
    }
    return quoted.join(QLatin1Char(' '));
}

} // namespace rankwise::bridge
