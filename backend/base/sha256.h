// SHA-256 (FIPS 180-4) of bytes and files, through OpenSSL.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/result.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace rankwise {

/// Digest that grows by update(); hex() ends it.
class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;

    void update(std::span<const std::byte> bytes);

    /// 64 lower-case hexadecimal digits. Nothing may follow.
    [[nodiscard]] std::string hex();

private:
    struct Context;
    std::unique_ptr<Context> m_context;
};

[[nodiscard]] std::string sha256Hex(std::span<const std::byte> bytes);

/// Errors: FileNotFound, IoFailed, Cancelled.
[[nodiscard]] Result<std::string> sha256OfFile(const std::filesystem::path& path, const JobContext& job = {});

}  // namespace rankwise
