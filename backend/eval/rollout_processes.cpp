// SPDX-License-Identifier: Apache-2.0
#include "backend/eval/rollout_processes.h"

#include "backend/base/log.h"
#include "backend/eval/episode_runner.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ATen/Parallel.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::eval {

namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxMessage = std::uint64_t { 8 } << 30;
constexpr int kAttempts = 2; ///< Times that an episode is run before a dying worker is taken for its fault.
constexpr int kPollMs = 50;

using Bytes = std::vector<std::uint8_t>;

Bytes framed(const Json& message)
{
    Bytes bytes(kLengthBytes);
    Json::to_msgpack(message, bytes);
    const std::uint64_t length = bytes.size() - kLengthBytes;
    for (std::size_t i = 0; i < kLengthBytes; ++i) {
        bytes[i] = static_cast<std::uint8_t>(length >> (8 * i));
    }
    return bytes;
}

std::uint64_t lengthOf(std::span<const std::uint8_t, kLengthBytes> bytes)
{
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i) {
        length |= std::uint64_t { bytes[i] } << (8 * i);
    }
    return length;
}

/// Blocks until all is sent; false when the other side is gone.
bool sendAll(int channel, const Bytes& bytes)
{
    for (std::size_t sent = 0; sent < bytes.size();) {
        const ssize_t n = ::send(channel, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        sent += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    }
    return true;
}

bool receiveAll(int channel, std::span<std::uint8_t> bytes)
{
    for (std::size_t got = 0; got < bytes.size();) {
        const ssize_t n = ::recv(channel, bytes.data() + got, bytes.size() - got, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        got += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    }
    return true;
}

Json errorJson(const Error& error)
{
    return { { "code", static_cast<int>(error.code) },
             { "message", printableText(error.message) },
             { "subject", printableText(error.subject) } };
}

Json optionsJson(const RolloutOptions& options)
{
    const sim::EnvironmentOptions& place = options.environment;
    return { { "seed", options.seed },
             { "action_steps", options.actionSteps },
             { "flow_steps", options.flowSteps },
             { "time_limit", options.timeLimit },
             { "cameras", options.cameras },
             { "arm", static_cast<int>(place.arm) },
             { "front_camera", static_cast<int>(place.frontCamera) },
             { "randomization",
               { place.randomization.poses, place.randomization.colors, place.randomization.light,
                 place.randomization.camera } },
             { "real_time", place.realTime } };
}

RolloutOptions optionsFromJson(const Json& json)
{
    RolloutOptions options;
    options.seed = json.at("seed").get<std::uint64_t>();
    options.actionSteps = json.at("action_steps").get<std::int64_t>();
    options.flowSteps = json.at("flow_steps").get<std::int64_t>();
    options.timeLimit = json.at("time_limit").get<int>();
    options.cameras = json.at("cameras").get<std::map<std::string, std::string>>();
    options.environment.arm = static_cast<sim::ArmKind>(json.at("arm").get<int>());
    options.environment.frontCamera = static_cast<sim::CameraSet>(json.at("front_camera").get<int>());
    const auto factors = json.at("randomization").get<std::array<double, 4>>();
    options.environment.randomization = { factors[0], factors[1], factors[2], factors[3] };
    options.environment.realTime = json.at("real_time").get<bool>();
    return options;
}

Json framesJson(const std::vector<RolloutFrame>& frames)
{
    Json list = Json::array();
    for (const RolloutFrame& frame : frames) {
        Json images = Json::array();
        for (const sim::Image& image : frame.images) {
            images.push_back({ image.width, image.height, Json::binary(image.rgb) });
        }
        list.push_back({ frame.state, frame.action, std::move(images) });
    }
    return list;
}

std::vector<RolloutFrame> framesFromJson(const Json& list)
{
    std::vector<RolloutFrame> frames;
    for (const Json& one : list) {
        RolloutFrame frame { .state = one.at(0).get<sim::StateVector>(), .action = one.at(1).get<sim::Action>() };
        for (const Json& image : one.at(2)) {
            frame.images.push_back({ image.at(0).get<int>(), image.at(1).get<int>(), image.at(2).get_binary() });
        }
        frames.push_back(std::move(frame));
    }
    return frames;
}

std::string exitText(int status)
{
    return WIFSIGNALED(status)
        ? fmt::format("was ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))
        : fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

} // namespace

/// One process, or a place for one.
struct RolloutProcesses::Worker {
    pid_t pid = -1;
    int channel = -1;
    std::optional<std::size_t> episode; ///< What it runs, of Evaluation::report.episodes.
    Bytes received;
};

struct RolloutProcesses::Evaluation {
    RolloutReport report;
    const EpisodeListener* listener = nullptr;
    const JobContext* job = nullptr;
    Json request; ///< What is the same for all episodes.
    std::int64_t keep = 0;
    std::deque<std::size_t> waiting;
    std::vector<int> attempts;
    std::int64_t done = 0;
};

RolloutProcesses::RolloutProcesses(std::vector<std::string> command, int processes)
    : m_command(std::move(command)), m_workers(static_cast<std::size_t>(std::max(1, processes)))
{
    RW_CHECK(!m_command.empty());
}

RolloutProcesses::~RolloutProcesses()
{
    for (Worker& worker : m_workers) {
        end(worker);
    }
}

std::vector<int> RolloutProcesses::processIds() const
{
    std::vector<int> ids;
    for (const Worker& worker : m_workers) {
        if (worker.pid > 0) {
            ids.push_back(worker.pid);
        }
    }
    return ids;
}

Result<void> RolloutProcesses::start(Worker& worker)
{
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return fail(Errc::IoFailed, std::string("no channel to a worker: ") + std::strerror(errno), m_command.front());
    }
    // One thread of tensors and of drawing a worker: the workers are what fills the cores.
    std::vector<std::string> settings { "OMP_NUM_THREADS=1", "OMP_WAIT_POLICY=PASSIVE", "LP_NUM_THREADS=1" };
    std::vector<char*> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        if (!text.starts_with("OMP_NUM_THREADS=") && !text.starts_with("OMP_WAIT_POLICY=")
            && !text.starts_with("LP_NUM_THREADS=")) {
            environment.push_back(*entry);
        }
    }
    for (std::string& setting : settings) {
        environment.push_back(setting.data());
    }
    environment.push_back(nullptr);
    std::vector<std::string> words = m_command;
    std::vector<char*> arguments;
    for (std::string& word : words) {
        arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], kRolloutChannel);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO); // results have the caller's stdout
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT); // a terminal sends it to the whole group
    posix_spawnattr_setsigmask(&attributes, &blocked);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const int error =
        ::posix_spawn(&worker.pid, arguments.front(), &actions, &attributes, arguments.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    ::close(ends[1]);
    if (error != 0) {
        ::close(ends[0]);
        worker.pid = -1;
        return fail(error == ENOENT ? Errc::FileNotFound : Errc::IoFailed,
                    std::string("no worker can be started: ") + std::strerror(error), m_command.front());
    }
    worker.channel = ends[0];
    worker.episode.reset();
    worker.received.clear();
    return {};
}

