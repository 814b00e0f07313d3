// SPDX-License-Identifier: Apache-2.0
#include "backend/data/spectra_folder.h"

#include "backend/base/file.h"
#include "backend/base/sha256.h"
#include "backend/io/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

namespace rankwise::data {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 3> kKinds { "base", "delta", "merged" };
constexpr std::array<std::string_view, 2> kPasses { "coarse", "exact" };
constexpr std::array<std::string_view, 5> kStates { "running", "finished", "stopped", "failed", "lost" };
constexpr const char* kFormat = "rankwise_spectra";

template <class Enum, std::size_t N>
std::optional<Enum> fromName(const std::array<std::string_view, N>& names, std::string_view name)
{
    const auto found = std::ranges::find(names, name);
    return found == names.end() ? std::nullopt : std::optional(static_cast<Enum>(found - names.begin()));
}

fs::path headerFile(const fs::path& folder)
{
    return folder / "spectra.json";
}
fs::path linesFile(const fs::path& folder)
{
    return folder / "spectra.jsonl";
}
fs::path passFile(const fs::path& folder, SpectrumPass pass)
{
    return folder / fmt::format("pass-{}.safetensors", spectrumPassName(pass));
}

Json headerJson(const SpectraHeader& header)
{
    Json layers = Json::array();
    for (const SpectraLayer& layer : header.layers) {
        Json kinds = Json::array();
        for (const SpectrumKind kind : layer.kinds) {
            kinds.push_back(spectrumKindName(kind));
        }
        layers.push_back({ { "path", layer.path },
                           { "group", layer.group },
                           { "depth", layer.depth },
                           { "rows", layer.rows },
                           { "columns", layer.columns },
                           { "rank", layer.rank },
                           { "matrices", kinds } });
    }
    return { { "format", kFormat },     { "version", kSpectraVersion }, { "checkpoint", header.checkpoint },
             { "base", header.base },   { "adapter", header.adapter },  { "weights", header.weights },
             { "notes", header.notes }, { "pid", header.pid },          { "pid_start", header.pidStart },
             { "host", header.host },   { "started", header.started },  { "layers", layers } };
}

Result<SpectraLayer> layerFrom(const Json& json, const std::string& file, std::size_t index)
{
    constexpr std::int64_t kLargest = std::int64_t(1) << 40;
    if (!json.is_object()) {
        return fail(Errc::FieldInvalid, "is not an object", fmt::format("{}: layers.{}", file, index));
    }
    SpectraLayer layer;
    FieldReader reader(json, file, fmt::format("layers.{}.", index));
    std::vector<std::string> kinds;
    reader.require("path", layer.path);
    reader.require("group", layer.group, 0, 255);
    reader.require("depth", layer.depth, -1, kLargest);
    reader.require("rows", layer.rows, 0, kLargest);
    reader.require("columns", layer.columns, 0, kLargest);
    reader.optional("rank", layer.rank, 0, kLargest);
    reader.require("matrices", kinds);
    for (const std::string& name : kinds) {
        if (const auto kind = fromName<SpectrumKind>(kKinds, name)) {
            layer.kinds.push_back(*kind);
        } else {
            reader.reject("matrices", fmt::format("\"{}\" is no matrix of a layer", name));
        }
    }
    RW_TRY_VOID(reader.result());
    return layer;
}

/// The record of a line, or nothing when it does not fit the header.
std::optional<SpectrumRecord> recordFrom(const Json& fields, const SpectraHeader& header)
{
    const auto text = [&](const char* key) {
        const auto found = fields.find(key);
        return found != fields.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    const auto layer = fields.find("layer");
    const auto sigma = fields.find("sigma");
    const auto kind = fromName<SpectrumKind>(kKinds, text("matrix"));
    const auto pass = fromName<SpectrumPass>(kPasses, text("pass"));
    if (layer == fields.end() || !layer->is_number_unsigned() || layer->get<std::size_t>() >= header.layers.size()
        || !kind || !pass || sigma == fields.end() || !sigma->is_array()) {
        return std::nullopt;
    }
    SpectrumRecord record { .layer = layer->get<std::size_t>(), .kind = *kind, .pass = *pass };
    record.sigma.reserve(sigma->size());
    for (const Json& value : *sigma) {
        const double number = value.is_number() ? value.get<double>() : -1;
        if (!(number >= 0) || !std::isfinite(number)) {
            return std::nullopt;
        }
        record.sigma.push_back(number);
    }
    if (!std::ranges::is_sorted(record.sigma, std::greater<>())) {
        return std::nullopt;
    }
    if (const auto error = fields.find("error"); error != fields.end() && error->is_number()) {
        record.error = error->get<double>();
    }
    if (const auto power = fields.find("power"); power != fields.end() && power->is_array() && power->size() == 4
        && std::ranges::all_of(*power, [](const Json& v) { return v.is_number(); })) {
        record.power = PowerLawFit { .alpha = power->at(0).get<double>(),
                                     .xmin = power->at(1).get<double>(),
                                     .distance = power->at(2).get<double>(),
                                     .count = power->at(3).get<std::int64_t>() };
    }
    return record;
}

Json errorJson(const Error& error)
{
    return { { "code", errcName(error.code) },
             { "message", printableText(error.message) },
             { "subject", printableText(error.subject) } };
}

void appendNumber(std::string& text, double value, SpectrumPass pass)
{
    constexpr int kEstimateDigits = 13;
    std::array<char, 40> digits {};
    char* const last = digits.data() + digits.size();
    const auto end = pass == SpectrumPass::Exact
        ? std::to_chars(digits.data(), last, value)
        : std::to_chars(digits.data(), last, value, std::chars_format::general, kEstimateDigits);
    text.append(digits.data(), end.ptr);
}

std::string lineOf(const SpectrumRecord& record, std::int64_t count)
{
    std::string text = fmt::format(R"({{"event":"spectrum","step":{},"time":{:.3f},"layer":{},"matrix":"{}",)"
                                   R"("pass":"{}","error":{:.3g},"power":)",
                                   count, unixSeconds(), record.layer, spectrumKindName(record.kind),
                                   spectrumPassName(record.pass), record.error);
    text += record.power ? fmt::format("[{},{},{},{}]", record.power->alpha, record.power->xmin, record.power->distance,
                                       record.power->count)
                         : "null";
    text += R"(,"sigma":[)";
    for (std::size_t i = 0; i < record.sigma.size(); ++i) {
        text += i == 0 ? "" : ",";
        appendNumber(text, record.sigma[i], record.pass);
    }
    text += "]}";
    return text;
}

bool workerGone(const SpectraHeader& header)
{
    return header.host == hostName() && !spectraWorkerLives(header);
}

/// A file of ours, or what a killed writer left of one.
bool isOwnFile(const fs::path& file)
{
    const std::string name = file.filename().string();
    return std::ranges::any_of(
        std::array { "spectra.json", "spectra.jsonl", "spectra.lock", "pass-coarse.safetensors",
                     "pass-exact.safetensors" },
        [&](const char* own) { return name == own || name.starts_with(own + std::string(".tmp-")); });
}

/// Whether a writer may have the folder: it is not there, empty, or of spectra. Errors: AlreadyExists, Unsupported.
Result<void> checkTarget(const fs::path& folder)
{
    std::error_code error;
    if (!fs::exists(folder, error)) {
        return {};
    }
    if (isSpectraFolder(folder)) {
        if (const auto header = readSpectraHeader(folder); !header && header.error().code == Errc::Unsupported) {
            return tl::unexpected(header.error());
        }
        return {};
    }
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        if (!isOwnFile(entry.path())) {
            return fail(Errc::AlreadyExists, "exists and holds other things; choose another folder", folder.string());
        }
    }
    if (error) {
        return fail(Errc::AlreadyExists, "is no folder; choose another one", folder.string());
    }
    return {};
}

/// The spectra in `folder` that are of what `header` describes.
std::map<SpectrumKey, SpectrumRecord> stillTrue(const fs::path& folder, const SpectraHeader& header)
{
    if (header.weights.empty()) {
        return {};
    }
    auto before = readSpectra(folder);
    const bool same = before && before->header.weights == header.weights && before->header.layers == header.layers;
    return same ? std::move(before->spectra) : std::map<SpectrumKey, SpectrumRecord>();
}

void addIdentity(std::string& text, const fs::path& path)
{
    std::error_code error;
    const fs::path folder = newestCheckpointOr(path).value_or(path);
    text += fs::absolute(folder, error).lexically_normal().string() + '\n';
    std::vector<fs::path> files;
    if (fs::is_directory(folder, error)) {
        for (const auto& entry : fs::directory_iterator(folder, error)) {
            if (entry.path().extension() == ".safetensors" || entry.path().filename() == "adapter_config.json") {
                files.push_back(entry.path());
            }
        }
        std::ranges::sort(files);
    } else {
        files.push_back(folder);
    }
    for (const fs::path& file : files) {
        text += fmt::format("{} {} {}\n", file.filename().string(), fs::file_size(file, error),
                            fs::last_write_time(file, error).time_since_epoch().count());
    }
}

} // namespace

