// Reader's side of the run directory, and requests.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/run_directory.h"

#include "backend/base/file.h"
#include "backend/base/sha256.h"
#include "backend/base/worker_thread.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <ranges>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::uint64_t kMaxLineBytes = 64u << 20;
constexpr std::uint64_t kMaxControlBytes = 64u << 10;
constexpr std::array kStates { RunState::Starting, RunState::Running, RunState::Paused, RunState::Finished,
                               RunState::Stopped,  RunState::Failed,  RunState::Lost };
constexpr std::array kActions { ControlAction::Pause, ControlAction::Resume,   ControlAction::Stop,
                                ControlAction::Set,   ControlAction::Snapshot, ControlAction::Checkpoint };
constexpr std::string_view kRequestSuffix = ".request.json";
constexpr std::string_view kDoneSuffix = ".done.json";

/// Closes on destruction.
class FileHandle {
public:
    explicit FileHandle(int fd) : m_fd(fd) { }
    ~FileHandle()
    {
        if (m_fd >= 0) {
            ::close(m_fd);
        }
    }
    FileHandle(const FileHandle&) = delete;
    FileHandle& operator=(const FileHandle&) = delete;
    [[nodiscard]] int get() const { return m_fd; }

private:
    int m_fd;
};

double numberAt(const Json& object, const char* key, double otherwise = 0)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_number() ? found->get<double>() : otherwise;
}

std::int64_t integerAt(const Json& object, const char* key, std::int64_t otherwise = 0)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : otherwise;
}

template <class T> std::vector<T> numbersOf(const Json& array)
{
    std::vector<T> values;
    if (array.is_array()) {
        values.reserve(array.size());
        for (const Json& item : array) {
            // null stands for a number that is not finite
            values.push_back(item.is_number() ? item.get<T>() : std::numeric_limits<T>::quiet_NaN());
        }
    }
    return values;
}

template <class T> std::vector<T> columnAt(const Json& object, const char* key)
{
    const auto found = object.find(key);
    return found == object.end() ? std::vector<T> {} : numbersOf<T>(*found);
}

std::vector<std::vector<double>> tableAt(const Json& object, const char* key)
{
    std::vector<std::vector<double>> rows;
    const auto found = object.find(key);
    if (found != object.end() && found->is_array()) {
        rows.reserve(found->size());
        for (const Json& row : *found) {
            rows.push_back(numbersOf<double>(row));
        }
    }
    return rows;
}

std::vector<std::vector<std::vector<double>>> kindsAt(const Json& object)
{
    std::vector<std::vector<std::vector<double>>> layers;
    const auto found = object.find("kinds");
    if (found != object.end() && found->is_array()) {
        for (const Json& layer : *found) {
            std::vector<std::vector<double>>& rows = layers.emplace_back();
            for (const Json& row : layer.is_array() ? layer : Json::array()) {
                rows.push_back(numbersOf<double>(row));
            }
        }
    }
    return layers;
}

bool processRuns(const RunStatus& status)
{
    if (status.pid <= 0 || ::kill(static_cast<pid_t>(status.pid), 0) != 0) {
        return false;
    }
    const std::int64_t start = processStartTicks(status.pid);
    return start > 0 && (status.pidStart == 0 || start == status.pidStart);
}

std::optional<ControlRequest> parseRequest(const Json& object, std::string id)
{
    ControlRequest request;
    request.id = std::move(id);
    std::string action;
    FieldReader reader(object, "request");
    reader.require("action", action);
    reader.optional("name", request.name);
    reader.optional("value", request.value);
    reader.optional("time", request.time);
    const auto* const found =
        std::ranges::find_if(kActions, [&](ControlAction candidate) { return action == controlActionName(candidate); });
    if (!reader.result() || found == kActions.end()
        || (*found == ControlAction::Set && (request.name.empty() || !object.contains("value")))) {
        return std::nullopt;
    }
    request.action = *found;
    return request;
}

