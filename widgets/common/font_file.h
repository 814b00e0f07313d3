// The bytes of the TrueType file behind a QFont, for libraries that load fonts themselves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QByteArray>
#include <QFont>

namespace rankwise::common {

/// Rebuilt from the font's tables (OpenType 1.9, "Organization of an OpenType font"); empty when the font has none.
[[nodiscard]] QByteArray trueTypeFile(const QFont& font);

} // namespace rankwise::common
