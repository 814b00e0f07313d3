// Off-screen OpenGL of one scene: EGL without a display server, MuJoCo's renderer, images box-filtered from twice
// the size. Private to the module.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"
#include "backend/sim/image.h"

#include <memory>
#include <string>

struct mjModel_;
struct mjData_;

namespace rankwise::sim {

/// Renders one scene. Has an OpenGL context of its own, current only inside render(), so that it may be used from any
/// thread, one at a time.
class Renderer {
public:
    /// Errors: DeviceFailed with the packages that software rendering needs.
    [[nodiscard]] static Result<std::unique_ptr<Renderer>> create(const mjModel_& model);
    ~Renderer();
    Renderer(const Renderer&) = delete;
    Renderer& operator=(const Renderer&) = delete;

    /// `data` must have been forwarded; drawing changes nothing that the physics reads.
    /// Errors: DeviceFailed.
    [[nodiscard]] Result<Image> render(const mjModel_& model, mjData_& data, int camera, int width, int height);

    /// GL_RENDERER, e.g. "llvmpipe (LLVM 15.0.6, 256 bits)".
    [[nodiscard]] const std::string& deviceName() const;

private:
    struct Impl;
    explicit Renderer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

} // namespace rankwise::sim
