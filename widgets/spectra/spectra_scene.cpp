// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/spectra_scene.h"

#include "widgets/bridge/text.h"
#include "widgets/common/color_map.h"

#include <QCoreApplication>

#include <vtkActor.h>
#include <vtkBillboardTextActor3D.h>
#include <vtkCellArray.h>
#include <vtkCoordinate.h>
#include <vtkNew.h>
#include <vtkPointData.h>
#include <vtkPoints.h>
#include <vtkPolyData.h>
#include <vtkPolyDataMapper.h>
#include <vtkProperty.h>
#include <vtkRenderer.h>
#include <vtkSmartPointer.h>
#include <vtkTextProperty.h>
#include <vtkUnsignedCharArray.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;

namespace {

constexpr double kLength = 2.2;  ///< Of the axis of layers.
constexpr double kDepth = 1.2;   ///< Of the axis of indices.
constexpr double kHeight = 0.8;  ///< Of σ_1.
constexpr double kGap = 0.25;    ///< Between two subjects.
constexpr double kDecades = 4;   ///< That the logarithmic height spans.
constexpr double kLookAt = 0.12; ///< Share of the height that is in the middle: the labels below it take room.

using Point = std::array<double, 3>;
using Segment = std::pair<Point, Point>;

QString say(const char* text)
{
    return QCoreApplication::translate("SpectraScene", text);
}

double height(double share, bool logarithmic)
{
    return kHeight * (logarithmic ? std::max(0.0, 1 + std::log10(std::max(share, 1e-300)) / kDecades) : share);
}

vtkSmartPointer<vtkActor> linesActor(const std::vector<Segment>& lines, const QColor& color, double width)
{
    vtkNew<vtkPoints> points;
    vtkNew<vtkCellArray> cells;
    for (const auto& [a, b] : lines) {
        const vtkIdType first = points->InsertNextPoint(a.data());
        const vtkIdType second = points->InsertNextPoint(b.data());
        cells->InsertNextCell({ first, second });
    }
    vtkNew<vtkPolyData> data;
    data->SetPoints(points);
    data->SetLines(cells);
    vtkNew<vtkPolyDataMapper> mapper;
    mapper->SetInputData(data);
    auto actor = vtkSmartPointer<vtkActor>::New();
    actor->SetMapper(mapper);
    actor->GetProperty()->SetColor(color.redF(), color.greenF(), color.blueF());
    actor->GetProperty()->SetLineWidth(static_cast<float>(width));
    actor->GetProperty()->LightingOff();
    return actor;
}

vtkSmartPointer<vtkBillboardTextActor3D> label(const QString& text, const Point& at, const QColor& color, int size,
                                               bool right = false)
{
    auto actor = vtkSmartPointer<vtkBillboardTextActor3D>::New();
    actor->SetInput(text.toUtf8().constData());
    actor->SetPosition(at[0], at[1], at[2]);
    vtkTextProperty* property = actor->GetTextProperty();
    property->SetColor(color.redF(), color.greenF(), color.blueF());
    property->SetFontSize(size);
    property->SetJustification(right ? VTK_TEXT_RIGHT : VTK_TEXT_CENTERED);
    property->SetVerticalJustificationToCentered();
    return actor;
}

} // namespace

struct SpectraScene::Ridge {
    QString path;
    std::size_t layer = 0;
    std::vector<Point> points;
    std::vector<double> shares;
};

struct SpectraScene::Parts {
    std::vector<Ridge> one;
    std::vector<Ridge> other;
    int subjects = 0;
    vtkNew<vtkPolyData> selection;
    vtkNew<vtkActor> selectionActor;

    static vtkSmartPointer<vtkActor> surface(const std::vector<Ridge>& ridges)
    {
        vtkNew<vtkPoints> points;
        vtkNew<vtkUnsignedCharArray> colors;
        colors->SetNumberOfComponents(3);
        for (const Ridge& ridge : ridges) {
            for (std::size_t s = 0; s < ridge.points.size(); ++s) {
                points->InsertNextPoint(ridge.points[s].data());
                const QColor color = QColor::fromRgb(common::mapColor(common::ColorMap::Viridis, ridge.shares[s]));
                colors->InsertNextTuple3(color.red(), color.green(), color.blue());
            }
        }
        vtkNew<vtkCellArray> quads;
        const auto at = [](std::size_t row, int sample) { return static_cast<vtkIdType>(row) * kSamples + sample; };
        for (std::size_t r = 0; r + 1 < ridges.size(); ++r) {
            for (int s = 0; s + 1 < kSamples; ++s) {
                quads->InsertNextCell({ at(r, s), at(r + 1, s), at(r + 1, s + 1), at(r, s + 1) });
            }
        }
        vtkNew<vtkPolyData> data;
        data->SetPoints(points);
        data->SetPolys(quads);
        data->GetPointData()->SetScalars(colors);
        vtkNew<vtkPolyDataMapper> mapper;
        mapper->SetInputData(data);
        auto actor = vtkSmartPointer<vtkActor>::New();
        actor->SetMapper(mapper);
        actor->GetProperty()->SetAmbient(0.45);
        actor->GetProperty()->SetDiffuse(0.6);
        return actor;
    }
};

