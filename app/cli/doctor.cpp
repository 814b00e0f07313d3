// The front looks at files of the system; what only LibTorch, FFmpeg or MuJoCo know, their programs are asked for.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/doctor.h"

#include "app/cli/programs.h"
#include "backend/base/file.h"
#include "backend/base/json.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

namespace rankwise::cli {

namespace fs = std::filesystem;

namespace {

std::string firstLine(const fs::path& path)
{
    const auto text = readFile(path, 1 << 16);
    return text ? text->substr(0, text->find('\n')) : std::string();
}

std::vector<fs::path> entries(const fs::path& folder, std::string_view prefix)
{
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (entry.path().filename().string().starts_with(prefix)) {
            found.push_back(entry.path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

Finding processor()
{
    const std::string info = readFile("/proc/cpuinfo", 4 << 20).value_or("");
    const auto value = [&](std::string_view key) {
        const std::size_t at = info.find(key);
        const std::size_t colon = at == std::string::npos ? at : info.find(": ", at);
        return colon == std::string::npos ? std::string() : info.substr(colon + 2, info.find('\n', colon) - colon - 2);
    };
    const std::string flags = value("flags") + " ";
    std::string features;
    for (const char* flag : { "avx2", "avx512f", "avx512_bf16", "amx_bf16" }) {
        if (flags.find(std::string(flag) + " ") != std::string::npos) {
            features += std::string(" ") + flag;
        }
    }
    const std::string detail =
        fmt::format("{}, {} threads,{}", value("model name"), std::thread::hardware_concurrency(),
                    features.empty() ? " no AVX2" : features);
    return { "processor", "ok", detail, "" };
}

Finding memory()
{
    struct sysinfo info { };
    ::sysinfo(&info);
    const double gib = static_cast<double>(info.totalram) * info.mem_unit / (1 << 30);
    const double available = static_cast<double>(info.freeram + info.bufferram) * info.mem_unit / (1 << 30);
    return { "memory", gib < 3.5 ? "missing" : "ok", fmt::format("{:.1f} GiB, {:.1f} GiB unused", gib, available),
             gib < 3.5 ? "SmolVLA 450 M needs about 4 GiB to fine-tune with adapters; use the nano policy" : "" };
}

Finding disk()
{
    struct statvfs info { };
    if (::statvfs(".", &info) != 0) {
        return { "disk", "missing", "the current folder's file system gives no answer", "work in another folder" };
    }
    const double gib = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) / (1 << 30);
    return { "disk", gib < 1 ? "missing" : "ok", fmt::format("{:.1f} GiB free here", gib),
             gib < 1 ? "free some space before recording or training" : "" };
}

Finding display()
{
    for (const char* name : { "WAYLAND_DISPLAY", "DISPLAY" }) {
        if (const char* value = std::getenv(name); value != nullptr && *value != '\0') {
            return { "display", "ok", fmt::format("{}={}", name, value), "" };
        }
    }
    return { "display", "missing", "none", "commands work without one; for the window set DISPLAY or use xvfb-run" };
}

Finding gpu()
{
    const auto nvidia = entries("/proc/driver/nvidia/gpus", "");
    if (!nvidia.empty()) {
        return { "GPU", "ok", fmt::format("{} NVIDIA ({})", nvidia.size(), firstLine("/proc/driver/nvidia/version")),
                 "" };
    }
    const auto render = entries("/dev/dri", "renderD");
    return { "GPU", "missing",
             render.empty() ? "none; tensors on the processor, pictures by software rendering"
                            : fmt::format("{} for drawing, none for tensors", render.front().string()),
             "an NVIDIA GPU and a CUDA build of LibTorch (set LIBTORCH) speed training up" };
}

Finding can()
{
    std::string names;
    for (const fs::path& path : entries("/sys/class/net", "")) {
        if (firstLine(path / "type") == "280") { // ARPHRD_CAN
            names +=
                (names.empty() ? "" : ", ") + path.filename().string() + " (" + firstLine(path / "operstate") + ")";
        }
    }
    if (!names.empty()) {
        return { "CAN", "ok", names, "" };
    }
    return { "CAN", "missing", "no interface",
             "plug the adapter in and run: ip link set can0 up type can bitrate 1000000; the practice arm needs none" };
}

Finding cameras()
{
    std::string names;
    for (const fs::path& path : entries("/sys/class/video4linux", "video")) {
        names += (names.empty() ? "" : ", ") + path.filename().string() + " (" + firstLine(path / "name") + ")";
    }
    if (!names.empty()) {
        return { "cameras", "ok", names, "" };
    }
    return { "cameras", "missing", "none", "plug a camera in; the practice arm brings its own" };
}

/// Findings that a private program prints for `probe`: a JSON array of objects with the members of Finding.
std::vector<Finding> probed(Host host, const std::string& part)
{
    const auto answer = captureProgram(host, { "probe", "--json" });
    const auto json = answer ? parseJson(*answer, "probe") : Result<Json>(tl::unexpected(answer.error()));
    if (!json) {
        return { { part, "broken", json.error().message, "build the whole project again" } };
    }
    std::vector<Finding> findings;
    for (const Json& item : *json) {
        findings.push_back(
            { item.value("part", ""), item.value("state", ""), item.value("detail", ""), item.value("remedy", "") });
    }
    return findings;
}

} // namespace

std::vector<Finding> examineMachine()
{
    std::vector<Finding> findings { processor(), memory(), disk(), gpu(), display(), can(), cameras() };
    for (const auto& [host, part] : { std::pair(Host::Engine, "LibTorch"), std::pair(Host::Station, "simulation") }) {
        for (Finding& finding : probed(host, part)) {
            findings.push_back(std::move(finding));
        }
    }
    return findings;
}

std::string findingsText(const std::vector<Finding>& findings)
{
    std::string text;
    for (const Finding& finding : findings) {
        text += fmt::format("{:<14} {:<8} {}\n", finding.part, finding.state, finding.detail);
        if (!finding.remedy.empty()) {
            text += fmt::format("{:<14} {:<8} {}\n", "", "", finding.remedy);
        }
    }
    return text;
}

std::string findingsJson(const std::vector<Finding>& findings)
{
    OrderedJson list = OrderedJson::array();
    for (const Finding& f : findings) {
        list.push_back({ { "part", f.part }, { "state", f.state }, { "detail", f.detail }, { "remedy", f.remedy } });
    }
    return jsonText(OrderedJson { { "findings", list } });
}

} // namespace rankwise::cli