std::string_view spectrumKindName(SpectrumKind kind)
{
    return kKinds.at(static_cast<std::size_t>(kind));
}

std::string_view spectrumPassName(SpectrumPass pass)
{
    return kPasses.at(static_cast<std::size_t>(pass));
}

std::string_view spectraStateName(SpectraState state)
{
    return kStates.at(static_cast<std::size_t>(state));
}

double spectrumCost(const SpectraLayer& layer, SpectrumKind kind)
{
    const auto side = static_cast<double>(std::min(layer.rows, layer.columns));
    const auto length = static_cast<double>(std::max(layer.rows, layer.columns));
    if (kind == SpectrumKind::Delta && layer.rank > 0) {
        return static_cast<double>(layer.rank * layer.rank) * (side + length);
    }
    return side * side * (length + 3 * side);
}

std::string weightsIdentity(const fs::path& subject, const fs::path& base)
{
    std::string text;
    addIdentity(text, subject);
    if (!base.empty()) {
        addIdentity(text, base);
    }
    return sha256Hex(std::as_bytes(std::span(text)));
}

bool spectraWorkerLives(const SpectraHeader& header)
{
    const std::int64_t start = header.host == hostName() ? processStartTicks(header.pid) : 0;
    return start > 0 && start == header.pidStart;
}

