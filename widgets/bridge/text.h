// Conversions between the backend's strings and paths and Qt's, and the sentence for an error.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <QString>

#include <filesystem>
#include <string>
#include <string_view>

namespace rankwise::bridge {

[[nodiscard]] inline QString toQString(std::string_view text)
{
    return QString::fromUtf8(text.data(), static_cast<qsizetype>(text.size()));
}
[[nodiscard]] inline QString pathText(const std::filesystem::path& path)
{
    return toQString(std::string_view(path.native()));
}
[[nodiscard]] inline std::filesystem::path toPath(const QString& text)
{
    return std::filesystem::path(text.toStdString());
}

/// What to tell the user: a translated sentence chosen by the code, then the details.
[[nodiscard]] QString errorSentence(const Error& error);

/// "2 min 5 s", "3.4 s", "—" for a negative number.
[[nodiscard]] QString durationText(double seconds);
/// "12.3 MB" (powers of 1000).
[[nodiscard]] QString bytesText(double bytes);
/// A number for people: four significant digits, no trailing zeros, exponent below 1e-4 and from 1e6 on.
[[nodiscard]] QString numberText(double value);
/// A path for people: "~" for their own folder.
[[nodiscard]] QString shownPath(const QString& path);
/// What shownPath() showed.
[[nodiscard]] QString expandedPath(const QString& text);
/// A word for a shell: quoted when needed.
[[nodiscard]] QString shellWord(const QString& word);
[[nodiscard]] QString shellLine(const QStringList& words);

} // namespace rankwise::bridge
