// Recorded optimiser steps and schedules of the reference: every case in the golden folder is a test of its own.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"
#include "backend/models/certify.h"
#include "backend/train/certify_training.h"

#include "golden_cases.h"

#include <cstdlib>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
namespace fs = std::filesystem;

namespace {

/// Families whose network this build has: their cases must pass; others are skipped by name.
bool knownFamily(const std::string& family)
{
    const std::vector<std::string> types = models::policyTypes();
    return std::ranges::find(types, family) != types.end();
}

class TrainingCase : public testing::Test {
public:
    explicit TrainingCase(fs::path path) : m_path(std::move(path)) { }
    void TestBody() override
    {
        const fs::path file = m_path.extension() == ".json" ? m_path : m_path / "case.json";
        const auto description = readJsonFile(file);
        ASSERT_TRUE(description) << description.error().describe();
        const std::string family = description->value("family", std::string());
        if (description->value("kind", std::string()) == "training" && !knownFamily(family)) {
            GTEST_SKIP() << "kind not known yet: training of family " << family;
        }
        const char* scale = std::getenv("RANKWISE_TOLERANCE_SCALE"); // 0 shows the true residuals
        models::CertifyOptions options;
        options.toleranceScale = scale != nullptr ? std::strtod(scale, nullptr) : 1.0;
        const auto report = models::certifyCase(m_path, options);
        ASSERT_TRUE(report) << report.error().describe();
        EXPECT_TRUE(report->passed()) << report->table(false);
        EXPECT_GT(report->rows.size(), 50U);
    }

private:
    fs::path m_path;
};

const std::size_t kCases = [] {
    train::registerTrainingCertification();
    const fs::path folder = test::goldenRoot() / "models/training";
    std::vector<fs::path> paths = test::goldenCases(folder);
    if (std::error_code error; fs::exists(folder / "schedules.json", error)) {
        paths.push_back(folder / "schedules.json");
    }
    for (const fs::path& path : paths) {
        testing::RegisterTest("Golden_training", path.stem().string().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [path]() -> testing::Test* { return new TrainingCase(path); });
    }
    return paths.size();
}();

TEST(Golden, trainingCasesWereFound)
{
    EXPECT_GE(kCases, 2U) << "no case under " << test::goldenRoot() / "models/training";
}

} // namespace
