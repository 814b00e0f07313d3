// The run directory: torn lines, resumes, full disks, requests, heartbeats, manifests.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/file.h"
#include "backend/data/run_directory.h"
#include "backend/train/run_directory.h"

#include "temporary_folder.h"

#include <csignal>
#include <fstream>
#include <thread>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

using namespace rankwise;
using namespace rankwise::data;
using rankwise::test::TemporaryFolder;
using rankwise::train::RunWriter;

namespace {

void append(const std::filesystem::path& path, const std::string& text)
{
    std::ofstream(path, std::ios::app) << text;
}

std::unique_ptr<RunWriter> open(const std::filesystem::path& folder, bool resume = false)
{
    auto writer = RunWriter::open(folder, resume, 10);
    EXPECT_TRUE(writer) << writer.error().describe();
    return std::move(*writer);
}

TEST(EventTail, waitsForTheRestOfATornLine)
{
    const TemporaryFolder folder;
    const auto path = folder.path() / "events.jsonl";
    EventTail tail(path);
    EXPECT_TRUE(tail.poll().value().empty()) << "no file yet";

    append(path, "{\"event\":\"step\",\"step\":1,\"time\":5,\"loss\":2}\n{\"event\":\"step\",\"st");
    auto events = tail.poll().value();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, "step");
    EXPECT_EQ(events[0].step, 1);
    EXPECT_DOUBLE_EQ(events[0].time, 5);
    EXPECT_GT(tail.tornBytes(), 0U);
    EXPECT_TRUE(tail.poll().value().empty());

    append(path, "ep\":2,\"time\":6}\nnot json\n{\"no\":1}\n[1]\n{\"event\":\"step\",\"step\":3,\"time\":7}\n");
    events = tail.poll().value();
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[0].step, 2);
    EXPECT_EQ(events[1].step, 3);
    EXPECT_EQ(tail.skippedLines(), 3U);
    EXPECT_EQ(tail.tornBytes(), 0U);
}

TEST(EventTail, everyCutOfAFileGivesTheWholeLinesBeforeIt)
{
    const TemporaryFolder folder;
    std::string text;
    for (int i = 1; i <= 6; ++i) {
        text += "{\"event\":\"step\",\"step\":" + std::to_string(i) + ",\"time\":1,\"loss\":0.5}\n";
    }
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        const auto path = folder.path() / "cut.jsonl";
        std::filesystem::remove(path);
        append(path, text.substr(0, cut));
        EventTail tail(path);
        const auto expected =
            static_cast<std::size_t>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(cut), '\n'));
        EXPECT_EQ(tail.poll().value().size(), expected) << cut;
        append(path, text.substr(cut));
        EXPECT_EQ(tail.poll().value().size(), 6 - expected) << cut;
    }
}

