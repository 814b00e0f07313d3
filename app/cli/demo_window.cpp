// SPDX-License-Identifier: Apache-2.0
#include "app/cli/demo_window.h"

#include "app/cli/programs.h"
#include "backend/base/log.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

namespace rankwise::cli {

namespace {

bool isSet(const char* variable)
{
    const char* const value = std::getenv(variable);
    return value != nullptr && *value != '\0';
}

} // namespace

bool openDemoWindow(const std::filesystem::path& demo)
{
    if (!isSet("DISPLAY") && !isSet("WAYLAND_DISPLAY")) {
        return false;
    }
    const std::filesystem::path program = programPath(Host::Workbench);
    std::error_code error;
    if (!std::filesystem::exists(program, error)) {
        return false;
    }
    std::vector<std::string> words { program.string(), "--session", "demo", "--no-restore", "--follow", demo.string() };
    std::vector<char*> arguments;
    for (std::string& word : words) {
        arguments.push_back(word.data());
    }
    arguments.push_back(nullptr);

    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    for (const int fd : { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO }) {
        ::posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
    }
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none); // this process waits for its signals in a thread
    ::posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK));
    pid_t child = 0;
    const int failed = ::posix_spawn(&child, program.c_str(), &files, &attributes, arguments.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (failed != 0) {
        log::warn("demo", "the workbench does not start: {}", std::strerror(failed));
        return false;
    }
    return true;
}

} // namespace rankwise::cli