bool isSpectraFolder(const fs::path& folder)
{
    const auto json = readJsonFile(headerFile(folder));
    return json && json->is_object() && json->value("format", Json()) == kFormat;
}

Result<SpectraHeader> readSpectraHeader(const fs::path& folder)
{
    const std::string file = headerFile(folder).string();
    RW_TRY(const Json json, readJsonFile(headerFile(folder)));
    if (!json.is_object()) {
        return fail(Errc::FieldInvalid, "is not an object", file);
    }
    FieldReader reader(json, file);
    std::string format;
    std::int64_t version = 0;
    reader.require("format", format);
    reader.require("version", version);
    RW_TRY_VOID(reader.result());
    if (format != kFormat) {
        return fail(Errc::FieldInvalid, "is no description of spectra", file + ": format");
    }
    if (version > kSpectraVersion) {
        return fail(Errc::Unsupported, fmt::format("version {} is newer than this program knows", version), file);
    }
    SpectraHeader header;
    reader.optional("checkpoint", header.checkpoint);
    reader.optional("base", header.base);
    reader.optional("adapter", header.adapter);
    reader.optional("weights", header.weights);
    reader.optional("notes", header.notes);
    reader.require("pid", header.pid);
    reader.require("pid_start", header.pidStart);
    reader.require("host", header.host);
    reader.require("started", header.started);
    const Json* layers = reader.find("layers");
    if (layers == nullptr || !layers->is_array()) {
        reader.reject("layers", "must be a list", layers == nullptr ? Errc::FieldMissing : Errc::FieldInvalid);
    }
    RW_TRY_VOID(reader.result());
    for (const Json& layer : *layers) {
        RW_TRY(SpectraLayer read, layerFrom(layer, file, header.layers.size()));
        header.layers.push_back(std::move(read));
    }
    return header;
}

Result<SpectraWriter> SpectraWriter::create(const fs::path& folder, SpectraHeader header)
{
    RW_TRY_VOID(checkTarget(folder));
    RW_TRY_VOID(createFolders(folder));
    SpectraWriter writer;
    RW_TRY(writer.m_lock, FileLock::take(folder / "spectra.lock", "another program is computing these spectra"));
    writer.m_newest = stillTrue(folder, header);
    header.pid = ::getpid();
    header.pidStart = processStartTicks(header.pid);
    header.host = hostName();
    header.started = unixSeconds();
    writer.m_folder = folder;
    writer.m_header = std::move(header);
    RW_TRY_VOID(writer.begin());
    return writer;
}

Result<void> SpectraWriter::begin()
{
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(m_folder, error)) {
        if (isOwnFile(entry.path()) && entry.path().filename().string().find(".tmp-") != std::string::npos) {
            fs::remove(entry.path(), error);
        }
    }
    // The lines first: whoever sees the new description finds them under it. A crash between the two leaves the old
    // description over lines that are true.
    RW_TRY(AtomicFile lines, AtomicFile::create(linesFile(m_folder)));
    for (const auto& [key, record] : m_newest) {
        RW_TRY_VOID(lines.write(lineOf(record, m_count++) + '\n'));
    }
    RW_TRY_VOID(lines.commit());
    for (const SpectrumPass pass : { SpectrumPass::Coarse, SpectrumPass::Exact }) {
        fs::remove(passFile(m_folder, pass), error);
    }
    RW_TRY_VOID(writeFileAtomically(headerFile(m_folder), jsonText(headerJson(m_header))));
    m_lines.open(linesFile(m_folder), std::ios::binary | std::ios::app);
    if (!m_lines) {
        return failErrno(errno, "open", linesFile(m_folder));
    }
    return {};
}

