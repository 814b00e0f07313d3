// Directory walking of the hub cache; every error becomes a problem of the repository at hand.
// SPDX-License-Identifier: Apache-2.0
#include "backend/io/hub_cache.h"

#include "backend/base/file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace rankwise::io {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxFiles = 200'000; // of one snapshot
constexpr int kMaxDepth = 32;

std::optional<std::string> environment(const char* name)
{
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

/// "~" at the start, "$NAME" and "${NAME}", as Python's expanduser and expandvars do; unknown names stay.
fs::path expanded(std::string text)
{
    if (text == "~" || text.starts_with("~/")) {
        text = environment("HOME").value_or("~") + text.substr(1);
    }
    std::string result;
    for (std::size_t i = 0; i < text.size();) {
        const bool braced = text.compare(i, 2, "${") == 0;
        const std::size_t begin = i + (braced ? 2 : 1);
        std::size_t end = begin;
        while (text[i] == '$' && end < text.size()
               && (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) {
            ++end;
        }
        const auto value =
            text[i] == '$' && end > begin ? environment(text.substr(begin, end - begin).c_str()) : std::nullopt;
        if (value && (!braced || (end < text.size() && text[end] == '}'))) {
            result += *value;
            i = end + (braced ? 1 : 0);
        } else {
            result += text[i++];
        }
    }
    return result;
}

/// Entries of a folder, sorted; unreadable ones are left out.
std::vector<fs::path> entriesOf(const fs::path& folder)
{
    std::vector<fs::path> entries;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        entries.push_back(it->path());
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

bool isFile(const fs::path& path)
{
    std::error_code error;
    return fs::is_regular_file(path, error);
}

bool isFolder(const fs::path& path)
{
    std::error_code error;
    return fs::is_directory(path, error);
}

double modifiedSeconds(const fs::path& path)
{
    std::error_code error;
    const auto time = fs::last_write_time(path, error);
    if (error) {
        return 0;
    }
    const auto system = std::chrono::file_clock::to_sys(time);
    return std::chrono::duration<double>(system.time_since_epoch()).count();
}

bool isCommit(const std::string& text)
{
    return text.size() == 40 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return std::isxdigit(c) != 0 && std::isupper(c) == 0;
           });
}

/// refs/<name> -> commit, nested names joined by "/".
void readRefs(const fs::path& folder, const std::string& prefix, int depth, std::map<std::string, std::string>& refs,
              HubRepo& repo)
{
    for (const fs::path& entry : entriesOf(folder)) {
        const std::string name = prefix + entry.filename().string();
        std::error_code error;
        if (fs::is_directory(fs::symlink_status(entry, error)) && depth < kMaxDepth) {
            readRefs(entry, name + "/", depth + 1, refs, repo);
            continue;
        }
        const auto text = readFile(entry, 1024);
        std::string commit = text ? *text : std::string();
        while (!commit.empty() && std::isspace(static_cast<unsigned char>(commit.back())) != 0) {
            commit.pop_back();
        }
        if (isCommit(commit)) {
            refs[name] = commit;
        } else {
            repo.problems.push_back("ref \"" + name + "\" names no commit");
        }
    }
}

/// Walks a snapshot's files.
class SnapshotWalk {
public:
    SnapshotWalk(HubRevision& revision, const fs::path& repoFolder, const JobContext& job)
        : m_revision(revision), m_job(job)
    {
        std::error_code error;
        m_repo = fs::weakly_canonical(repoFolder, error);
    }

    void walk(const fs::path& folder, const std::string& prefix, int depth)
    {
        for (const fs::path& entry : entriesOf(folder)) {
            if (m_job.stopped() || m_revision.files >= kMaxFiles) {
                return;
            }
            const std::string name = prefix + entry.filename().string();
            std::error_code error;
            const auto status = fs::symlink_status(entry, error);
            if (fs::is_directory(status)) {
                if (depth < kMaxDepth) {
                    walk(entry, name + "/", depth + 1);
                }
                continue;
            }
            file(entry, name, fs::is_symlink(status));
        }
    }
    [[nodiscard]] const std::set<std::string>& names() const { return m_names; }

private:
    void file(const fs::path& entry, const std::string& name, bool isLink)
    {
        std::error_code error;
        const fs::path target = fs::canonical(entry, error);
        if (error || !isFile(target)) {
            missing(name + (isLink ? " points to a blob that is missing" : " cannot be read"));
            return;
        }
        const auto size = fs::file_size(target, error);
        ++m_revision.files;
        m_names.insert(name);
        if (m_counted.insert(target.string()).second) {
            m_revision.bytes += error ? 0 : size;
        }
        m_revision.modified = std::max(m_revision.modified, modifiedSeconds(target));
        const auto [end, unused] = std::mismatch(m_repo.begin(), m_repo.end(), target.begin(), target.end());
        if (isLink && end != m_repo.end()) {
            m_revision.problems.push_back(name + " points outside the repository's folder");
        }
    }
    void missing(std::string problem)
    {
        m_revision.complete = false;
        if (m_revision.problems.size() < 50) {
            m_revision.problems.push_back(std::move(problem));
        }
    }

    HubRevision& m_revision;
    const JobContext& m_job;
    fs::path m_repo;
    std::set<std::string> m_names;
    std::set<std::string> m_counted;
};

/// trees/<commit>.json lists the files that a snapshot should have.
void checkTree(const fs::path& file, const std::set<std::string>& names, HubRevision& revision)
{
    const auto json = readJsonFile(file);
    if (!json || !json->is_object()) {
        return;
    }
    const auto entries = json->contains("files") ? json->find("files") : json->find("tree");
    if (entries == json->end() || !entries->is_array()) {
        return;
    }
    for (const Json& entry : *entries) {
        const auto path = entry.is_object() ? entry.find("path") : entry.end();
        if (!entry.is_object() || path == entry.end() || !path->is_string()) {
            continue;
        }
        const bool isFolderEntry = entry.value("type", Json("file")) == Json("directory");
        if (!isFolderEntry && !names.contains(path->get<std::string>())) {
            revision.complete = false;
            if (revision.problems.size() < 50) {
                revision.problems.push_back(path->get<std::string>() + " was not downloaded");
            }
        }
    }
}

/// Shards that the index names must be there.
void checkShards(HubRevision& revision)
{
    const auto index = readJsonFile(revision.folder / "model.safetensors.index.json");
    if (!index || !index->is_object() || !index->contains("weight_map") || !index->at("weight_map").is_object()) {
        return;
    }
    std::set<std::string> shards;
    for (const auto& [tensor, file] : index->at("weight_map").items()) {
        if (file.is_string()) {
            shards.insert(file.get<std::string>());
        }
    }
    for (const std::string& shard : shards) {
        if (shard.find('/') == std::string::npos && !isFile(revision.folder / shard)) {
            revision.complete = false;
            revision.problems.push_back("the shard " + shard + " is missing");
        }
    }
}

HubUse useOf(const fs::path& folder)
{
    const auto fieldOf = [](const fs::path& file, const char* key) {
        const auto json = readJsonFile(file, { .maxBytes = 16U << 20 });
        const bool there = json && json->is_object() && json->contains(key) && json->at(key).is_string();
        return there ? json->at(key).get<std::string>() : std::string();
    };
    if (!fieldOf(folder / "meta" / "info.json", "codebase_version").empty()) {
        return HubUse::Dataset;
    }
    if (isFile(folder / "adapter_config.json") && isFile(folder / "adapter_model.safetensors")) {
        return HubUse::Adapter;
    }
    const bool weights = isFile(folder / "model.safetensors") || isFile(folder / "model.safetensors.index.json");
    const fs::path config = folder / "config.json";
    if (weights && (!fieldOf(config, "type").empty() || fieldOf(config, "model_type") == "openvla")) {
        return HubUse::Policy;
    }
    if (isFile(folder / "tokenizer.json") || isFile(folder / "tokenizer.model")) {
        return HubUse::Tokenizer;
    }
    return HubUse::None;
}

HubRevision scanSnapshot(const fs::path& folder, const fs::path& repoFolder, const JobContext& job)
{
    HubRevision revision;
    revision.commit = folder.filename().string();
    revision.folder = folder;
    SnapshotWalk walk(revision, repoFolder, job);
    walk.walk(folder, "", 0);
    if (revision.files == 0) {
        revision.complete = false;
        revision.problems.emplace_back("the snapshot has no files");
    }
    checkTree(repoFolder / "trees" / (revision.commit + ".json"), walk.names(), revision);
    checkShards(revision);
    revision.use = useOf(folder);
    return revision;
}

void scanBlobs(HubRepo& repo)
{
    for (const fs::path& blob : entriesOf(repo.folder / "blobs")) {
        std::error_code error;
        const auto size = fs::file_size(blob, error);
        repo.bytes += error ? 0 : size;
        repo.partialDownloads += blob.extension() == ".incomplete" ? 1U : 0U;
    }
    if (repo.partialDownloads > 0) {
        repo.problems.push_back(fmt::format("{} downloads were not finished", repo.partialDownloads));
    }
}

std::optional<HubRepo> repoOf(const fs::path& folder)
{
    constexpr std::array<std::pair<std::string_view, HubRepoType>, 3> kTypes { {
        { "models--", HubRepoType::Model },
        { "datasets--", HubRepoType::Dataset },
        { "spaces--", HubRepoType::Space },
    } };
    const std::string name = folder.filename().string();
    for (const auto& [prefix, type] : kTypes) {
        if (name.starts_with(prefix) && name.size() > prefix.size()) {
            HubRepo repo;
            repo.type = type;
            repo.folder = folder;
            repo.id = name.substr(prefix.size());
            for (std::size_t at = repo.id.find("--"); at != std::string::npos; at = repo.id.find("--", at + 1)) {
                repo.id.replace(at, 2, "/");
            }
            return repo;
        }
    }
    return std::nullopt;
}

void scanRepo(HubRepo& repo, const JobContext& job)
{
    std::map<std::string, std::string> refs;
    readRefs(repo.folder / "refs", "", 0, refs, repo);
    for (const fs::path& snapshot : entriesOf(repo.folder / "snapshots")) {
        if (isFolder(snapshot) && !job.stopped()) {
            repo.revisions.push_back(scanSnapshot(snapshot, repo.folder, job));
        }
    }
    for (const auto& [name, commit] : refs) {
        const auto revision = std::find_if(repo.revisions.begin(), repo.revisions.end(),
                                           [&wanted = commit](const HubRevision& r) { return r.commit == wanted; });
        if (revision == repo.revisions.end()) {
            repo.problems.push_back("ref \"" + name + "\" names " + commit + ", which has no snapshot");
        } else {
            revision->refs.push_back(name);
        }
    }
    scanBlobs(repo);
    const auto isMain = [](const HubRevision& r) {
        return std::find(r.refs.begin(), r.refs.end(), "main") != r.refs.end();
    };
    std::stable_sort(repo.revisions.begin(), repo.revisions.end(), [&](const HubRevision& a, const HubRevision& b) {
        return isMain(a) != isMain(b) ? isMain(a) : a.modified > b.modified;
    });
    if (repo.revisions.empty()) {
        repo.problems.emplace_back("no snapshot was downloaded");
    }
}

} // namespace

