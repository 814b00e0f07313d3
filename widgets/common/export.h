// Writes a canvas as SVG, PDF or PNG, and its numbers as CSV.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <QAbstractItemModel>
#include <QImage>
#include <QSize>
#include <QString>

#include <functional>

class QPainter;

namespace rankwise::common {

/// Draws the picture into a rectangle of `size` at the origin.
using PaintPicture = std::function<void(QPainter& painter, const QSizeF& size)>;

/// Writes by the suffix of `file`: .svg, .pdf, .png (at twice the size) or .csv (the model's cells).
///
/// Errors: Unsupported (another suffix), IoFailed, DiskFull. Thread: GUI.
[[nodiscard]] Result<void> exportPicture(const QString& file, const QString& title, const QSize& size,
                                         const PaintPicture& paint, const QAbstractItemModel& numbers);

/// Name filters of a save dialog.
[[nodiscard]] QString exportFilters();

} // namespace rankwise::common
