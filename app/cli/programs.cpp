// SPDX-License-Identifier: Apache-2.0
#include "app/cli/programs.h"

#include "backend/base/file.h"

#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace rankwise::cli {

namespace fs = std::filesystem;

namespace {

std::vector<char*> pointers(std::vector<std::string>& words)
{
    std::vector<char*> result;
    for (std::string& word : words) {
        result.push_back(word.data());
    }
    result.push_back(nullptr);
    return result;
}

void execNow(const fs::path& program, const std::vector<std::string>& arguments)
{
    ::setenv("OMP_WAIT_POLICY", "PASSIVE", 0);
    // A mask outlives exec; the program sets its own.
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<std::string> words { program.string() };
    words.insert(words.end(), arguments.begin(), arguments.end());
    ::execv(program.c_str(), pointers(words).data());
}

} // namespace

fs::path programFolder()
{
    std::error_code error;
    return fs::read_symlink("/proc/self/exe", error).parent_path();
}

fs::path programPath(Host host)
{
    fs::path here = programFolder();
    const fs::path prefix = here.filename() == "rankwise" && here.parent_path().filename() == "libexec"
        ? here.parent_path().parent_path()
        : here.parent_path();
    switch (host) {
    case Host::Engine:
        return prefix / "libexec" / "rankwise" / "rankwise-engine";
    case Host::Station:
        return prefix / "libexec" / "rankwise" / "rankwise-station";
    case Host::Workbench:
        return prefix / "bin" / "rankwise-workbench";
    case Host::Front:
        break;
    }
    return prefix / "bin" / "rankwise";
}

Error execProgram(Host host, const std::vector<std::string>& arguments)
{
    const fs::path program = programPath(host);
    execNow(program, arguments);
    const int error = errno;
    Error failure = failErrno(error, "start this part of Rankwise", program).value();
    failure.message += error == ENOENT ? "; it was not built or not installed, build the whole project" : "";
    return failure;
}

Result<std::string> captureProgram(Host host, const std::vector<std::string>& arguments)
{
    const fs::path program = programPath(host);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        return failErrno(errno, "make a pipe to", program);
    }
    const pid_t child = ::fork();
    if (child < 0) {
        return failErrno(errno, "fork for", program);
    }
    if (child == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        execNow(program, arguments);
        ::_exit(127);
    }
    ::close(ends[1]);
    std::string output;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR);) {
        output.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
    ::close(ends[0]);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) { }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return fail(Errc::IoFailed, "could not be run; was it built and installed?", program.string());
    }
    return output;
}

} // namespace rankwise::cli
