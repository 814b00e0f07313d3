// SPDX-License-Identifier: Apache-2.0
#include "widgets/robot/scene_view.h"

#include "widgets/bridge/text.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/plot_surface.h"
#include "widgets/common/theme.h"
#include "widgets/common/vtk_view.h"

#include <QLabel>
#include <QPainter>

#include <vtkActor.h>
#include <vtkCapsuleSource.h>
#include <vtkCellArray.h>
#include <vtkCubeSource.h>
#include <vtkCylinderSource.h>
#include <vtkMatrix4x4.h>
#include <vtkNew.h>
#include <vtkPoints.h>
#include <vtkPolyData.h>
#include <vtkPolyDataAlgorithm.h>
#include <vtkPolyDataMapper.h>
#include <vtkProperty.h>
#include <vtkRenderer.h>
#include <vtkSmartPointer.h>
#include <vtkSphereSource.h>

#include <array>
#include <cmath>
#include <vector>

namespace rankwise::robot_view {

using bridge::SceneShape;
using bridge::ShapePose;

namespace {

constexpr double kPlaneHalf = 0.8; ///< An infinite plane is drawn this far, m.
constexpr int kSides = 28;
constexpr double kFloorShade = 0.75; ///< As bright as the light from the camera makes it.
constexpr double kGhostSize = 0.98;  ///< A ghost where the arm is hides inside of it.

/// Solids along z, as MuJoCo has them; VTK's round ones lie along y.
vtkSmartPointer<vtkPolyDataAlgorithm> sourceOf(const SceneShape& shape)
{
    const auto& s = shape.size;
    switch (shape.kind) {
    case SceneShape::Kind::Sphere:
    case SceneShape::Kind::Ellipsoid: {
        auto source = vtkSmartPointer<vtkSphereSource>::New();
        source->SetRadius(shape.kind == SceneShape::Kind::Sphere ? s[0] : 1.0);
        source->SetThetaResolution(kSides);
        source->SetPhiResolution(kSides / 2);
        return source;
    }
    case SceneShape::Kind::Capsule: {
        auto source = vtkSmartPointer<vtkCapsuleSource>::New();
        source->SetRadius(s[0]);
        source->SetCylinderLength(2 * s[1]);
        source->SetThetaResolution(kSides);
        source->SetPhiResolution(kSides / 2);
        source->LatLongTessellationOff();
        return source;
    }
    case SceneShape::Kind::Cylinder: {
        auto source = vtkSmartPointer<vtkCylinderSource>::New();
        source->SetRadius(s[0]);
        source->SetHeight(2 * s[1]);
        source->SetResolution(kSides);
        return source;
    }
    case SceneShape::Kind::Plane: {
        auto source = vtkSmartPointer<vtkCubeSource>::New();
        source->SetXLength(2 * (s[0] > 0 ? s[0] : kPlaneHalf));
        source->SetYLength(2 * (s[1] > 0 ? s[1] : kPlaneHalf));
        source->SetZLength(0.001);
        return source;
    }
    case SceneShape::Kind::Box:
        break;
    }
    auto source = vtkSmartPointer<vtkCubeSource>::New();
    source->SetXLength(2 * s[0]);
    source->SetYLength(2 * s[1]);
    source->SetZLength(2 * s[2]);
    return source;
}

bool liesAlongY(SceneShape::Kind kind)
{
    return kind == SceneShape::Kind::Capsule || kind == SceneShape::Kind::Cylinder;
}

/// `size` scales about the solid's own middle.
void setPose(vtkMatrix4x4* matrix, const ShapePose& pose, const SceneShape& shape, double size = 1)
{
    const bool turn = liesAlongY(shape.kind);
    const bool scale = shape.kind == SceneShape::Kind::Ellipsoid;
    for (int i = 0; i < 3; ++i) {
        const auto row = static_cast<std::size_t>(3 * i);
        std::array<double, 3> r { static_cast<double>(pose.rotation[row]), static_cast<double>(pose.rotation[row + 1]),
                                  static_cast<double>(pose.rotation[row + 2]) };
        if (turn) {
            // Rotation about x by 90 degrees first: y of the source becomes z.
            r = { r[0], r[2], -r[1] };
        }
        for (std::size_t k = 0; k < 3; ++k) {
            matrix->SetElement(i, static_cast<int>(k), r[k] * size * (scale ? shape.size[k] : 1.0));
        }
        matrix->SetElement(i, 3, static_cast<double>(pose.position[static_cast<std::size_t>(i)]));
    }
    matrix->Modified();
}

QString kindName(SceneShape::Kind kind)
{
    switch (kind) {
    case SceneShape::Kind::Box:
        return QObject::tr("box");
    case SceneShape::Kind::Sphere:
        return QObject::tr("sphere");
    case SceneShape::Kind::Capsule:
        return QObject::tr("capsule");
    case SceneShape::Kind::Cylinder:
        return QObject::tr("cylinder");
    case SceneShape::Kind::Ellipsoid:
        return QObject::tr("ellipsoid");
    case SceneShape::Kind::Plane:
        return QObject::tr("plane");
    }
    return {};
}

} // namespace

struct SceneView::Actors {
    struct Solid {
        vtkNew<vtkActor> actor;
        vtkNew<vtkMatrix4x4> matrix;
    };
    std::vector<std::unique_ptr<Solid>> measured;
    std::vector<std::unique_ptr<Solid>> ghost; ///< By shape; null for those that do not move with the arm.