void RolloutProcesses::end(Worker& worker)
{
    if (worker.channel >= 0) {
        ::close(worker.channel);
        worker.channel = -1;
    }
    if (worker.pid > 0) {
        ::kill(worker.pid, SIGKILL); // it holds nothing that must be put away
        while (::waitpid(worker.pid, nullptr, 0) < 0 && errno == EINTR) { }
        worker.pid = -1;
    }
    worker.episode.reset();
    worker.received.clear();
}

/// Gives the worker the next episode that waits, if there is one.
Result<void> RolloutProcesses::assign(Worker& worker, Evaluation& evaluation)
{
    if (worker.episode || evaluation.waiting.empty()) {
        return {};
    }
    if (worker.pid < 0) {
        RW_TRY_VOID(start(worker));
    }
    const std::size_t next = evaluation.waiting.front();
    const RolloutEpisode& episode = evaluation.report.episodes[next];
    evaluation.waiting.pop_front();
    ++evaluation.attempts[next];
    worker.episode = next;
    Json request = evaluation.request;
    request["task"] = episode.task;
    request["index"] = episode.index;
    request["kept"] = episode.index < evaluation.keep;
    return sendAll(worker.channel, framed(request)) ? Result<void> {} : lost(worker, evaluation);
}

/// The worker is gone: its episode waits again, unless it has cost a worker before.
Result<void> RolloutProcesses::lost(Worker& worker, Evaluation& evaluation)
{
    int status = 0;
    ::kill(worker.pid, SIGKILL); // where only the channel broke
    while (::waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) { }
    worker.pid = -1;
    const std::size_t which = worker.episode.value_or(0);
    const bool had = worker.episode.has_value();
    end(worker);
    if (!had) {
        return {};
    }
    const RolloutEpisode& episode = evaluation.report.episodes[which];
    const std::string where = fmt::format("{}, episode {}", episode.task, episode.index);
    if (evaluation.attempts[which] >= kAttempts) {
        return fail(Errc::DeviceFailed, fmt::format("the worker {}, twice in this episode", exitText(status)), where);
    }
    log::warn("eval", "{}: the worker {}; another one runs the episode again", where, exitText(status));
    evaluation.waiting.push_front(which);
    return {};
}

