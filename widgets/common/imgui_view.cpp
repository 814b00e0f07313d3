// SPDX-License-Identifier: Apache-2.0
#include "widgets/common/imgui_view.h"

#include "backend/base/log.h"
#include "widgets/common/font_file.h"

#include <QElapsedTimer>
#include <QEvent>
#include <QFontInfo>
#include <QOffscreenSurface>
#include <QOpenGLContext>
#include <QOpenGLFunctions>
#include <QOpenGLTexture>
#include <QSurfaceFormat>

#include <backends/imgui_impl_opengl3.h>
#include <imgui.h>

#include <array>
#include <map>
#include <vector>

namespace rankwise::common {

namespace {

ImU32 imColor(const QColor& color)
{
    return IM_COL32(color.red(), color.green(), color.blue(), color.alpha());
}

ImVec2 imPoint(const QPointF& point)
{
    return { static_cast<float>(point.x()), static_cast<float>(point.y()) };
}

/// Characters that charts use: Latin, Greek, punctuation, sub- and superscripts, arrows, operators, shapes.
const ImWchar* glyphRanges()
{
    static constexpr std::array<ImWchar, 17> kRanges { 0x0020, 0x017f, 0x0370, 0x03ff, 0x2010, 0x2044,
                                                       0x2070, 0x209f, 0x2190, 0x21ff, 0x2200, 0x22ff,
                                                       0x25a0, 0x25ff, 0x2713, 0x2717, 0 };
    return kRanges.data();
}

} // namespace

void setDefaultGlFormat()
{
    QSurfaceFormat format;
    format.setRenderableType(QSurfaceFormat::OpenGL);
    format.setProfile(QSurfaceFormat::CoreProfile);
    format.setVersion(3, 2);
    format.setDepthBufferSize(24);
    format.setStencilBufferSize(8);
    format.setSamples(0);
    format.setSwapInterval(0);
    QSurfaceFormat::setDefaultFormat(format);
}

bool openGlWorks()
{
    static const bool kWorks = [] {
        if (qEnvironmentVariableIsSet("RANKWISE_NO_OPENGL")) {
            return false;
        }
        QOpenGLContext context;
        if (!context.create()) {
            log::warn("gui", "no OpenGL here: charts are painted without it and there is no 3D");
            return false;
        }
        QOffscreenSurface surface;
        surface.setFormat(context.format());
        surface.create();
        const bool current = context.makeCurrent(&surface);
        const QSurfaceFormat got = context.format();
        const bool enough = current && got.version() >= qMakePair(3, 2);
        if (!enough) {
            log::warn("gui", "OpenGL {}.{} is too old (3.2 is needed): charts are painted without it",
                      got.majorVersion(), got.minorVersion());
        }
        context.doneCurrent();
        return enough;
    }();
    return kWorks;
}

/// Draws into an ImGui draw list.
class ImGuiView::Surface : public PlotSurface {
public:
    void begin(ImDrawList* list, ImFont* font, double fontSize)
    {
        m_list = list;
        m_font = font;
        m_fontSize = static_cast<float>(fontSize);
        for (auto& [key, entry] : m_textures) {
            entry.used = false;
        }
    }
    void end()
    {
        std::erase_if(m_textures, [](const auto& item) { return !item.second.used; });
    }
    void clear() { m_textures.clear(); }