TEST(EventTail, readsLongFilesInParts)
{
    const TemporaryFolder folder;
    const auto path = folder.path() / "events.jsonl";
    std::string text;
    for (int i = 0; i < 20'000; ++i) {
        text += "{\"event\":\"step\",\"step\":" + std::to_string(i) + ",\"time\":1}\n";
    }
    append(path, text);
    EventTail tail(path);
    std::size_t count = 0;
    std::size_t polls = 0;
    for (auto events = tail.poll(100'000).value(); !events.empty(); events = tail.poll(100'000).value()) {
        EXPECT_EQ(events.front().step, static_cast<std::int64_t>(count));
        count += events.size();
        ++polls;
    }
    EXPECT_EQ(count, 20'000U);
    EXPECT_GT(polls, 3U);
}

TEST(RunHistory, aResumeVoidsWhatCameAfterItsCheckpoint)
{
    const auto step = [](std::int64_t n, double loss) {
        return RunEvent { "step", n, 0, Json { { "loss", loss }, { "aux", { { "spectral", 0.25 } } } } };
    };
    const RunEvent start { "start", 0, 0, Json { { "resumed_from", nullptr } } };
    const RunEvent resumed { "start", 2, 0, Json { { "resumed_from", 2 } } };
    RunHistory history;
    history.add({ start, step(1, 1.0), step(2, 2.0), step(3, 3.0) });
    ASSERT_EQ(history.steps.size(), 3U);
    history.add({ resumed, step(3, 30.0), step(4, 40.0) });
    ASSERT_EQ(history.steps.size(), 4U);
    EXPECT_DOUBLE_EQ(history.steps[2].loss, 30.0);
    EXPECT_DOUBLE_EQ(history.steps[3].loss, 40.0);
    EXPECT_DOUBLE_EQ(history.steps[3].aux.at("spectral"), 0.25);
    history.add({ RunEvent { "start", 0, 0, Json { { "resumed_from", -1 } } }, step(1, 9.0) });
    ASSERT_EQ(history.steps.size(), 1U) << "begun anew";
}

TEST(RunWriter, writesWhatReadersRead)
{
    const TemporaryFolder folder;
    const auto root = folder.path() / "run";
    {
        const auto writer = open(root);
        ASSERT_TRUE(writer->writeRun({ { "seed", 7 } }));
        EXPECT_EQ(writer->writeRun({}).error().code, Errc::AlreadyExists);
        const std::vector<RunLayer> layers { { "a.q_proj", 1, 0, 32 }, { "a.k_proj", 2, 0, 32 } };
        RunDigest digest { .step = 0,
                           .rank = { 12.5, 3 },
                           .quantiles = { { 1, 2, 3, 4, 5 }, { 3, 3, 3, 3, 3 } },
                           .energy = { 0.91, 1 },
                           .tokens = { 100, 200 },
                           .shares = { { 0.25, 0.75 }, {} } };
        ASSERT_TRUE(writer->digest(digest, layers));
        digest.step = 5;
        digest.rank = { 11, std::numeric_limits<double>::quiet_NaN() };
        ASSERT_TRUE(writer->digest(digest, layers));
        ASSERT_TRUE(writer->event("step", 5, { { "loss", 0.5 }, { "text", "caf\xe9" } }));
        ASSERT_TRUE(writer->setState(RunState::Finished, "all steps are done"));
    }
    const RunPaths paths { root };
    EXPECT_TRUE(isRunDirectory(root));
    EXPECT_FALSE(isRunDirectory(folder.path()));
    EXPECT_EQ(readRunJson(paths).value()["seed"], 7);
    EXPECT_EQ(readRunStatus(paths).value().state, RunState::Finished);
    EventTail tail(paths.events());
    RunHistory history;
    history.add(tail.poll().value());
    EXPECT_EQ(tail.skippedLines(), 0U);
    ASSERT_EQ(history.tables.size(), 1U) << "one table for both digests";
    EXPECT_EQ(history.tables.begin()->second[1].path, "a.k_proj");
    EXPECT_EQ(history.tables.begin()->second[1].capacity, 32);
    ASSERT_EQ(history.digests.size(), 2U);
    EXPECT_EQ(history.digests[0].rank, (std::vector<double> { 12.5, 3 }));
    EXPECT_EQ(history.digests[0].quantiles[0], (std::vector<double> { 1, 2, 3, 4, 5 }));
    EXPECT_EQ(history.digests[0].shares[0], (std::vector<double> { 0.25, 0.75 }));
    EXPECT_EQ(history.digests[0].tokens[1], 200);
    EXPECT_EQ(history.digests[1].step, 5);
}

TEST(RunWriter, cutsATornEndAndLeftoversWhenItGoesOn)
{
    const TemporaryFolder folder;
    {
        const auto writer = open(folder.path());
        ASSERT_TRUE(writer->writeRun({}));
        ASSERT_TRUE(writer->event("step", 1, {}));
    }
    const RunPaths paths { folder.path() };
    append(paths.events(), "{\"event\":\"step\",\"step\":2,\"lo");
    append(paths.root / "status.json.tmp-1-2", "half");
    std::filesystem::create_directories(paths.checkpoints() / "step-00000004.tmp-1-2");
    EventTail tail(paths.events());
    EXPECT_EQ(tail.poll().value().size(), 1U);
    {
        const auto writer = open(folder.path(), true);
        ASSERT_TRUE(writer->event("start", 1, { { "resumed_from", 1 } }));
        ASSERT_TRUE(writer->event("step", 2, {}));
    }
    const auto events = tail.poll().value();
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[0].kind, "start");
    EXPECT_EQ(events[1].step, 2);
    EXPECT_EQ(tail.skippedLines(), 0U);
    EXPECT_FALSE(std::filesystem::exists(paths.root / "status.json.tmp-1-2"));
    EXPECT_FALSE(std::filesystem::exists(paths.checkpoints() / "step-00000004.tmp-1-2"));
}