Result<std::string> fileDigest(const fs::path& path, std::uintmax_t& bytes, const JobContext& job)
{
    std::error_code error;
    bytes = fs::file_size(path, error);
    if (error) {
        return failErrno(error.value(), "read the size of", path);
    }
    return sha256OfFile(path, job);
}

} // namespace

fs::path RunPaths::snapshot(std::int64_t step) const
{
    return snapshots() / (stepName(step) + ".safetensors");
}

fs::path RunPaths::checkpoint(std::int64_t step) const
{
    return checkpoints() / stepName(step);
}

std::string stepName(std::int64_t step)
{
    return fmt::format("step-{:08}", step);
}

std::optional<std::int64_t> stepOfName(const std::string& name)
{
    constexpr std::string_view kPrefix = "step-";
    const std::string stem = name.substr(0, name.find('.'));
    if (!stem.starts_with(kPrefix) || stem.size() < kPrefix.size() + 8) {
        return std::nullopt;
    }
    std::int64_t step = 0;
    const char* const begin = stem.data() + kPrefix.size();
    const char* const end = stem.data() + stem.size();
    const auto [stop, error] = std::from_chars(begin, end, step);
    return error == std::errc() && stop == end && step >= 0 ? std::optional(step) : std::nullopt;
}

bool isRunDirectory(const fs::path& folder)
{
    const auto run = readRunJson({ folder });
    return run.has_value() || run.error().code == Errc::Unsupported;
}

Result<Json> readRunJson(const RunPaths& paths)
{
    RW_TRY(Json run, readJsonFile(paths.run()));
    FieldReader reader(run, paths.run().string());
    std::string format;
    std::int64_t version = 0;
    reader.require("format", format);
    reader.require("version", version, 1);
    if (format != "rankwise_run") {
        reader.reject("format", "must be \"rankwise_run\"; this is not a run directory");
    }
    if (version > kRunVersion) {
        reader.reject("version", fmt::format("is {}, newer than {}, which this program reads", version, kRunVersion),
                      Errc::Unsupported);
    }
    RW_TRY_VOID(reader.result());
    return run;
}

std::string_view runStateName(RunState state)
{
    switch (state) {
    case RunState::Starting:
        return "starting";
    case RunState::Running:
        return "running";
    case RunState::Paused:
        return "paused";
    case RunState::Finished:
        return "finished";
    case RunState::Stopped:
        return "stopped";
    case RunState::Failed:
        return "failed";
    case RunState::Lost:
        return "lost";
    }
    RW_CHECK(false, "run state");
}

Json statusJson(const RunStatus& status)
{
    Json json { { "version", kRunVersion },
                { "pid", status.pid },
                { "pid_start", status.pidStart },
                { "host", status.host },
                { "state", runStateName(status.state) },
                { "step", status.step },
                { "total", status.total },
                { "heartbeat", status.heartbeat },
                { "started", status.started },
                { "eta_s", nullptr },
                { "reason", status.reason },
                { "error", nullptr } };
    if (status.etaSeconds >= 0) {
        json["eta_s"] = status.etaSeconds;
    }
    if (status.error) {
        json["error"] = { { "code", errcName(status.error->code) },
                          { "message", status.error->message },
                          { "subject", status.error->subject } };
    }
    return json;
}

