// Recorded cases that `rankwise certify` judges as well: every file is a test of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/models/certify.h"
#include "tests/models/golden_cases.h"

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace rankwise::tests {

/// Judges one case file.
using Judge = std::function<Result<models::CertifyReport>(const std::filesystem::path&, const models::CertifyOptions&)>;

/// Passes when every row of its report does. RANKWISE_TOLERANCE_SCALE=0 shows the true residuals.
class JudgedCase : public ::testing::Test {
public:
    JudgedCase(std::filesystem::path file, Judge judge) : m_file(std::move(file)), m_judge(std::move(judge)) { }

    void TestBody() override
    {
        const char* scale = std::getenv("RANKWISE_TOLERANCE_SCALE");
        models::CertifyOptions options;
        options.toleranceScale = scale != nullptr ? std::stod(scale) : 1;
        const auto report = m_judge(m_file, options);
        ASSERT_TRUE(report.has_value()) << report.error().describe();
        EXPECT_FALSE(report->rows.empty()) << m_file;
        for (const models::CertifyRow& row : report->rows) {
            EXPECT_TRUE(row.passed) << row.name << ": difference " << row.difference << ", allowed " << row.tolerance
                                    << ", peak " << row.peak << " " << row.note;
        }
    }

private:
    std::filesystem::path m_file;
    Judge m_judge;
};

/// Registers a test for each of `files`, named after its path below `root`; returns their number. Before main() only.
inline std::size_t registerCases(const char* suite, const std::filesystem::path& root,
                                 const Result<std::vector<std::filesystem::path>>& files, const Judge& judge)
{
    if (!files) {
        return 0;
    }
    for (const std::filesystem::path& file : *files) {
        std::string name = std::filesystem::relative(file, root).string();
        for (char& c : name) {
            c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
        }
        ::testing::RegisterTest(suite, name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                [file, judge]() -> ::testing::Test* { return new JudgedCase(file, judge); });
    }
    return files->size();
}

} // namespace rankwise::tests
