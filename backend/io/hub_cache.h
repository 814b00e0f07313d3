// What the local Hugging Face cache holds: repositories, their revisions, and whether each is whole. Read-only.
//
// Layout: huggingface_hub 1.x, "models--ORG--NAME/{refs,snapshots,blobs,trees}".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/base/job_context.h"
#include "backend/base/json.h"
#include "backend/base/result.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace rankwise::io {

enum class HubRepoType : std::uint8_t { Model, Dataset, Space };
[[nodiscard]] std::string_view hubRepoTypeName(HubRepoType type); ///< "model", "dataset", "space"

/// What a snapshot can be used as.
enum class HubUse : std::uint8_t { None, Policy, Adapter, Dataset, Tokenizer };
[[nodiscard]] std::string_view hubUseName(HubUse use); ///< "none", "policy", ...

/// One snapshot.
struct HubRevision {
    std::string commit;            ///< Name of the snapshot's folder.
    std::vector<std::string> refs; ///< "main", "refs/pr/1" is "pr/1", ...
    std::filesystem::path folder;
    std::uint64_t bytes = 0; ///< Of the snapshot's files, each blob once.
    std::uint64_t files = 0;
    double modified = 0; ///< Unix seconds of the newest file.
    HubUse use = HubUse::None;
    bool complete = true;              ///< Every file that should be there is.
    std::vector<std::string> problems; ///< Why it is not.
};

struct HubRepo {
    HubRepoType type = HubRepoType::Model;
    std::string id; ///< "lerobot/smolvla_base"
    std::filesystem::path folder;
    std::vector<HubRevision> revisions; ///< The one of "main" first, then the newest.
    std::uint64_t bytes = 0;            ///< Of all blobs, partial ones included.
    std::uint64_t partialDownloads = 0; ///< blobs/*.incomplete
    std::vector<std::string> problems;  ///< Dangling refs and the like.

    /// The revision to use: that of "main", else the newest; nullptr when there is none.
    [[nodiscard]] const HubRevision* preferred() const { return revisions.empty() ? nullptr : &revisions.front(); }
};

struct HubCache {
    std::filesystem::path root;
    std::vector<HubRepo> repos; ///< Sorted by type, then id.
};

/// The cache's folder by HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or the home folder, in this
/// order;
/// "~" and "$NAME" in them are expanded.
[[nodiscard]] std::filesystem::path hubCacheFolder();
/// Likewise HF_HOME's folder, and lerobot's (HF_LEROBOT_HOME or "lerobot" in it).
[[nodiscard]] std::filesystem::path huggingFaceHome();
[[nodiscard]] std::filesystem::path lerobotHome();

/// Scans a cache. What cannot be read is a problem of its repository and hides nothing else; an absent cache is empty.
/// Links are followed only inside the repository's folder or to regular files.
/// Errors: Cancelled.
[[nodiscard]] Result<HubCache> scanHubCache(const std::filesystem::path& root, const JobContext& job = {});

[[nodiscard]] OrderedJson hubCacheJson(const HubCache& cache);

} // namespace rankwise::io