TEST(RunWriter, refusesWhatItMustNotTouch)
{
    const TemporaryFolder folder;
    EXPECT_EQ(RunWriter::open(folder.path() / "none", true, 1).error().code, Errc::FileNotFound);
    const auto writer = open(folder.path() / "run");
    ASSERT_TRUE(writer->writeRun({}));
    EXPECT_EQ(RunWriter::open(folder.path() / "run", false, 1).error().code, Errc::AlreadyExists);
    const auto second = RunWriter::open(folder.path() / "run", true, 1);
    ASSERT_FALSE(second) << "one worker a run";
    EXPECT_EQ(second.error().code, Errc::AlreadyExists);
    EXPECT_NE(second.error().message.find("another worker"), std::string::npos);

    ASSERT_TRUE(writeFileAtomically(folder.path() / "run.json", R"({"format": "rankwise_run", "version": 99})"));
    EXPECT_EQ(readRunJson({ folder.path() }).error().code, Errc::Unsupported);
    ASSERT_TRUE(writeFileAtomically(folder.path() / "run.json", R"({"format": "other", "version": 1})"));
    EXPECT_EQ(readRunJson({ folder.path() }).error().code, Errc::FieldInvalid);
}

/// The limit of a file's size stands in for a full disk: the write in the middle of a line fails.
TEST(RunWriter, aFullDiskLeavesWholeLines)
{
    const TemporaryFolder folder;
    const auto writer = open(folder.path());
    ASSERT_TRUE(writer->writeRun({}));
    rlimit before {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limited { 3000, before.rlim_max };
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
    Result<void> last;
    int written = 0;
    for (; written < 1000; ++written) {
        last = writer->event("step", written, { { "loss", 0.125 } });
        if (!last) {
            break;
        }
    }
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, SIG_DFL);
    ASSERT_FALSE(last);
    EXPECT_TRUE(last.error().code == Errc::IoFailed || last.error().code == Errc::DiskFull);
    EXPECT_EQ(last.error().subject, RunPaths { folder.path() }.events().string());
    EventTail tail(RunPaths { folder.path() }.events());
    EXPECT_EQ(tail.poll().value().size(), static_cast<std::size_t>(written));
    EXPECT_EQ(tail.tornBytes(), 0U);
    ASSERT_TRUE(writer->event("step", written, {})) << "goes on when there is room again";
    EXPECT_EQ(tail.poll().value().size(), 1U);
}

TEST(RunStatus, aWorkerThatIsGoneReadsAsLost)
{
    const TemporaryFolder folder;
    const RunPaths paths { folder.path() };
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(0);
    }
    int ignored = 0;
    ::waitpid(child, &ignored, 0);
    RunStatus status {
        .pid = child, .host = hostName(), .state = RunState::Running, .step = 4, .heartbeat = unixSeconds()
    };
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    auto read = readRunStatus(paths).value();
    EXPECT_EQ(read.state, RunState::Lost);
    EXPECT_EQ(read.step, 4);
    EXPECT_NE(read.reason.find("step 4"), std::string::npos);

    status.pid = ::getpid();
    status.pidStart = processStartTicks(::getpid());
    ASSERT_GT(status.pidStart, 0);
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    EXPECT_EQ(readRunStatus(paths).value().state, RunState::Running);
    status.pidStart += 1;
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    EXPECT_EQ(readRunStatus(paths).value().state, RunState::Lost) << "another process has this number now";
    status.host = "elsewhere";
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    EXPECT_EQ(readRunStatus(paths).value().state, RunState::Running) << "other hosts are judged by the heartbeat";
    status.heartbeat -= 60;
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    EXPECT_EQ(readRunStatus(paths).value().state, RunState::Lost);

    status.state = RunState::Failed;
    status.error = Error { Errc::NotFinite, "no", "layer" };
    ASSERT_TRUE(writeFileAtomically(paths.status(), jsonText(statusJson(status))));
    read = readRunStatus(paths).value();
    EXPECT_EQ(read.state, RunState::Failed);
    ASSERT_TRUE(read.error);
    EXPECT_EQ(read.error->code, Errc::NotFinite);
    EXPECT_EQ(read.error->subject, "layer");
}

