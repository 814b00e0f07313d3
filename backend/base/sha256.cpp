// SHA-256 through OpenSSL's EVP interface, which uses the processor's SHA instructions.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/sha256.h"

#include "backend/base/file.h"

#include <algorithm>
#include <array>

#include <openssl/evp.h>

namespace rankwise {

struct Sha256::Context {
    EVP_MD_CTX* evp = EVP_MD_CTX_new();
    Context() = default;
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : m_context(std::make_unique<Context>())
{
    RW_CHECK(EVP_DigestInit_ex(m_context->evp, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes)
{
    RW_CHECK(EVP_DigestUpdate(m_context->evp, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex()
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest {};
    unsigned length = 0;
    RW_CHECK(EVP_DigestFinal_ex(m_context->evp, digest.data(), &length) == 1);
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (unsigned i = 0; i < length; ++i) {
        text += kDigits[digest[i] >> 4];
        text += kDigits[digest[i] & 15];
    }
    return text;
}

std::string sha256Hex(std::span<const std::byte> bytes)
{
    Sha256 hash;
    hash.update(bytes);
    return hash.hex();
}

Result<std::string> sha256OfFile(const std::filesystem::path& path, const JobContext& job)
{
    RW_TRY(const auto file, MappedFile::open(path));
    Sha256 hash;
    auto rest = file.bytes();
    const std::size_t size = std::max<std::size_t>(rest.size(), 1);
    constexpr std::size_t kBlock = 8u << 20;
    while (!rest.empty()) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "hashing was stopped", path.string());
        }
        hash.update(rest.first(std::min(kBlock, rest.size())));
        rest = rest.subspan(std::min(kBlock, rest.size()));
        job.report(1.0 - static_cast<double>(rest.size()) / static_cast<double>(size), "hashing");
    }
    return hash.hex();
}

}  // namespace rankwise