    void fillRect(const QRectF& rect, const QColor& color) override
    {
        m_list->AddRectFilled(imPoint(rect.topLeft()), imPoint(rect.bottomRight()), imColor(color));
    }
    void strokeRect(const QRectF& rect, const QColor& color, double width) override
    {
        m_list->AddRect(imPoint(rect.topLeft()), imPoint(rect.bottomRight()), imColor(color), 0, 0,
                        static_cast<float>(width));
    }
    void line(const QPointF& a, const QPointF& b, const QColor& color, double width) override
    {
        m_list->AddLine(imPoint(a), imPoint(b), imColor(color), static_cast<float>(width));
    }
    void polyline(std::span<const QPointF> points, const QColor& color, double width) override
    {
        if (points.size() < 2) {
            return;
        }
        m_points.resize(points.size());
        for (std::size_t i = 0; i < points.size(); ++i) {
            m_points[i] = imPoint(points[i]);
        }
        // ImGui thins a line out where it turns back, until it is gone: each such point ends one line and begins the
        // next.
        std::size_t begin = 0;
        for (std::size_t i = 1; i + 1 < m_points.size(); ++i) {
            const ImVec2 in(m_points[i].x - m_points[i - 1].x, m_points[i].y - m_points[i - 1].y);
            const ImVec2 out(m_points[i + 1].x - m_points[i].x, m_points[i + 1].y - m_points[i].y);
            if (in.x * out.x + in.y * out.y < 0) {
                addLine(begin, i + 1, color, width);
                begin = i;
            }
        }
        addLine(begin, m_points.size(), color, width);
    }
    void fillPolygon(std::span<const QPointF> points, const QColor& color) override
    {
        m_points.resize(points.size());
        for (std::size_t i = 0; i < points.size(); ++i) {
            m_points[i] = imPoint(points[i]);
        }
        m_list->AddConvexPolyFilled(m_points.data(), static_cast<int>(m_points.size()), imColor(color));
    }
    void text(const QPointF& anchor, const QString& text, const QColor& color, Qt::Alignment alignment,
              double scale) override
    {
        const QPointF corner = alignedCorner(anchor, textSize(text, scale), alignment);
        const QByteArray utf8 = text.toUtf8();
        // Whole pixels keep the glyphs sharp.
        m_list->AddText(m_font, m_fontSize * static_cast<float>(scale),
                        ImVec2(std::round(static_cast<float>(corner.x())), std::round(static_cast<float>(corner.y()))),
                        imColor(color), utf8.constData(), utf8.constData() + utf8.size());
    }
    [[nodiscard]] QSizeF textSize(const QString& text, double scale) const override
    {
        const QByteArray utf8 = text.toUtf8();
        const ImVec2 size = m_font->CalcTextSizeA(m_fontSize * static_cast<float>(scale), 1e9f, 0, utf8.constData(),
                                                  utf8.constData() + utf8.size());
        return { static_cast<double>(size.x), static_cast<double>(size.y) };
    }
    void image(const QRectF& rect, const QImage& image) override
    {
        if (image.isNull()) {
            return;
        }
        Entry& entry = m_textures[image.cacheKey()];
        entry.used = true;
        if (!entry.texture) {
            entry.texture = std::make_unique<QOpenGLTexture>(image, QOpenGLTexture::DontGenerateMipMaps);
            entry.texture->setMinMagFilters(QOpenGLTexture::Linear, QOpenGLTexture::Nearest);
            entry.texture->setWrapMode(QOpenGLTexture::ClampToEdge);
        }
        m_list->AddImage(reinterpret_cast<ImTextureID>(static_cast<std::uintptr_t>(entry.texture->textureId())),
                         imPoint(rect.topLeft()), imPoint(rect.bottomRight()));
    }
    void pushClip(const QRectF& rect) override
    {
        m_list->PushClipRect(imPoint(rect.topLeft()), imPoint(rect.bottomRight()), true);
    }
    void popClip() override { m_list->PopClipRect(); }

private:
    /// Points [begin, end) of m_points as one line.
    void addLine(std::size_t begin, std::size_t end, const QColor& color, double width)
    {
        m_list->AddPolyline(m_points.data() + begin, static_cast<int>(end - begin), imColor(color), 0,
                            static_cast<float>(width));
    }

