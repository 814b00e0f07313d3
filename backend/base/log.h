// Logging: one logger a module, levels per module, to the terminal and a rotating
// file, as text or JSON lines. A thin front so that spdlog's headers (3.6 s a file)
// are parsed once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace rankwise::log {

enum class Level : std::uint8_t { Trace, Debug, Info, Warn, Error, Off };

struct LogConfig {
    Level level = Level::Info;
    std::map<std::string, Level> moduleLevels;  ///< e.g. {"io", Level::Debug}; overrides `level`.
    bool terminal = true;                       ///< Coloured lines on standard error.
    bool json = false;                          ///< One JSON object a line, in the file and on the terminal.
    std::filesystem::path file;                 ///< Empty: no file. Rotated at maxFileBytes.
    std::size_t maxFileBytes = 5u << 20;
    std::size_t maxFiles = 3;
};

/// One line as a listener (the log dock) sees it.
struct Record {
    Level level;
    std::string module;
    std::string message;
    double unixSeconds;
};

/// Sets the sinks. Until then warnings and errors go to standard error.
/// Errors: IoFailed (the log file cannot be opened). Thread: any.
[[nodiscard]] Result<void> configure(const LogConfig& config);

/// "info", or "warn,io=debug,train=trace": a default and modules. Errors: FieldInvalid.
[[nodiscard]] Result<void> parseLevels(std::string_view text, LogConfig& config);

/// Receives every line that passes its module's level; called in the logging thread. Empty: none.
void setListener(std::function<void(const Record&)> listener);

[[nodiscard]] bool enabled(Level level, std::string_view module);
void write(Level level, std::string_view module, std::string_view message);

template <class... Args>
void print(Level level, std::string_view module, fmt::format_string<Args...> format, Args&&... args)
{
    if (enabled(level, module)) {
        write(level, module, fmt::format(format, std::forward<Args>(args)...));
    }
}
template <class... Args> void debug(std::string_view module, fmt::format_string<Args...> f, Args&&... args)
{
    print(Level::Debug, module, f, std::forward<Args>(args)...);
}
template <class... Args> void info(std::string_view module, fmt::format_string<Args...> f, Args&&... args)
{
    print(Level::Info, module, f, std::forward<Args>(args)...);
}
template <class... Args> void warn(std::string_view module, fmt::format_string<Args...> f, Args&&... args)
{
    print(Level::Warn, module, f, std::forward<Args>(args)...);
}
template <class... Args> void error(std::string_view module, fmt::format_string<Args...> f, Args&&... args)
{
    print(Level::Error, module, f, std::forward<Args>(args)...);
}

}  // namespace rankwise::log
