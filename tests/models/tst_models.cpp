// Policies against recorded outputs of the reference implementations, and properties of the blocks they are made of.
// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify.h"
#include "tests/models/golden_cases.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace {

using namespace rankwise;
namespace fs = std::filesystem;

/// The golden test of one case: passes when certifyCase() does.
class GoldenCase : public testing::Test {
public:
    explicit GoldenCase(fs::path folder) : m_folder(std::move(folder)) { }

    void TestBody() override
    {
        const auto report = models::certifyCase(m_folder);
        ASSERT_TRUE(report.has_value()) << report.error().describe();
        EXPECT_TRUE(report->passed()) << report->table(false);
        EXPECT_FALSE(report->rows.empty());
    }

private:
    fs::path m_folder;
};

/// A case of a family whose network this build does not have: skipped by name, never passed.
class UnknownKind : public testing::Test {
public:
    explicit UnknownKind(std::string why) : m_why(std::move(why)) { }
    void TestBody() override { GTEST_SKIP() << m_why; }

private:
    std::string m_why;
};

std::string familyOf(const fs::path& folder)
{
    std::ifstream stream(folder / "case.json");
    const Json description = Json::parse(stream, nullptr, false);
    return description.is_object() ? description.value("family", "") : "";
}

/// Registers a test for each case under `part` and returns their number.
std::size_t registerCases(const std::string& part, const std::vector<std::string>& families)
{
    std::size_t count = 0;
    for (const fs::path& folder : tests::caseFolders(tests::goldenRoot() / "models" / part)) {
        const std::string name = folder.filename().string();
        const std::string family = familyOf(folder);
        const bool known = families.empty() || std::ranges::find(families, family) != families.end();
        const std::string suite = "Golden_" + part;
        if (known) {
            testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                  [folder]() -> testing::Test* { return new GoldenCase(folder); });
            ++count;
        } else {
            const std::string why = "no network for family " + family + " in this build";
            testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                  [why]() -> testing::Test* { return new UnknownKind(why); });
        }
    }
    return count;
}

struct Counts {
    std::size_t smolvla;
    std::size_t checkpoints;
    std::size_t primitives;
};

const Counts& counts()
{
    static const Counts found { registerCases("smolvla", { "smolvla" }), registerCases("checkpoints", { "smolvla" }),
                                registerCases("primitives", {}) };
    return found;
}

TEST(Golden, casesWereFound)
{
    EXPECT_GT(counts().smolvla, 0U) << "no case under " << tests::goldenRoot() / "models/smolvla";
    EXPECT_GT(counts().checkpoints, 0U) << "no smolvla case under " << tests::goldenRoot() / "models/checkpoints";
    EXPECT_GT(counts().primitives, 0U) << "no case under " << tests::goldenRoot() / "models/primitives";
}

TEST(Golden, identityOfSmolvlaBase)
{
    const auto report = models::certifyCase(tests::goldenRoot() / "models/identity/smolvla_base.json");
    ASSERT_TRUE(report.has_value()) << report.error().describe();
    EXPECT_TRUE(report->passed()) << report->table(false);
    EXPECT_GE(report->rows.size(), 504U);
}

} // namespace

int main(int argc, char** argv)
{
    testing::InitGoogleTest(&argc, argv);
    static_cast<void>(counts());
    return RUN_ALL_TESTS();
}