Result<RunStatus> readRunStatus(const RunPaths& paths)
{
    RW_TRY(const Json json, readJsonFile(paths.status(), { .maxBytes = 1u << 20 }));
    RunStatus status;
    std::string state;
    std::int64_t version = kRunVersion;
    FieldReader reader(json, paths.status().string());
    reader.optional("version", version, 1);
    reader.require("pid", status.pid, 0);
    reader.optional("pid_start", status.pidStart, 0);
    reader.optional("host", status.host);
    reader.require("state", state);
    reader.require("step", status.step, 0);
    reader.optional("total", status.total, 0);
    reader.require("heartbeat", status.heartbeat);
    reader.optional("started", status.started);
    reader.optional("eta_s", status.etaSeconds);
    reader.optional("reason", status.reason);
    if (version > kRunVersion) {
        reader.reject("version", fmt::format("is {}, newer than {}, which this program reads", version, kRunVersion),
                      Errc::Unsupported);
    }
    const auto* const found =
        std::ranges::find_if(kStates, [&](RunState candidate) { return state == runStateName(candidate); });
    if (found == kStates.end()) {
        reader.reject("state", "is not a state of a run");
    }
    if (const Json* error = reader.find("error"); error != nullptr && error->is_object()) {
        Error read { .code = Errc::Internal };
        std::string code;
        FieldReader nested(*error, paths.status().string(), "error.");
        nested.optional("code", code);
        nested.optional("message", read.message);
        nested.optional("subject", read.subject);
        reader.merge(nested);
        for (int value = 0; value < 256; ++value) {
            if (errcName(static_cast<Errc>(value)) == code) {
                read.code = static_cast<Errc>(value);
                break;
            }
        }
        status.error = read;
    }
    RW_TRY_VOID(reader.result());
    status.state = *found;
    if (status.active()) {
        const bool here = status.host.empty() || status.host == hostName();
        if (here ? !processRuns(status) : unixSeconds() - status.heartbeat > kHeartbeatLostSeconds) {
            status.state = RunState::Lost;
            status.reason = fmt::format("the worker (process {}{}) ended without a word at step {}", status.pid,
                                        here ? "" : " on " + status.host, status.step);
        }
    }
    return status;
}

std::int64_t processStartTicks(std::int64_t pid)
{
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string text;
    if (!std::getline(file, text)) {
        return 0;
    }
    const std::size_t name = text.rfind(')'); // the name may hold spaces and brackets
    if (name == std::string::npos || name + 2 >= text.size()) {
        return 0;
    }
    std::string_view rest = std::string_view(text).substr(name + 2);
    if (rest.starts_with('Z') || rest.starts_with('X')) {
        return 0; // ended, not yet waited for
    }
    for (int field = 3; field < 22; ++field) {
        const std::size_t space = rest.find(' ');
        if (space == std::string_view::npos) {
            return 0;
        }
        rest.remove_prefix(space + 1);
    }
    std::int64_t ticks = 0;
    std::from_chars(rest.data(), rest.data() + rest.size(), ticks);
    return ticks;
}

std::string hostName()
{
    std::array<char, 256> name {};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : std::string();
}

double unixSeconds()
{
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration<double>(now).count();
}

std::optional<RunEvent> parseRunEvent(std::string_view line)
{
    auto object = parseJson(line, "events.jsonl");
    if (!object || !object->is_object()) {
        return std::nullopt;
    }
    const auto kind = object->find("event");
    if (kind == object->end() || !kind->is_string()) {
        return std::nullopt;
    }
    RunEvent event;
    event.kind = kind->get<std::string>();
    event.step = integerAt(*object, "step");
    event.time = numberAt(*object, "time");
    event.fields = std::move(*object);
    return event;
}

EventTail::EventTail(fs::path file) : m_file(std::move(file)) { }

Result<std::vector<RunEvent>> EventTail::poll(std::uint64_t maxBytes)
{
    std::vector<RunEvent> events;
    const FileHandle file(::open(m_file.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) {
        if (errno == ENOENT) {
            return events;
        }
        return failErrno(errno, "open", m_file);
    }
    struct stat info { };
    if (::fstat(file.get(), &info) != 0) {
        return failErrno(errno, "read the size of", m_file);
    }
    const auto size = static_cast<std::uint64_t>(info.st_size);
    m_offset = std::min(m_offset, size);
    m_torn = 0;

    std::string text;
    std::array<char, 1 << 16> part {};
    const std::uint64_t start = m_offset;
    std::size_t begin = 0; // of the current line in `text`
    while (start + text.size() < size && start + begin < start + maxBytes) {
        const ssize_t n = ::pread(file.get(), part.data(), part.size(), static_cast<off_t>(start + text.size()));
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return failErrno(errno, "read", m_file);
        }
        if (n == 0) {
            break;
        }
        std::size_t searched = text.size();
        text.append(part.data(), static_cast<std::size_t>(n));
        for (std::size_t end = text.find('\n', searched); end != std::string::npos; end = text.find('\n', searched)) {
            if (auto event = parseRunEvent(std::string_view(text).substr(begin, end - begin))) {
                events.push_back(std::move(*event));
            } else {
                ++m_skipped;
            }
            begin = searched = end + 1;
        }
        if (text.size() - begin > kMaxLineBytes) {
            return fail(Errc::TooLarge, fmt::format("a line is longer than {} bytes", kMaxLineBytes), m_file.string(),
                        static_cast<std::int64_t>(start + begin));
        }
    }
    m_offset = start + begin;
    m_torn = text.size() - begin;
    return events;
}

