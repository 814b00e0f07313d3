// Finds the golden cases of policies: every folder is a test of its own, also in a folder given from outside.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace rankwise::tests {

/// RANKWISE_GOLDEN_DIR, or the project's copy.
inline std::filesystem::path goldenRoot()
{
    const char* given = std::getenv("RANKWISE_GOLDEN_DIR");
    return given != nullptr && *given != '\0' ? std::filesystem::path(given)
                                              : std::filesystem::path(RANKWISE_TEST_DATA "/golden");
}

/// Folders with a case.json directly under `parent`, sorted; also `parent` itself when it has one.
inline std::vector<std::filesystem::path> caseFolders(const std::filesystem::path& parent)
{
    std::vector<std::filesystem::path> cases;
    std::error_code error;
    if (std::filesystem::exists(parent / "case.json", error)) {
        cases.push_back(parent);
    }
    for (const auto& entry : std::filesystem::directory_iterator(parent, error)) {
        if (entry.is_directory() && std::filesystem::exists(entry.path() / "case.json")) {
            cases.push_back(entry.path());
        }
    }
    std::sort(cases.begin(), cases.end());
    return cases;
}

} // namespace rankwise::tests
