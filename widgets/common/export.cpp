// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/export.h"

#include "backend/base/file.h"
#include "widgets/bridge/column_model.h"
#include "widgets/bridge/text.h"
#include "widgets/common/theme.h"

#include <QApplication>
#include <QBuffer>
#include <QCoreApplication>
#include <QFileInfo>
#include <QFontInfo>
#include <QPageSize>
#include <QPainter>
#include <QPdfWriter>
#include <QSvgGenerator>

namespace rankwise::common {

namespace {

constexpr double kPngScale = 2;

/// Fonts in pixels, so that the picture is the same on every device.
void prepare(QPainter& painter)
{
    QFont font = QApplication::font();
    font.setPixelSize(QFontInfo(font).pixelSize());
    painter.setFont(font);
}

QByteArray svgBytes(const QString& title, const QSize& size, const PaintPicture& paint)
{
    QBuffer buffer;
    QSvgGenerator generator;
    generator.setOutputDevice(&buffer);
    generator.setSize(size);
    generator.setViewBox(QRect(QPoint(0, 0), size));
    generator.setTitle(title);
    generator.setResolution(96);
    QPainter painter(&generator);
    prepare(painter);
    paint(painter, size);
    painter.end();
    return buffer.data();
}

QByteArray pdfBytes(const QString& title, const QSize& size, const PaintPicture& paint)
{
    QBuffer buffer;
    buffer.open(QIODevice::WriteOnly);
    QPdfWriter writer(&buffer);
    writer.setTitle(title);
    writer.setCreator(QStringLiteral("Rankwise"));
    writer.setPageMargins(QMarginsF(0, 0, 0, 0));
    writer.setPageSize(QPageSize(QSizeF(size) * 72.0 / 96.0, QPageSize::Point, {}, QPageSize::ExactMatch));
    writer.setResolution(96);
    QPainter painter(&writer);
    prepare(painter);
    paint(painter, size);
    painter.end();
    return buffer.data();
}

QByteArray pngBytes(const QSize& size, const PaintPicture& paint)
{
    QImage image(size * kPngScale, QImage::Format_ARGB32_Premultiplied);
    image.fill(currentTheme().base);
    image.setDevicePixelRatio(kPngScale);
    QPainter painter(&image);
    prepare(painter);
    paint(painter, size);
    painter.end();
    QBuffer buffer;
    image.save(&buffer, "PNG");
    return buffer.data();
}

} // namespace

Result<void> exportPicture(const QString& file, const QString& title, const QSize& size, const PaintPicture& paint,
                           const QAbstractItemModel& numbers)
{
    const QString suffix = QFileInfo(file).suffix().toLower();
    QByteArray bytes;
    if (suffix == QLatin1String("svg")) {
        bytes = svgBytes(title, size, paint);
    } else if (suffix == QLatin1String("pdf")) {
        bytes = pdfBytes(title, size, paint);
    } else if (suffix == QLatin1String("png")) {
        bytes = pngBytes(size, paint);
    } else if (suffix == QLatin1String("csv")) {
        bytes = bridge::csvText(numbers).toUtf8();
    } else {
        return fail(Errc::Unsupported, "pictures are written as .svg, .pdf or .png, numbers as .csv",
                    file.toStdString());
    }
    return writeFileAtomically(bridge::toPath(file),
                               std::string_view(bytes.constData(), static_cast<std::size_t>(bytes.size())));
}

QString exportFilters()
{
    return QCoreApplication::translate("Export",
                                       "SVG picture (*.svg);;PDF picture (*.pdf);;PNG picture (*.png);;"
                                       "Numbers as CSV (*.csv)");
}

} // namespace rankwise::common
