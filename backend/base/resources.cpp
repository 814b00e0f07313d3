// SPDX-License-Identifier: Apache-2.0
#include "backend/base/resources.h"

#include <cstdlib>
#include <vector>

namespace rankwise {

Result<std::filesystem::path> resourcePath(const std::filesystem::path& relative)
{
    namespace fs = std::filesystem;
    std::vector<fs::path> roots;
    if (const char* named = std::getenv("RANKWISE_RESOURCES"); named != nullptr && *named != '\0') {
        roots.emplace_back(named);
    }
    std::error_code error;
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    if (!error) {
        // Programs stand in bin/, the private engine in libexec/rankwise/.
        roots.push_back(program.parent_path() / "../share/rankwise");
        roots.push_back(program.parent_path() / "../../share/rankwise");
    }
    roots.emplace_back(RANKWISE_SOURCE_RESOURCES);
    std::string tried;
    for (const fs::path& root : roots) {
        const fs::path path = (root / relative).lexically_normal();
        if (fs::exists(path, error)) {
            return path;
        }
        tried += "\n  " + path.string();
    }
    return fail(Errc::FileNotFound,
                "not in the resources; looked at:" + tried + "\nSet RANKWISE_RESOURCES to the folder that holds it.",
                relative.string());
}

} // namespace rankwise