    struct Entry {
        std::unique_ptr<QOpenGLTexture> texture;
        bool used = false;
    };
    ImDrawList* m_list = nullptr;
    ImFont* m_font = nullptr;
    float m_fontSize = 13;
    std::vector<ImVec2> m_points;
    std::map<qint64, Entry> m_textures;
};

ImGuiView::ImGuiView(Chart& chart, QWidget* parent)
    : QOpenGLWidget(parent), m_chart(&chart), m_surface(std::make_unique<Surface>())
{
    setAttribute(Qt::WA_OpaquePaintEvent);
    connect(&chart, &Chart::changed, this, qOverload<>(&QWidget::update));
    connect(&ThemeSwitch::instance(), &ThemeSwitch::changed, this, qOverload<>(&QWidget::update));
}

ImGuiView::~ImGuiView()
{
    // ~QOpenGLWidget announces the end of the context when this part of the object is gone already.
    if (context() != nullptr) {
        disconnect(context(), nullptr, this, nullptr);
    }
    releaseGl();
}

void ImGuiView::initializeGL()
{
    if (context() == nullptr || !context()->isValid()) {
        Q_EMIT glFailed();
        return;
    }
    connect(context(), &QOpenGLContext::aboutToBeDestroyed, this, &ImGuiView::releaseGl, Qt::DirectConnection);
    m_context = ImGui::CreateContext();
    ImGui::SetCurrentContext(m_context);
    ImGui::GetIO().IniFilename = nullptr;
    if (!ImGui_ImplOpenGL3_Init("#version 150")) {
        log::warn("gui", "ImGui cannot use this OpenGL; charts are painted without it");
        ImGui::DestroyContext(m_context);
        m_context = nullptr;
        QMetaObject::invokeMethod(this, &ImGuiView::glFailed, Qt::QueuedConnection);
        return;
    }
    m_ready = true;
    m_fontPixels = 0;
}

void ImGuiView::releaseGl()
{
    if (m_context == nullptr) {
        return;
    }
    makeCurrent();
    m_surface->clear();
    ImGui::SetCurrentContext(m_context);
    ImGui_ImplOpenGL3_Shutdown();
    ImGui::DestroyContext(m_context);
    m_context = nullptr;
    m_ready = false;
    doneCurrent();
}

void ImGuiView::buildFonts()
{
    const QFontInfo info(font());
    const double pixels = info.pixelSize() * devicePixelRatioF();
    if (pixels == m_fontPixels) {
        return;
    }
    m_fontPixels = pixels;
    ImGuiIO& io = ImGui::GetIO();
    ImGui_ImplOpenGL3_DestroyFontsTexture();
    io.Fonts->Clear();
    m_fontFile = trueTypeFile(font());
    if (m_fontFile.isEmpty()) {
        io.Fonts->AddFontDefault();
    } else {
        ImFontConfig config;
        config.FontDataOwnedByAtlas = false;
        // ImGui counts the line's height, Qt the em square.
        io.Fonts->AddFontFromMemoryTTF(m_fontFile.data(), static_cast<int>(m_fontFile.size()),
                                       static_cast<float>(QFontMetricsF(font()).height() * devicePixelRatioF()),
                                       &config, glyphRanges());
    }
    io.FontGlobalScale = static_cast<float>(1.0 / devicePixelRatioF());
    ImGui_ImplOpenGL3_CreateFontsTexture();
}

void ImGuiView::paintGL()
{
    if (!m_ready || !m_chart) {
        return;
    }
    QElapsedTimer watch;
    watch.start();
    ImGui::SetCurrentContext(m_context);
    buildFonts();
    ImGuiIO& io = ImGui::GetIO();
    io.DisplaySize = { static_cast<float>(width()), static_cast<float>(height()) };
    const auto ratio = static_cast<float>(devicePixelRatioF());
    io.DisplayFramebufferScale = { ratio, ratio };
    io.DeltaTime = 1.0f / 60.0f;

    const Theme& theme = currentTheme();
    QOpenGLFunctions* gl = context()->functions();
    gl->glClearColor(static_cast<float>(theme.base.redF()), static_cast<float>(theme.base.greenF()),
                     static_cast<float>(theme.base.blueF()), 1);
    gl->glClear(GL_COLOR_BUFFER_BIT);

    ImGui_ImplOpenGL3_NewFrame();
    ImGui::NewFrame();
    ImDrawList* list = ImGui::GetBackgroundDrawList();
    ImFont* const imFont = io.Fonts->Fonts.empty() ? ImGui::GetFont() : io.Fonts->Fonts[0];
    m_surface->begin(list, imFont, QFontMetricsF(font()).height());
    m_chart->paint(*m_surface, QRectF(0, 0, width(), height()), theme);
    ImGui::Render();
    ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
    m_surface->end();

    // The widget is composed with the window: an opaque picture needs alpha 1 everywhere.
    gl->glColorMask(GL_FALSE, GL_FALSE, GL_FALSE, GL_TRUE);
    gl->glClearColor(0, 0, 0, 1);
    gl->glClear(GL_COLOR_BUFFER_BIT);
    gl->glColorMask(GL_TRUE, GL_TRUE, GL_TRUE, GL_TRUE);
    m_paintSeconds = static_cast<double>(watch.nsecsElapsed()) * 1e-9;
    ++m_paintCount;
}

void ImGuiView::changeEvent(QEvent* event)
{
    if (event->type() == QEvent::FontChange) {
        update();
    }
    QOpenGLWidget::changeEvent(event);
}

} // namespace rankwise::common