void RunHistory::add(const std::vector<RunEvent>& events)
{
    for (const RunEvent& event : events) {
        const Json& fields = event.fields;
        if (event.kind == "step") {
            RunStep step { .step = event.step,
                           .time = event.time,
                           .loss = numberAt(fields, "loss", kNaN),
                           .total = numberAt(fields, "total", kNaN),
                           .lr = numberAt(fields, "lr", kNaN),
                           .gradNorm = numberAt(fields, "grad_norm", kNaN),
                           .samplesPerSecond = numberAt(fields, "samples_per_s", kNaN),
                           .loadSeconds = numberAt(fields, "load_s", kNaN),
                           .computeSeconds = numberAt(fields, "compute_s", kNaN) };
            if (const auto aux = fields.find("aux"); aux != fields.end() && aux->is_object()) {
                for (const auto& [name, value] : aux->items()) {
                    step.aux[name] = value.is_number() ? value.get<double>() : kNaN;
                }
            }
            steps.push_back(std::move(step));
        } else if (event.kind == "digest") {
            digests.push_back({ .step = event.step,
                                .table = integerAt(fields, "table"),
                                .rank = columnAt<double>(fields, "rank"),
                                .quantiles = tableAt(fields, "quantiles"),
                                .energy = columnAt<double>(fields, "energy"),
                                .tokens = columnAt<std::int64_t>(fields, "tokens"),
                                .shares = tableAt(fields, "shares"),
                                .kinds = kindsAt(fields) });
        } else if (event.kind == "layer_table") {
            std::vector<RunLayer> layers;
            if (const auto list = fields.find("layers"); list != fields.end() && list->is_array()) {
                for (const Json& item : *list) {
                    RunLayer layer;
                    if (item.is_object()) {
                        layer.path = item.contains("path") && item["path"].is_string() ? item["path"].get<std::string>()
                                                                                       : std::string();
                        layer.group = integerAt(item, "group");
                        layer.depth = integerAt(item, "depth", -1);
                        layer.capacity = integerAt(item, "capacity");
                    }
                    layers.push_back(std::move(layer));
                }
            }
            tables[integerAt(fields, "table")] = std::move(layers);
        } else {
            if (event.kind == "start" && fields.contains("resumed_from")
                && fields["resumed_from"].is_number_integer()) {
                const std::int64_t last = integerAt(fields, "resumed_from");
                std::erase_if(steps, [&](const RunStep& step) { return step.step > last; });
                std::erase_if(digests, [&](const RunDigest& digest) { return digest.step > last; });
            }
            others.push_back(event);
        }
    }
}

std::vector<CheckpointInfo> listCheckpoints(const RunPaths& paths)
{
    std::vector<CheckpointInfo> found;
    std::error_code error;
    for (fs::directory_iterator entry(paths.checkpoints(), error), end; !error && entry != end;
         entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        const auto step = stepOfName(name);
        if (step && name == stepName(*step) && fs::is_regular_file(entry->path() / "manifest.json", error)) {
            found.push_back({ *step, entry->path() });
        }
    }
    std::ranges::sort(found, {}, &CheckpointInfo::step);
    return found;
}

