// SPDX-License-Identifier: Apache-2.0
#include "tests/widgets/run_fixture.h"

#include "backend/base/file.h"
#include "backend/base/json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include <unistd.h>

namespace rankwise::tests {

namespace {

/// A safetensors file of named float64 vectors.
std::string safetensors(const std::map<std::string, std::vector<double>>& tensors)
{
    Json header = Json::object();
    std::string body;
    for (const auto& [name, values] : tensors) {
        const std::size_t begin = body.size();
        body.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
        header[name] = { { "dtype", "F64" },
                         { "shape", { values.size() } },
                         { "data_offsets", { begin, body.size() } } };
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    std::uint64_t length = text.size();
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file + text + body;
}

} // namespace

std::string layerPath(const RunShape& shape, int layer)
{
    const int third = std::max(1, shape.layers / 3);
    const int group = std::min(2, layer / third);
    const int index = layer - group * third;
    const char* const kinds[] = { "q_proj", "v_proj", "o_proj", "up_proj" };
    const char* const roots[] = { "model.vlm_with_expert.vlm.model.vision_model.encoder.layers",
                                  "model.vlm_with_expert.vlm.model.text_model.layers",
                                  "model.vlm_with_expert.lm_expert.layers" };
    return fmt::format("{}.{}.self_attn.{}", roots[group], index / 4, kinds[index % 4]);
}

double scriptedRank(const RunShape& shape, int layer, int step, double eta)
{
    const double full = shape.capacity * (0.35 + 0.5 * static_cast<double>(layer % 5) / 5.0);
    return std::clamp(full * (1.2 - 0.5 * step / std::max(1, shape.steps)) * eta * eta, 1.0,
                      static_cast<double>(shape.capacity));
}

RunWriter::RunWriter(std::filesystem::path folder, RunShape shape) : m_folder(std::move(folder)), m_shape(shape)
{
    const data::RunPaths paths { m_folder };
    for (const auto& part : { paths.root, paths.control(), paths.snapshots(), paths.checkpoints() }) {
        std::filesystem::create_directories(part);
    }
    m_events.open(paths.events(), std::ios::app);
}

void RunWriter::writeRunJson(std::int64_t version)
{
    const Json run { { "format", "rankwise_run" },
                     { "version", version },
                     { "seed", 7 },
                     { "config", { { "steps", m_shape.steps }, { "batch_size", 8 } } },
                     { "method", { { "type", "lora_sp" }, { "bank", m_shape.capacity }, { "eta", m_shape.eta } } },
                     { "trained", { { "tensors", m_shape.layers * 4 }, { "numbers", 123456 } } },
                     { "versions", { { "rankwise", "0.1.0" } } } };
    (void)writeFileAtomically(data::RunPaths { m_folder }.run(), jsonText(run));
}

void RunWriter::raw(std::string_view text)
{
    m_events << text;
    m_events.flush();
}

void RunWriter::start(std::int64_t resumedFrom)
{
    raw(fmt::format("{{\"event\":\"start\",\"step\":0,\"time\":{:.3f},\"pid\":{},\"resumed_from\":{}}}\n",
                    data::unixSeconds(), ::getpid(),
                    resumedFrom < 0 ? std::string("null") : std::to_string(resumedFrom)));
}

void RunWriter::layerTable()
{
    Json layers = Json::array();
    const int third = std::max(1, m_shape.layers / 3);
    for (int i = 0; i < m_shape.layers; ++i) {
        layers.push_back({ { "path", layerPath(m_shape, i) },
                           { "group", std::min(2, i / third) },
                           { "depth", i % third / 4 },
                           { "capacity", m_shape.capacity } });
    }
    const Json event {
        { "event", "layer_table" }, { "step", 0 }, { "time", data::unixSeconds() }, { "table", 0 }, { "layers", layers }
    };
    raw(event.dump() + "\n");
}

void RunWriter::step(int step, double loss)
{
    raw(fmt::format(
        "{{\"event\":\"step\",\"step\":{},\"time\":{:.3f},\"loss\":{:.6g},\"aux\":{{\"spectral\":{:.6g},"
        "\"balance\":0.01,\"z\":0.002}},\"total\":{:.6g},\"lr\":{:.6g},\"grad_norm\":{:.6g},\"clipped\":false,"
        "\"samples_per_s\":{:.4g},\"load_s\":0.004,\"compute_s\":0.05}}\n",
        step, data::unixSeconds(), loss, 0.1 * loss, 1.1 * loss,
        1e-4 * 0.5 * (1 + std::cos(3.14159 * step / std::max(1, m_shape.steps))), 1 + 0.5 * std::sin(step * 0.3),
        140 + 10 * std::sin(step * 0.7)));
}

void RunWriter::digest(int step, double eta)
{
    Json rank = Json::array();
    Json quantiles = Json::array();
    Json energy = Json::array();
    Json tokens = Json::array();
    Json shares = Json::array();
    Json kinds = Json::array();
    for (int i = 0; i < m_shape.layers; ++i) {
        const double mean = scriptedRank(m_shape, i, step, eta);
        const double spread = 0.25 * mean;
        rank.push_back(mean);
        quantiles.push_back({ std::max(1.0, mean - 2 * spread), mean - spread, mean * 0.98, mean + spread,
                              std::min<double>(m_shape.capacity, mean + 2 * spread) });
        energy.push_back(eta + 0.02);
        tokens.push_back(1024);
        const double a = 0.25 + 0.15 * std::sin(i * 0.9 + step * 0.05);
        shares.push_back({ a, 0.5 - a, 0.3, 0.2 });
        // Vision sees images, language images and words, action the state and actions.
        const int group = std::min(2, i / std::max(1, m_shape.layers / 3));
        Json rows = Json::array();
        for (const int kind : group == 0 ? std::vector { 0 }
                 : group == 1            ? std::vector { 0, 1 }
                                         : std::vector { 2, 3 }) {
            rows.push_back({ kind, 512, mean, 0.1 * (kind + 1), 0.4 - 0.1 * (kind + 1), 0.25, 0.35 });
        }
        kinds.push_back(rows);
    }
    const Json event { { "event", "digest" }, { "step", step },     { "time", data::unixSeconds() },
                       { "table", 0 },        { "rank", rank },     { "quantiles", quantiles },
                       { "energy", energy },  { "tokens", tokens }, { "shares", shares },
                       { "kinds", kinds } };
    raw(event.dump() + "\n");
}

void RunWriter::snapshot(int step, double eta)
{
    std::map<std::string, std::vector<double>> tensors;
    for (int i = 0; i < m_shape.layers; ++i) {
        const double mean = scriptedRank(m_shape, i, step, eta);
        std::vector<double> histogram(static_cast<std::size_t>(m_shape.capacity) + 1);
        std::vector<double> share(static_cast<std::size_t>(m_shape.capacity));
        double tokens = 0;
        for (std::size_t k = 0; k < histogram.size(); ++k) {
            const double z = (static_cast<double>(k) - mean) / 3;
            histogram[k] = std::round(200 * std::exp(-z * z));
            tokens += histogram[k];
        }
        double total = 0;
        for (std::size_t j = 0; j < share.size(); ++j) {
            share[j] = std::exp(-static_cast<double>(j) / (0.4 * mean));
            total += share[j];
        }
        const double sampled = std::ceil(tokens / 8);
        for (double& value : share) {
            value *= sampled / total;
        }
        const std::string prefix = layerPath(m_shape, i) + ".";
        tensors[prefix + "rank_histogram"] = histogram;
        tensors[prefix + "share"] = share;
        tensors[prefix + "tokens"] = { tokens, sampled };
        tensors[prefix + "kept"] = share;
        tensors[prefix + "gates"] = { 0.4 * tokens, 0.3 * tokens, 0.2 * tokens, 0.1 * tokens };
    }
    (void)writeFileAtomically(data::RunPaths { m_folder }.snapshot(step), safetensors(tensors));
    raw(fmt::format("{{\"event\":\"snapshot\",\"step\":{},\"time\":{:.3f},\"path\":\"snapshots/{}.safetensors\"}}\n",
                    step, data::unixSeconds(), data::stepName(step)));
}

void RunWriter::set(int step, const std::string& name, double value)
{
    raw(fmt::format("{{\"event\":\"set\",\"step\":{},\"time\":{:.3f},\"name\":\"{}\",\"value\":{}}}\n", step,
                    data::unixSeconds(), name, value));
}

void RunWriter::status(data::RunState state, int step, const std::string& reason)
{
    data::RunStatus status;
    status.pid = ::getpid();
    status.pidStart = data::processStartTicks(status.pid);
    status.host = data::hostName();
    status.state = state;
    status.step = step;
    status.total = m_shape.steps;
    status.heartbeat = status.started = data::unixSeconds();
    status.etaSeconds = (m_shape.steps - step) * 0.1;
    status.reason = reason;
    (void)writeFileAtomically(data::RunPaths { m_folder }.status(), jsonText(data::statusJson(status)));
}

void RunWriter::whole()
{
    writeRunJson();
    start();
    layerTable();
    digest(0, m_shape.eta);
    if (m_shape.writeSnapshots) {
        snapshot(0, m_shape.eta);
    }
    for (int s = 1; s <= m_shape.steps; ++s) {
        step(s, 0.2 + 1.5 * std::exp(-3.0 * s / m_shape.steps) + 0.05 * std::sin(s * 1.7));
        if (s % m_shape.digestEvery == 0) {
            digest(s, m_shape.eta);
        }
    }
    if (m_shape.writeSnapshots) {
        snapshot(m_shape.steps, m_shape.eta);
    }
    status(data::RunState::Finished, m_shape.steps, "all steps done");
}

ScriptedWorker::ScriptedWorker(std::filesystem::path folder, RunShape shape, int millisecondsPerStep)
    : m_folder(std::move(folder)), m_shape(shape), m_pace(millisecondsPerStep), m_eta(shape.eta)
{
    m_thread = WorkerThread("scripted", [this](const std::stop_token& stop) { work(stop); });
}

void ScriptedWorker::work(const std::stop_token& stop)
{
    RunWriter writer(m_folder, m_shape);
    const data::RunPaths paths { m_folder };
    writer.writeRunJson();
    writer.start();
    writer.layerTable();
    writer.digest(0, m_eta);
    writer.snapshot(0, m_eta);
    bool paused = false;
    int step = 0;
    while (step < m_shape.steps && !stop.stop_requested()) {
        const auto requests = data::takeRequests(paths);
        for (const data::ControlRequest& request : requests ? *requests : std::vector<data::ControlRequest>()) {
            data::ControlAnswer answer { .accepted = true, .message = {}, .step = step, .time = data::unixSeconds() };
            switch (request.action) {
            case data::ControlAction::Pause:
                paused = true;
                break;
            case data::ControlAction::Resume:
                paused = false;
                break;
            case data::ControlAction::Snapshot:
                writer.snapshot(step, m_eta);
                break;
            case data::ControlAction::Set:
                m_eta = request.value;
                writer.set(step, request.name, request.value);
                break;
            case data::ControlAction::Stop:
                (void)data::answerRequest(paths, request.id, answer);
                writer.status(data::RunState::Stopped, step, "stopped on request");
                return;
            default:
                answer.accepted = false;
                answer.message = "not supported here";
                break;
            }
            (void)data::answerRequest(paths, request.id, answer);
        }
        if (!paused) {
            m_step = ++step;
            writer.step(step, 1.0 / (1 + 0.05 * step));
            if (step % m_shape.digestEvery == 0) {
                writer.digest(step, m_eta);
            }
        }
        writer.status(paused ? data::RunState::Paused : data::RunState::Running, step);
        waitFor(stop, std::chrono::milliseconds(m_pace));
    }
    writer.status(stop.stop_requested() ? data::RunState::Stopped : data::RunState::Finished, step, "done");
}

} // namespace rankwise::tests