TEST(RunStatus, theHeartbeatIsRenewed)
{
    const TemporaryFolder folder;
    const auto writer = open(folder.path());
    const double first = readRunStatus({ folder.path() }).value().heartbeat;
    writer->setProgress(3, 12.5);
    std::this_thread::sleep_for(std::chrono::milliseconds(static_cast<int>(kHeartbeatSeconds * 1000) + 500));
    const RunStatus later = readRunStatus({ folder.path() }).value();
    EXPECT_GT(later.heartbeat, first + 1);
    EXPECT_EQ(later.step, 3);
    EXPECT_DOUBLE_EQ(later.etaSeconds, 12.5);
}

TEST(Control, requestsAreTakenInOrderAndAnswered)
{
    const TemporaryFolder folder;
    const RunPaths paths { folder.path() };
    EXPECT_EQ(postRequest(paths, ControlAction::Pause).error().code, Errc::FileNotFound);
    const auto writer = open(folder.path());
    const std::string pause = postRequest(paths, ControlAction::Pause).value();
    const std::string set = postRequest(paths, ControlAction::Set, "eta", 0.75).value();
    append(paths.control() / "x.request.json", "{\"action\":\"dance\"}");
    const auto requests = takeRequests(paths).value();
    ASSERT_EQ(requests.size(), 2U);
    EXPECT_EQ(requests[0].id, pause);
    EXPECT_EQ(requests[1].action, ControlAction::Set);
    EXPECT_EQ(requests[1].name, "eta");
    EXPECT_DOUBLE_EQ(requests[1].value, 0.75);
    EXPECT_FALSE(findAnswer(paths, "x").value()->accepted) << "what is no request is refused";

    EXPECT_FALSE(findAnswer(paths, pause).value());
    EXPECT_FALSE(waitForAnswer(paths, pause, 0.05).value());
    ASSERT_TRUE(answerRequest(paths, pause, { .accepted = true, .message = "now", .step = 3 }));
    const auto answer = waitForAnswer(paths, pause, 1).value();
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->accepted);
    EXPECT_EQ(answer->step, 3);
    EXPECT_EQ(takeRequests(paths).value().size(), 1U);
}

TEST(Manifest, findsEveryChangedByte)
{
    const TemporaryFolder folder;
    const auto checkpoint = folder.path() / "checkpoints" / stepName(12);
    std::filesystem::create_directories(checkpoint);
    append(checkpoint / "a.bin", "0123456789");
    append(checkpoint / "b.json", "{}");
    EXPECT_EQ(listCheckpoints({ folder.path() }).size(), 0U) << "no manifest yet";
    ASSERT_TRUE(writeManifest(checkpoint, 12));
    ASSERT_EQ(listCheckpoints({ folder.path() }).size(), 1U);
    EXPECT_EQ(listCheckpoints({ folder.path() })[0].step, 12);
    EXPECT_TRUE(verifyCheckpoint(checkpoint));
    for (const std::size_t at : { 0U, 9U }) {
        std::string text = "0123456789";
        text[at] = 'x';
        ASSERT_TRUE(writeFileAtomically(checkpoint / "a.bin", text));
        EXPECT_EQ(verifyCheckpoint(checkpoint).error().code, Errc::ChecksumMismatch);
    }
    std::filesystem::remove(checkpoint / "a.bin");
    EXPECT_EQ(verifyCheckpoint(checkpoint).error().code, Errc::FileNotFound);
}

TEST(StepName, roundTrips)
{
    for (const std::int64_t step : { 0L, 100L, 12'345'678L, 1'234'567'890L }) {
        EXPECT_EQ(stepOfName(stepName(step)), step);
        EXPECT_EQ(stepOfName(stepName(step) + ".safetensors"), step);
    }
    EXPECT_EQ(stepName(100), "step-00000100");
    for (const char* wrong : { "", "step-", "step-12", "step-0000001x", "step--0000001", "steps-00000001" }) {
        EXPECT_FALSE(stepOfName(wrong)) << wrong;
    }
}

} // namespace
