// SPDX-License-Identifier: Apache-2.0
#include "widgets/bridge/recognition.h"

#include "backend/base/json.h"
#include "backend/data/demo_status.h"
#include "backend/data/run_directory.h"
#include "backend/data/spectra_folder.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <system_error>

namespace rankwise::bridge {

namespace fs = std::filesystem;

namespace {

std::string textAt(const Json& object, const char* key)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t integerAt(const Json& object, const char* key)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::string runDetail(const fs::path& folder)
{
    const auto run = data::readRunJson({ folder });
    if (!run) {
        return run.error().message;
    }
    const auto method = run->find("method");
    const std::string type = method != run->end() && method->is_object() ? textAt(*method, "type") : std::string();
    const auto status = data::readRunStatus({ folder });
    return status
        ? fmt::format("{} run, step {} of {}, {}", type, status->step, status->total, data::runStateName(status->state))
        : fmt::format("{} run", type);
}

Result<Recognized> datasetAt(const fs::path& folder)
{
    RW_TRY(const Json info, readJsonFile(folder / "meta" / "info.json"));
    if (!info.is_object()) {
        return fail(Errc::FieldInvalid, "meta/info.json is not an object", folder.string());
    }
    return Recognized { ItemKind::Dataset, folder,
                        fmt::format("dataset {}, {} episodes, {} frames at {} fps", textAt(info, "codebase_version"),
                                    integerAt(info, "total_episodes"), integerAt(info, "total_frames"),
                                    integerAt(info, "fps")) };
}

Result<Recognized> adapterAt(const fs::path& folder)
{
    RW_TRY(const Json config, readJsonFile(folder / "adapter_config.json"));
    const std::string type = textAt(config, "peft_type");
    if (const auto bank = integerAt(config, "bank"); bank > 0) { // LoRA-SP: the rank is chosen among these
        return Recognized { ItemKind::Adapter, folder, fmt::format("{} adapter, bank of {}", type, bank) };
    }
    if (const auto rank = integerAt(config, "r"); rank > 0) {
        return Recognized { ItemKind::Adapter, folder, fmt::format("{} adapter of rank {}", type, rank) };
    }
    return Recognized { ItemKind::Adapter, folder, fmt::format("{} adapter", type) };
}

bool hasWeights(const fs::path& folder)
{
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (entry.path().extension() == ".safetensors") {
            return true;
        }
    }
    return false;
}

Result<Recognized> folderAt(const fs::path& folder)
{
    std::error_code error;
    if (data::isRunDirectory(folder)) {
        return Recognized { ItemKind::Run, folder, runDetail(folder) };
    }
    if (data::isDemoFolder(folder)) {
        const auto status = data::readDemoStatus(folder);
        return Recognized { ItemKind::Demo, folder,
                            status ? fmt::format("demo, {}", data::runStateName(status->worker.state))
                                   : std::string("demo") };
    }
    if (data::isSpectraFolder(folder)) {
        RW_TRY(const data::SpectraHeader header, data::readSpectraHeader(folder));
        return Recognized { ItemKind::Spectra, folder,
                            fmt::format("spectra of {} layers of {}", header.layers.size(),
                                        header.adapter.empty() ? header.checkpoint : header.adapter) };
    }
    if (fs::exists(folder / "meta" / "info.json", error)) {
        return datasetAt(folder);
    }
    if (fs::exists(folder / "adapter_config.json", error)) {
        return adapterAt(folder);
    }
    if (fs::exists(folder / "config.json", error) && hasWeights(folder)) {
        RW_TRY(const Json config, readJsonFile(folder / "config.json"));
        std::string type = textAt(config, "type");
        type = type.empty() ? textAt(config, "model_type") : type;
        return Recognized { ItemKind::Checkpoint, folder, fmt::format("{} checkpoint", type) };
    }
    if (hasWeights(folder)) {
        return Recognized { ItemKind::Checkpoint, folder, "safetensors" };
    }
    return fail(Errc::Unsupported, "this folder holds no run, dataset, checkpoint or adapter", folder.string());
}

} // namespace

Result<Recognized> recognize(const fs::path& path, const JobContext& job)
{
    job.report(0, path.filename().string());
    std::error_code error;
    const fs::path real = fs::weakly_canonical(path, error);
    if (error || !fs::exists(real, error)) {
        return fail(Errc::FileNotFound, "there is no such file or folder", path.string());
    }
    if (fs::is_directory(real, error)) {
        return folderAt(real);
    }
    // A file inside an item stands for the item; look at most two folders up.
    fs::path folder = real.parent_path();
    for (int up = 0; up < 2 && !folder.empty(); ++up, folder = folder.parent_path()) {
        if (auto found = folderAt(folder)) {
            return found;
        }
    }
    return fail(Errc::Unsupported, "this file belongs to no run, dataset, checkpoint or adapter", path.string());
}

} // namespace rankwise::bridge
