// SPDX-License-Identifier: Apache-2.0
#include "widgets/spectra/surface_view.h"

#include "widgets/bridge/text.h"
#include "widgets/common/imgui_view.h"
#include "widgets/common/plot_surface.h"
#include "widgets/common/theme.h"
#include "widgets/common/vtk_view.h"
#include "widgets/spectra/spectra_scene.h"

#include <QComboBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QMouseEvent>
#include <QPainter>
#include <QSignalBlocker>
#include <QTimer>

#include <algorithm>
#include <vector>

namespace rankwise::spectra_view {

using bridge::numberText;
using bridge::toQString;

namespace {
constexpr double kPickReach = 14; ///< Pixels.
} // namespace

SurfaceView::SurfaceView(SpectraState& state, QWidget* parent)
    : SurfaceView(std::make_unique<bridge::ColumnModel>(), state, parent)
{
}

SurfaceView::SurfaceView(std::unique_ptr<bridge::ColumnModel> table, SpectraState& state, QWidget* parent)
    : CanvasFrame(tr("Spectra of all layers"), table.get(), parent), m_numbers(std::move(table)), m_state(state),
      m_which(new QComboBox), m_scale(new QComboBox)
{
    m_which->setAccessibleName(tr("Matrix of the surface"));
    m_scale->setAccessibleName(tr("Height of the surface"));
    m_scale->addItem(tr("linear"), false);
    m_scale->addItem(tr("logarithmic"), true);
    addTool(m_which);
    m_which->hide(); // until there is one to choose
    addTool(m_scale);
    if (common::openGlWorks()) {
        m_view = new common::VtkView;
        m_scene = std::make_unique<SpectraScene>(*m_view->renderer());
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
    m_which->setVisible(m_which->count() > 0);
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
            return SpectraScene::share(*now.at(layer, *which), column - 3);
        }
    });
}

void SurfaceView::build()
{
    fillChoice();
    fillTable();
    const std::optional<Curve> which = curve();
    setTitle(which ? tr("Spectra of all layers: %1").arg(bridge::curveName(*which)) : tr("Spectra of all layers"));
    m_sceneIsOld = true;
    if (m_view != nullptr && m_view->isVisible()) {
        buildScene();
    }
}

void SurfaceView::buildScene()
{
    m_sceneIsOld = false;
    const std::optional<Curve> which = curve();
    const SceneStyle style {
        .logarithmic = m_scale->currentData().toBool(),
        .fontSize = std::max(12, static_cast<int>(font().pointSizeF() * 1.5 * devicePixelRatioF())),
        .theme = common::currentTheme(),
    };
    if (which) {
        m_scene->show(m_state, *which, style);
    } else {
        m_scene->showNothing(tr("No spectra yet: open a checkpoint and compute them"), style);
    }
    goHome();
    showSelection();
}

void SurfaceView::goHome()
{
    // The user's view stays while curves come in.
    if (m_home == m_scene->subjects()) {
        return;
    }
    m_home = m_scene->subjects();
    const SpectraScene::Home home = m_scene->home();
    m_view->setHome(home.x, home.y, home.z, home.distance, -62, 28);
}

void SurfaceView::showSelection()
{
    if (m_view != nullptr) {
        m_scene->showSelection(m_state, common::currentTheme().bad);
        m_view->render();
    }
}

QString SurfaceView::layerAt(const QPointF& at) const
{
    if (m_view == nullptr) {
        return {};
    }
    const double ratio = m_view->devicePixelRatioF();
    return m_scene->layerAt({ at.x() * ratio, (m_view->height() - at.y()) * ratio }, kPickReach * ratio);
}

bool SurfaceView::eventFilter(QObject* object, QEvent* event)
{
    if (object == m_view && event->type() == QEvent::Show && m_sceneIsOld) {
        scheduleBuild();
    }
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
    if (m_sceneIsOld) {
        buildScene();
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
