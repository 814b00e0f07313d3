// Needs only EGL and desktop OpenGL; on machines without a GPU Mesa's llvmpipe draws. Shadows and multisampling stay
// off (see resources/scenes/common.xml): in software they multiply the cost.
// SPDX-License-Identifier: Apache-2.0
#include "backend/sim/renderer.h"

#include <cstring>
#include <mutex>
#include <vector>

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GL/gl.h>
#include <mujoco/mujoco.h>

namespace rankwise::sim {
namespace {

constexpr int kMaxGeoms = 400;

tl::unexpected<Error> failRendering(const std::string& what)
{
    return fail(Errc::DeviceFailed,
                what
                    + ". Off-screen rendering needs EGL and an OpenGL driver; on Debian install libegl1, libegl-mesa0, "
                      "libgl1 and libgl1-mesa-dri (software rendering, no display needed).",
                "EGL");
}

/// The process's display, initialized once: surfaceless Mesa, else the default device.
EGLDisplay initializedDisplay()
{
    static const EGLDisplay display = [] {
        const char* extensions = eglQueryString(EGL_NO_DISPLAY, EGL_EXTENSIONS);
        const bool surfaceless =
            extensions != nullptr && std::strstr(extensions, "EGL_MESA_platform_surfaceless") != nullptr;
        // EGL hands functions out as void(*)(); the cast to their type is how it is meant to be used.
        const auto getPlatformDisplay =
            reinterpret_cast<PFNEGLGETPLATFORMDISPLAYEXTPROC>(eglGetProcAddress("eglGetPlatformDisplayEXT"));
        if (surfaceless && getPlatformDisplay != nullptr) {
            EGLDisplay candidate = getPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, nullptr, nullptr);
            if (candidate != EGL_NO_DISPLAY && eglInitialize(candidate, nullptr, nullptr) == EGL_TRUE) {
                return candidate;
            }
        }
        EGLDisplay candidate = eglGetDisplay(EGL_DEFAULT_DISPLAY);
        if (candidate != EGL_NO_DISPLAY && eglInitialize(candidate, nullptr, nullptr) == EGL_TRUE) {
            return candidate;
        }
        return EGLDisplay { EGL_NO_DISPLAY };
    }();
    return display;
}

/// Makes a context current and, at the end of the block, gives back what was current before.
class CurrentContext {
public:
    CurrentContext(EGLDisplay display, EGLContext context)
        : m_display(display), m_previousDisplay(eglGetCurrentDisplay()), m_previous(eglGetCurrentContext()),
          m_draw(eglGetCurrentSurface(EGL_DRAW)), m_read(eglGetCurrentSurface(EGL_READ)),
          m_ok(eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) == EGL_TRUE)
    {
    }
    ~CurrentContext()
    {
        if (m_previous == EGL_NO_CONTEXT) {
            eglMakeCurrent(m_display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
        } else {
            eglMakeCurrent(m_previousDisplay, m_draw, m_read, m_previous);
        }
    }
    CurrentContext(const CurrentContext&) = delete;
    CurrentContext& operator=(const CurrentContext&) = delete;
    [[nodiscard]] bool ok() const { return m_ok; }

private:
    EGLDisplay m_display;
    EGLDisplay m_previousDisplay;
    EGLContext m_previous;
    EGLSurface m_draw;
    EGLSurface m_read;
    bool m_ok;
};

/// MuJoCo loads OpenGL's functions into globals when it makes a context.
std::mutex& contextMutex()
{
    static std::mutex mutex;
    return mutex;
}

/// Mean of each 2 × 2 block, rounded, with the rows turned from bottom-up to top-down.
void boxFilter(const std::vector<std::uint8_t>& source, Image& image)
{
    const auto width = static_cast<std::size_t>(image.width);
    const auto height = static_cast<std::size_t>(image.height);
    const std::size_t stride = 2 * width * 3;
    for (std::size_t y = 0; y < height; ++y) {
        const std::uint8_t* upper = source.data() + (2 * (height - 1 - y) + 1) * stride;
        const std::uint8_t* lower = upper - stride;
        std::uint8_t* out = image.rgb.data() + y * width * 3;
        for (std::size_t x = 0; x < width; ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                const int sum = upper[6 * x + c] + upper[6 * x + 3 + c] + lower[6 * x + c] + lower[6 * x + 3 + c];
                out[3 * x + c] = static_cast<std::uint8_t>((sum + 2) / 4);
            }
        }
    }
}

} // namespace

