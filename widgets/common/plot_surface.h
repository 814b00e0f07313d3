// Where a chart draws: the few shapes that charts are made of. One implementation draws with Dear ImGui on the GPU,
// one with QPainter (export to SVG, PDF and PNG, and windows without OpenGL), so that all show the same.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QColor>
#include <QImage>
#include <QPainter>
#include <QPointF>
#include <QRectF>
#include <QString>

#include <span>

namespace rankwise::common {

/// Coordinates are device-independent pixels, y down.
class PlotSurface {
public:
    virtual ~PlotSurface() = default;

    virtual void fillRect(const QRectF& rect, const QColor& color) = 0;
    virtual void strokeRect(const QRectF& rect, const QColor& color, double width = 1) = 0;
    virtual void line(const QPointF& a, const QPointF& b, const QColor& color, double width = 1) = 0;
    virtual void polyline(std::span<const QPointF> points, const QColor& color, double width) = 0;
    /// A convex polygon.
    virtual void fillPolygon(std::span<const QPointF> points, const QColor& color) = 0;
    /// Text whose box is aligned to `anchor`: AlignLeft puts its left edge there, AlignBottom its lower edge, …
    virtual void text(const QPointF& anchor, const QString& text, const QColor& color, Qt::Alignment alignment,
                      double scale = 1.0) = 0;
    [[nodiscard]] virtual QSizeF textSize(const QString& text, double scale = 1.0) const = 0;
    /// Pixels without smoothing: cells stay cells.
    virtual void image(const QRectF& rect, const QImage& image) = 0;
    virtual void pushClip(const QRectF& rect) = 0;
    virtual void popClip() = 0;

    [[nodiscard]] double lineHeight() const { return textSize(QStringLiteral("Mg")).height(); }
    /// `text`, cut in the middle so that it is at most `width` wide.
    [[nodiscard]] QString elided(const QString& text, double width, double scale = 1.0) const;
};

/// Draws with a QPainter, which must outlive this.
class PainterSurface : public PlotSurface {
public:
    explicit PainterSurface(QPainter& painter);

    void fillRect(const QRectF& rect, const QColor& color) override;
    void strokeRect(const QRectF& rect, const QColor& color, double width) override;
    void line(const QPointF& a, const QPointF& b, const QColor& color, double width) override;
    void polyline(std::span<const QPointF> points, const QColor& color, double width) override;
    void fillPolygon(std::span<const QPointF> points, const QColor& color) override;
    void text(const QPointF& anchor, const QString& text, const QColor& color, Qt::Alignment alignment,
              double scale) override;
    [[nodiscard]] QSizeF textSize(const QString& text, double scale) const override;
    void image(const QRectF& rect, const QImage& image) override;
    void pushClip(const QRectF& rect) override;
    void popClip() override;

private:
    [[nodiscard]] QFont scaledFont(double scale) const;

    QPainter& m_painter;
    QFont m_font;
};

/// Top left corner of a box of `size` aligned to `anchor`.
[[nodiscard]] QPointF alignedCorner(const QPointF& anchor, const QSizeF& size, Qt::Alignment alignment);

} // namespace rankwise::common
