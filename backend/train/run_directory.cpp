// Appending to a run directory.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/run_directory.h"

#include "backend/base/file.h"
#include "backend/base/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

/// Length of the file up to and including its last newline.
Result<std::uint64_t> wholeLines(int fd, const fs::path& path)
{
    struct stat info { };
    if (::fstat(fd, &info) != 0) {
        return failErrno(errno, "read the size of", path);
    }
    auto end = static_cast<std::uint64_t>(info.st_size);
    std::array<char, 4096> part {};
    while (end > 0) {
        const std::uint64_t begin = end > part.size() ? end - part.size() : 0;
        const ssize_t n = ::pread(fd, part.data(), end - begin, static_cast<off_t>(begin));
        if (n != static_cast<ssize_t>(end - begin)) {
            return failErrno(n < 0 ? errno : EIO, "read", path);
        }
        const std::string_view text(part.data(), static_cast<std::size_t>(n));
        if (const std::size_t newline = text.rfind('\n'); newline != std::string_view::npos) {
            return begin + newline + 1;
        }
        end = begin;
    }
    return 0;
}

/// Temporary files and folders that a killed writer left behind.
void removeLeftovers(const data::RunPaths& paths)
{
    std::error_code error;
    for (const fs::path& folder : { paths.root, paths.snapshots(), paths.checkpoints(), paths.control() }) {
        std::vector<fs::path> leftovers;
        for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
            if (entry->path().filename().string().find(".tmp-") != std::string::npos) {
                leftovers.push_back(entry->path());
            }
        }
        for (const fs::path& path : leftovers) {
            fs::remove_all(path, error);
        }
    }
}

bool sameLayers(const std::vector<data::RunLayer>& a, const std::vector<data::RunLayer>& b)
{
    return std::ranges::equal(a, b, [](const data::RunLayer& x, const data::RunLayer& y) {
        return x.path == y.path && x.group == y.group && x.depth == y.depth && x.capacity == y.capacity;
    });
}

/// Five digits are enough for a picture, and keep long runs of many layers quick to open.
void appendNumber(std::string& text, double value)
{
    if (std::isfinite(value)) {
        fmt::format_to(std::back_inserter(text), "{:.5g}", value);
    } else {
        text += "null";
    }
}

template <class T, class Append> void appendList(std::string& text, const std::vector<T>& items, const Append& append)
{
    text += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (i > 0) {
            text += ',';
        }
        append(text, items[i]);
    }
    text += ']';
}

void appendNumbers(std::string& text, const std::vector<double>& values)
{
    appendList(text, values, appendNumber);
}

} // namespace