std::string_view hubRepoTypeName(HubRepoType type)
{
    return type == HubRepoType::Model ? "model" : type == HubRepoType::Dataset ? "dataset" : "space";
}

std::string_view hubUseName(HubUse use)
{
    switch (use) {
    case HubUse::Policy:
        return "policy";
    case HubUse::Adapter:
        return "adapter";
    case HubUse::Dataset:
        return "dataset";
    case HubUse::Tokenizer:
        return "tokenizer";
    case HubUse::None:
        break;
    }
    return "none";
}

fs::path huggingFaceHome()
{
    if (const auto home = environment("HF_HOME")) {
        return expanded(*home);
    }
    return expanded(environment("XDG_CACHE_HOME").value_or("~/.cache")) / "huggingface";
}

fs::path hubCacheFolder()
{
    for (const char* name : { "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE" }) {
        if (const auto folder = environment(name)) {
            return expanded(*folder);
        }
    }
    return huggingFaceHome() / "hub";
}

fs::path lerobotHome()
{
    const auto folder = environment("HF_LEROBOT_HOME");
    return folder ? expanded(*folder) : huggingFaceHome() / "lerobot";
}

Result<HubCache> scanHubCache(const fs::path& root, const JobContext& job)
{
    HubCache cache;
    cache.root = root;
    const auto entries = entriesOf(root);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped while scanning the cache", root.string());
        }
        auto repo = isFolder(entries[i]) ? repoOf(entries[i]) : std::nullopt;
        if (repo) {
            scanRepo(*repo, job);
            cache.repos.push_back(std::move(*repo));
        }
        job.report(static_cast<double>(i + 1) / static_cast<double>(entries.size()), "repositories");
    }
    std::sort(cache.repos.begin(), cache.repos.end(),
              [](const HubRepo& a, const HubRepo& b) { return a.type != b.type ? a.type < b.type : a.id < b.id; });
    return cache;
}

OrderedJson hubCacheJson(const HubCache& cache)
{
    OrderedJson repos = OrderedJson::array();
    for (const HubRepo& repo : cache.repos) {
        OrderedJson revisions = OrderedJson::array();
        for (const HubRevision& r : repo.revisions) {
            revisions.push_back({ { "commit", r.commit },
                                  { "refs", r.refs },
                                  { "folder", r.folder.string() },
                                  { "bytes", r.bytes },
                                  { "files", r.files },
                                  { "modified", r.modified },
                                  { "use", std::string(hubUseName(r.use)) },
                                  { "complete", r.complete },
                                  { "problems", r.problems } });
        }
        repos.push_back({ { "type", std::string(hubRepoTypeName(repo.type)) },
                          { "id", repo.id },
                          { "folder", repo.folder.string() },
                          { "bytes", repo.bytes },
                          { "partial_downloads", repo.partialDownloads },
                          { "revisions", std::move(revisions) },
                          { "problems", repo.problems } });
    }
    return { { "root", cache.root.string() }, { "repos", std::move(repos) } };
}

} // namespace rankwise::io
