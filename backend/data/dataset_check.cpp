// Says whether a dataset can be used, and what is wrong with it.
// SPDX-License-Identifier: Apache-2.0
#include "backend/data/dataset_check.h"

#include "backend/data/dataset_verify.h"

namespace rankwise::data {

namespace fs = std::filesystem;

std::string_view verdictName(Verdict verdict)
{
    switch (verdict) {
    case Verdict::Open:
        return "open";
    case Verdict::Warn:
        return "warn";
    case Verdict::Refuse:
        return "refuse";
    }
    return "refuse";
}

namespace {

std::uint64_t bytesOf(const fs::path& root)
{
    std::uint64_t bytes = 0;
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(root, error); !error && it != fs::recursive_directory_iterator();
         it.increment(error)) {
        std::error_code ignored;
        if (it->is_regular_file(ignored)) {
            bytes += it->file_size(ignored);
        }
    }
    return bytes;
}

} // namespace

Result<DatasetReport> checkDataset(const fs::path& root, Verify verify, const JobContext& job)
{
    DatasetReport report;
    report.bytes = bytesOf(root);
    job.report(0, "tables");
    const OpenOptions options { .verify = verify == Verify::Frames ? Verify::Files : verify };
    auto reader = DatasetReader::open(root, options, report.problems);
    if (job.stopped()) {
        return fail(Errc::Cancelled, "stopped", root.string());
    }
    Result<void> frames;
    if (reader && verify == Verify::Frames) {
        frames = verifyFrames(**reader, job);
        if (!frames && frames.error().code == Errc::Cancelled) {
            return tl::unexpected<Error>(frames.error());
        }
    }
    if (!reader) {
        report.error = reader.error();
        std::vector<Warning> ignored;
        if (auto info = readDatasetInfo(root, ignored)) {
            report.info = std::move(*info);
        }
    } else {
        report.info = (*reader)->info();
        report.episodes = static_cast<std::int64_t>((*reader)->episodes().size());
        report.frames = (*reader)->frameCount();
        report.seconds = static_cast<double>(report.frames) / static_cast<double>(report.info->fps);
        if (!frames) {
            report.error = frames.error();
        }
    }
    report.verdict = report.error ? Verdict::Refuse : (report.problems.empty() ? Verdict::Open : Verdict::Warn);
    return report;
}

} // namespace rankwise::data