/// Reads what has come; a whole answer ends the worker's episode.
Result<void> RolloutProcesses::answered(Worker& worker, Evaluation& evaluation)
{
    std::array<std::uint8_t, 1 << 16> buffer;
    const ssize_t n = ::recv(worker.channel, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return {};
    }
    if (n <= 0) {
        return lost(worker, evaluation);
    }
    worker.received.insert(worker.received.end(), buffer.begin(), buffer.begin() + n);
    if (worker.received.size() < kLengthBytes) {
        return {};
    }
    const std::uint64_t length = lengthOf(std::span(worker.received).first<kLengthBytes>());
    if (length > kMaxMessage || !worker.episode) {
        return lost(worker, evaluation);
    }
    if (worker.received.size() < kLengthBytes + length) {
        return {};
    }
    Json answer;
    try {
        answer = Json::from_msgpack(worker.received.begin() + kLengthBytes, worker.received.end());
        if (answer.contains("error")) {
            const Json& error = answer["error"];
            return fail(static_cast<Errc>(error.at("code").get<int>()), error.at("message"), error.at("subject"));
        }
        RolloutEpisode& episode = evaluation.report.episodes[*worker.episode];
        RW_TRY(episode, episodeFromJson(answer.at("episode"), "answer of a worker"));
        episode.frames = framesFromJson(answer.at("frames"));
    } catch (const Json::exception&) {
        return lost(worker, evaluation);
    }
    const RolloutEpisode& episode = evaluation.report.episodes[*worker.episode];
    worker.episode.reset();
    worker.received.clear();
    ++evaluation.done;
    const auto all = static_cast<std::int64_t>(evaluation.report.episodes.size());
    if (*evaluation.listener) {
        (*evaluation.listener)(episode, evaluation.done, all);
    }
    evaluation.job->report(static_cast<double>(evaluation.done) / static_cast<double>(all), episode.task);
    return {};
}

Result<void> RolloutProcesses::spread(Evaluation& evaluation, const JobContext& job)
{
    const auto all = static_cast<std::int64_t>(evaluation.report.episodes.size());
    while (evaluation.done < all) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", evaluation.report.name);
        }
        std::vector<pollfd> waits;
        std::vector<Worker*> waiting;
        for (Worker& worker : m_workers) {
            RW_TRY_VOID(assign(worker, evaluation));
            if (worker.episode) {
                waits.push_back({ .fd = worker.channel, .events = POLLIN, .revents = 0 });
                waiting.push_back(&worker);
            }
        }
        ::poll(waits.data(), waits.size(), kPollMs);
        for (std::size_t i = 0; i < waits.size(); ++i) {
            if (waits[i].revents != 0) {
                RW_TRY_VOID(answered(*waiting[i], evaluation));
            }
        }
    }
    return {};
}

