// spdlog behind log.h: sinks, module levels, JSON lines.
// SPDX-License-Identifier: Apache-2.0
#include "backend/base/log.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include <nlohmann/json.hpp>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

namespace rankwise::log {

namespace {

spdlog::level::level_enum toSpdlog(Level level)
{
    switch (level) {
    case Level::Trace: return spdlog::level::trace;
    case Level::Debug: return spdlog::level::debug;
    case Level::Info: return spdlog::level::info;
    case Level::Warn: return spdlog::level::warn;
    case Level::Error: return spdlog::level::err;
    case Level::Off: return spdlog::level::off;
    }
    return spdlog::level::info;
}

/// {"time":1700000000.25,"level":"info","module":"io","message":"..."}
class JsonFormatter final : public spdlog::formatter {
public:
    void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override
    {
        const double seconds = std::chrono::duration<double>(message.time.time_since_epoch()).count();
        const auto view = [](spdlog::string_view_t text) { return std::string(text.data(), text.size()); };
        const nlohmann::ordered_json line { { "time", seconds },
                                            { "level", view(spdlog::level::to_string_view(message.level)) },
                                            { "module", view(message.logger_name) },
                                            { "message", view(message.payload) } };
        const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
        out.append(text.data(), text.data() + text.size());
    }
    [[nodiscard]] std::unique_ptr<formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

struct State {
    std::shared_mutex mutex;
    LogConfig config { .level = Level::Warn, .moduleLevels = {}, .terminal = true, .json = false, .file = {} };
    std::vector<spdlog::sink_ptr> sinks { std::make_shared<spdlog::sinks::stderr_color_sink_mt>() };
    std::function<void(const Record&)> listener;
};

State& state()
{
    static State instance;
    return instance;
}

Result<Level> levelFromName(std::string_view name)
{
    static const std::map<std::string_view, Level> names { { "trace", Level::Trace }, { "debug", Level::Debug },
                                                           { "info", Level::Info },   { "warn", Level::Warn },
                                                           { "error", Level::Error }, { "off", Level::Off } };
    if (const auto found = names.find(name); found != names.end()) {
        return found->second;
    }
    return fail(Errc::FieldInvalid,
                "'" + std::string(name) + "' is no log level; use trace, debug, info, warn, error or off", "log level");
}

}  // namespace

Result<void> parseLevels(std::string_view text, LogConfig& config)
{
    LogConfig parsed = config;
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        const std::string_view item = text.substr(0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        const std::size_t equal = item.find('=');
        if (equal == std::string_view::npos) {
            RW_TRY(parsed.level, levelFromName(item));
        } else {
            RW_TRY(parsed.moduleLevels[std::string(item.substr(0, equal))], levelFromName(item.substr(equal + 1)));
        }
    }
    config = std::move(parsed);
    return {};
}

Result<void> configure(const LogConfig& config)
{
    std::vector<spdlog::sink_ptr> sinks;
    try {
        if (config.terminal) {
            sinks.push_back(std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
        }
        if (!config.file.empty()) {
            sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
                config.file.string(), config.maxFileBytes, config.maxFiles));
        }
    } catch (const spdlog::spdlog_ex& exception) {
        return fail(Errc::IoFailed, exception.what(), config.file.string());
    }
    for (const auto& sink : sinks) {
        if (config.json) {
            sink->set_formatter(std::make_unique<JsonFormatter>());
        } else {
            sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %-8n %v");
        }
    }
    const std::unique_lock lock(state().mutex);
    state().config = config;
    state().sinks = std::move(sinks);
    return {};
}

void setListener(std::function<void(const Record&)> listener)
{
    const std::unique_lock lock(state().mutex);
    state().listener = std::move(listener);
}

bool enabled(Level level, std::string_view module)
{
    const std::shared_lock lock(state().mutex);
    const auto& config = state().config;
    if (!config.moduleLevels.empty()) {
        if (const auto found = config.moduleLevels.find(std::string(module)); found != config.moduleLevels.end()) {
            return level >= found->second;
        }
    }
    return level >= config.level;
}

void write(Level level, std::string_view module, std::string_view message)
{
    const std::shared_lock lock(state().mutex);
    const auto time = spdlog::log_clock::now();
    const spdlog::details::log_msg line(time, spdlog::source_loc {}, spdlog::string_view_t(module.data(), module.size()),
                                        toSpdlog(level), spdlog::string_view_t(message.data(), message.size()));
    for (const auto& sink : state().sinks) {
        sink->log(line);
        if (level >= Level::Warn) {
            sink->flush();
        }
    }
    if (state().listener) {
        state().listener({ level, std::string(module), std::string(message),
                           std::chrono::duration<double>(time.time_since_epoch()).count() });
    }
}

}  // namespace rankwise::log
