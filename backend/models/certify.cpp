// SPDX-License-Identifier: Apache-2.0
#include "backend/models/certify.h"

#include "backend/models/certify_runners.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <mutex>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/TensorOperators.h>

namespace rankwise::models {

namespace {

struct RegisteredRunner {
    std::string kind;
    std::string family;
    CertifyRunner run;
};

/// Runners of this module first, then those that were registered.
std::vector<RegisteredRunner>& runners()
{
    static std::vector<RegisteredRunner> all {
        { "policy", "smolvla", certifySmolVlaCase },
        { "checkpoint", "smolvla", certifyCheckpoint },
        { "pipeline", "", certifyPipeline },
        { "primitives", "", certifyPrimitives },
        { "identity", "smolvla_base", certifyIdentity },
        { "images", "", certifyImages },
        { "openvla_images", "", certifyOpenVlaImages },
        { "normalisation", "", certifyNormalisation },
        { "prompts", "", certifyPrompts },
        { "tokenizer", "", certifyTokenizer },
    };
    return all;
}

std::mutex& runnersLock()
{
    static std::mutex lock;
    return lock;
}

std::string textField(const Json& object, const char* key)
{
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

double largest(const at::Tensor& tensor)
{
    return tensor.numel() == 0 ? 0.0 : tensor.abs().max().item<double>();
}

CertifyRow failedRow(std::string name, std::string note)
{
    return { .name = std::move(name), .difference = std::numeric_limits<double>::infinity(), .note = std::move(note) };
}

std::string fixedWidth(const std::string& text, std::size_t width)
{
    return text.size() <= width ? text + std::string(width - text.size(), ' ')
                                : "..." + text.substr(text.size() - width + 3);
}

} // namespace

bool CertifyReport::passed() const
{
    return !rows.empty() && std::ranges::all_of(rows, [](const CertifyRow& row) { return row.passed; });
}

std::string CertifyReport::table(bool all) const
{
    constexpr std::size_t kNameWidth = 72;
    std::string text =
        fmt::format("{} ({}{}{}): {}\n", name, family, family.empty() ? "" : " ", kind, passed() ? "passed" : "FAILED");
    text += fmt::format("{} {:>10} {:>10} {:>10} {:>10} verdict\n", fixedWidth("output", kNameWidth), "peak",
                        "difference", "relative", "tolerance");
    std::vector<CertifyRow> sorted;
    std::ranges::copy_if(rows, std::back_inserter(sorted), [&](const CertifyRow& row) { return all || !row.passed; });
    std::ranges::stable_sort(sorted, {}, &CertifyRow::passed);
    for (const CertifyRow& row : sorted) {
        text += fmt::format("{} {:>10.3g} {:>10.3g} {:>10.3g} {:>10.3g} {}{}{}\n", fixedWidth(row.name, kNameWidth),
                            row.peak, row.difference, row.relative, row.tolerance, row.passed ? "ok" : "FAILED",
                            row.note.empty() ? "" : ": ", row.note);
    }
    return text;
}

Json CertifyReport::json() const
{
    Json list = Json::array();
    for (const CertifyRow& row : rows) {
        const auto number = [](double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); };
        list.push_back({ { "name", row.name },
                         { "peak", number(row.peak) },
                         { "difference", number(row.difference) },
                         { "relative", number(row.relative) },
                         { "tolerance", number(row.tolerance) },
                         { "passed", row.passed },
                         { "note", row.note } });
    }
    return { { "name", name },   { "kind", kind },       { "family", family },
             { "about", about }, { "passed", passed() }, { "rows", std::move(list) } };
}

void compareTensors(CertifyReport& report, std::string name, const at::Tensor& oursIn, const at::Tensor& theirsIn,
                    double relativeToPeak, double absolute, const at::Tensor& rows)
{
    const at::NoGradGuard noGrad;
    if (!oursIn.defined()) {
        report.rows.push_back(failedRow(std::move(name), "not computed"));
        return;
    }
    if (oursIn.sizes() != theirsIn.sizes()) {
        report.rows.push_back(failedRow(std::move(name), "another shape"));
        return;
    }
    if (oursIn.is_floating_point() != theirsIn.is_floating_point()) {
        report.rows.push_back(failedRow(std::move(name), "another kind of number"));
        return;
    }
    at::Tensor ours = oursIn.detach().to(at::kCPU, at::kDouble);
    at::Tensor theirs = theirsIn.detach().to(at::kCPU, at::kDouble);
    CertifyRow row { .name = std::move(name) };
    if (rows.defined()) {
        const at::Tensor kept = rows.flatten().nonzero().flatten();
        ours = ours.flatten(0, rows.dim() - 1).index_select(0, kept);
        theirs = theirs.flatten(0, rows.dim() - 1).index_select(0, kept);
        row.note = kept.numel() < rows.numel() ? "padding left out" : "";
    }
    row.peak = largest(theirs);
    row.difference = largest(ours - theirs);
    row.relative = row.difference == 0 ? 0 : row.difference / row.peak;
    row.tolerance = relativeToPeak * row.peak + absolute;
    row.passed = row.difference <= row.tolerance; // false for NaN
    report.rows.push_back(std::move(row));
}

void compareNumber(CertifyReport& report, std::string name, double ours, double theirs, double relative,
                   double absolute)
{
    CertifyRow row { .name = std::move(name), .peak = std::abs(theirs), .difference = std::abs(ours - theirs) };
    row.relative = row.difference == 0 ? 0 : row.difference / row.peak;
    row.tolerance = relative * row.peak + absolute;
    row.passed = row.difference <= row.tolerance; // false for NaN
    report.rows.push_back(std::move(row));
}

void compareText(CertifyReport& report, std::string name, const std::string& difference)
{
    report.rows.push_back({ .name = std::move(name),
                            .difference = difference.empty() ? 0.0 : std::numeric_limits<double>::infinity(),
                            .passed = difference.empty(),
                            .note = difference });
}

Result<CertifyReport> certifyCase(const std::filesystem::path& folder, const CertifyOptions& options,
                                  const JobContext& job)
{
    const bool single = folder.extension() == ".json";
    const bool table =
        !single && !std::filesystem::exists(folder / "case.json") && std::filesystem::exists(folder / "table.json");
    const std::filesystem::path file = single ? folder : folder / (table ? "table.json" : "case.json");
    RW_TRY(const Json description, readJsonFile(file));
    if (!description.is_object()) {
        return rankwise::fail(Errc::FieldInvalid, "a case is described by a JSON object", file.string());
    }
    std::string kind = textField(description, "kind");
    std::string family = textField(description, "family");
    if (table) {
        kind = "tokenizer";
    }
    if (kind.empty() && description.contains("checkpoint") && description.contains("table")) {
        kind = "identity";
        family = textField(description, "checkpoint");
    }
    CertifyRunner run;
    {
        const std::lock_guard lock(runnersLock());
        for (const RegisteredRunner& runner : runners()) {
            if (runner.kind == kind && (runner.family.empty() || runner.family == family)) {
                run = runner.run;
            }
        }
    }
    if (!run) {
        return rankwise::fail(Errc::Unsupported,
                              fmt::format("cases of kind \"{}\" for \"{}\" cannot be certified yet", kind, family),
                              file.string());
    }
    RW_TRY(CertifyReport report, run(folder, description, options, job));
    report.kind = kind;
    report.family = family;
    report.about = textField(description, "about");
    report.name = single ? folder.stem().string() : folder.filename().string();
    for (CertifyRow& row : report.rows) {
        row.tolerance *= options.toleranceScale;
        row.passed = row.difference <= row.tolerance; // false for what could not be compared, which is infinite or NaN
    }
    return report;
}

void registerCertifyRunner(std::string kind, std::string family, CertifyRunner runner)
{
    const std::lock_guard lock(runnersLock());
    runners().push_back({ std::move(kind), std::move(family), std::move(runner) });
}

} // namespace rankwise::models
