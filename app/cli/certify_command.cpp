// `rankwise certify`: the import-parity certificate.
// SPDX-License-Identifier: Apache-2.0
#include "app/cli/engine_commands.h"
#include "backend/adapters/certify_adapter.h"
#include "backend/analysis/certify_spectra.h"
#include "backend/compress/certify_para.h"
#include "backend/models/certify.h"
#include "backend/train/certify_training.h"

#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace rankwise::cli {

namespace {

namespace fs = std::filesystem;

/// Adapter cases are NAME.json beside NAME.safetensors, or a PEFT folder with golden.json; all others have case.json.
bool isAdapterCase(const fs::path& path)
{
    const fs::path file = path.extension() == ".json" ? path : path / "golden.json";
    if (!fs::exists(file) || file.filename() == "case.json") {
        return false;
    }
    for (const fs::path& part : fs::absolute(file)) {
        if (part == "adapters") {
            return true;
        }
    }
    return fs::exists(path / "adapter_config.json");
}

Result<models::CertifyReport> certify(const fs::path& path, const models::CertifyOptions& options,
                                      const JobContext& job)
{
    if (path.parent_path().filename() == "para" && (path.extension() == ".json" || fs::exists(path / "case.json"))) {
        const fs::path scratch = fs::temp_directory_path() / fmt::format("rankwise-certify-{}", ::getpid());
        auto report = compress::certifyParaCase(path, scratch, options);
        std::error_code ignored;
        fs::remove_all(scratch, ignored);
        return report;
    }
    if (path.parent_path().filename() == "spectra" && path.extension() == ".json") {
        return analysis::certifySpectraCase(path, options);
    }
    if (isAdapterCase(path)) {
        return adapters::certifyAdapterCase(path.extension() == ".json" ? path : path / "golden.json", options);
    }
    return models::certifyCase(path, options, job);
}

} // namespace

ExitCode runCertify(const Invocation& invocation, const CertifyOptions& options, ConsoleJob& job)
{
    train::registerTrainingCertification();
    OrderedJson list = OrderedJson::array();
    std::string text;
    bool passed = true;
    for (const std::string& path : options.cases) {
        const auto report = certify(path, { .toleranceScale = options.toleranceScale }, job.context());
        job.clearLine();
        if (!report) {
            return printError(invocation, report.error());
        }
        passed = passed && report->passed();
        text += fmt::format("{}  {} {}  {}\n{}{}\n\n", path, report->kind, report->family, report->about,
                            report->table(), report->passed() ? "passed" : "FAILED");
        OrderedJson entry(report->json());
        entry["path"] = path;
        list.push_back(std::move(entry));
    }
    printResult(invocation, text, jsonText(OrderedJson { { "passed", passed }, { "cases", list } }));
    return passed ? ExitCode::Success : ExitCode::Failure;
}

} // namespace rankwise::cli
