// What the tests of this folder share: golden folders, bytes, temporary folders, small safetensors files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/file.h"
#include "backend/base/json.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <QTemporaryDir>
#include <QTest>

namespace rankwise::test {

/// The golden vectors: RANKWISE_GOLDEN_DIR, else the project's copy.
inline std::filesystem::path goldenFolder()
{
    const char* folder = std::getenv("RANKWISE_GOLDEN_DIR");
    return folder != nullptr && *folder != '\0' ? std::filesystem::path(folder)
                                                : std::filesystem::path(RANKWISE_TEST_DATA "/golden");
}

/// cases.json of a folder of golden cases; the references' outputs in it may be NaN, which is no JSON.
inline Result<Json> readCases(const std::filesystem::path& folder)
{
    RW_TRY(std::string text, readFile(folder / "cases.json"));
    for (std::size_t at = text.find("NaN"); at != std::string::npos; at = text.find("NaN", at)) {
        text.replace(at, 3, "nul");
        text.insert(at + 3, "l");
    }
    return parseJson(text, (folder / "cases.json").string());
}

/// False for golden adapter folders that PEFT itself cannot load: the malformed ones, and the one whose patterns
/// changed their order when it was saved.
inline bool loadsInPeft(const std::filesystem::path& folder)
{
    return folder.string().find("malformed") == std::string::npos && folder.filename() != "pattern_regex";
}

inline std::span<const std::byte> bytesOf(std::string_view text)
{
    return std::as_bytes(std::span(text));
}

inline std::string textOf(std::span<const std::byte> bytes)
{
    return { reinterpret_cast<const char*>(bytes.data()), bytes.size() };
}

/// Little-endian bytes of a number.
template <class T> std::string raw(T value)
{
    std::string text(sizeof value, '\0');
    std::memcpy(text.data(), &value, sizeof value);
    return text;
}

/// A safetensors file of this header and that many bytes 0, 1, 2, ...
inline std::string safetensorsOf(const std::string& header, std::size_t dataBytes)
{
    std::string data(dataBytes, '\0');
    for (std::size_t i = 0; i < dataBytes; ++i) {
        data[i] = static_cast<char>(i % 251);
    }
    return raw(std::uint64_t { header.size() }) + header + data;
}

inline std::string fromHex(const std::string& hex)
{
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return bytes;
}

inline std::filesystem::path pathOf(const QTemporaryDir& folder)
{
    return folder.path().toStdString();
}

inline void writeText(const std::filesystem::path& path, std::string_view text)
{
    std::filesystem::create_directories(path.parent_path());
    const auto written = writeFileAtomically(path, text);
    QVERIFY2(written, path.c_str());
}

/// "ok", or the name of the error's code, for QCOMPARE.
template <class T> QString codeOf(const Result<T>& result)
{
    return result ? QStringLiteral("ok")
                  : QString::fromUtf8(errcName(result.error().code).data(),
                                      static_cast<qsizetype>(errcName(result.error().code).size()));
}

inline QString describe(const Error& error)
{
    return QString::fromStdString(error.describe());
}

} // namespace rankwise::test
