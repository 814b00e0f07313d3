// Adapters: golden cases of LoRA-SP, PEFT folders and baselines, discovered in the golden directory, and properties.
// SPDX-License-Identifier: Apache-2.0
#include "backend/adapters/certify_adapter.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace rankwise::adapters {
namespace {

std::filesystem::path goldenRoot()
{
    const char* folder = std::getenv("RANKWISE_GOLDEN_DIR");
    return std::filesystem::path(folder ? folder : RANKWISE_TEST_DATA "/golden") / "adapters";
}

double toleranceScale()
{
    const char* scale = std::getenv("RANKWISE_TOLERANCE_SCALE");
    return scale ? std::stod(scale) : 1;
}

class GoldenCase : public ::testing::Test {
public:
    explicit GoldenCase(std::filesystem::path file)
        : m_file(std::move(file))
    {
    }

    void TestBody() override
    {
        models::CertifyOptions options;
        options.toleranceScale = toleranceScale();
        const auto report = certifyAdapterCase(m_file, options);
        ASSERT_TRUE(report.has_value()) << report.error().describe();
        EXPECT_FALSE(report->rows.empty()) << m_file;
        for (const models::CertifyRow& row : report->rows) {
            EXPECT_TRUE(row.passed) << row.name << ": difference " << row.difference << ", allowed " << row.tolerance
                                    << ", peak " << row.peak << " " << row.note;
        }
    }

private:
    std::filesystem::path m_file;
};

TEST(Golden, casesAreFound)
{
    const auto cases = adapterCases(goldenRoot());
    ASSERT_TRUE(cases.has_value()) << cases.error().describe();
    EXPECT_FALSE(cases->empty());
}

/// One test for each case file.
[[maybe_unused]] const bool kRegistered = [] {
    const auto cases = adapterCases(goldenRoot());
    for (const std::filesystem::path& file : cases ? *cases : std::vector<std::filesystem::path> {}) {
        std::string name = std::filesystem::relative(file, goldenRoot()).string();
        for (char& c : name) {
            c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
        }
        ::testing::RegisterTest("AdapterCase", name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                [file]() -> ::testing::Test* { return new GoldenCase(file); });
    }
    return true;
}();

}  // namespace
}  // namespace rankwise::adapters
