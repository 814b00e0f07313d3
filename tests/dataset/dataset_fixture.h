// What the dataset tests share: golden cases, deterministic recordings, and the comparison of windows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/json.h"
#include "backend/data/dataset_reader.h"
#include "backend/data/dataset_writer.h"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <QTest>

namespace rankwise::test {

/// RANKWISE_GOLDEN_DIR/datasets, or the project's copy.
inline std::filesystem::path goldenDatasets()
{
    const char* given = std::getenv("RANKWISE_GOLDEN_DIR");
    return std::filesystem::path(given != nullptr && *given != '\0' ? given : RANKWISE_TEST_DATA "/golden")
        / "datasets";
}

/// The sentence of a failed Result; empty for a good one.
template <class T> std::string why(const Result<T>& result)
{
    return result ? std::string() : result.error().describe();
}
#define RW_VERIFY(result)                                                                                              \
    do {                                                                                                               \
        const std::string rwWhy = ::rankwise::test::why(result);                                                       \
        QVERIFY2(rwWhy.empty(), rwWhy.c_str());                                                                        \
    } while (false)

/// Pictures and values that depend on the global frame index alone, so that any reader can check any frame.
std::vector<std::uint8_t> pictureOf(std::int64_t index, int camera, std::int64_t height, std::int64_t width);
std::vector<float> stateOf(std::int64_t index);

inline constexpr std::int64_t kHeight = 48;
inline constexpr std::int64_t kWidth = 64;

/// Two small video cameras, state and action of 7, a bool and a counter.
data::DatasetSpec smallSpec();
/// Episodes with frames first … first+length-1 of the functions above.
Result<data::EpisodeReceipt> recordEpisode(data::DatasetWriter& writer, std::int64_t length, const std::string& task);
/// Every row and, if asked, every frame against the functions above; an empty text when equal.
std::string differsFromRecording(const data::DatasetReader& reader, bool pictures);

/// `--create DIR`, `--record DIR`, `--fill DIR`, `--sample DIR`: what the test program does as a child process.
int runChild(const std::string& mode, const std::filesystem::path& folder);

/// Runs the test objects of the other files.
int testGolden(int argc, char** argv);
int testRecording(int argc, char** argv);
int testLoading(int argc, char** argv);

} // namespace rankwise::test
