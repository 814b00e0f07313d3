// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/surface_view.h"

#include "widgets/bridge/text.h"
#include "widgets/common/color_map.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/plot_surface.h"
#include "widgets/common/theme.h"
#include "widgets/common/vtk_view.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QMouseEvent>
#include <QPainter>
#include <QSignalBlocker>
#include <QTimer>

#include <vtkActor.h>
#include <vtkBillboardTextActor3D.h>
#include <vtkCellArray.h>
#include <vtkCoordinate.h>
#include <vtkNew.h>
#include <vtkPointData.h>
#include <vtkPoints.h>
#include <vtkPolyData.h>
#include <vtkPolyDataMapper.h>
#include <vtkPolyLine.h>
#include <vtkProperty.h>
#include <vtkRenderer.h>
#include <vtkSmartPointer.h>
#include <vtkTextProperty.h>
#include <vtkUnsignedCharArray.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;

namespace {

constexpr double kLength = 2.2; ///< Of the axis of layers.
constexpr double kDepth = 1.2;  ///< Of the axis of indices.
constexpr double kHeight = 0.8; ///< Of σ_1.
constexpr double kGap = 0.25;   ///< Between two subjects.
constexpr double kDecades = 4;  ///< That the logarithmic height spans.
constexpr double kPickReach = 14;

/// σ / σ_1 at kSamples even places of i / n.
std::vector<double> profile(const bridge::SpectrumData& spectrum)
{
    std::vector<double> values(SurfaceView::kSamples, 0.0);
    const auto n = spectrum.sigma.size();
    if (n == 0 || !(spectrum.sigma.front() > 0)) {
        return values;
    }
    for (std::size_t s = 0; s < values.size(); ++s) {
        const double at =
            static_cast<double>(s) / static_cast<double>(SurfaceView::kSamples - 1) * static_cast<double>(n - 1);
        const auto i = static_cast<std::size_t>(at);
        const double f = at - static_cast<double>(i);
        const double next = spectrum.sigma[std::min(i + 1, n - 1)];
        values[s] = (spectrum.sigma[i] * (1 - f) + next * f) / spectrum.sigma.front();
    }
    return values;
}

} // namespace

struct SurfaceView::Scene {
    struct Ridge {
        QString path;
        std::vector<std::array<double, 3>> points;
    };
    std::vector<Ridge> ridges; ///< Of the first subject.
    std::vector<Ridge> others;
    vtkNew<vtkPolyData> selection;
    vtkNew<vtkActor> selectionActor;

    static vtkSmartPointer<vtkActor>
    linesActor(const std::vector<std::pair<std::array<double, 3>, std::array<double, 3>>>& lines, const QColor& color,
               double width)
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

    static vtkSmartPointer<vtkBillboardTextActor3D> label(const QString& text, double x, double y, double z,
                                                          const QColor& color, int size, bool right = false)
    {
        auto actor = vtkSmartPointer<vtkBillboardTextActor3D>::New();
        actor->SetInput(text.toUtf8().constData());
        actor->SetPosition(x, y, z);
        vtkTextProperty* property = actor->GetTextProperty();
        property->SetColor(color.redF(), color.greenF(), color.blueF());
        property->SetFontSize(size);
        property->SetJustification(right ? VTK_TEXT_RIGHT : VTK_TEXT_CENTERED);
        property->SetVerticalJustificationToCentered();
        return actor;
    }