Result<fs::path> newestCheckpointOr(const fs::path& path)
{
    if (!isRunDirectory(path)) {
        return path;
    }
    const std::vector<CheckpointInfo> checkpoints = listCheckpoints({ path });
    if (checkpoints.empty()) {
        return fail(Errc::FileNotFound, "the run has no checkpoint yet; train further", path.string());
    }
    return checkpoints.back().folder;
}

std::map<std::int64_t, fs::path> listSnapshots(const RunPaths& paths)
{
    std::map<std::int64_t, fs::path> found;
    std::error_code error;
    for (fs::directory_iterator entry(paths.snapshots(), error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        const auto step = stepOfName(name);
        if (step && name == stepName(*step) + ".safetensors") {
            found[*step] = entry->path();
        }
    }
    return found;
}

Result<void> writeManifest(const fs::path& folder, std::int64_t step, const JobContext& job)
{
    Json files = Json::object();
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        if (!entry->is_regular_file() || entry->path().filename() == "manifest.json") {
            continue;
        }
        std::uintmax_t bytes = 0;
        RW_TRY(std::string digest, fileDigest(entry->path(), bytes, job));
        files[entry->path().filename().string()] = { { "bytes", bytes }, { "sha256", std::move(digest) } };
    }
    if (error) {
        return failErrno(error.value(), "list", folder);
    }
    return writeFileAtomically(folder / "manifest.json",
                               jsonText(Json { { "version", kRunVersion }, { "step", step }, { "files", files } }));
}

Result<void> verifyCheckpoint(const fs::path& folder, const JobContext& job)
{
    const fs::path path = folder / "manifest.json";
    RW_TRY(const Json manifest, readJsonFile(path));
    FieldReader reader(manifest, path.string());
    const Json* files = reader.requireObject("files");
    RW_TRY_VOID(reader.result());
    for (const auto& [name, entry] : files->items()) {
        std::int64_t bytes = 0;
        std::string expected;
        FieldReader item(entry, path.string(), "files." + name + ".");
        item.require("bytes", bytes, 0);
        item.require("sha256", expected);
        if (name.find('/') != std::string::npos || name == "..") {
            item.reject("", "names a file outside of the checkpoint");
        }
        RW_TRY_VOID(item.result());
        std::uintmax_t found = 0;
        RW_TRY(const std::string digest, fileDigest(folder / name, found, job));
        if (found != static_cast<std::uintmax_t>(bytes) || digest != expected) {
            return fail(Errc::ChecksumMismatch,
                        "the file is not the one that the manifest describes; use an earlier checkpoint",
                        (folder / name).string());
        }
    }
    return {};
}

Result<std::optional<CheckpointInfo>> newestCheckpoint(const RunPaths& paths, std::vector<Warning>& warnings,
                                                       const JobContext& job)
{
    const std::vector<CheckpointInfo> all = listCheckpoints(paths);
    for (const CheckpointInfo& checkpoint : std::views::reverse(all)) {
        const auto verified = verifyCheckpoint(checkpoint.folder, job);
        if (verified) {
            return std::optional(checkpoint);
        }
        if (verified.error().code == Errc::Cancelled) {
            return tl::unexpected<Error>(verified.error());
        }
        warnings.push_back({ "this checkpoint is damaged and is passed over: " + verified.error().describe(),
                             checkpoint.folder.string() });
    }
    return std::optional<CheckpointInfo>();
}

Result<void> expectNoWorker(const RunPaths& paths)
{
    const int file = ::open(paths.events().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return {}; // nobody has written yet
    }
    // A worker holds the exclusive lock as long as it lives. A shared one does not get in the way of another look.
    const bool held = ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(file);
    return held ? fail(Errc::AlreadyExists, "another worker is writing this run", paths.root.string()) : Result<void>();
}

std::string_view controlActionName(ControlAction action)
{
    switch (action) {
    case ControlAction::Pause:
        return "pause";
    case ControlAction::Resume:
        return "resume";
    case ControlAction::Stop:
        return "stop";
    case ControlAction::Set:
        return "set";
    case ControlAction::Snapshot:
        return "snapshot";
    case ControlAction::Checkpoint:
        return "checkpoint";
    }
    RW_CHECK(false, "control action");
}