Result<RolloutReport> RolloutProcesses::run(const std::string& name, const RolloutPolicy& policy,
                                            const RolloutOptions& options, const JobContext& job,
                                            const EpisodeListener& listener,
                                            const std::vector<RolloutEpisode>& finished)
{
    Evaluation evaluation { .report = { .name = name, .seed = options.seed, .episodes = plannedEpisodes(options) },
                            .listener = &listener,
                            .job = &job,
                            .keep = options.keepEpisodes };
    evaluation.report.tasks = options.tasks.empty() ? sim::taskNames() : options.tasks;
    evaluation.attempts.assign(evaluation.report.episodes.size(), 0);
    for (std::size_t i = 0; i < evaluation.report.episodes.size(); ++i) {
        RolloutEpisode& episode = evaluation.report.episodes[i];
        const auto known = std::ranges::find_if(finished, [&](const RolloutEpisode& one) {
            return one.task == episode.task && one.index == episode.index && one.seed == episode.seed;
        });
        if (known != finished.end()) {
            episode = *known;
            ++evaluation.done;
        } else {
            evaluation.waiting.push_back(i);
        }
    }
    evaluation.request = { { "run", ++m_runs },
                           { "policy", policy.policy.string() },
                           { "adapter", policy.adapter.string() },
                           { "options", optionsJson(options) } };
    const auto spreadOut = spread(evaluation, job);
    if (!spreadOut) {
        for (Worker& worker : m_workers) {
            end(worker); // in the middle of episodes that nobody waits for
        }
        return tl::unexpected<Error>(spreadOut.error());
    }
    return std::move(evaluation.report);
}

namespace {

/// The policy of the run that a worker is at.
struct Engagement {
    std::uint64_t run = 0;
    std::unique_ptr<serve::PolicyRuntime> runtime;
    std::unique_ptr<EpisodeRunner> runner;
};

Result<void> engage(Engagement& engagement, const Json& request)
{
    const auto run = request.at("run").get<std::uint64_t>();
    if (engagement.runner && engagement.run == run) {
        return {};
    }
    engagement.runner.reset();
    std::vector<Warning> warnings;
    RW_TRY(engagement.runtime,
           serve::PolicyRuntime::load({ .policy = request.at("policy").get<std::string>(),
                                        .adapter = request.at("adapter").get<std::string>() },
                                      warnings));
    for (const Warning& warning : warnings) {
        log::warn("eval", "{}: {}", warning.subject, warning.message);
    }
    engagement.runner = std::make_unique<EpisodeRunner>(*engagement.runtime, optionsFromJson(request.at("options")));
    engagement.run = run;
    return {};
}

Result<RolloutEpisode> runEpisode(Engagement& engagement, const Json& request)
{
    RW_TRY_VOID(engage(engagement, request));
    return engagement.runner->run(request.at("task"), request.at("index"), request.at("kept"), {});
}

Json answerTo(Engagement& engagement, const Json& request)
{
    try {
        const auto episode = runEpisode(engagement, request);
        if (!episode) {
            return { { "error", errorJson(episode.error()) } };
        }
        return { { "episode", episodeJson(*episode) }, { "frames", framesJson(episode->frames) } };
    } catch (const std::exception& exception) {
        return { { "error", errorJson({ Errc::Internal, exception.what(), "rollout" }) } };
    }
}

} // namespace

int serveRollouts(int channel)
{
    at::set_num_threads(1);
    // Ends with its caller also in the middle of an episode.
    std::jthread watch([channel](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            pollfd hangUp { .fd = channel, .events = 0, .revents = 0 };
            if (::poll(&hangUp, 1, 200) > 0 && (hangUp.revents & (POLLHUP | POLLERR)) != 0) {
                std::_Exit(0);
            }
        }
    });
    Engagement engagement;
    for (;;) {
        std::array<std::uint8_t, kLengthBytes> head {};
        if (!receiveAll(channel, head)) {
            return 0;
        }
        const std::uint64_t length = lengthOf(head);
        if (length > kMaxMessage) {
            return 1;
        }
        Bytes body(length);
        if (!receiveAll(channel, body)) {
            return 0;
        }
        const Json request = Json::from_msgpack(body, true, false);
        if (request.is_discarded() || !sendAll(channel, framed(answerTo(engagement, request)))) {
            return 1;
        }
    }
}

} // namespace rankwise::eval