    static vtkSmartPointer<vtkActor> surface(const std::vector<Ridge>& ridges,
                                             const std::vector<std::vector<double>>& shares)
    {
        vtkNew<vtkPoints> points;
        vtkNew<vtkUnsignedCharArray> colors;
        colors->SetNumberOfComponents(3);
        for (std::size_t r = 0; r < ridges.size(); ++r) {
            for (std::size_t s = 0; s < ridges[r].points.size(); ++s) {
                points->InsertNextPoint(ridges[r].points[s].data());
                const QColor color = QColor::fromRgb(common::mapColor(common::ColorMap::Viridis, shares[r][s]));
                colors->InsertNextTuple3(color.red(), color.green(), color.blue());
            }
        }
        vtkNew<vtkCellArray> quads;
        for (std::size_t r = 0; r + 1 < ridges.size(); ++r) {
            for (std::size_t s = 0; s + 1 < static_cast<std::size_t>(kSamples); ++s) {
                const auto at = [](std::size_t row, std::size_t sample) {
                    return static_cast<vtkIdType>(row * static_cast<std::size_t>(kSamples) + sample);
                };
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

SurfaceView::SurfaceView(SpectraState& state, QWidget* parent)
    : SurfaceView(std::make_unique<bridge::ColumnModel>(), state, parent)
{
}

SurfaceView::SurfaceView(std::unique_ptr<bridge::ColumnModel> table, SpectraState& state, QWidget* parent)
    : CanvasFrame(tr("Spectra of all layers"), table.get(), parent), m_numbers(std::move(table)), m_state(state),
      m_which(new QComboBox), m_scale(new QComboBox), m_scene(std::make_unique<Scene>())
{
    m_which->setAccessibleName(tr("Matrix of the surface"));
    m_scale->setAccessibleName(tr("Height of the surface"));
    m_scale->addItem(tr("linear"), false);
    m_scale->addItem(tr("logarithmic"), true);
    addTool(m_which);
    addTool(m_scale);
    if (common::openGlWorks()) {
        m_view = new common::VtkView;
        m_view->setAccessibleName(tr("Spectra in 3D"));
        m_view->setAccessibleDescription(tr("A picture; the Table button shows the same numbers."));
        m_view->setToolTip(tr("Left button turns, Shift or middle button moves, wheel zooms, R resets, a double click "
                              "selects a layer"));
        m_view->installEventFilter(this);
        setCanvas(m_view);
    } else {
        auto* words = new QLabel(tr("3D needs OpenGL 3.2. The Table button shows the same numbers."));
        words->setAlignment(Qt::AlignCenter);
        words->setWordWrap(true);
        setCanvas(words);
    }
    connect(m_which, &QComboBox::currentIndexChanged, this, &SurfaceView::scheduleBuild);
    connect(m_scale, &QComboBox::currentIndexChanged, this, &SurfaceView::scheduleBuild);
    connect(&state, &SpectraState::setsChanged, this, &SurfaceView::scheduleBuild);
    connect(&state, &SpectraState::shownChanged, this, &SurfaceView::scheduleBuild);
    connect(&state, &SpectraState::layersChanged, this, &SurfaceView::showSelection);
    connect(&common::ThemeSwitch::instance(), &common::ThemeSwitch::changed, this, &SurfaceView::scheduleBuild);
    connect(this, &CanvasFrame::rowActivated, this, [this](int row) {
        const QString path = m_numbers->index(row, 0).data(Qt::EditRole).toString();
        if (!path.isEmpty()) {
            Q_EMIT picked({ path });
        }
    });
    scheduleBuild();
}

SurfaceView::~SurfaceView() = default;

std::optional<Curve> SurfaceView::curve() const
{
    return m_which->currentIndex() >= 0 ? std::optional(static_cast<Curve>(m_which->currentData().toInt()))
                                        : std::nullopt;
}

double SurfaceView::height(double share) const
{
    if (!m_scale->currentData().toBool()) {
        return share * kHeight;
    }
    return kHeight * std::max(0.0, 1 + std::log10(std::max(share, 1e-300)) / kDecades);
}

void SurfaceView::scheduleBuild()
{
    // Curves come many times a second while a worker computes.
    if (!m_scheduled) {
        m_scheduled = true;
        QTimer::singleShot(120, this, [this] {
            m_scheduled = false;
            build();
        });
    }
}

void SurfaceView::fillChoice()
{
    const std::vector<Curve> curves = m_state.curves();
    bool same = m_which->count() == static_cast<int>(curves.size());
    for (std::size_t i = 0; same && i < curves.size(); ++i) {
        same = m_which->itemData(static_cast<int>(i)).toInt() == static_cast<int>(curves[i]);
    }
    if (same) {
        return;
    }
    const QSignalBlocker blocker(m_which);
    const QVariant before = m_which->currentData();
    m_which->clear();
    for (const Curve curve : curves) {
        m_which->addItem(bridge::curveName(curve), static_cast<int>(curve));
    }
    m_which->setCurrentIndex(std::max(m_which->count() > 0 ? 0 : -1, m_which->findData(before)));
}

void SurfaceView::fillTable()
{
    const std::optional<Curve> which = curve();
    std::vector<std::size_t> rows;
    const bridge::SpectraSet& set = m_state.set();
    for (std::size_t i = 0; which && i < set.layers.size(); ++i) {
        if (set.at(i, *which)) {
            rows.push_back(i);
        }
    }
    QStringList headers { tr("layer"), tr("part"), tr("σ_1") };
    for (int s = 0; s < kSamples; ++s) {
        headers << tr("σ/σ_1 at i/n = %1").arg(numberText(static_cast<double>(s) / (kSamples - 1)));
    }
    m_numbers->reset(headers, static_cast<int>(rows.size()), [this, rows, which](int row, int column) -> QVariant {
        const bridge::SpectraSet& now = m_state.set();
        const std::size_t layer = rows[static_cast<std::size_t>(row)];
        if (layer >= now.layers.size() || !now.at(layer, *which)) {
            return {};
        }
        switch (column) {
        case 0:
            return toQString(now.layers[layer].path);
        case 1:
            return bridge::groupName(now.layers[layer].group);
        case 2:
            return now.at(layer, *which)->measures.largest;
        default:
            return profile(*now.at(layer, *which))[static_cast<std::size_t>(column - 3)];
        }
    });
}

void SurfaceView::build()
{
    fillChoice();
    fillTable();
    const std::optional<Curve> which = curve();
    setTitle(which ? tr("Spectra of all layers: %1").arg(bridge::curveName(*which)) : tr("Spectra of all layers"));
    if (m_view == nullptr) {
        return;
    }
    const common::Theme& theme = common::currentTheme();
    vtkRenderer* renderer = m_view->renderer();
    renderer->RemoveAllViewProps();
    m_scene->ridges.clear();
    m_scene->others.clear();
    const int fontSize = std::max(12, static_cast<int>(font().pointSizeF() * 1.5 * devicePixelRatioF()));
    if (!which) {
        renderer->AddActor(
            Scene::label(tr("No spectra yet: open a checkpoint and compute them"), 0, 0, 0, theme.dimText, fontSize));
        goHome(0);
        m_view->render();
        return;
    }
    const auto add = [&](const bridge::SpectraSet& set, double left, std::vector<Scene::Ridge>& ridges) {
        std::vector<std::vector<double>> shares;
        std::vector<std::size_t> rows;
        for (std::size_t i = 0; i < set.layers.size(); ++i) {
            if (set.at(i, *which)) {
                rows.push_back(i);
            }
        }
        std::vector<std::pair<std::array<double, 3>, std::array<double, 3>>> borders;
        std::int64_t group = -1;
        double groupFrom = left;
        const auto nameGroup = [&](double to) {
            if (group >= 0 && to > groupFrom) {
                renderer->AddActor(
                    Scene::label(bridge::groupName(group), (groupFrom + to) / 2, -0.12, 0, theme.text, fontSize));
            }
        };
        for (std::size_t r = 0; r < rows.size(); ++r) {
            const double x = left
                + (rows.size() > 1 ? static_cast<double>(r) / static_cast<double>(rows.size() - 1) : 0.5) * kLength;
            Scene::Ridge ridge { .path = toQString(set.layers[rows[r]].path) };
            shares.push_back(profile(*set.at(rows[r], *which)));
            for (std::size_t s = 0; s < shares.back().size(); ++s) {
                const double y = static_cast<double>(s) / (kSamples - 1) * kDepth;
                ridge.points.push_back({ x, y, height(shares.back()[s]) });
            }
            ridges.push_back(std::move(ridge));
            if (set.layers[rows[r]].group != group) {
                nameGroup(x);
                group = set.layers[rows[r]].group;
                groupFrom = x;
                borders.push_back({ { x, 0, 0 }, { x, kDepth, 0 } });
            }
        }
        nameGroup(left + kLength);
        renderer->AddActor(Scene::surface(ridges, shares));
        renderer->AddActor(Scene::linesActor(borders, theme.dimText, 1));
        renderer->AddActor(Scene::linesActor({ { { left, 0, 0 }, { left + kLength, 0, 0 } },
                                               { { left, kDepth, 0 }, { left + kLength, kDepth, 0 } },
                                               { { left, 0, 0 }, { left, kDepth, 0 } },
                                               { { left + kLength, 0, 0 }, { left + kLength, kDepth, 0 } },
                                               { { left, 0, 0 }, { left, 0, kHeight } } },
                                             theme.text, 1.5));
        if (m_state.other() != nullptr) {
            renderer->AddActor(
                Scene::label(set.title, left + kLength / 2, kDepth, kHeight * 1.12, theme.text, fontSize));
        }
    };
    const bool two = m_state.other() != nullptr && m_state.other()->has(*which);
    add(m_state.set(), 0, m_scene->ridges);
    if (two) {
        add(*m_state.other(), kLength + kGap, m_scene->others);
    }
    // Names and ends of the axes.
    const double right = two ? 2 * kLength + kGap : kLength;
    const bool logarithmic = m_scale->currentData().toBool();
    renderer->AddActor(Scene::label(tr("layer"), right / 2, -0.34, 0, theme.dimText, fontSize));
    for (const double f : { 0.0, 0.5, 1.0 }) {
        renderer->AddActor(Scene::label(numberText(f), right + 0.16, f * kDepth, 0, theme.dimText, fontSize));
        renderer->AddActor(
            Scene::label(logarithmic ? QStringLiteral("1e%1").arg(qRound((f - 1) * kDecades)) : numberText(f), -0.06, 0,
                         f * kHeight, theme.dimText, fontSize, true));
    }
    renderer->AddActor(Scene::label(QStringLiteral("i / n"), right + 0.36, kDepth / 2, 0, theme.dimText, fontSize));
    // VTK's own font has no Greek letters.
    renderer->AddActor(Scene::label(tr("share of the largest"), 0, 0, kHeight * 1.2, theme.dimText, fontSize));
    vtkNew<vtkPolyDataMapper> mapper;
    mapper->SetInputData(m_scene->selection);
    mapper->SetResolveCoincidentTopologyToPolygonOffset();
    m_scene->selectionActor->SetMapper(mapper);
    m_scene->selectionActor->GetProperty()->LightingOff();
    renderer->AddActor(m_scene->selectionActor);
    goHome(two ? 2 : 1);
    showSelection();
}

void SurfaceView::goHome(int subjects)
{
    // The user's view stays while curves come in.
    if (m_home == subjects) {
        return;
    }
    m_home = subjects;
    const double right = subjects == 2 ? 2 * kLength + kGap : kLength;
    if (subjects == 0) {
        m_view->setHome(0, 0, 0, 3.4, -60, 25);
    } else {
        m_view->setHome(right / 2, kDepth / 2, kHeight * 0.32, subjects == 2 ? 5.4 : 3.3, -62, 28);
    }
}

void SurfaceView::showSelection()
{
    if (m_view == nullptr) {
        return;
    }
    vtkNew<vtkPoints> points;
    vtkNew<vtkCellArray> lines;
    for (const auto* ridges : { &m_scene->ridges, &m_scene->others }) {
        for (const Scene::Ridge& ridge : *ridges) {
            if (!m_state.isSelected(ridge.path.toStdString())) {
                continue;
            }
            lines->InsertNextCell(static_cast<int>(ridge.points.size()));
            for (const auto& point : ridge.points) {
                lines->InsertCellPoint(points->InsertNextPoint(point[0], point[1], point[2] + 0.006));
            }
        }
    }
    m_scene->selection->Initialize();
    m_scene->selection->SetPoints(points);
    m_scene->selection->SetLines(lines);
    const QColor& color = common::currentTheme().bad;
    m_scene->selectionActor->GetProperty()->SetColor(color.redF(), color.greenF(), color.blueF());
    m_scene->selectionActor->GetProperty()->SetLineWidth(3);
    m_view->render();
}

QString SurfaceView::layerAt(const QPointF& at) const
{
    if (m_view == nullptr) {
        return {};
    }
    const double ratio = m_view->devicePixelRatioF();
    vtkNew<vtkCoordinate> coordinate;
    coordinate->SetCoordinateSystemToWorld();
    QString best;
    double nearest = kPickReach;
    for (const auto* ridges : { &m_scene->ridges, &m_scene->others }) {
        for (const Scene::Ridge& ridge : *ridges) {
            for (const auto& point : ridge.points) {
                coordinate->SetValue(point[0], point[1], point[2]);
                const double* shown = coordinate->GetComputedDoubleDisplayValue(m_view->renderer());
                const double distance =
                    std::hypot(shown[0] / ratio - at.x(), m_view->height() - shown[1] / ratio - at.y());
                if (distance < nearest) {
                    nearest = distance;
                    best = ridge.path;
                }
            }
        }
    }
    return best;
}

bool SurfaceView::eventFilter(QObject* object, QEvent* event)
{
    if (object == m_view && event->type() == QEvent::MouseButtonDblClick) {
        const QString layer = layerAt(static_cast<QMouseEvent*>(event)->position());
        if (!layer.isEmpty()) {
            Q_EMIT picked({ layer });
        }
        return true;
    }
    return CanvasFrame::eventFilter(object, event);
}

void SurfaceView::paintPicture(QPainter& painter, const QSizeF& size)
{
    const common::Theme& theme = common::currentTheme();
    common::PainterSurface surface(painter);
    surface.fillRect(QRectF(QPointF(), size), theme.base);
    const double heading = surface.lineHeight() + 8;
    surface.text({ 8, 4 }, title(), theme.text, Qt::AlignLeft | Qt::AlignTop, 1.1);
    const QRectF area(0, heading, size.width(), size.height() - heading);
    if (m_view == nullptr || !m_view->isValid()) {
        surface.text(area.center(), tr("No OpenGL"), theme.dimText, Qt::AlignCenter, 1.0);
        return;
    }
    // A rendered scene has no outlines: it stays a picture inside SVG and PDF.
    const QImage picture = m_view->picture(2);
    QSizeF fitted = picture.size();
    fitted.scale(area.size(), Qt::KeepAspectRatio);
    QRectF place(QPointF(), fitted);
    place.moveCenter(area.center());
    painter.drawImage(place, picture);
}

} // namespace rankwise::spectra_view