Result<std::unique_ptr<RunWriter>> RunWriter::open(const fs::path& folder, bool resume, std::int64_t totalSteps)
{
    std::unique_ptr<RunWriter> writer(new RunWriter);
    writer->m_paths.root = folder;
    const data::RunPaths& paths = writer->m_paths;
    std::error_code error;
    if (resume) {
        RW_TRY_VOID(data::readRunJson(paths));
    } else if (fs::exists(paths.run(), error)) {
        return fail(Errc::AlreadyExists, "a run is there already; resume it or choose another folder", folder.string());
    }
    for (const fs::path& part : { folder, paths.control(), paths.snapshots(), paths.checkpoints() }) {
        RW_TRY_VOID(createFolders(part));
    }
    writer->m_events = ::open(paths.events().c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (writer->m_events < 0) {
        return failErrno(errno, "open", paths.events());
    }
    if (::flock(writer->m_events, LOCK_EX | LOCK_NB) != 0) {
        return fail(Errc::AlreadyExists, "another worker is writing this run", folder.string());
    }
    removeLeftovers(paths);
    if (resume) {
        RW_TRY(writer->m_size, wholeLines(writer->m_events, paths.events()));
    }
    if (::ftruncate(writer->m_events, static_cast<off_t>(writer->m_size)) != 0) {
        return failErrno(errno, "cut the torn end of", paths.events());
    }

    writer->m_status.pid = ::getpid();
    writer->m_status.pidStart = data::processStartTicks(::getpid());
    writer->m_status.host = data::hostName();
    writer->m_status.total = totalSteps;
    writer->m_status.started = data::unixSeconds();
    RW_TRY_VOID(writer->writeStatus());
    writer->m_heartbeat = WorkerThread("heartbeat", [self = writer.get()](const std::stop_token& stop) {
        const auto pause = std::chrono::milliseconds(static_cast<int>(data::kHeartbeatSeconds * 1000));
        bool failed = false;
        while (waitFor(stop, pause)) {
            const auto written = self->writeStatus();
            if (!written && !failed) {
                log::warn("train", "no heartbeat: {}", written.error().describe());
            }
            failed = !written;
        }
    });
    return writer;
}

RunWriter::~RunWriter()
{
    m_heartbeat.requestStop();
    m_heartbeat.join();
    if (m_events >= 0) {
        ::close(m_events);
    }
}

Result<void> RunWriter::writeRun(Json run)
{
    std::error_code error;
    if (fs::exists(m_paths.run(), error)) {
        return fail(Errc::AlreadyExists, "is written once", m_paths.run().string());
    }
    run["format"] = "rankwise_run";
    run["version"] = data::kRunVersion;
    return writeFileAtomically(m_paths.run(), jsonText(run));
}

Result<void> RunWriter::append(std::string line)
{
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
        const ssize_t n = ::write(m_events, rest.data(), rest.size());
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            const int error = errno;
            if (::ftruncate(m_events, static_cast<off_t>(m_size)) != 0) {
                log::warn("train", "the last line of {} stays torn", m_paths.events().string());
            }
            return failErrno(error, "append to", m_paths.events());
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    m_size += line.size();
    return {};
}

Result<void> RunWriter::event(std::string_view kind, std::int64_t step, const Json& fields)
{
    Json line = fields.is_object() ? fields : Json::object();
    line["event"] = kind;
    line["step"] = step;
    line["time"] = data::unixSeconds();
    return append(line.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Result<void> RunWriter::digest(const data::RunDigest& digest, const std::vector<data::RunLayer>& layers)
{
    if (m_table == 0 || !sameLayers(layers, m_layers)) {
        Json list = Json::array();
        for (const data::RunLayer& layer : layers) {
            list.push_back({ { "path", layer.path },
                             { "group", layer.group },
                             { "depth", layer.depth },
                             { "capacity", layer.capacity } });
        }
        m_layers = layers;
        ++m_table;
        RW_TRY_VOID(event("layer_table", digest.step, { { "table", m_table }, { "layers", std::move(list) } }));
    }
    std::string line = fmt::format(R"({{"event":"digest","step":{},"time":{:.6f},"table":{},"rank":)", digest.step,
                                   data::unixSeconds(), m_table);
    appendNumbers(line, digest.rank);
    line += R"(,"quantiles":)";
    appendList(line, digest.quantiles, appendNumbers);
    line += R"(,"energy":)";
    appendNumbers(line, digest.energy);
    line += R"(,"tokens":)";
    appendList(line, digest.tokens, [](std::string& text, std::int64_t value) { text += std::to_string(value); });
    if (std::ranges::any_of(digest.shares, [](const auto& shares) { return !shares.empty(); })) {
        line += R"(,"shares":)";
        appendList(line, digest.shares, appendNumbers);
    }
    if (std::ranges::any_of(digest.kinds, [](const auto& kinds) { return !kinds.empty(); })) {
        line += R"(,"kinds":)";
        appendList(line, digest.kinds, [](std::string& text, const std::vector<std::vector<double>>& kinds) {
            appendList(text, kinds, appendNumbers);
        });
    }
    line += '}';
    return append(std::move(line));
}

Result<void> RunWriter::sync()
{
    if (::fsync(m_events) != 0) {
        return failErrno(errno, "sync", m_paths.events());
    }
    return {};
}

void RunWriter::setProgress(std::int64_t step, double etaSeconds)
{
    const std::lock_guard lock(m_mutex);
    m_status.step = step;
    m_status.etaSeconds = etaSeconds;
}

Result<void> RunWriter::setState(data::RunState state, std::string reason, std::optional<Error> error)
{
    {
        const std::lock_guard lock(m_mutex);
        m_status.state = state;
        m_status.reason = std::move(reason);
        m_status.error = std::move(error);
    }
    return writeStatus();
}

Result<void> RunWriter::writeStatus()
{
    const std::lock_guard lock(m_mutex);
    m_status.heartbeat = data::unixSeconds();
    return writeFileAtomically(m_paths.status(), jsonText(data::statusJson(m_status)));
}

} // namespace rankwise::train
