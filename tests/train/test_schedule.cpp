// Learning rates against recorded ones of lerobot and closed forms.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/json.h"
#include "backend/train/schedule.h"
#include "backend/train/train_config.h"

#include "golden_cases.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::train;

namespace {

TEST(Schedule, equalsEveryRecordedRateOfLerobot)
{
    const auto json = readJsonFile(test::goldenRoot() / "models/training/schedules.json");
    ASSERT_TRUE(json) << json.error().describe();
    std::int64_t compared = 0;
    for (const Json& row : (*json)["rows"]) {
        const Schedule schedule { .kind = ScheduleKind::CosineLerobot,
                                  .peakLr = row["peak_lr"],
                                  .decayLr = row["decay_lr"],
                                  .warmupSteps = row["warmup_steps"],
                                  .decaySteps = row["decay_steps"] };
        for (const Json& point : row["rates"]) {
            const double expected = point[1];
            const double found = schedule.rate(point[0], row["total_steps"]);
            EXPECT_NEAR(found, expected, 1e-12 * row["peak_lr"].get<double>())
                << "step " << point[0] << " of " << row.dump().substr(0, 120);
            ++compared;
        }
    }
    EXPECT_GT(compared, 50);
}

TEST(Schedule, openpiCosineBeginsAtTheEndOfTheWarmUp)
{
    const Schedule schedule { .kind = ScheduleKind::CosineOpenpi,
                              .peakLr = 2.5e-5,
                              .decayLr = 2.5e-6,
                              .warmupSteps = 1000,
                              .decaySteps = 30'000 };
    EXPECT_DOUBLE_EQ(schedule.rate(0, 7), 2.5e-5 / 1001);
    EXPECT_NEAR(schedule.rate(500, 7), 2.5e-5 * (1.0 / 1001 + 0.5 * (1 - 1.0 / 1001)), 1e-18);
    EXPECT_DOUBLE_EQ(schedule.rate(1000, 7), 2.5e-5);
    EXPECT_NEAR(schedule.rate(15'500, 7), 0.5 * (2.5e-5 + 2.5e-6), 1e-18);
    EXPECT_NEAR(schedule.rate(30'000, 7), 2.5e-6, 1e-18);
    EXPECT_NEAR(schedule.rate(90'000, 7), 2.5e-6, 1e-18);
}

TEST(Schedule, constantWarmsUpAndStays)
{
    const Schedule schedule { .kind = ScheduleKind::Constant, .peakLr = 5e-5, .warmupSteps = 10 };
    EXPECT_DOUBLE_EQ(schedule.rate(0, 100), 5e-5 / 11);
    EXPECT_LT(schedule.rate(9, 100), 5e-5);
    EXPECT_DOUBLE_EQ(schedule.rate(10, 100), 5e-5);
    EXPECT_DOUBLE_EQ(schedule.rate(99, 100), 5e-5);
}

TEST(Schedule, namesAreRefusedOrFound)
{
    EXPECT_EQ(scheduleFromName("cosine_decay_with_warmup").value(), ScheduleKind::CosineLerobot);
    for (const std::string& name : scheduleNames()) {
        EXPECT_EQ(scheduleName(scheduleFromName(name).value()), name);
    }
    const auto unknown = scheduleFromName("linear");
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, Errc::Unsupported);
    EXPECT_NE(unknown.error().message.find("cosine_openpi"), std::string::npos);
}

Json smallConfig()
{
    return Json::parse(R"({"policy": {"path": "p"}, "dataset": {"path": "d"}, "method": {"type": "lora"}})");
}

TEST(TrainConfig, presetsAndOverridesAreTakenInThatOrder)
{
    Json json = smallConfig();
    json["optimizer"] = { { "preset", "pi05" }, { "clip_norm", 3.0 } };
    const auto config = parseTrainConfig(json, "c.json");
    ASSERT_TRUE(config) << config.error().describe();
    EXPECT_DOUBLE_EQ(config->optimizer.lr, 2.5e-5);
    EXPECT_DOUBLE_EQ(config->optimizer.weightDecay, 0.01);
    EXPECT_DOUBLE_EQ(config->optimizer.clipNorm, 3.0);

    const Json policy { { "type", "pi0" }, { "optimizer_lr", 7e-5 }, { "scheduler_decay_steps", 123 } };
    const auto own = parseTrainConfig(smallConfig(), "c.json", &policy);
    ASSERT_TRUE(own) << own.error().describe();
    EXPECT_DOUBLE_EQ(own->optimizer.lr, 7e-5);
    EXPECT_DOUBLE_EQ(own->optimizer.clipNorm, 1.0) << "from the reference of that type";
    EXPECT_EQ(own->schedule.decaySteps, 123);
}

TEST(TrainConfig, writtenConfigurationReadsBackTheSame)
{
    Json json = smallConfig();
    json["steps"] = 77;
    json["optimizer"] = { { "groups", Json::parse(R"([{"match": "lora_A", "lr_scale": 0.5}])") } };
    json["dataset"]["task_weights"] = { { "press the button", 2.0 } };
    json["dataset"]["rename"] = { { "a", "b" } };
    const auto config = parseTrainConfig(json, "c.json");
    ASSERT_TRUE(config) << config.error().describe();
    const Json written = trainConfigJson(*config);
    const auto again = parseTrainConfig(written, "run.json");
    ASSERT_TRUE(again) << again.error().describe();
    EXPECT_EQ(trainConfigJson(*again), written);
    EXPECT_EQ(written["optimizer"]["groups"][0]["match"], "lora_A");
}

TEST(TrainConfig, wrongFieldsAreNamed)
{
    const auto refused = [](const char* path, const Json& value, Errc code, const char* mention) {
        Json json = smallConfig();
        json[Json::json_pointer(path)] = value;
        const auto config = parseTrainConfig(json, "c.json");
        ASSERT_FALSE(config) << path;
        EXPECT_EQ(config.error().code, code) << config.error().describe();
        EXPECT_NE(config.error().message.find(mention), std::string::npos) << config.error().describe();
    };
    refused("/steps", 0, Errc::FieldInvalid, "steps");
    refused("/batch_size", "8", Errc::FieldInvalid, "batch_size");
    refused("/learning_rate", 1e-3, Errc::FieldInvalid, "learning_rate");
    refused("/stepps", 5, Errc::FieldInvalid, "did you mean \"steps\"");
    refused("/optimizer/clip", 5, Errc::FieldInvalid, "clip_norm");
    refused("/optimizer/betas", Json::array({ 0.9 }), Errc::FieldInvalid, "betas");
    refused("/optimizer/preset", "adam", Errc::FieldInvalid, "smolvla");
    refused("/optimizer/groups", Json::parse(R"([{"lr_scale": 1}])"), Errc::FieldMissing, "match");
    refused("/precision", "fp16", Errc::FieldInvalid, "bf16_autocast");
    refused("/schedule/type", "linear", Errc::FieldInvalid, "cosine");
    refused("/policy/init", "zeros", Errc::FieldInvalid, "random");
    refused("/policy", Json::object(), Errc::FieldMissing, "policy.path");
    refused("/dataset", Json::object(), Errc::FieldMissing, "dataset.path");
    refused("/dataset/task_weights", { { "a", -1 } }, Errc::FieldInvalid, "task_weights");
    refused("/method", Json::object(), Errc::FieldMissing, "type");
}

TEST(TrainConfig, everyFieldIsDescribed)
{
    const Json schema = trainConfigSchema();
    EXPECT_GT(schema.size(), 30U);
    std::size_t neutral = 0;
    for (const Json& field : schema) {
        EXPECT_FALSE(field["help"].get<std::string>().empty()) << field["name"];
        EXPECT_EQ(field["type"] == "choice", field.contains("choices")) << field["name"];
        neutral += field["changes_results"] == false ? 1U : 0U;
    }
    EXPECT_GE(neutral, 8U);
    const Json written = trainConfigJson(TrainConfig {});
    for (const Json& field : schema) {
        std::string pointer = "/" + field["name"].get<std::string>();
        std::ranges::replace(pointer, '.', '/');
        ASSERT_TRUE(written.contains(Json::json_pointer(pointer))) << pointer;
        EXPECT_EQ(written[Json::json_pointer(pointer)], field["default"]) << pointer;
    }
}

} // namespace
