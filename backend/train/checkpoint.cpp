// Writing and restoring checkpoints.
// SPDX-License-Identifier: Apache-2.0
#include "backend/train/checkpoint.h"

#include "backend/base/file.h"
#include "backend/tensor/tensor_file.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <ATen/Version.h>

#include <fmt/format.h>

namespace rankwise::train {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kTrainerVersion = 1;
constexpr std::string_view kMethodPrefix = "method.";

tensor::TensorMap trainerTensors(const adapters::AdaptationMethod& method, const AdamW& optimizer)
{
    tensor::TensorMap tensors = optimizer.state();
    for (const auto& [name, value] : method.state()) {
        tensors[std::string(kMethodPrefix) + name] = value;
    }
    return tensors;
}

void removeOld(const data::RunPaths& paths, std::int64_t keep)
{
    std::vector<data::CheckpointInfo> all = data::listCheckpoints(paths);
    const auto excess = static_cast<std::int64_t>(all.size()) - keep;
    for (std::int64_t i = 0; keep > 0 && i < excess; ++i) {
        std::error_code ignored;
        // The manifest goes first, so that a half-removed folder is no checkpoint.
        fs::remove(all[static_cast<std::size_t>(i)].folder / "manifest.json", ignored);
        fs::remove_all(all[static_cast<std::size_t>(i)].folder, ignored);
    }
}

} // namespace

Result<fs::path> writeCheckpoint(const data::RunPaths& paths, const adapters::AdaptationMethod& method,
                                 AdamW& optimizer, const TrainerState& state, const std::string& baseModel,
                                 std::int64_t keep, const CheckpointExtras& extras, const JobContext& job)
{
    const fs::path target = paths.checkpoint(state.step);
    RW_TRY(AtomicFolder folder, AtomicFolder::create(target));
    {
        const AdamW::AveragedScope averaged(optimizer);
        RW_TRY_VOID(method.save(folder.path(), baseModel));
    }
    if (extras) {
        RW_TRY_VOID(extras(folder.path()));
    }
    RW_TRY_VOID(tensor::saveTensors(folder.path() / "trainer.safetensors", trainerTensors(method, optimizer), {}, job));
    Json names = Json::array();
    for (const models::NamedParameter& parameter : optimizer.parameters()) {
        names.push_back(parameter.name);
    }
    const Json trainer { { "version", kTrainerVersion },          { "step", state.step },
                         { "position", state.position },          { "settings", state.settings },
                         { "config_digest", state.configDigest }, { "threads", state.threads },
                         { "parameters", std::move(names) } };
    RW_TRY_VOID(writeFileAtomically(folder.path() / "trainer.json", jsonText(trainer)));
    RW_TRY_VOID(data::writeManifest(folder.path(), state.step, job));
    RW_TRY_VOID(folder.commit());
    removeOld(paths, keep);
    return target;
}

Result<TrainerState> restoreCheckpoint(const fs::path& folder, adapters::AdaptationMethod& method, AdamW& optimizer)
{
    const fs::path path = folder / "trainer.json";
    RW_TRY(const Json json, readJsonFile(path));
    TrainerState state;
    std::int64_t version = 0;
    FieldReader reader(json, path.string());
    reader.require("version", version, 1);
    reader.require("step", state.step, 0);
    reader.optional("config_digest", state.configDigest);
    reader.optional("threads", state.threads, 0);
    if (const Json* position = reader.requireObject("position")) {
        state.position = *position;
    }
    if (const Json* settings = reader.requireObject("settings")) {
        FieldReader nested(*settings, path.string(), "settings.");
        for (const auto& [name, value] : settings->items()) {
            nested.require(name, state.settings[name]);
        }
        reader.merge(nested);
    }
    if (version > kTrainerVersion) {
        reader.reject("version", fmt::format("is {}, newer than {}", version, kTrainerVersion), Errc::Unsupported);
    }
    RW_TRY_VOID(reader.result());

    RW_TRY(const tensor::TensorMap tensors, tensor::loadTensors(folder / "trainer.safetensors"));
    std::map<std::string, at::Tensor> methodState;
    for (const auto& [name, value] : tensors) {
        if (name.starts_with(kMethodPrefix)) {
            methodState[name.substr(kMethodPrefix.size())] = value.clone();
        }
    }
    for (const auto& [name, value] : state.settings) {
        RW_TRY_VOID(method.set(name, value));
    }
    RW_TRY_VOID(method.restoreState(methodState));
    RW_TRY_VOID(optimizer.restore(tensors));
    return state;
}

} // namespace rankwise::train