double SpectraScene::share(const bridge::SpectrumData& spectrum, int sample)
{
    const auto n = spectrum.sigma.size();
    if (n == 0 || !(spectrum.sigma.front() > 0)) {
        return 0;
    }
    const double at = static_cast<double>(sample) / (kSamples - 1) * static_cast<double>(n - 1);
    const auto i = static_cast<std::size_t>(at);
    const double f = at - static_cast<double>(i);
    const double next = spectrum.sigma[std::min(i + 1, n - 1)];
    return (spectrum.sigma[i] * (1 - f) + next * f) / spectrum.sigma.front();
}

SpectraScene::SpectraScene(vtkRenderer& renderer) : m_renderer(renderer), m_parts(std::make_unique<Parts>())
{
    vtkNew<vtkPolyDataMapper> mapper;
    mapper->SetInputData(m_parts->selection);
    mapper->SetResolveCoincidentTopologyToPolygonOffset();
    m_parts->selectionActor->SetMapper(mapper);
    m_parts->selectionActor->GetProperty()->LightingOff();
}

SpectraScene::~SpectraScene() = default;

int SpectraScene::subjects() const
{
    return m_parts->subjects;
}

SpectraScene::Home SpectraScene::home() const
{
    switch (m_parts->subjects) {
    case 0:
        return { .distance = 3.4 };
    case 1:
        return { kLength / 2, kDepth / 2, kHeight * kLookAt, 3.5 };
    default:
        return { kLength + kGap / 2, kDepth / 2, kHeight * kLookAt, 5.0 };
    }
}

void SpectraScene::showNothing(const QString& words, const SceneStyle& style)
{
    m_renderer.RemoveAllViewProps();
    m_parts->one.clear();
    m_parts->other.clear();
    m_parts->subjects = 0;
    m_renderer.AddActor(label(words, {}, style.theme.dimText, style.fontSize));
}

void SpectraScene::show(const SpectraState& state, Curve curve, const SceneStyle& style)
{
    m_renderer.RemoveAllViewProps();
    m_parts->one.clear();
    m_parts->other.clear();
    const bool named = state.other() != nullptr;
    const bool two = named && state.other()->has(curve);
    m_parts->subjects = two ? 2 : 1;
    addSubject(state.set(), curve, 0, named, style, m_parts->one);
    if (two) {
        addSubject(*state.other(), curve, kLength + kGap, named, style, m_parts->other);
    }
    addAxes(two ? 2 * kLength + kGap : kLength, style);
    m_renderer.AddActor(m_parts->selectionActor);
}

void SpectraScene::addSubject(const bridge::SpectraSet& set, Curve curve, double left, bool named,
                              const SceneStyle& style, std::vector<Ridge>& ridges)
{
    for (std::size_t i = 0; i < set.layers.size(); ++i) {
        if (const bridge::SpectrumPtr& spectrum = set.at(i, curve)) {
            ridges.push_back({ .path = toQString(set.layers[i].path), .layer = i });
            for (int s = 0; s < kSamples; ++s) {
                ridges.back().shares.push_back(share(*spectrum, s));
            }
        }
    }
    for (std::size_t r = 0; r < ridges.size(); ++r) {
        const double along = ridges.size() > 1 ? static_cast<double>(r) / static_cast<double>(ridges.size() - 1) : 0.5;
        for (std::size_t s = 0; s < ridges[r].shares.size(); ++s) {
            const double y = static_cast<double>(s) / (kSamples - 1) * kDepth;
            ridges[r].points.push_back({ left + along * kLength, y, height(ridges[r].shares[s], style.logarithmic) });
        }
    }
    m_renderer.AddActor(Parts::surface(ridges));
    addParts(set, ridges, left, style);
    if (named) {
        m_renderer.AddActor(
            label(set.title, { left + kLength / 2, kDepth, kHeight * 1.12 }, style.theme.text, style.fontSize));
    }
}