Result<void> SpectraWriter::line(const std::string& text)
{
    errno = 0;
    m_lines << text << '\n' << std::flush;
    if (!m_lines) {
        return failErrno(errno, "write", linesFile(m_folder));
    }
    ++m_count;
    return {};
}

Result<void> SpectraWriter::add(const SpectrumRecord& record)
{
    m_newest[{ record.layer, record.kind }] = record;
    return line(lineOf(record, m_count));
}

Result<void> SpectraWriter::endPass(SpectrumPass pass)
{
    std::map<std::string, io::TensorView> tensors;
    for (const auto& [key, record] : m_newest) {
        tensors[fmt::format("{}.{}.singular_values", m_header.layers[key.first].path, spectrumKindName(key.second))] = {
            .dtype = io::Dtype::F64,
            .shape = { static_cast<std::int64_t>(record.sigma.size()) },
            .bytes = std::as_bytes(std::span(record.sigma))
        };
    }
    RW_TRY_VOID(
        io::writeSafetensors(passFile(m_folder, pass), tensors, { { "pass", std::string(spectrumPassName(pass)) } }));
    const Json json { { "event", "pass" },
                      { "step", m_count },
                      { "time", unixSeconds() },
                      { "pass", spectrumPassName(pass) },
                      { "file", passFile(m_folder, pass).filename().string() } };
    return line(json.dump());
}

Result<void> SpectraWriter::finish(SpectraState state, const std::optional<Error>& error)
{
    const Json json { { "event", "stop" },
                      { "step", m_count },
                      { "time", unixSeconds() },
                      { "state", spectraStateName(state) },
                      { "error", error ? errorJson(*error) : Json() } };
    RW_TRY_VOID(line(json.dump()));
    m_lock.release();
    return {};
}

SpectraFollower::SpectraFollower(fs::path folder) : m_folder(std::move(folder)) { }

Result<SpectraUpdate> SpectraFollower::poll(std::uint64_t maxBytes)
{
    SpectraUpdate update;
    update.state = m_state;
    m_caughtUp = false;
    std::error_code error;
    if (!fs::exists(headerFile(m_folder), error)) {
        return update;
    }
    RW_TRY(SpectraHeader header, readSpectraHeader(m_folder));
    if (!m_header || m_header->started != header.started || m_header->pid != header.pid) {
        m_tail.emplace(linesFile(m_folder));
        m_state = SpectraState::Running;
        m_failure.reset();
        update.header = header;
        m_header = std::move(header);
    }
    const bool gone = workerGone(*m_header); // asked first: its last lines come before its end
    const std::uint64_t skippedBefore = m_tail->skippedLines();
    RW_TRY(const std::vector<RunEvent> events, m_tail->poll(maxBytes));
    update.skippedLines = m_tail->skippedLines() - skippedBefore;
    for (const RunEvent& event : events) {
        if (event.kind == "spectrum") {
            if (auto record = recordFrom(event.fields, *m_header)) {
                update.records.push_back(std::move(*record));
            } else {
                ++update.skippedLines;
            }
        } else if (event.kind == "pass") {
            if (const auto pass = fromName<SpectrumPass>(kPasses, event.fields.value("pass", std::string()))) {
                update.endedPasses.push_back(*pass);
            }
        } else if (event.kind == "stop") {
            m_state = fromName<SpectraState>(kStates, event.fields.value("state", std::string()))
                          .value_or(SpectraState::Failed);
            if (const auto found = event.fields.find("error"); found != event.fields.end() && found->is_object()) {
                m_failure = Error { .code = Errc::Internal,
                                    .message = found->value("message", std::string()),
                                    .subject = found->value("subject", std::string()) };
            }
        }
    }
    m_caughtUp = events.empty();
    if (m_caughtUp && m_state == SpectraState::Running && gone) {
        m_state = SpectraState::Lost;
    }
    update.state = m_state;
    update.failure = m_failure;
    update.workerLives = spectraWorkerLives(*m_header);
    return update;
}

Result<SpectraContents> readSpectra(const fs::path& folder, const JobContext& job)
{
    RW_TRY(SpectraHeader header, readSpectraHeader(folder));
    SpectraContents contents { .header = std::move(header) };
    SpectraFollower follower(folder);
    while (!follower.caughtUp()) {
        if (job.stopped()) {
            return fail(Errc::Cancelled, "stopped", folder.string());
        }
        RW_TRY(SpectraUpdate update, follower.poll());
        if (update.header) {
            contents.header = std::move(*update.header);
            contents.spectra.clear();
        }
        for (SpectrumRecord& record : update.records) {
            contents.spectra[{ record.layer, record.kind }] = std::move(record);
        }
        contents.state = update.state;
        contents.failure = update.failure;
    }
    return contents;
}

} // namespace rankwise::data