struct Renderer::Impl {
    EGLDisplay display = EGL_NO_DISPLAY;
    EGLContext context = EGL_NO_CONTEXT;
    bool made = false;
    mjrContext gl {};
    mjvScene scene {};
    mjvOption option {};
    std::string deviceName;
    std::vector<std::uint8_t> pixels;

    ~Impl()
    {
        if (context == EGL_NO_CONTEXT) {
            return;
        }
        if (made) {
            const CurrentContext current(display, context);
            mjv_freeScene(&scene);
            mjr_freeContext(&gl);
        }
        eglDestroyContext(display, context);
    }
};

Renderer::Renderer(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) { }

Renderer::~Renderer() = default;

const std::string& Renderer::deviceName() const
{
    return m_impl->deviceName;
}

Result<std::unique_ptr<Renderer>> Renderer::create(const mjModel_& model)
{
    const std::scoped_lock lock(contextMutex());
    auto impl = std::make_unique<Impl>();
    impl->display = initializedDisplay();
    if (impl->display == EGL_NO_DISPLAY) {
        return failRendering("no EGL display could be opened");
    }
    const EGLint wanted[] = { EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_SURFACE_TYPE, EGL_DONT_CARE, EGL_NONE };
    EGLConfig config = nullptr;
    EGLint count = 0;
    if (eglChooseConfig(impl->display, wanted, &config, 1, &count) != EGL_TRUE || count < 1) {
        return failRendering("EGL has no configuration for desktop OpenGL");
    }
    const EGLenum api = eglQueryAPI();
    eglBindAPI(EGL_OPENGL_API);
    impl->context = eglCreateContext(impl->display, config, EGL_NO_CONTEXT, nullptr);
    if (impl->context == EGL_NO_CONTEXT) {
        eglBindAPI(api);
        return failRendering("EGL refused an OpenGL context");
    }
    const CurrentContext current(impl->display, impl->context);
    if (!current.ok()) {
        return failRendering("the OpenGL context could not be made current without a surface");
    }
    const GLubyte* name = glGetString(GL_RENDERER);
    if (name == nullptr) {
        return failRendering("the OpenGL context answers nothing");
    }
    impl->deviceName = reinterpret_cast<const char*>(name);
    mjv_defaultScene(&impl->scene);
    mjr_defaultContext(&impl->gl);
    mjv_defaultOption(&impl->option);
    impl->option.flags[mjVIS_RANGEFINDER] = 0;
    for (auto& group : impl->option.sitegroup) {
        group = 0;
    }
    mjv_makeScene(&model, &impl->scene, kMaxGeoms);
    mjr_makeContext(&model, &impl->gl, mjFONTSCALE_50);
    impl->made = true;
    mjr_setBuffer(mjFB_OFFSCREEN, &impl->gl);
    if (impl->gl.currentBuffer != mjFB_OFFSCREEN) {
        return failRendering("the OpenGL driver has no framebuffer objects");
    }
    impl->scene.flags[mjRND_SHADOW] = 0;
    impl->scene.flags[mjRND_REFLECTION] = 0;
    return std::unique_ptr<Renderer>(new Renderer(std::move(impl)));
}

Result<Image> Renderer::render(const mjModel_& model, mjData_& data, int camera, int width, int height)
{
    const CurrentContext current(m_impl->display, m_impl->context);
    if (!current.ok()) {
        return failRendering("the OpenGL context is in use by another thread");
    }
    const int wide = 2 * width;
    const int high = 2 * height;
    if (wide > m_impl->gl.offWidth || high > m_impl->gl.offHeight) {
        mjr_resizeOffscreen(std::max(wide, m_impl->gl.offWidth), std::max(high, m_impl->gl.offHeight), &m_impl->gl);
    }
    mjr_setBuffer(mjFB_OFFSCREEN, &m_impl->gl);
    mjvCamera view;
    mjv_defaultCamera(&view);
    view.type = mjCAMERA_FIXED;
    view.fixedcamid = camera;
    mjv_updateScene(&model, &data, &m_impl->option, nullptr, &view, mjCAT_ALL, &m_impl->scene);
    const mjrRect viewport { 0, 0, wide, high };
    mjr_render(viewport, &m_impl->scene, &m_impl->gl);
    m_impl->pixels.resize(static_cast<std::size_t>(wide) * static_cast<std::size_t>(high) * 3);
    mjr_readPixels(m_impl->pixels.data(), nullptr, viewport, &m_impl->gl);
    Image image { width, height, {} };
    image.rgb.resize(m_impl->pixels.size() / 4);
    boxFilter(m_impl->pixels, image);
    return image;
}

} // namespace rankwise::sim
