// Finds golden cases: in $RANKWISE_GOLDEN_DIR, else in the project's copy.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

namespace rankwise::test {

inline std::filesystem::path goldenRoot()
{
    const char* given = std::getenv("RANKWISE_GOLDEN_DIR");
    return given != nullptr && *given != '\0' ? std::filesystem::path(given)
                                              : std::filesystem::path(RANKWISE_TEST_DATA "/golden");
}

/// Folders with a case.json below `folder`, sorted.
inline std::vector<std::filesystem::path> goldenCases(const std::filesystem::path& folder)
{
    std::vector<std::filesystem::path> cases;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
        if (std::filesystem::is_regular_file(entry->path() / "case.json", error)) {
            cases.push_back(entry->path());
        }
    }
    std::ranges::sort(cases);
    return cases;
}

} // namespace rankwise::test