/// Names and borders of the parts of the model, and the frame around them.
void SpectraScene::addParts(const bridge::SpectraSet& set, const std::vector<Ridge>& ridges, double left,
                            const SceneStyle& style)
{
    std::vector<Segment> borders;
    std::int64_t group = -1;
    double from = left;
    const auto name = [&](double to) {
        if (group >= 0 && to > from) {
            m_renderer.AddActor(
                label(bridge::groupName(group), { (from + to) / 2, -0.12, 0 }, style.theme.text, style.fontSize));
        }
    };
    for (const Ridge& ridge : ridges) {
        if (set.layers[ridge.layer].group != group) {
            const double x = ridge.points.front()[0];
            name(x);
            group = set.layers[ridge.layer].group;
            from = x;
            borders.push_back({ { x, 0, 0 }, { x, kDepth, 0 } });
        }
    }
    name(left + kLength);
    m_renderer.AddActor(linesActor(borders, style.theme.dimText, 1));
    m_renderer.AddActor(linesActor({ { { left, 0, 0 }, { left + kLength, 0, 0 } },
                                     { { left, kDepth, 0 }, { left + kLength, kDepth, 0 } },
                                     { { left, 0, 0 }, { left, kDepth, 0 } },
                                     { { left + kLength, 0, 0 }, { left + kLength, kDepth, 0 } },
                                     { { left, 0, 0 }, { left, 0, kHeight } } },
                                   style.theme.text, 1.5));
}

/// Names and ends of the axes.
void SpectraScene::addAxes(double right, const SceneStyle& style)
{
    const auto add = [&](const QString& text, const Point& at, bool toTheLeft = false) {
        m_renderer.AddActor(label(text, at, style.theme.dimText, style.fontSize, toTheLeft));
    };
    add(say("layer"), { right / 2, -0.34, 0 });
    for (const double f : { 0.0, 0.5, 1.0 }) {
        add(numberText(f), { right + 0.16, f * kDepth, 0 });
        add(style.logarithmic ? QStringLiteral("1e%1").arg(qRound((f - 1) * kDecades)) : numberText(f),
            { -0.06, 0, f * kHeight }, true);
    }
    add(QStringLiteral("i / n"), { right + 0.36, kDepth / 2, 0 });
    // VTK's own font has no Greek letters.
    add(say("share of the largest"), { 0, 0, kHeight * 1.2 });
}

void SpectraScene::showSelection(const SpectraState& state, const QColor& color)
{
    vtkNew<vtkPoints> points;
    vtkNew<vtkCellArray> lines;
    for (const auto* ridges : { &m_parts->one, &m_parts->other }) {
        for (const Ridge& ridge : *ridges) {
            if (!state.isSelected(ridge.path.toStdString())) {
                continue;
            }
            lines->InsertNextCell(static_cast<int>(ridge.points.size()));
            for (const Point& point : ridge.points) {
                lines->InsertCellPoint(points->InsertNextPoint(point[0], point[1], point[2] + 0.006));
            }
        }
    }
    m_parts->selection->Initialize();
    m_parts->selection->SetPoints(points);
    m_parts->selection->SetLines(lines);
    m_parts->selectionActor->GetProperty()->SetColor(color.redF(), color.greenF(), color.blueF());
    m_parts->selectionActor->GetProperty()->SetLineWidth(3);
}

QString SpectraScene::layerAt(const QPointF& at, double reach) const
{
    vtkNew<vtkCoordinate> coordinate;
    coordinate->SetCoordinateSystemToWorld();
    QString best;
    double nearest = reach;
    for (const auto* ridges : { &m_parts->one, &m_parts->other }) {
        for (const Ridge& ridge : *ridges) {
            for (const Point& point : ridge.points) {
                coordinate->SetValue(point[0], point[1], point[2]);
                const double* shown = coordinate->GetComputedDoubleDisplayValue(&m_renderer);
                const double distance = std::hypot(shown[0] - at.x(), shown[1] - at.y());
                if (distance < nearest) {
                    nearest = distance;
                    best = ridge.path;
                }
            }
        }
    }
    return best;
}

} // namespace rankwise::spectra_view
