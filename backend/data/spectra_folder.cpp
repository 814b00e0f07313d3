// SPDX-License-Identifier: Apache-2.0
#include "backend/data/spectra_folder.h"

#include "backend/base/file.h"
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
    return { { "format", kFormat },
             { "version", kSpectraVersion },
             { "checkpoint", header.checkpoint },
             { "base", header.base },
             { "adapter", header.adapter },
             { "notes", header.notes },
             { "pid", header.pid },
             { "pid_start", header.pidStart },
             { "host", header.host },
             { "started", header.started },
             { "layers", layers } };
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

void appendNumber(std::string& text, double value)
{
    std::array<char, 40> digits {};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::general, 13);
    text.append(digits.data(), end.ptr);
}

bool workerGone(const SpectraHeader& header)
{
    return header.host == hostName() && processStartTicks(header.pid) != header.pidStart;
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
    std::error_code error;
    if (fs::exists(folder, error) && !isSpectraFolder(folder) && !fs::is_empty(folder, error)) {
        return fail(Errc::AlreadyExists, "exists and holds other things; choose another folder", folder.string());
    }
    RW_TRY_VOID(createFolders(folder));
    for (const fs::path& file :
         { linesFile(folder), passFile(folder, SpectrumPass::Coarse), passFile(folder, SpectrumPass::Exact) }) {
        fs::remove(file, error);
    }
    header.pid = ::getpid();
    header.pidStart = processStartTicks(header.pid);
    header.host = hostName();
    header.started = unixSeconds();
    RW_TRY_VOID(writeFileAtomically(headerFile(folder), jsonText(headerJson(header))));
    SpectraWriter writer;
    writer.m_folder = folder;
    writer.m_header = std::move(header);
    writer.m_lines.open(linesFile(folder), std::ios::binary | std::ios::trunc);
    if (!writer.m_lines) {
        return failErrno(errno, "open", linesFile(folder));
    }
    return writer;
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
    std::string text = fmt::format(R"({{"event":"spectrum","step":{},"time":{:.3f},"layer":{},"matrix":"{}",)"
                                   R"("pass":"{}","error":{:.3g},"power":)",
                                   m_count, unixSeconds(), record.layer, spectrumKindName(record.kind),
                                   spectrumPassName(record.pass), record.error);
    text += record.power ? fmt::format("[{},{},{},{}]", record.power->alpha, record.power->xmin, record.power->distance,
                                       record.power->count)
                         : "null";
    text += R"(,"sigma":[)";
    for (std::size_t i = 0; i < record.sigma.size(); ++i) {
        text += i == 0 ? "" : ",";
        appendNumber(text, record.sigma[i]);
    }
    text += "]}";
    m_newest[{ record.layer, record.kind }] = record.sigma;
    return line(text);
}

Result<void> SpectraWriter::endPass(SpectrumPass pass)
{
    std::map<std::string, io::TensorView> tensors;
    for (const auto& [key, sigma] : m_newest) {
        tensors[fmt::format("{}.{}.singular_values", m_header.layers[key.first].path, spectrumKindName(key.second))] = {
            .dtype = io::Dtype::F64,
            .shape = { static_cast<std::int64_t>(sigma.size()) },
            .bytes = std::as_bytes(std::span(sigma))
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
    return line(json.dump());
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
