// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_digest.h"

#include "backend/base/sha256.h"

#include <algorithm>
#include <span>
#include <system_error>
#include <vector>

#include <fmt/format.h>

namespace rankwise::data {

namespace fs = std::filesystem;

Result<std::string> datasetDigest(const fs::path& root, const JobContext& job)
{
    std::vector<fs::path> files;
    std::error_code error;
    for (const char* part : { "meta", "data", "videos", "images" }) {
        for (fs::recursive_directory_iterator entry(root / part, error), end; !error && entry != end;
             entry.increment(error)) {
            if (entry->is_regular_file()) {
                files.push_back(entry->path());
            }
        }
    }
    std::ranges::sort(files);
    std::string list;
    for (const fs::path& file : files) {
        const std::string name = file.lexically_relative(root).generic_string();
        if (name.starts_with("meta/") || name.starts_with("data/")) {
            RW_TRY(const std::string digest, sha256OfFile(file, job));
            list += name + " " + digest + "\n";
        } else {
            list += fmt::format("{} {}\n", name, fs::file_size(file, error));
        }
    }
    return sha256Hex(std::as_bytes(std::span(list)));
}

} // namespace rankwise::data
