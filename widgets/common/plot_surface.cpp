// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/plot_surface.h"

#include <QFontMetricsF>

namespace rankwise::common {

QPointF alignedCorner(const QPointF& anchor, const QSizeF& size, Qt::Alignment alignment)
{
    QPointF corner = anchor;
    if (alignment & Qt::AlignRight) {
        corner.rx() -= size.width();
    } else if (alignment & Qt::AlignHCenter) {
        corner.rx() -= size.width() / 2;
    }
    if (alignment & Qt::AlignBottom) {
        corner.ry() -= size.height();
    } else if (alignment & Qt::AlignVCenter) {
        corner.ry() -= size.height() / 2;
    }
    return corner;
}

QString PlotSurface::elided(const QString& text, double width, double scale) const
{
    if (textSize(text, scale).width() <= width) {
        return text;
    }
    for (qsizetype keep = text.size() - 1; keep > 1; --keep) {
        const QString shorter = text.left(keep / 2) + QChar(0x2026) + text.right(keep - keep / 2);
        if (textSize(shorter, scale).width() <= width) {
            return shorter;
        }
    }
    return QString(QChar(0x2026));
}

PainterSurface::PainterSurface(QPainter& painter) : m_painter(painter), m_font(painter.font())
{
    m_painter.setRenderHint(QPainter::Antialiasing);
}

QFont PainterSurface::scaledFont(double scale) const
{
    QFont font = m_font;
    if (font.pixelSize() > 0) {
        font.setPixelSize(std::max(1, static_cast<int>(font.pixelSize() * scale)));
    } else {
        font.setPointSizeF(font.pointSizeF() * scale);
    }
    return font;
}

void PainterSurface::fillRect(const QRectF& rect, const QColor& color)
{
    m_painter.setRenderHint(QPainter::Antialiasing, false);
    m_painter.fillRect(rect, color);
    m_painter.setRenderHint(QPainter::Antialiasing);
}

void PainterSurface::strokeRect(const QRectF& rect, const QColor& color, double width)
{
    m_painter.setPen(QPen(color, width));
    m_painter.setBrush(Qt::NoBrush);
    m_painter.drawRect(rect);
}

void PainterSurface::line(const QPointF& a, const QPointF& b, const QColor& color, double width)
{
    m_painter.setPen(QPen(color, width));
    m_painter.drawLine(a, b);
}

void PainterSurface::polyline(std::span<const QPointF> points, const QColor& color, double width)
{
    QPen pen(color, width);
    pen.setJoinStyle(Qt::RoundJoin);
    m_painter.setPen(pen);
    m_painter.setBrush(Qt::NoBrush);
    m_painter.drawPolyline(points.data(), static_cast<int>(points.size()));
}

void PainterSurface::fillPolygon(std::span<const QPointF> points, const QColor& color)
{
    m_painter.setPen(Qt::NoPen);
    m_painter.setBrush(color);
    m_painter.drawPolygon(points.data(), static_cast<int>(points.size()));
}

void PainterSurface::text(const QPointF& anchor, const QString& text, const QColor& color, Qt::Alignment alignment,
                          double scale)
{
    const QFont font = scaledFont(scale);
    const QFontMetricsF metrics(font, m_painter.device());
    const QSizeF size(metrics.horizontalAdvance(text), metrics.height());
    const QPointF corner = alignedCorner(anchor, size, alignment);
    m_painter.setFont(font);
    m_painter.setPen(color);
    m_painter.drawText(QPointF(corner.x(), corner.y() + metrics.ascent()), text);
}

QSizeF PainterSurface::textSize(const QString& text, double scale) const
{
    const QFontMetricsF metrics(scaledFont(scale), m_painter.device());
    return { metrics.horizontalAdvance(text), metrics.height() };
}

void PainterSurface::image(const QRectF& rect, const QImage& image)
{
    m_painter.setRenderHint(QPainter::SmoothPixmapTransform, false);
    m_painter.drawImage(rect, image);
}

void PainterSurface::pushClip(const QRectF& rect)
{
    m_painter.save();
    m_painter.setClipRect(rect, Qt::IntersectClip);
}

void PainterSurface::popClip()
{
    m_painter.restore();
}

} // namespace rankwise::common