Result<std::string> postRequest(const RunPaths& paths, ControlAction action, const std::string& name, double value)
{
    static std::atomic<unsigned> counter { 0 };
    const double now = unixSeconds();
    const std::string id = fmt::format("{:017.6f}-{}-{:04}", now, ::getpid(), counter++);
    Json request { { "action", controlActionName(action) }, { "time", now } };
    if (action == ControlAction::Set) {
        request["name"] = name;
        request["value"] = value;
    }
    RW_TRY_VOID(writeFileAtomically(paths.control() / (id + std::string(kRequestSuffix)), jsonText(request)));
    return id;
}

Result<std::optional<ControlAnswer>> findAnswer(const RunPaths& paths, const std::string& id)
{
    const fs::path path = paths.control() / (id + std::string(kDoneSuffix));
    auto json = readJsonFile(path, { .maxBytes = kMaxControlBytes });
    if (!json) {
        if (json.error().code == Errc::FileNotFound) {
            return std::optional<ControlAnswer>();
        }
        return tl::unexpected<Error>(std::move(json).error());
    }
    ControlAnswer answer;
    FieldReader reader(*json, path.string());
    reader.require("accepted", answer.accepted);
    reader.optional("message", answer.message);
    reader.optional("step", answer.step);
    reader.optional("time", answer.time);
    RW_TRY_VOID(reader.result());
    return std::optional(answer);
}

Result<std::optional<ControlAnswer>> waitForAnswer(const RunPaths& paths, const std::string& id, double seconds,
                                                   const JobContext& job)
{
    using Clock = std::chrono::steady_clock;
    const auto deadline =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    for (;;) {
        RW_TRY(auto answer, findAnswer(paths, id));
        if (answer || Clock::now() >= deadline) {
            return answer;
        }
        if (!waitFor(job.stop, std::chrono::milliseconds(20))) {
            return fail(Errc::Cancelled, "stopped while waiting for the worker's answer", paths.control().string());
        }
    }
}

Result<std::vector<ControlRequest>> takeRequests(const RunPaths& paths)
{
    std::vector<std::string> ids;
    std::error_code error;
    for (fs::directory_iterator entry(paths.control(), error), end; !error && entry != end; entry.increment(error)) {
        std::string name = entry->path().filename().string();
        if (name.ends_with(kRequestSuffix)) {
            name.resize(name.size() - kRequestSuffix.size());
            ids.push_back(std::move(name));
        }
    }
    std::vector<ControlRequest> requests;
    if (ids.empty()) {
        return requests; // also when the folder is gone: nobody asks then
    }
    std::ranges::sort(ids);
    for (const std::string& id : ids) {
        const fs::path path = paths.control() / (id + std::string(kRequestSuffix));
        const auto json = readJsonFile(path, { .maxBytes = kMaxControlBytes });
        if (!json && json.error().code == Errc::FileNotFound) {
            continue; // taken back
        }
        if (auto request = json ? parseRequest(*json, id) : std::nullopt) {
            requests.push_back(std::move(*request));
        } else {
            RW_TRY_VOID(answerRequest(
                paths, id,
                { .message =
                      "is not a request: {\"action\": pause|resume|stop|set|snapshot|checkpoint, \"name\", \"value\"}",
                  .time = unixSeconds() }));
        }
    }
    return requests;
}

Result<void> answerRequest(const RunPaths& paths, const std::string& id, const ControlAnswer& answer)
{
    RW_TRY_VOID(writeFileAtomically(paths.control() / (id + std::string(kDoneSuffix)),
                                    jsonText(Json { { "accepted", answer.accepted },
                                                    { "message", answer.message },
                                                    { "step", answer.step },
                                                    { "time", answer.time } })));
    std::error_code error;
    fs::remove(paths.control() / (id + std::string(kRequestSuffix)), error);
    if (error) {
        return failErrno(error.value(), "remove the answered request", paths.control());
    }
    return {};
}

} // namespace rankwise::data