    /// A line through points.
    struct Path {
        vtkNew<vtkActor> actor;
        vtkNew<vtkPolyData> line;

        Path(double red, double green, double blue)
        {
            vtkNew<vtkPolyDataMapper> mapper;
            mapper->SetInputData(line);
            actor->SetMapper(mapper);
            vtkProperty* property = actor->GetProperty();
            property->SetColor(red, green, blue);
            property->SetLineWidth(4);
            property->LightingOff();
            actor->VisibilityOff();
        }

        void set(const std::vector<std::array<float, 3>>& points)
        {
            vtkNew<vtkPoints> places;
            vtkNew<vtkCellArray> cells;
            cells->InsertNextCell(static_cast<int>(points.size()));
            for (const auto& point : points) {
                cells->InsertCellPoint(places->InsertNextPoint(point.data()));
            }
            line->SetPoints(places);
            line->SetLines(cells);
            actor->SetVisibility(points.size() > 1 ? 1 : 0);
        }
    };
    Path planned { 0.95, 0.62, 0.1 };
    Path executed { 0.25, 0.65, 0.95 };

    static std::unique_ptr<Solid> make(const SceneShape& shape)
    {
        auto solid = std::make_unique<Solid>();
        vtkNew<vtkPolyDataMapper> mapper;
        mapper->SetInputConnection(sourceOf(shape)->GetOutputPort());
        solid->actor->SetMapper(mapper);
        solid->actor->SetUserMatrix(solid->matrix);
        vtkProperty* property = solid->actor->GetProperty();
        property->SetColor(static_cast<double>(shape.rgba[0]), static_cast<double>(shape.rgba[1]),
                           static_cast<double>(shape.rgba[2]));
        property->SetOpacity(static_cast<double>(shape.rgba[3]));
        property->SetAmbient(0.25);
        property->SetSpecular(0.15);
        property->SetSpecularPower(20);
        property->BackfaceCullingOn();
        if (shape.kind == SceneShape::Kind::Plane) {
            // Most of the picture, and flat: lit pixel by pixel it would take a software renderer longer than the arm.
            property->LightingOff();
            property->SetColor(kFloorShade * static_cast<double>(shape.rgba[0]),
                               kFloorShade * static_cast<double>(shape.rgba[1]),
                               kFloorShade * static_cast<double>(shape.rgba[2]));
        }
        return solid;
    }
};

SceneView::SceneView(QWidget* parent) : SceneView(std::make_unique<bridge::ColumnModel>(), parent) { }

SceneView::SceneView(std::unique_ptr<bridge::ColumnModel> table, QWidget* parent)
    : CanvasFrame(tr("Scene"), table.get(), parent), m_numbers(std::move(table)), m_actors(std::make_unique<Actors>())
{
    if (common::openGlWorks()) {
        m_view = new common::VtkView;
        m_view->setAccessibleName(tr("Arm in 3D"));
        m_view->setAccessibleDescription(tr("A picture; the Table button shows the positions."));
        m_view->setToolTip(tr("Left button turns, Shift or middle button moves, wheel zooms, R resets"));
        m_view->setHome(0.28, 0.0, 0.14, 1.45, 38, 24);
        setCanvas(m_view);
        connect(
            m_view, &common::VtkView::glFailed, this,
            [this] {
                doWithoutGl();
                showTable(true);
            },
            Qt::QueuedConnection);
    } else {
        doWithoutGl();
    }
}

void SceneView::doWithoutGl()
{
    m_actors = std::make_unique<Actors>(); // they hold objects of the context
    m_view = nullptr;
    auto* words = new QLabel(tr("3D needs OpenGL 3.2. The Table button shows the positions."));
    words->setAlignment(Qt::AlignCenter);
    words->setWordWrap(true);
    setCanvas(words);
}

SceneView::~SceneView() = default;

void SceneView::setScene(std::shared_ptr<const bridge::ArmScene> scene)
{
    m_scene = std::move(scene);
    m_snapshot.reset();
    setTitle(m_scene ? tr("Scene: %1").arg(m_scene->title) : tr("Scene"));
    const int count = m_scene ? static_cast<int>(m_scene->shapes.size()) : 0;
    m_numbers->reset({ tr("Solid"), tr("Kind"), tr("x (m)"), tr("y (m)"), tr("z (m)") }, count,
                     [this](int row, int column) -> QVariant {
                         const auto i = static_cast<std::size_t>(row);
                         switch (column) {
                         case 0:
                             return bridge::toQString(m_scene->shapes[i].name);
                         case 1:
                             return kindName(m_scene->shapes[i].kind);
                         default:
                             return m_snapshot ? QVariant(static_cast<double>(
                                        m_snapshot->poses[i].position[static_cast<std::size_t>(column - 2)]))
                                               : QVariant();
                         }
                     });
    if (m_view == nullptr) {
        return;
    }
    vtkRenderer* renderer = m_view->renderer();
    renderer->RemoveAllViewProps();
    m_actors->measured.clear();
    m_actors->ghost.clear();
    if (!m_scene) {
        m_view->render();
        return;
    }
    for (const SceneShape& shape : m_scene->shapes) {
        m_actors->measured.push_back(Actors::make(shape));
        renderer->AddActor(m_actors->measured.back()->actor);
        m_actors->ghost.push_back(nullptr);
        if (shape.arm) {
            m_actors->ghost.back() = Actors::make(shape);
            vtkProperty* property = m_actors->ghost.back()->actor->GetProperty();
            property->SetColor(0.95, 0.62, 0.1);
            property->SetOpacity(0.28);
            renderer->AddActor(m_actors->ghost.back()->actor);
        }
    }
    m_actors->planned.set({});
    m_actors->executed.set({});
    renderer->AddActor(m_actors->planned.actor);
    renderer->AddActor(m_actors->executed.actor);
    setGhostVisible(m_ghost);
}

void SceneView::setSnapshot(std::shared_ptr<const bridge::ArmSnapshot> snapshot)
{
    if (!m_scene || !snapshot || snapshot->poses.size() != m_scene->shapes.size()) {
        return;
    }
    m_snapshot = std::move(snapshot);
    if (tableShown()) {
        m_numbers->touch();
    }
    if (m_view == nullptr) {
        return;
    }
    for (std::size_t i = 0; i < m_scene->shapes.size(); ++i) {
        setPose(m_actors->measured[i]->matrix, m_snapshot->poses[i], m_scene->shapes[i]);
        if (m_actors->ghost[i]) {
            setPose(m_actors->ghost[i]->matrix, m_snapshot->ghost[i], m_scene->shapes[i], kGhostSize);
        }
    }
    m_view->render();
}

void SceneView::setPaths(const std::vector<std::array<float, 3>>& planned,
                         const std::vector<std::array<float, 3>>& executed)
{
    if (m_view != nullptr) {
        m_actors->planned.set(planned);
        m_actors->executed.set(executed);
        m_view->render();
    }
}

void SceneView::setGhostVisible(bool on)
{
    m_ghost = on;
    for (const auto& solid : m_actors->ghost) {
        if (solid) {
            solid->actor->SetVisibility(on ? 1 : 0);
        }
    }
    if (m_view != nullptr) {
        m_view->render();
    }
}

void SceneView::paintPicture(QPainter& painter, const QSizeF& size)
{
    const common::Theme& theme = common::currentTheme();
    common::PainterSurface surface(painter);
    surface.fillRect(QRectF(QPointF(), size), theme.base);
    const double heading = surface.lineHeight() + 8;
    surface.text({ 8, 4 }, title(), theme.text, Qt::AlignLeft | Qt::AlignTop, 1.1);
    const QRectF area(0, heading, size.width(), size.height() - heading);
    if (m_view != nullptr && m_view->isValid()) {
        // A rendered scene has no outlines: it stays a picture inside SVG and PDF.
        const QImage picture = m_view->picture(2);
        QSizeF fitted = picture.size();
        fitted.scale(area.size(), Qt::KeepAspectRatio);
        QRectF place(QPointF(), fitted);
        place.moveCenter(area.center());
        painter.drawImage(place, picture);
    } else {
        surface.text(area.center(), tr("No OpenGL"), theme.dimText, Qt::AlignCenter, 1.0);
    }
}

} // namespace rankwise::robot_view
